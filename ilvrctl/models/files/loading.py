"""From a checkpoint, a file or a folder that diffusers saved, to a network ready for sampling."""

from __future__ import annotations

from collections.abc import Mapping
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
from ilvrctl.models.files.checkpoint import StateDict, check_numbers_of, read_converted
from ilvrctl.models.files.described import Stored
from ilvrctl.models.files.diffusers_folder import weights_file
from ilvrctl.models.files.formats import CLASSIFIER, readable_hint
from ilvrctl.models.files.info import PRECISIONS, SMALLER, channel_problem
from ilvrctl.models.files.inspection import Found, infer, read_found
from ilvrctl.models.files.tensor_names import Names, Place
from ilvrctl.models.lucidrains import LucidrainsUnet
from ilvrctl.models.trunk_network import HalfPrecision, as_weight


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
    found = read_found(path, which)
    if not (found.row.denoises and found.row.readable):
        raise WeightsError(f"{path}: this is {found.what}", found.row.instead or readable_hint())
    architecture, _ = infer(found, hidden)
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
    found = read_found(path)
    if found.row.name != CLASSIFIER:
        raise WeightsError(
            f"{path}: this is {found.what}", "a classifier in the guided-diffusion format is needed here"
        )
    return cast(AdmClassifier, _build(found, infer(found, hidden)[0], dtype, device))


def check_file(path: Path, which: str = AVERAGED) -> None:
    """WeightsError unless every number of the network in ``path`` is there as it was written, and finite."""
    file = weights_file(path, which)
    check_numbers_of(file, which if file == path else AVERAGED)


def _build(found: Found, architecture: Any, dtype: torch.dtype, device: torch.device) -> HalfPrecision:
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
