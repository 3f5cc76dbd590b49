"""From a checkpoint, a file or a folder that diffusers saved, to a network ready for sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ilvrctl.errors import WeightsError
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.classifier import AdmClassifier
from ilvrctl.models.files.averaged import AVERAGED
from ilvrctl.models.files.checkpoint import (
    CheckpointInfo,
    StateDict,
    check_numbers_of,
    read_converted,
    read_network,
)
from ilvrctl.models.files.described import Stored
from ilvrctl.models.files.diffusers_folder import folder_note, weights_file
from ilvrctl.models.files.formats import CLASSIFIER, identify, readable_hint
from ilvrctl.models.files.info import PRECISIONS, SMALLER, channel_problem
from ilvrctl.models.files.readers.base import File
from ilvrctl.models.files.rows import Format
from ilvrctl.models.files.stated import UNKNOWN
from ilvrctl.models.files.tensor_names import Names, Place, placed
from ilvrctl.models.lucidrains import LucidrainsUnet
from ilvrctl.models.trunk_network import HalfPrecision, as_weight

_ALSO = {"predict_xstart": "predicts", "sigma_small": "variance"}
"""Facts of a preset that tell a flag of guided-diffusion."""


def load_network(
    path: Path,
    hidden: HiddenFlags,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device,
    which: str = AVERAGED,
) -> AdmUNet | LucidrainsUnet:
    """The denoising network in ``path``, in evaluation mode, without gradients, on ``device``.

    ``hidden``: the flags that the file does not tell. ``dtype``: float32, bfloat16 or float16, the precision
    of the convolutions (see :meth:`HalfPrecision.to_precision`); the file's own precision does not matter.
    ``which``: averaged or raw weights, or the name of one network of the file.
    Raises :class:`WeightsError` (exit code 3) when the file is not a whole network of a readable format.
    """
    found = _read(path, which)
    if not (found.row.denoises and found.row.readable):
        raise WeightsError(f"{path}: this is {found.what}", found.row.instead or readable_hint())
    architecture = _infer(found, hidden)
    _check_pictures(path, architecture, found.file.tensors)
    return cast("AdmUNet | LucidrainsUnet", _build(found, architecture, dtype, device))


def load_unet(path: Path, hidden: HiddenFlags, *, device: torch.device, which: str = AVERAGED) -> AdmUNet:
    """As :func:`load_network`, of guided-diffusion's kind of U-Net alone: what can be probed and trained on."""
    network = load_network(path, hidden, device=device, which=which)
    if not isinstance(network, AdmUNet):
        raise WeightsError(
            f"{path}: networks of this kind can make pictures, but be neither probed nor trained on",
            "what their files do not tell is given by --set model.KEY=VALUE",
        )
    return network


def load_classifier(
    path: Path, hidden: HiddenFlags, *, dtype: torch.dtype = torch.float32, device: torch.device
) -> AdmClassifier:
    """The classifier (EGSDE's feature extractor, OpenAI's) in ``path``; see :func:`load_network`.

    Its weights need no gradients; the gradient of :meth:`AdmClassifier.features` reaches the picture.
    """
    found = _read(path)
    if found.row.name != CLASSIFIER:
        raise WeightsError(
            f"{path}: this is {found.what}", "a classifier in the guided-diffusion format is needed here"
        )
    return cast(AdmClassifier, _build(found, _infer(found, hidden), dtype, device))


def inspect_file(path: Path, which: str = AVERAGED) -> CheckpointInfo:
    """What ``path`` holds, from names and shapes alone: format, size, the flags that these tell.

    Networks of known formats that cannot be read are named too (``readable`` is False).
    Raises :class:`WeightsError` when the file is no state dict, or of no known format.
    """
    found = _read(path, which)
    row = found.row
    facts: dict[str, object] = {} if row.release is None else {"release": row.release(found.file)}
    info = replace(
        found.info, format=row.name, what=found.what, instead=row.instead, denoises=row.denoises,
        readable=row.readable, facts=facts,
    )  # fmt: skip
    if not row.readable:
        return info
    reader = row.reader
    architecture = _infer(found, HiddenFlags(num_heads=1))  # fits any width
    stated = {name: value for name, value in reader.stated(found.file).items() if name != "format"}
    facts = {**facts, **reader.facts(architecture), **stated}
    facts = {name: value for name, value in facts.items() if value != UNKNOWN}
    unknown = tuple(flag for flag in reader.unknown if not _told(flag, facts))
    with torch.device("meta"):
        memory = _memory(reader.build(architecture))
    return replace(info, memory=memory, facts=facts, unknown=unknown)


