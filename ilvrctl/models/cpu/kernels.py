"""Ways to convolve a strip of a map on a CPU, all of the same sums: which one is used, ``choice`` says.

A strip of a picture is (C, rows, W), as all pictures here: its memory may be laid out channels_last, or channel by
channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

STRIP = 1 << 21  # bytes of a strip that is convolved directly: each thread holds a few of its size

Memory = tuple[Tensor, ...]


class Kernel(ABC):
    """A way to convolve strips of maps of one size with a 3x3 layer, padding 1, that keeps the size."""

    LAYOUT: ClassVar[torch.memory_format]
    """Of the maps that it is fast with."""
    dtype: torch.dtype
    """That it computes in."""
    bounds: tuple[int, ...]
    """Rows between which the strips are: from 0 to the map's height."""

    @abstractmethod
    def __init__(self, layer: nn.Conv2d, height: int, width: int) -> None:
        """Make ready the weights of ``layer``, which :meth:`fits`."""

    @classmethod
    @abstractmethod
    def fits(cls, layer: nn.Conv2d, dtype: torch.dtype, height: int, width: int) -> bool:
        """Whether it can convolve maps of that size and might be worth trying."""

    @abstractmethod
    def memory(self) -> Memory:
        """What one thread needs to work in."""

    @abstractmethod
    def strip(self, memory: Memory, n: int) -> Tensor:
        """Where a strip of ``n`` rows goes, with the rows above and below it: (C, n + 2, W)."""

    @abstractmethod
    def convolve(
        self, memory: Memory, n: int, bias: Tensor | None, addend: Tensor | None, out: Tensor
    ) -> None:
        """Convolve the strip in ``memory``, add ``bias`` (O,) and ``addend`` (O, n, W), into ``out`` (O, n, W)."""


def keeps_size(layer: nn.Conv2d) -> bool:
    """Whether the layer is a plain 3x3 convolution whose result has the size of the input."""
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1)


def split(height: int, step: int, strips: int) -> tuple[int, ...]:
    """Bounds of at most so many strips of nearly the same height, multiples of ``step`` but for the last."""
    steps = -(-height // step)
    strips = max(1, min(strips, steps))
    return tuple(min(height, step * (steps * j // strips)) for j in range(strips + 1))


def tallest(bounds: tuple[int, ...]) -> int:
    """Rows of the tallest strip."""
    return max(b - a for a, b in pairwise(bounds))


class Direct(Kernel):
    """PyTorch's own convolution, in the precision that this processor is fast in."""

    LAYOUT = torch.channels_last

    def __init__(self, layer: nn.Conv2d, height: int, width: int) -> None:
        """As :class:`Kernel` says."""
        self.dtype = computing_dtype(layer.weight)
        self.weight = layer.weight.to(self.dtype)
        self.width = width
        pixel = max(layer.in_channels, layer.out_channels) * self.dtype.itemsize
        rows = max(2, STRIP // (width * pixel))
        self.bounds = split(height, 2, -(-height // rows))

    @classmethod
    def fits(cls, layer: nn.Conv2d, dtype: torch.dtype, height: int, width: int) -> bool:
        """As :class:`Kernel` says."""
        return keeps_size(layer)

    def memory(self) -> Memory:
        """As :class:`Kernel` says."""
        rows, C = tallest(self.bounds) + 2, self.weight.shape[1]
        return (torch.empty(rows, self.width, C, dtype=self.dtype),)

    def strip(self, memory: Memory, n: int) -> Tensor:
        """As :class:`Kernel` says."""
        return memory[0][: n + 2].permute(2, 0, 1)

    def convolve(
        self, memory: Memory, n: int, bias: Tensor | None, addend: Tensor | None, out: Tensor
    ) -> None:
        """As :class:`Kernel` says."""
        strip = self.strip(memory, n)
        added = None if bias is None else bias.to(self.dtype)
        found = F.conv2d(strip[None], self.weight, added, padding=(0, 1))[0]
        out.copy_(found if addend is None else found.add_(addend))


class Nnpack(Kernel):
    """Winograd's F(6x6, 3x3) of NNPACK, a library in PyTorch: in float32, a fifth of the multiplications.

    For networks in float32: for one in bfloat16 it takes a quarter longer than direct convolutions, with the changes
    of precision (RESULTS.md), though a strip by itself is faster.
    Rounding is ten times that of a direct convolution (1.5e-5 of the largest value where that has 1.5e-6). It comes
    with PyTorch for Linux and macOS, and asks for AVX2 or NEON.
    """

    LAYOUT = torch.contiguous_format
    dtype = torch.float32
    TILES = 176  # of 6x6 pixels, about, in a strip: more take more memory, fewer transform the kernel oftener
    MIN_WORK = 1 << 25  # multiplications: below calling it costs more than it saves
    MIN_CHANNELS = 128  # with fewer a whole picture takes longer in strips, however fast one strip is
    PAIRS = 1 << 16  # of channels at a time: their transformed kernels take 256 bytes each, in every thread

    def __init__(self, layer: nn.Conv2d, height: int, width: int) -> None:
        """As :class:`Kernel` says."""
        self.weight = layer.weight.contiguous()
        self.width = width
        strips = -(-(-(-height // 6) * -(-width // 6)) // self.TILES)
        self.bounds = split(height, 6, 2 if strips < 3 else -(-strips // 4) * 4)

    @classmethod
    def fits(cls, layer: nn.Conv2d, dtype: torch.dtype, height: int, width: int) -> bool:
        """As :class:`Kernel` says."""
        return (
            keeps_size(layer)
            and dtype == torch.float32
            and min(layer.in_channels, layer.out_channels) >= cls.MIN_CHANNELS
            and 9 * layer.in_channels * layer.out_channels * height * width >= cls.MIN_WORK
            and _has_nnpack()
        )

    def memory(self) -> Memory:
        """As :class:`Kernel` says."""
        return (torch.empty(self.weight.shape[1] * (tallest(self.bounds) + 2) * self.width),)

    def strip(self, memory: Memory, n: int) -> Tensor:
        """As :class:`Kernel` says."""
        shape = (self.weight.shape[1], n + 2, self.width)
        return memory[0][: shape[0] * shape[1] * shape[2]].view(shape)

    def convolve(
        self, memory: Memory, n: int, bias: Tensor | None, addend: Tensor | None, out: Tensor
    ) -> None:
        """As :class:`Kernel` says."""
        strip = self.strip(memory, n)[None]
        step = max(1, self.PAIRS // self.weight.shape[1])
        for first in range(0, len(out), step):
            some = slice(first, first + step)
            added = None if bias is None else bias[some]
            found = torch._nnpack_spatial_convolution(strip, self.weight[some], added, (0, 1))[0]
            if addend is None:
                out[some].copy_(found)
            else:
                torch.add(found, addend[some], out=out[some])


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


@cache
def _has_nnpack() -> bool:
    """Asking also makes it ready."""
    available = getattr(torch, "_nnpack_available", None)
    return available is not None and bool(available())
