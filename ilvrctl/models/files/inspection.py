"""What a checkpoint is, from its names and shapes alone. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ilvrctl.errors import WeightsError
from ilvrctl.models.architecture.blocks import Shape
from ilvrctl.models.architecture.half import weight_bytes
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.files.averaged import AVERAGED
from ilvrctl.models.files.described import Stored
from ilvrctl.models.files.diffusers_folder import folder_note, weights_file
from ilvrctl.models.files.formats import identify, readable_hint
from ilvrctl.models.files.header import Header
from ilvrctl.models.files.info import CheckpointInfo
from ilvrctl.models.files.numbers import by_storage
from ilvrctl.models.files.readers.base import File
from ilvrctl.models.files.rows import Format
from ilvrctl.models.files.state_dict import find_network
from ilvrctl.models.files.stated import UNKNOWN
from ilvrctl.models.files.tensor_names import placed

_ALSO = {"predict_xstart": "predicts", "sigma_small": "variance"}
"""Facts of a preset that tell a flag of guided-diffusion."""


def inspect_file(path: Path, which: str = AVERAGED) -> CheckpointInfo:
    """What ``path`` holds, from names and shapes alone: format, size, the flags that these tell.

    Networks of known formats that cannot be read are named too (``readable`` is False).
    Raises :class:`WeightsError` when the file is no state dict, or of no known format.
    """
    found = read_found(path, which)
    row = found.row
    facts: dict[str, object] = {} if row.release is None else {"release": row.release(found.file)}
    info = replace(
        found.info, format=row.name, what=found.what, instead=row.instead, denoises=row.denoises,
        readable=row.readable, facts=facts,
    )  # fmt: skip
    if not row.readable:
        return info
    reader = row.reader
    architecture, shapes = infer(found, HiddenFlags(num_heads=1))  # fits any width
    stated = {name: value for name, value in reader.stated(found.file).items() if name != "format"}
    facts = {**facts, **reader.facts(architecture), **stated}
    facts = {name: value for name, value in facts.items() if value != UNKNOWN}
    unknown = tuple(flag for flag in reader.unknown if not _is_told(flag, facts))
    memory = weight_bytes(shapes, architecture.HALF)
    return replace(info, memory=memory, facts=facts, unknown=unknown)


def _is_told(flag: str, facts: Mapping[str, object]) -> bool:
    return any(_ALSO.get(name, name) in facts for name in flag.split(" or "))


@dataclass(frozen=True)
class Found:
    """A checkpoint whose format is known."""

    file: File
    info: CheckpointInfo
    row: Format

    @property
    def what(self) -> str:
        """What it is, with the release of the program that wrote it."""
        return self.row.what + (f", release {self.row.release(self.file)}" if self.row.release else "")


def read_found(path: Path, which: str = AVERAGED) -> Found:
    """What lies in ``path``. WeightsError where that is of no known format."""
    file = weights_file(path, which)
    tensors, info, header, arrays = read_network(file, which if file == path else AVERAGED)
    if note := folder_note(path, which):
        info = replace(info, note=note, weights=file.parent.name)
    row = identify(tensors)
    if row is None:
        first = ", ".join(list(tensors)[:4])
        raise WeightsError(
            f"{path}: the weights of something else than a known denoising network (its tensors: {first}, ...)",
            readable_hint(),
        )
    return Found(File(path, tensors, arrays, header, which), info, row)


def infer(found: Found, hidden: HiddenFlags) -> tuple[Any, Mapping[str, Shape]]:
    """The architecture, and the shapes of all tensors under its names.

    WeightsError, with the path, for what is no whole network of the format.
    """
    reader, path = found.row.reader, found.file.path
    left_out = reader.left_out(found.file.tensors)
    shapes = {name: shape for name, shape in found.file.shapes.items() if name not in left_out}
    try:
        fitted = placed(reader.names(shapes), shapes, reader.kind)
        constants = {name: shape for name, (shape, _) in reader.constants(fitted.of).items()}
        whole = replace(fitted, of={**fitted.of, **constants})
        return reader.infer(whole, hidden, found.file), whole.of
    except WeightsError as error:
        message = error.message if error.message.startswith(str(path)) else f"{path}: {error.message}"
        raise WeightsError(message, error.hint) from error


def read_header(path: Path, which: str = AVERAGED) -> tuple[Mapping[str, Stored], CheckpointInfo]:
    """Names, shapes and dtypes of the tensors (their data unread), and what is known of the file."""
    return read_network(path, which)[:2]


def read_network(
    path: Path, which: str = AVERAGED
) -> tuple[Mapping[str, Stored], CheckpointInfo, Header, Mapping[str, Stored]]:
    """As :func:`read_header`; then all that the file describes, and the arrays that lie around the network."""
    header, chosen = find_network(path, which)
    tensors = chosen.taken.tensors
    by_storage(header, tensors)  # that all their numbers can be used
    info = CheckpointInfo(
        format="unknown",
        container=header.container,
        wrapping=tuple(
            step.text if step.text.endswith(".") else f"[{step.text!r}]" for step in chosen.taken.steps
        ),
        parameters=sum(x.numel for x in tensors.values()),
        dtypes=tuple(sorted({x.dtype for x in tensors.values()})),
        tensor_bytes=sum(x.nbytes for x in tensors.values()),
        weights=chosen.taken.name,
        note=chosen.note,
    )
    return tensors, info, header, chosen.taken.beside
