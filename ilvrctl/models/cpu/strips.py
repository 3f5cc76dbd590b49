"""Convolutions of large maps on a CPU, strip by strip: what goes in is normalised on the way, in a strip that stays
in the cache of one core, and what comes out may take the place of what went in.

So neither the joined nor the normalised nor the enlarged input of a convolution is ever made: the largest maps of a
network need memory once, not five times. Once the rows at their borders are read, strips do not touch each other:
threads take them in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ilvrctl.models.cpu.choice import kernel_for
from ilvrctl.models.cpu.kernels import STRIP, Direct, Kernel, computing_dtype, split
from ilvrctl.models.cpu.norm import LARGE, channel_sums, wants_grad
from ilvrctl.models.cpu.threads import share

Beside = Callable[[int, int, int], None]


class Rows(Protocol):
    """What a convolution reads: (B, C, H, W), given out as rows of pixels."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, C, H, W)."""

    def read(self, i: int, top: int, bottom: int, out: Tensor) -> None:
        """Put rows ``top`` to ``bottom`` of picture ``i`` into ``out`` (C, rows, W), of any floating dtype and
        layout.
        """


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
        out.copy_(self.x[i, :, top:bottom])


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
        work = out if out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
        first = 0
        for part in self.parts:
            last = first + part.shape[1]
            a, b = (v[i, first:last, None, None] for v in (self.a, self.b))
            _mapped(part[i, :, top:bottom], a, b, work[first:last])
            first = last
        if self.silu:
            F.silu(work, inplace=True)
        if work is not out:
            out.copy_(work)


