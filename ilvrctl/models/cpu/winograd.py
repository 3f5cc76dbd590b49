"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3) out of matrix products.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.3. 4x4 results are

    ``Y = A^T [(G g G^T) * (B^T d B)] A``

of a tile d of 6x6 pixels and a kernel g, where ``*`` multiplies by elements and sums over the input channels:
36 products a tile and pair of channels in the place of 144. Rounding is seven times that of a direct convolution
(7e-6 of the largest value where that has 1e-6).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from ilvrctl.models.cpu.kernels import Kernel, Memory, keeps_size, split, tallest

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


@cache
def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """``B^T`` (6, 6), ``A^T`` (4, 6) and G on both axes of a kernel (36, 9), columns of the tile first."""
    G = torch.tensor(_G, dtype=torch.float64)
    both = torch.einsum("bl,ak->bakl", G, G).reshape(36, 9)
    return torch.tensor(_B_T).float(), torch.tensor(_A_T).float(), both.float()


class Winograd(Kernel):
    """The :class:`~ilvrctl.models.cpu.kernels.Kernel` of F(4x4, 3x3): float32, maps whose sides 4 divides."""

    LAYOUT = torch.channels_last
    dtype = torch.float32

    def __init__(self, layer: nn.Conv2d, height: int, width: int) -> None:
        """As the protocol says."""
        C, O = layer.in_channels, layer.out_channels  # noqa: E741 - the papers' O
        kernel = layer.weight.permute(0, 2, 3, 1).reshape(O, 9, C)
        self.U = torch.matmul(_transforms()[2], kernel).permute(1, 2, 0)  # (36, C, O)
        self.width = width
        rows = -(-TILES // (width // 4))  # of tiles
        self.bounds = split(height, 4, -(-height // (4 * rows)))

    @classmethod
    def fits(cls, layer: nn.Conv2d, dtype: torch.dtype, height: int, width: int) -> bool:
        """A map not too small, channels neither too few nor too many."""
        pairs = layer.in_channels * layer.out_channels
        return (
            keeps_size(layer)
            and dtype == torch.float32
            and min(height, width) >= MIN_SIDE
            and height % 4 == width % 4 == 0
            and min(layer.in_channels, layer.out_channels) >= MIN_CHANNELS
            and max(layer.in_channels, layer.out_channels) <= MAX_CHANNELS
            and pairs <= MAX_PAIRS * height * width
        )

    def memory(self) -> Memory:
        """The strip with columns of zeros at its sides; each stage reads one of the others and writes the other."""
        C, O = self.U.shape[1:]  # noqa: E741
        rows = tallest(self.bounds)
        elements = 36 * (rows // 4) * (self.width // 4) * max(C, O)
        return torch.zeros(rows + 2, self.width + 2, C), torch.empty(elements), torch.empty(elements)

    def strip(self, memory: Memory, n: int) -> Tensor:
        """As the protocol says."""
        return memory[0][: n + 2, 1:-1].permute(2, 0, 1)

    def convolve(
        self, memory: Memory, n: int, bias: Tensor | None, addend: Tensor | None, out: Tensor
    ) -> None:
        """``Y`` of the strip of ``n`` rows, a multiple of 4."""
        B_T, A_T, _ = _transforms()
        C, (O, _, W) = self.U.shape[1], out.shape  # noqa: E741
        k, P, T = n // 4, (W + 2) * C, n * W // 16
        padded, here, there = memory
        vertical = there[: 6 * k * P].view(k, 6, P)  # (row of tiles, row in the tile, column and channel)
        torch.bmm(B_T.expand(k, 6, 6), padded.as_strided((k, 6, P), (4 * P, P, 1)), out=vertical)
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
        found = result.view(4, 4, k, W // 4, O).permute(4, 2, 1, 3, 0)
        shape = (k, 4), (W // 4, 4)
        ours = torch.unflatten(torch.unflatten(out, 2, shape[1]), 1, shape[0])
        if addend is None:
            ours.copy_(found)
        else:
            torch.add(found, torch.unflatten(torch.unflatten(addend, 2, shape[1]), 1, shape[0]), out=ours)
