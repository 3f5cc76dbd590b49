"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3) out of matrix products.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.3. 4x4 results are

    ``Y = A^T [(G g G^T) * (B^T d B)] A``

of a tile d of 6x6 pixels and a kernel g, where ``*`` multiplies by elements and sums over the input channels:
36 products a tile and pair of channels in the place of 144. Rounding is seven times that of a direct convolution
(7e-6 of the largest value where that has 1e-6).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor, nn

TILES = 64  # tiles to work on at a time: as many rows as a matrix product wants, as few as the cache does
MIN_SIDE = 32  # on smaller maps transforming the kernel costs more than is saved
MIN_CHANNELS = 128  # with fewer the transforms cost more than the products save
MAX_CHANNELS = 512
MAX_PAIRS = (
    128  # of channels in and out, for each pixel: with more, transforming the kernel costs what is saved
)

_B_T = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_A_T = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))

_direct: ContextVar[bool] = ContextVar("direct", default=False)


@contextmanager
def directly() -> Iterator[None]:
    """Within it convolutions are computed the direct way: to count operations, or to compare."""
    token = _direct.set(True)
    try:
        yield
    finally:
        _direct.reset(token)


def pays(layer: nn.Conv2d, dtype: torch.dtype, height: int, width: int) -> bool:
    """Whether Winograd is faster here for maps of that size: a 3x3 convolution that keeps the size, in float32, on
    a CPU with AVX2 and no AVX-512 (where it was measured); a map that 4 divides and not too small, channels neither
    too few nor too many. It has no gradients.
    """
    return (
        dtype == torch.float32
        and (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
        and min(height, width) >= MIN_SIDE
        and height % 4 == width % 4 == 0
        and min(layer.in_channels, layer.out_channels) >= MIN_CHANNELS
        and max(layer.in_channels, layer.out_channels) <= MAX_CHANNELS
        and layer.in_channels * layer.out_channels <= MAX_PAIRS * height * width
        and _avx2()
        and not _direct.get()
    )


@cache
def _avx2() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


@cache
def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """``B^T`` (6, 6), ``A^T`` (4, 6) and G on both axes of a kernel (36, 9), columns of the tile first."""
    G = torch.tensor(_G, dtype=torch.float64)
    both = torch.einsum("bl,ak->bakl", G, G).reshape(36, 9)
    return torch.tensor(_B_T).float(), torch.tensor(_A_T).float(), both.float()


class Winograd:
    """The kernel of a layer for strips of maps of one size, with the memory that it works in."""

    def __init__(self, layer: nn.Conv2d, height: int, width: int) -> None:
        C, O = layer.in_channels, layer.out_channels  # noqa: E741 - the papers' O
        kernel = layer.weight.permute(0, 2, 3, 1).reshape(O, 9, C)
        self.U = torch.matmul(_transforms()[2], kernel).permute(1, 2, 0)  # (36, C, O)
        k = min(height // 4, -(-TILES // (width // 4)))  # rows of tiles
        T = k * width // 4
        self.rows = 4 * k
        self.padded = torch.zeros(4 * k + 2, width + 2, C)
        # each stage reads one and writes the other: less memory stays in more of the cache
        self._here, self._there = torch.empty(2, 36 * T * max(C, O))

    def convolve(self, n: int, bias: Tensor | None, addend: Tensor | None, out: Tensor) -> None:
        """``Y`` of the first ``n`` rows (a multiple of 4) in ``padded``, plus ``bias`` (O,) and ``addend``
        (n, W, O), into ``out`` (n, W, O).
        """
        B_T, A_T, _ = _transforms()
        C, (_, W, O) = self.U.shape[1], out.shape  # noqa: E741
        k, P, T = n // 4, (W + 2) * C, n * W // 16
        here, there = self._here, self._there
        vertical = there[: 6 * k * P].view(k, 6, P)  # (row of tiles, row in the tile, column and channel)
        torch.bmm(B_T.expand(k, 6, 6), self.padded.as_strided((k, 6, P), (4 * P, P, 1)), out=vertical)
        tiles = here[: 36 * T * C].view(6, 6, k, W // 4, C)  # (column in the tile, row in it, tile, channel)
        tiles.copy_(there.as_strided(tiles.shape, (C, P, 6 * P, 4 * C, 1)))
        data = there[: 36 * T * C]
        torch.mm(B_T, tiles.view(6, -1), out=data.view(6, -1))
        products = here[: 36 * T * O].view(36, T, O)
        torch.bmm(data.view(36, T, C), self.U, out=products)
        if bias is not None:
            products[7] += (
                bias  # the second column of A^T is all ones: this one product is in each result once
            )
        half = there[: 24 * T * O]
        torch.mm(A_T, products.view(6, -1), out=half.view(4, -1))
        result = here[: 16 * T * O]
        torch.bmm(A_T.expand(4, 4, 6), half.view(4, 6, -1), out=result.view(4, 4, -1))
        found = result.view(4, 4, k, W // 4, O).permute(2, 1, 3, 0, 4)
        ours = out.view(k, 4, W // 4, 4, O)
        if addend is None:
            ours.copy_(found)
        else:
            torch.add(found, addend.view(ours.shape), out=ours)
