"""From a checkpoint file to a network ready for sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ilvrctl.errors import WeightsError
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.checkpoint import CheckpointInfo, StateDict, read_converted, read_header
from ilvrctl.models.classifier import AdmClassifier
from ilvrctl.models.encoder import HalfPrecision, as_weight
from ilvrctl.models.formats import CLASSIFIER, FORMATS, Format, identify
from ilvrctl.models.hidden import HiddenFlags
from ilvrctl.models.readers import READERS, Reader


def load_network(
    path: Path, hidden: HiddenFlags, *, dtype: torch.dtype = torch.float32, device: torch.device
) -> AdmUNet:
    """The denoising network in ``path``, in evaluation mode, without gradients, on ``device``.

    ``hidden``: the flags that the file does not tell. ``dtype``: float32, bfloat16 or float16, the precision
    of the convolutions (see :meth:`HalfPrecision.to_precision`); the file's own precision does not matter.
    Raises :class:`WeightsError` (exit code 3) when the file is not a whole network of a readable format.
    """
    found = _read(path)
    if not found.row.denoises:
        readable = " and ".join(row.name for row in FORMATS if row.denoises)
        raise WeightsError(f"{path}: this is {found.row.what}", f"networks of {readable} can be read")
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


def inspect_file(path: Path) -> CheckpointInfo:
    """What ``path`` holds, from names and shapes alone: format, size, the flags that these tell.

    Networks of known formats that cannot be read are named too (``readable`` is False).
    Raises :class:`WeightsError` when the file is no state dict, or of no known format.
    """
    found = _read(path)
    info = replace(found.info, format=found.row.name, readable=found.reader is not None)
    if found.reader is None:
        return info
    architecture = _infer(path, found, HiddenFlags(num_heads=1))  # fits any width
    return replace(info, facts=found.reader.facts(architecture), unknown=found.reader.unknown)


@dataclass(frozen=True)
class _Found:
    """A checkpoint whose format is known; ``tensors`` without their data."""

    tensors: StateDict
    info: CheckpointInfo
    row: Format

    @property
    def reader(self) -> Reader | None:
        return READERS.get(self.row.name)


def _read(path: Path) -> _Found:
    tensors, info = read_header(path)
    row = identify(tensors)
    if row is None:
        first = ", ".join(list(tensors)[:4])
        raise WeightsError(
            f"{path}: the weights of something else than a known denoising network (its tensors: {first}, ...)",
            "networks of the guided-diffusion format can be read",
        )
    return _Found({name: x.to("meta") for name, x in tensors.items()}, info, row)


def _infer(path: Path, found: _Found, hidden: HiddenFlags) -> Any:
    """The architecture. WeightsError, with the path, for what is no whole network of the format."""
    reader = READERS[found.row.name]
    try:
        return reader.infer({reader.rename(n): tuple(x.shape) for n, x in found.tensors.items()}, hidden)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.message}", error.hint) from error


def _build(
    path: Path, found: _Found, architecture: Any, dtype: torch.dtype, device: torch.device
) -> HalfPrecision:
    reader = READERS[found.row.name]
    with torch.device("meta"):
        network = reader.build(architecture)
    half = set(network.convolution_parameters())

    def convert(name: str, x: Tensor) -> Tensor:
        return as_weight(x, dtype if reader.rename(name) in half else torch.float32, device)

    weights = {reader.rename(name): x for name, x in read_converted(path, convert).items()}
    network.load_state_dict(weights, strict=True, assign=True)
    network.dtype = dtype
    return network.requires_grad_(False).eval()


def _check_pictures(path: Path, architecture: Any, tensors: Mapping[str, Tensor]) -> None:
    """Raise unless pictures of three channels go in, and noise of three (perhaps variance too) comes out."""
    into, out = architecture.in_channels, architecture.out_channels
    if into != 3 or out not in (3, 6):
        kind = "a super-resolution network" if into == 6 else "a network"
        raise WeightsError(
            f"{path}: {kind} of {into} input and {out} output channels; translation needs 3 and 3 or 6"
        )
    for name, x in tensors.items():
        if not x.is_floating_point():
            raise WeightsError(f"{path}: tensor {name} holds {x.dtype}, not numbers of a usable precision")
