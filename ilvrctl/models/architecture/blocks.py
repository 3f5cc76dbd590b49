"""The layers of an ADM U-Net as plain data, with the names and shapes of their tensors. No torch here.

One list of layers serves twice: the module is built from it, and a checkpoint is compared with it.
Names are those of the published guided-diffusion format (Dhariwal & Nichol 2021, "ADM").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Shape: TypeAlias = tuple[int, ...]
Resample: TypeAlias = Literal["none", "down", "up"]
Pool: TypeAlias = Literal["adaptive", "attention", "spatial", "spatial_v2"]
NORM_GROUPS = 32


@dataclass(frozen=True)
class Conventions:
    """What the families of U-Nets do differently, and no tensor shows.

    ``groups`` and ``eps`` of the normalisation. The timestep's embedding: ``sine_first``, and
    ``frequency_shift``, which the divisor of the frequencies' exponents is smaller by. ``pads_after``: a
    convolution that halves the size pads right and below only, not all around. ``whole_width``: attention divides
    by the root of all channels, not of those of a head. ``fold``: squares of so many pixels a side become one.
    """

    groups: int = NORM_GROUPS
    eps: float = 1e-5
    sine_first: bool = False
    frequency_shift: float = 0.0
    pads_after: bool = False
    whole_width: bool = False
    fold: int = 1


ADM = Conventions()
"""guided-diffusion's (Dhariwal & Nichol 2021)."""
DDPM = Conventions(eps=1e-6, sine_first=True, frequency_shift=1.0, pads_after=True)
"""Those of Ho et al. 2020, which the conversions of its weights keep."""
ROSINALITY = Conventions(sine_first=True, whole_width=True)
"""rosinality's denoising-diffusion-pytorch."""


@dataclass(frozen=True)
class Stem:
    """The first 3x3 convolution, pictures to features."""

    in_channels: int
    out_channels: int


@dataclass(frozen=True)
class Res:
    """A residual block (ADM, appendix A); ``resample`` halves or doubles the size inside it."""

    in_channels: int
    out_channels: int
    resample: Resample = "none"


@dataclass(frozen=True)
class Attention:
    """Self-attention over all pixels with ``heads`` heads."""

    channels: int
    heads: int


@dataclass(frozen=True)
class Down:
    """Half the size: a 3x3 convolution of stride 2, or without one the mean of 2x2 (no tensors)."""

    channels: int
    convolution: bool


@dataclass(frozen=True)
class Up:
    """Twice the size by repetition, then a 3x3 convolution, or none (no tensors)."""

    channels: int
    convolution: bool


Layer: TypeAlias = Stem | Res | Attention | Down | Up
Block: TypeAlias = tuple[Layer, ...]


def layer_shapes(layer: Layer, embedding: int, scale_shift: bool) -> dict[str, Shape]:
    """Names (below the layer's own) and shapes of the tensors of ``layer``, in the format's order.

    ``embedding`` is the width of the time embedding; ``scale_shift`` doubles what it gives each block.
    """
    match layer:
        case Stem():
            return dict(affine("", layer.out_channels, layer.in_channels, 3, 3))
        case Res():
            return dict(_res_shapes(layer, embedding, scale_shift))
        case Attention(channels=width):
            return {
                **dict(affine("norm.", width)),
                **dict(affine("qkv.", 3 * width, width, 1)),
                **dict(affine("proj_out.", width, width, 1)),
            }
        case Down(channels=width):
            return dict(affine("op.", width, width, 3, 3)) if layer.convolution else {}
        case Up(channels=width):
            return dict(affine("conv.", width, width, 3, 3)) if layer.convolution else {}


def _res_shapes(layer: Res, embedding: int, scale_shift: bool) -> Iterator[tuple[str, Shape]]:
    into, out = layer.in_channels, layer.out_channels
    yield from affine("in_layers.0.", into)
    yield from affine("in_layers.2.", out, into, 3, 3)
    yield from affine("emb_layers.1.", 2 * out if scale_shift else out, embedding)
    yield from affine("out_layers.0.", out)
    yield from affine("out_layers.3.", out, out, 3, 3)
    if into != out:
        yield from affine("skip_connection.", out, into, 1, 1)


def affine(name: str, out: int, *rest: int) -> Iterator[tuple[str, Shape]]:
    """Weight and bias of the layer whose names begin with ``name``: (out, ...) and (out,)."""
    yield f"{name}weight", (out, *rest)
    yield f"{name}bias", (out,)


def embedding_shapes(model_channels: int, embedding: int) -> dict[str, Shape]:
    """Tensors of the time embedding."""
    first = dict(affine("time_embed.0.", embedding, model_channels))
    return first | dict(affine("time_embed.2.", embedding, embedding))


def output_shapes(width: int, out_channels: int) -> dict[str, Shape]:
    """Tensors after the blocks of a U-Net: from ``width`` features to the output."""
    return dict(affine("out.0.", width)) | dict(affine("out.2.", out_channels, width, 3, 3))


def classifier_shapes(pool: Pool, width: int, head: int, classes: int) -> dict[str, Shape]:
    """Tensors after the blocks of a classifier, ``width`` being the channels that it pools.

    ``head``: positions of the attention's embedding (pixels and one), or the hidden width of the spatial heads.
    """
    match pool:
        case "adaptive":
            return dict(affine("out.0.", width)) | dict(affine("out.3.", classes, width, 1, 1))
        case "attention":
            shapes = dict(affine("out.0.", width))
            shapes["out.2.positional_embedding"] = (width, head)
            shapes |= dict(affine("out.2.qkv_proj.", 3 * width, width, 1))
            return shapes | dict(affine("out.2.c_proj.", classes, width, 1))
        case "spatial":
            return dict(affine("out.0.", head, width)) | dict(affine("out.2.", classes, head))
        case "spatial_v2":
            shapes = dict(affine("out.0.", head, width)) | dict(affine("out.1.", head))
            return shapes | dict(affine("out.3.", classes, head))


def norm_widths(layer: Layer) -> tuple[int, ...]:
    """Channel counts that GroupNorm divides into :data:`NORM_GROUPS` groups."""
    match layer:
        case Res():
            return (layer.in_channels, layer.out_channels)
        case Attention():
            return (layer.channels,)
        case _:
            return ()
