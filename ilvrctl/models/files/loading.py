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
    read_header,
)
from ilvrctl.models.files.described import Stored
from ilvrctl.models.files.diffusers_folder import folder_note, weights_file
from ilvrctl.models.files.formats import CLASSIFIER, FORMATS, Format, identify
from ilvrctl.models.files.readers import READERS, Reader
from ilvrctl.models.files.tensor_names import Names, Place, placed
from ilvrctl.models.files.verdict import PRECISIONS, SMALLER, channel_problem
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
) -> AdmUNet:
    """The denoising network in ``path``, in evaluation mode, without gradients, on ``device``.

    ``hidden``: the flags that the file does not tell. ``dtype``: float32, bfloat16 or float16, the precision
    of the convolutions (see :meth:`HalfPrecision.to_precision`); the file's own precision does not matter.
    ``which``: averaged or raw weights, or the name of one network of the file.
    Raises :class:`WeightsError` (exit code 3) when the file is not a whole network of a readable format.
    """
    found = _read(path, which)
    if not found.row.denoises:
        raise WeightsError(f"{path}: this is {found.row.what}", f"networks of {_readable()} can be read")
    architecture = _infer(path, found, hidden)
    _check_pictures(path, architecture, found.tensors)
    return cast(AdmUNet, _build(path, found, architecture, dtype, device))


def load_classifier(
    path: Path, hidden: HiddenFlags, *, dtype: torch.dtype = torch.float32, device: torch.device
) -> AdmClassifier:
    """The classifier (EGSDE's feature extractor, OpenAI's) in ``path``; see :func:`load_network`.

    Its weights need no gradients; the gradient of :meth:`AdmClassifier.features` reaches the picture.
    """
    found = _read(path)
    if found.row.name != CLASSIFIER:
        raise WeightsError(
            f"{path}: this is {found.row.what}", "a classifier in the guided-diffusion format is needed here"
        )
    architecture = _infer(path, found, hidden)
    return cast(AdmClassifier, _build(path, found, architecture, dtype, device))


def inspect_file(path: Path, which: str = AVERAGED) -> CheckpointInfo:
    """What ``path`` holds, from names and shapes alone: format, size, the flags that these tell.

    Networks of known formats that cannot be read are named too (``readable`` is False).
    Raises :class:`WeightsError` when the file is no state dict, or of no known format.
    """
    found = _read(path, which)
    usable = found.row.denoises or found.row.name == CLASSIFIER
    info = replace(found.info, format=found.row.name, what=found.row.what, denoises=found.row.denoises)
    info = replace(info, readable=usable and found.reader is not None)
    if found.reader is None:
        return info
    architecture = _infer(path, found, HiddenFlags(num_heads=1))  # fits any width
    facts = found.reader.facts(architecture, path)
    unknown = tuple(flag for flag in found.reader.unknown if _ALSO.get(flag, flag) not in facts)
    with torch.device("meta"):
        memory = _memory(found.reader.build(architecture))
    return replace(info, memory=memory, facts=facts, unknown=unknown)


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
    """A checkpoint whose format is known; ``tensors`` without their data."""

    tensors: Mapping[str, Stored]
    info: CheckpointInfo
    row: Format
    which: str = AVERAGED

    @property
    def reader(self) -> Reader | None:
        return READERS.get(self.row.name)


def _read(path: Path, which: str = AVERAGED) -> _Found:
    file = weights_file(path, which)
    inside = which if file == path else AVERAGED
    tensors, info = read_header(file, inside)
    if note := folder_note(path, which):
        info = replace(info, note=note, weights=file.parent.name)
    row = identify(tensors)
    if row is None:
        first = ", ".join(list(tensors)[:4])
        raise WeightsError(
            f"{path}: the weights of something else than a known denoising network (its tensors: {first}, ...)",
            f"networks of {_readable()} can be read",
        )
    return _Found(tensors, info, row, which)


def _readable() -> str:
    return " and ".join(row.name for row in FORMATS if row.denoises)


def _infer(path: Path, found: _Found, hidden: HiddenFlags) -> Any:
    """The architecture. WeightsError, with the path, for what is no whole network of the format."""
    reader = READERS[found.row.name]
    shapes = {name: tuple(x.shape) for name, x in found.tensors.items()}
    try:
        return reader.infer(placed(reader.names(shapes), shapes, reader.kind), hidden, path)
    except WeightsError as error:
        message = error.message if error.message.startswith(str(path)) else f"{path}: {error.message}"
        raise WeightsError(message, error.hint) from error


def _build(
    path: Path, found: _Found, architecture: Any, dtype: torch.dtype, device: torch.device
) -> HalfPrecision:
    reader = READERS[found.row.name]
    with torch.device("meta"):
        network = reader.build(architecture)
    names = reader.names(found.tensors)
    half = set(network.convolution_parameters())

    def convert(name: str, x: Tensor) -> Tensor:
        place = names.get(name, Place(name))
        precision = dtype if place.name in half else torch.float32
        return as_weight(x.reshape(place.fit(tuple(x.shape))), precision, device)

    file = weights_file(path, found.which)
    inside = found.which if file == path else AVERAGED
    weights = _joined(names, read_converted(file, convert, which=inside))
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
    """Raise unless pictures of three channels go in, and noise of three (perhaps variance too) comes out."""
    wrong = channel_problem(path, architecture.in_channels, architecture.out_channels)
    if wrong is not None:
        raise wrong
    for name, x in tensors.items():
        if x.dtype not in PRECISIONS:
            raise WeightsError(
                f"{path}: tensor {name} holds {x.dtype}, not numbers of a usable precision", SMALLER
            )
