"""Convolutions of large maps on a CPU, strip by strip: what goes in is normalised on the way, in a strip that stays
in the cache, and what comes out may take the place of what went in.

So neither the joined nor the normalised nor the enlarged input of a convolution is ever made: the largest maps of a
network need memory once, not five times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ilvrctl.models.cpu import winograd
from ilvrctl.models.cpu.norm import LARGE, wants_grad

STRIP = 1 << 20  # elements of a strip that is convolved directly

Beside = Callable[[int, int, int], None]


class Rows(Protocol):
    """What a convolution reads: (B, C, H, W), given out as rows of pixels."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, C, H, W)."""

    def read(self, i: int, top: int, bottom: int, out: Tensor) -> None:
        """Put rows ``top`` to ``bottom`` of picture ``i`` into ``out`` (rows, W, C), of any floating dtype."""


@dataclass(frozen=True)
class Plain:
    """The pixels of ``x`` (B, C, H, W) as they are."""

    x: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of ``x``."""
        return _shape([self.x])

    def read(self, i: int, top: int, bottom: int, out: Tensor) -> None:
        """A copy."""
        out.copy_(pixels(self.x, i)[top:bottom])


@dataclass(frozen=True)
class Normalised:
    """``SiLU(a x + b)`` of ``parts`` joined along channels; ``a``, ``b`` (B, C) float32 of :func:`norm.affine`."""

    parts: Sequence[Tensor]
    a: Tensor
    b: Tensor
    silu: bool = True

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the joined parts."""
        return _shape(self.parts)

    def read(self, i: int, top: int, bottom: int, out: Tensor) -> None:
        """Computed in float32, rounded once."""
        work = out if out.dtype == torch.float32 else torch.empty(out.shape)
        first = 0
        for part in self.parts:
            last = first + part.shape[1]
            values = pixels(part, i)[top:bottom].to(work.dtype)
            torch.addcmul(self.b[i, first:last], values, self.a[i, first:last], out=work[..., first:last])
            first = last
        if self.silu:
            F.silu(work, inplace=True)
        if work is not out:
            out.copy_(work)