def _mapped(x: Tensor, a: Tensor, b: Tensor, out: Tensor) -> None:
    """``a x + b``, in the precision of ``out``."""
    if x.dtype != out.dtype:
        x = out.copy_(x)
    if out.stride(0) == 1:
        torch.addcmul(b, x, a, out=out)
    else:  # where a and b change with every plane, addcmul takes twice as long
        torch.mul(x, a, out=out).add_(b)


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
        small = torch.empty_like(out[:, : last - first, : out.shape[2] // 2])
        self.rows.read(i, first, last, small)
        for j in range(2):  # every second row of the strip, from row j on
            ours = out[:, j::2]
            source = small[:, j * (top % 2) :][:, : ours.shape[1]]
            ours[:, :, 0::2], ours[:, :, 1::2] = source, source


def pays(parts: Sequence[Tensor], layer: nn.Conv2d) -> bool:
    """Whether to convolve ``parts``, joined along channels, in strips: on a CPU, without gradients, where the map
    is large or the way of convolving works in strips anyway.
    """
    x = parts[0]
    if x.device.type != "cpu" or torch.compiler.is_compiling() or wants_grad(*parts, layer.weight):
        return False
    _, C, H, W = _shape(parts)
    return (
        H * W * max(C, layer.out_channels) >= LARGE
        or kernel_for(layer, layer.weight.dtype, H, W) is not Direct
    )


def convolve(
    rows: Rows,
    layer: nn.Conv2d,
    *,
    bias: Tensor | None = None,
    addend: Tensor | None = None,
    out: Tensor | None = None,
    beside: Beside | None = None,
    sums: Tensor | None = None,
) -> Tensor:
    """``layer`` (3x3, padding 1) of ``rows`` plus ``addend`` (B, O, H, W), or (B, O, H / 2, W / 2) at twice its size:
    (B, O, H, W).

    ``bias``: (B, O) in the place of the layer's own. ``out`` may be ``addend``, or a tensor that ``rows`` come
    from: what is written has been read. ``beside(i, top, bottom)`` is called when rows ``top`` to ``bottom`` of
    picture ``i`` are about to be written. ``sums`` (2, B, O) float64 gets the sums of the result and of its squares
    over the pixels. A new result is laid out as the way of convolving likes it.
    """
    B, _, H, W = rows.shape
    kind = kernel_for(layer, layer.weight.dtype, H, W)
    kernel = kind(layer, H, W)
    if out is None:
        shape = (B, layer.out_channels, H, W)
        out = torch.empty(shape, dtype=layer.weight.dtype, memory_format=kind.LAYOUT)
    for i in range(B):
        ours = None if bias is None else bias[i]
        added = None if addend is None else addend[i]
        found = None if sums is None else sums[:, i]
        _convolve(i, rows, kernel, layer.bias if bias is None else ours, added, out[i], beside, found)
    return out


def _convolve(
    i: int,
    rows: Rows,
    kernel: Kernel,
    bias: Tensor | None,
    addend: Tensor | None,
    out: Tensor,
    beside: Beside | None,
    sums: Tensor | None,
) -> None:
    """Picture ``i``: first the rows at the borders of all strips, then the strips."""
    bounds = kernel.bounds
    _, C, H, W = rows.shape
    borders = torch.empty(  # the last row of a strip, and the first below
        len(bounds), C, 2, W, dtype=kernel.dtype, memory_format=kernel.LAYOUT
    ).zero_()

    found = torch.empty(len(bounds) - 1, 2, len(out))

    def read(items: Iterator[int]) -> None:
        for j in items:
            top, bottom = max(0, bounds[j] - 1), min(H, bounds[j] + 1)
            first = top - bounds[j] + 1
            rows.read(i, top, bottom, borders[j, :, first : first + bottom - top])

    def convolve(items: Iterator[int]) -> None:
        memory = kernel.memory()
        for j in items:
            top, bottom = bounds[j], bounds[j + 1]
            n = bottom - top
            strip = kernel.strip(memory, n)
            if n > 2:
                rows.read(i, top + 1, bottom - 1, strip[:, 2:n])
            strip[:, :2], strip[:, n:] = borders[j], borders[j + 1]
            if beside is not None:
                beside(i, top, bottom)
            ours = out[:, top:bottom]
            if addend is None or len(addend[0]) == H:
                kernel.convolve(memory, n, bias, None if addend is None else addend[:, top:bottom], ours)
            else:  # strips begin with the first of a pair of rows
                kernel.convolve(memory, n, bias, None, ours)
                add_twice(ours, addend[:, top // 2 : bottom // 2])
            if sums is not None:
                channel_sums(ours, found[j])

    share(read, range(len(bounds)))
    share(convolve, range(len(bounds) - 1))
    if sums is not None:
        sums.copy_(found.double().sum(0))


def halved(rows: Rows, layer: nn.Conv2d) -> Tensor:
    """The means of 2x2 pixels of ``rows``, for ``layer`` to convolve: (B, C, H / 2, W / 2)."""
    B, C, H, W = rows.shape
    dtype = layer.weight.dtype
    layout = kernel_for(layer, dtype, H // 2, W // 2).LAYOUT
    out = torch.empty(B, C, H // 2, W // 2, dtype=dtype, memory_format=layout)

    def work(items: Iterator[tuple[int, int, int]]) -> None:
        for i, top, bottom in items:
            strip = torch.empty(1, C, bottom - top, W, dtype=dtype, memory_format=layout)[0]
            rows.read(i, top, bottom, strip)
            out[i, :, top // 2 : bottom // 2] = half(strip)

    share(work, _strips(B, H, W, C * dtype.itemsize))
    return out


def half(x: Tensor) -> Tensor:
    """The means of 2x2 pixels of ``x`` (..., H, W), in its memory layout."""
    rows = x[..., 0::2, :] + x[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]).mul_(0.25)


def add_twice(out: Tensor, x: Tensor) -> Tensor:
    """Add to ``out`` (..., 2 H, 2 W), in place, ``x`` (..., H, W) at twice its size."""
    for j in range(2):
        for k in range(2):
            out[..., j::2, k::2] += x
    return out


def pointwise(parts: Sequence[Tensor], layer: nn.Conv2d) -> Tensor:
    """The 1x1 convolution ``layer`` of ``parts`` joined along channels, in the layout of the first."""
    B, C, H, W = _shape(parts)
    out = torch.empty((B, layer.out_channels, H, W), dtype=parts[0].dtype, memory_format=layout_of(parts[0]))

    def work(items: Iterator[tuple[int, int, int]]) -> None:
        for i, top, bottom in items:
            pointwise_rows(parts, layer, i, top, bottom, out)

    share(work, _strips(B, H, W, max(C, layer.out_channels) * out.dtype.itemsize))
    return out


def pointwise_rows(
    parts: Sequence[Tensor], layer: nn.Conv2d, i: int, top: int, bottom: int, out: Tensor
) -> None:
    """Rows ``top`` to ``bottom`` of picture ``i`` of :func:`pointwise`; ``out`` may be one of ``parts``."""
    dtype = computing_dtype(layer.weight)
    weight, bias = layer.weight[:, :, 0, 0].to(dtype), None if layer.bias is None else layer.bias.to(dtype)
    ours = out[i, :, top:bottom]
    by_pixel = ours.stride(0) == 1  # the product is faster then, and fits what it is copied into
    found: Tensor | None = None
    first = 0
    for part in parts:
        last = first + part.shape[1]
        pixels, some = part[i, :, top:bottom].flatten(1).to(dtype), weight[:, first:last]
        factors = (pixels.T, some.T) if by_pixel else (some, pixels)
        if found is not None:
            found = found.addmm_(*factors)
        elif bias is None:
            found = factors[0] @ factors[1]
        else:
            found = torch.addmm(bias if by_pixel else bias[:, None], *factors)
        first = last
    if found is not None:
        ours.copy_((found.T if by_pixel else found).view(ours.shape))


def _strips(pictures: int, height: int, width: int, pixel: int) -> list[tuple[int, int, int]]:
    """Picture, first and last row of strips whose heights are even; ``pixel``: bytes of one."""
    bounds = split(height, 2, -(-height * width * pixel // STRIP))
    return [(i, top, bottom) for i in range(pictures) for top, bottom in pairwise(bounds)]


def layout_of(x: Tensor) -> torch.memory_format:
    """Whether ``x`` (B, C, H, W) is channels_last or channel by channel."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format


def _shape(parts: Sequence[Tensor]) -> tuple[int, int, int, int]:
    B, _, H, W = parts[0].shape
    return B, sum(part.shape[1] for part in parts), H, W
