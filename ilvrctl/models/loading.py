"""From a checkpoint file to a network ready for sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ilvrctl.errors import WeightsError
from ilvrctl.models.adm import AdmUNet, as_weight
from ilvrctl.models.architecture import AdmArchitecture, HiddenFlags, infer_architecture
from ilvrctl.models.checkpoint import CheckpointInfo, read_converted, read_header
from ilvrctl.models.formats import GUIDED_DIFFUSION, Format, identify

# what no tensor of the guided-diffusion format tells
UNKNOWN_FLAGS = (
    "num_heads or num_head_channels",
    "use_new_attention_order",
    "image_size",
    "noise_schedule",
    "predict_xstart",
    "sigma_small",
)


def load_network(
    path: Path, hidden: HiddenFlags, *, dtype: torch.dtype = torch.float32, device: torch.device
) -> AdmUNet:
    """The denoising network in ``path``, in evaluation mode, without gradients, on ``device``.

    ``hidden``: the flags that the file does not tell. ``dtype``: float32, bfloat16 or float16, the precision
    of the convolutions (see :meth:`AdmUNet.to_precision`); the file's own precision does not matter.
    Raises :class:`WeightsError` (exit code 3) when the file is not a whole network of a readable format.
    """
    tensors, _ = read_header(path)
    _readable(path, tensors)
    architecture = _infer(path, tensors, hidden)
    _check_pictures(path, architecture, tensors)
    with torch.device("meta"):
        network = AdmUNet(architecture)
    del tensors
    half = set(network.convolution_parameters())

    def convert(name: str, x: Tensor) -> Tensor:
        return as_weight(x, dtype if name in half else torch.float32, device)

    network.load_state_dict(read_converted(path, convert), strict=True, assign=True)
    network.dtype = dtype
    return network.requires_grad_(False).eval()


def inspect_file(path: Path) -> CheckpointInfo:
    """What ``path`` holds, from names and shapes alone: format, size, the flags that these tell.

    Networks of known formats that cannot be read yet are named too (``readable`` is False).
    Raises :class:`WeightsError` when the file is no state dict, or of no known format.
    """
    tensors, info = read_header(path)
    row = identify(tensors)
    if row is None:
        raise _unknown(path, tensors)
    info = replace(info, format=row.name, readable=row.readable)
    if row.name != GUIDED_DIFFUSION:
        return info
    architecture = _infer(path, tensors, HiddenFlags(num_heads=1))  # fits any width
    memory = _memory(architecture)
    return replace(info, memory=memory, facts=_facts(architecture), unknown=UNKNOWN_FLAGS)


def _memory(architecture: AdmArchitecture) -> dict[str, int]:
    """Bytes of the weights at each precision: in the half ones only the convolutions are halved."""
    with torch.device("meta"):
        network = AdmUNet(architecture)
    convolutions = sum(x.numel() for x in network.convolution_parameters().values())
    whole = 4 * sum(x.numel() for x in network.parameters())
    return {"fp32": whole, "bf16": whole - 2 * convolutions, "fp16": whole - 2 * convolutions}


def _facts(architecture: AdmArchitecture) -> dict[str, object]:
    """The flags of the published format that the tensors tell, under the names of that format."""
    return {
        "num_channels": architecture.model_channels,
        "channel_mult": architecture.channel_mult,
        "num_res_blocks": architecture.num_res_blocks,
        "attention_factors": architecture.attention_factors,
        "resblock_updown": architecture.resampling == "residual",
        "conv_resample": architecture.resampling != "pooling",
        "use_scale_shift_norm": architecture.use_scale_shift_norm,
        "learn_sigma": architecture.learns_variance,
        "class_cond": architecture.num_classes is not None,
        "num_classes": architecture.num_classes,
        "in_channels": architecture.in_channels,
        "out_channels": architecture.out_channels,
        "downsample_factor": architecture.downsample_factor,
    }


def _readable(path: Path, tensors: Mapping[str, Tensor]) -> Format:
    row = identify(tensors)
    if row is None:
        raise _unknown(path, tensors)
    if not row.readable:
        raise WeightsError(
            f"{path}: this is {row.what}", "networks of the guided-diffusion format can be read"
        )
    return row


def _unknown(path: Path, tensors: Mapping[str, Tensor]) -> WeightsError:
    first = ", ".join(list(tensors)[:4])
    return WeightsError(
        f"{path}: the weights of something else than a known denoising network (its tensors: {first}, ...)",
        "networks of the guided-diffusion format can be read",
    )


def _infer(path: Path, tensors: Mapping[str, Tensor], hidden: HiddenFlags) -> AdmArchitecture:
    try:
        return infer_architecture({name: tuple(x.shape) for name, x in tensors.items()}, hidden)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.message}", error.hint) from error


def _check_pictures(path: Path, architecture: AdmArchitecture, tensors: Mapping[str, Tensor]) -> None:
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