@dataclass(frozen=True)
class Twice:
    """``rows`` of (B, C, H / 2, W / 2) at twice its size, each pixel four times."""

    rows: Rows

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the enlarged map."""
        B, C, H, W = self.rows.shape
        return B, C, 2 * H, 2 * W

    def read(self, i: int, top: int, bottom: int, out: Tensor) -> None:
        """A strip need not begin with the first of a pair of rows."""
        first, last = top // 2, (bottom + 1) // 2
        small = torch.empty(last - first, out.shape[1] // 2, out.shape[2], dtype=out.dtype)
        self.rows.read(i, first, last, small)
        for row, target in enumerate(out, start=top):
            target.unflatten(0, (-1, 2)).copy_(small[row // 2 - first, :, None])


class Kernel(Protocol):
    """A way to convolve one strip."""

    rows: int
    padded: Tensor  # (rows + 2, W + 2, C): the strip with its neighbours, and columns of zeros at the sides

    def convolve(self, n: int, bias: Tensor | None, addend: Tensor | None, out: Tensor) -> None:
        """Convolve the first ``n`` rows of the strip, add ``bias`` (O,) and ``addend`` (n, W, O), into ``out``."""


class Direct:
    """PyTorch's own convolution, in the precision that this processor is fast in."""

    def __init__(self, layer: nn.Conv2d, height: int, width: int) -> None:
        dtype = computing_dtype(layer.weight)
        widest = max(layer.in_channels, layer.out_channels)
        self.weight = layer.weight.to(dtype)
        self.rows = max(2, min(height, STRIP // (width * widest)))
        self.padded = torch.zeros(self.rows + 2, width + 2, layer.in_channels, dtype=dtype)

    def convolve(self, n: int, bias: Tensor | None, addend: Tensor | None, out: Tensor) -> None:
        """As :class:`Kernel` says."""
        strip = self.padded[: n + 2].permute(2, 0, 1)[None]
        found = F.conv2d(strip, self.weight, None if bias is None else bias.to(strip.dtype))
        found = found[0].permute(1, 2, 0)
        out.copy_(found if addend is None else found.add_(addend))


def pays(parts: Sequence[Tensor], layer: nn.Conv2d) -> bool:
    """Whether to convolve ``parts``, joined along channels, in strips: on a CPU, without gradients, where the map
    is large or Winograd's method is used, which works in strips anyway.
    """
    x = parts[0]
    if x.device.type != "cpu" or torch.compiler.is_compiling() or wants_grad(*parts, layer.weight):
        return False
    _, C, H, W = _shape(parts)
    return winograd.pays(layer, x.dtype, H, W) or H * W * max(C, layer.out_channels) >= LARGE


def convolve(
    rows: Rows,
    layer: nn.Conv2d,
    *,
    bias: Tensor | None = None,
    addend: Tensor | None = None,
    out: Tensor | None = None,
    beside: Beside | None = None,
) -> Tensor:
    """``layer`` (3x3, padding 1) of ``rows`` plus ``addend`` (B, O, H, W): (B, O, H, W), channels_last.

    ``bias``: (B, O) in the place of the layer's own. ``out`` may be ``addend``, or a tensor that ``rows`` come
    from: what is written has been read. ``beside(i, top, bottom)`` is called when rows ``top`` to ``bottom`` of
    picture ``i`` are about to be written.
    """
    B, _, H, W = rows.shape
    if out is None:
        out = torch.empty(
            B, layer.out_channels, H, W, dtype=layer.weight.dtype, memory_format=torch.channels_last
        )
    fast = winograd.pays(layer, layer.weight.dtype, H, W)
    kernel: Kernel = winograd.Winograd(layer, H, W) if fast else Direct(layer, H, W)
    n, padded = kernel.rows, kernel.padded
    for i in range(B):
        padded[0] = 0  # row j of the strip is row top - 1 + j of the picture
        rows.read(i, 0, 1, padded[1:2, 1:-1])
        target, added = pixels(out, i), None if addend is None else pixels(addend, i)
        for top in range(0, H, n):
            if top:
                padded[:2] = padded[n : n + 2]
            bottom, last = min(top + n, H), min(top + n + 1, H)
            rows.read(i, top + 1, last, padded[2 : last - top + 1, 1:-1])
            if bottom == H:
                padded[H - top + 1] = 0
            if beside is not None:
                beside(i, top, bottom)
            kernel.convolve(
                bottom - top,
                layer.bias if bias is None else bias[i],
                None if added is None else added[top:bottom],
                target[top:bottom],
            )
    return out


def halved(rows: Rows, dtype: torch.dtype) -> Tensor:
    """The means of 2x2 pixels of ``rows``: (B, C, H / 2, W / 2) in ``dtype``, channels_last."""
    B, C, H, W = rows.shape
    out = torch.empty(B, C, H // 2, W // 2, dtype=dtype, memory_format=torch.channels_last)
    n = max(2, STRIP // (W * C) // 2 * 2)
    strip = torch.empty(n, W, C, dtype=dtype)
    for i in range(B):
        for top in range(0, H, n):
            bottom = min(top + n, H)
            rows.read(i, top, bottom, strip[: bottom - top])
            small = F.avg_pool2d(strip[: bottom - top].permute(2, 0, 1), 2)
            out[i, :, top // 2 : bottom // 2] = small
    return out


def pointwise(parts: Sequence[Tensor], layer: nn.Conv2d) -> Tensor:
    """The 1x1 convolution ``layer`` of ``parts`` joined along channels, channels_last."""
    B, _, H, W = _shape(parts)
    O = layer.out_channels  # noqa: E741
    out = torch.empty(B, O, H, W, dtype=parts[0].dtype, memory_format=torch.channels_last)
    n = max(1, STRIP // (W * O))
    for i in range(B):
        for top in range(0, H, n):
            pointwise_rows(parts, layer, i, top, min(top + n, H), out)
    return out


def pointwise_rows(
    parts: Sequence[Tensor], layer: nn.Conv2d, i: int, top: int, bottom: int, out: Tensor
) -> None:
    """Rows ``top`` to ``bottom`` of picture ``i`` of :func:`pointwise`; ``out`` may be one of ``parts``."""
    dtype = computing_dtype(layer.weight)
    weight, bias = layer.weight[:, :, 0, 0].to(dtype), None if layer.bias is None else layer.bias.to(dtype)
    found: Tensor | None = None
    first = 0
    for part in parts:
        last = first + part.shape[1]
        rows = pixels(part, i)[top:bottom].to(dtype)
        product = F.linear(rows, weight[:, first:last], bias if found is None else None)
        found = product if found is None else found.add_(product)
        first = last
    if found is not None:
        pixels(out, i)[top:bottom] = found


def pixels(x: Tensor, i: int) -> Tensor:
    """Picture ``i`` of ``x`` (B, C, H, W) as (H, W, C), a view."""
    return x[i].permute(1, 2, 0)


def computing_dtype(weight: Tensor) -> torch.dtype:
    """The precision to convolve in: float32 for bfloat16 weights on a CPU that has no bfloat16.

    There torch emulates it, eight times slower than float32 on 2 cores with AVX2. Sums of float32 copies, rounded
    once, are what the hardware with bfloat16 computes.
    """
    emulated = weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and _no_bf16()
    return torch.float32 if emulated else weight.dtype


@cache
def _no_bf16() -> bool:
    return torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")


def _shape(parts: Sequence[Tensor]) -> tuple[int, int, int, int]:
    B, _, H, W = parts[0].shape
    return B, sum(part.shape[1] for part in parts), H, W