def _told(flag: str, facts: Mapping[str, object]) -> bool:
    return any(_ALSO.get(name, name) in facts for name in flag.split(" or "))


def check_file(path: Path, which: str = AVERAGED) -> None:
    """WeightsError unless every number of the network in ``path`` is there as it was written, and finite."""
    file = weights_file(path, which)
    check_numbers_of(file, which if file == path else AVERAGED)


def _memory(network: HalfPrecision) -> dict[str, int]:
    """Bytes of the weights at each precision: in the half ones only the convolutions are halved."""
    convolutions = sum(x.numel() for x in network.convolution_parameters().values())
    whole = 4 * sum(x.numel() for x in network.parameters())
    return {"fp32": whole, "bf16": whole - 2 * convolutions, "fp16": whole - 2 * convolutions}


@dataclass(frozen=True)
class _Found:
    """A checkpoint whose format is known."""

    file: File
    info: CheckpointInfo
    row: Format

    @property
    def what(self) -> str:
        """What it is, with the release of the program that wrote it."""
        return self.row.what + (f", release {self.row.release(self.file)}" if self.row.release else "")


def _read(path: Path, which: str = AVERAGED) -> _Found:
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
    return _Found(File(path, tensors, arrays, header, which), info, row)


def _infer(found: _Found, hidden: HiddenFlags) -> Any:
    """The architecture. WeightsError, with the path, for what is no whole network of the format."""
    reader, path = found.row.reader, found.file.path
    left_out = reader.left_out(found.file.tensors)
    shapes = {name: shape for name, shape in found.file.shapes.items() if name not in left_out}
    try:
        fitted = placed(reader.names(shapes), shapes, reader.kind)
        constants = {name: shape for name, (shape, _) in reader.constants(fitted.of).items()}
        return reader.infer(replace(fitted, of={**fitted.of, **constants}), hidden, found.file)
    except WeightsError as error:
        message = error.message if error.message.startswith(str(path)) else f"{path}: {error.message}"
        raise WeightsError(message, error.hint) from error


def _build(found: _Found, architecture: Any, dtype: torch.dtype, device: torch.device) -> HalfPrecision:
    reader, path, which = found.row.reader, found.file.path, found.file.which
    with torch.device("meta"):
        network = reader.build(architecture)
    left_out = reader.left_out(found.file.tensors)
    wanted = [name for name in found.file.tensors if name not in left_out]
    names = reader.names(wanted)
    half = set(network.convolution_parameters())

    def convert(name: str, x: Tensor) -> Tensor:
        place = names.get(name, Place(name))
        precision = dtype if place.name in half else torch.float32
        return as_weight(x.reshape(place.fit(tuple(x.shape))), precision, device)

    file = weights_file(path, which)
    inside = which if file == path else AVERAGED
    weights = _joined(names, read_converted(file, convert, which=inside, only=wanted))
    shapes = {name: tuple(x.shape) for name, x in weights.items()}
    for name, (shape, value) in reader.constants(shapes).items():
        weights[name] = torch.full(shape, value, device=device)
    network.load_state_dict(weights, strict=True, assign=True)
    network.dtype = dtype
    return network.requires_grad_(False).eval()


def _joined(names: Names, tensors: StateDict) -> StateDict:
    """The tensors in their places; those of one place joined by their rows."""
    groups: dict[str, list[tuple[int, Tensor]]] = {}
    for name, x in tensors.items():
        place = names.get(name, Place(name))
        groups.setdefault(place.name, []).append((place.part, x))
    return {
        name: parts[0][1] if len(parts) == 1 else torch.cat([x for _, x in sorted(parts, key=itemgetter(0))])
        for name, parts in groups.items()
    }


def _check_pictures(path: Path, architecture: Any, tensors: Mapping[str, Stored]) -> None:
    """Raise unless pictures go in, and as many channels (perhaps a variance too) come out."""
    into, out = architecture.in_channels, architecture.out_channels
    wrong = channel_problem(path, architecture.channels, into, out)
    if wrong is not None:
        raise wrong
    for name, x in tensors.items():
        if x.dtype not in PRECISIONS:
            raise WeightsError(
                f"{path}: tensor {name} holds {x.dtype}, not numbers of a usable precision", SMALLER
            )
