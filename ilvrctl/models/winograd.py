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
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from ilvrctl.models.norm import wants_grad

PIECE = 1 << 19  # elements of transformed input that are worked on at a time: 2 MB, which stays in the cache
MIN_SIDE = 32  # on smaller maps transforming the kernel costs more than is saved
MIN_CHANNELS = 128  # with fewer the transforms cost more than the products save
MAX_CHANNELS = 512

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


def pays(x: Tensor, layer: nn.Conv2d) -> bool:
    """Whether Winograd is faster here: a 3x3 convolution that keeps the size, in float32 without gradients, on a
    CPU with AVX2 and no AVX-512 (where it was measured); a map that 4 divides and not too small, channels neither
    too few nor too many.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    C, H, W = x.shape[1:]
    return (
        x.dtype == torch.float32
        and (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
        and min(H, W) >= MIN_SIDE
        and H % 4 == W % 4 == 0
        and min(C, layer.out_channels) >= MIN_CHANNELS
        and max(C, layer.out_channels) <= MAX_CHANNELS
        and _avx2()
        and not _direct.get()
        and not wants_grad(x, layer.weight)
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


@dataclass(frozen=True)
class _Buffers:
    """Memory that all pieces of a picture share, for ``rows`` rows of tiles."""

    rows: int
    padded: Tensor
    vertical: Tensor
    tiles: Tensor
    data: Tensor
    products: Tensor
    half: Tensor
    result: Tensor

    @classmethod
    def of(cls, rows: int, width: int, C: int, O: int) -> _Buffers:  # noqa: E741 - the papers' O
        """For pictures of that width with C channels in and O out."""
        T = rows * width // 4
        return cls(
            rows,
            padded=torch.zeros(4 * rows + 2, width + 2, C),
            vertical=torch.empty(rows, 6, (width + 2) * C),
            tiles=torch.empty(36 * T * C),
            data=torch.empty(36 * T * C),
            products=torch.empty(36 * T * O),
            half=torch.empty(24 * T * O),
            result=torch.empty(16 * T * O),
        )


def convolve(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """``layer(x)`` where that :func:`pays`; x (B, C, H, W), the result (B, O, H, W) channels_last."""
    B, C, H, W = x.shape
    O = layer.out_channels  # noqa: E741
    kernel = layer.weight.permute(0, 2, 3, 1).reshape(O, 9, C)
    U = torch.matmul(_transforms()[2], kernel).permute(1, 2, 0)  # (36, C, O)
    rows = max(1, min(H // 4, PIECE // (W // 4 * 36 * max(C, O))))
    buffers = _Buffers.of(rows, W, C, O)
    out = torch.empty(B, H, W, O)
    for source, target in zip(x.permute(0, 2, 3, 1), out, strict=True):
        for top in range(0, H, 4 * rows):
            _piece(source, target[top : top + 4 * rows], top, U, layer.bias, buffers)
    return out.permute(0, 3, 1, 2)


def _piece(source: Tensor, target: Tensor, top: int, U: Tensor, bias: Tensor | None, held: _Buffers) -> None:
    """Rows of results ``target`` (n, W, O) from the picture ``source`` (H, W, C), beginning at row ``top``."""
    B_T, A_T, _ = _transforms()
    (n, W, O), C = target.shape, source.shape[2]  # noqa: E741
    k, P, T = n // 4, (W + 2) * C, n * W // 16
    rows = _padded(source, top, n, held.padded)
    vertical = held.vertical[:k]  # (row of tiles, row in the tile, column and channel)
    torch.bmm(B_T.expand(k, 6, 6), rows.as_strided((k, 6, P), (4 * P, P, 1)), out=vertical)
    tiles = held.tiles[: 36 * T * C]  # (column in the tile, row in it, tile, channel)
    tiles.view(6, 6, k, W // 4, C).copy_(
        vertical.as_strided((6, 6, k, W // 4, C), (C, P, 6 * P, 4 * C, 1), vertical.storage_offset())
    )
    data = held.data[: 36 * T * C]
    torch.mm(B_T, tiles.view(6, -1), out=data.view(6, -1))
    products = held.products[: 36 * T * O]
    torch.bmm(data.view(36, T, C), U, out=products.view(36, T, O))
    half = held.half[: 24 * T * O]
    torch.mm(A_T, products.view(6, -1), out=half.view(4, -1))
    result = held.result[: 16 * T * O]
    torch.bmm(A_T.expand(4, 4, 6), half.view(4, 6, -1), out=result.view(4, 4, -1))
    pixels = result.view(4, 4, k, W // 4, O).permute(2, 1, 3, 0, 4)
    ours = target.view(k, 4, W // 4, 4, O)
    ours.copy_(pixels) if bias is None else torch.add(pixels, bias, out=ours)


def _padded(source: Tensor, top: int, n: int, buffer: Tensor) -> Tensor:
    """Rows ``top - 1`` to ``top + n`` with a border of zeros, in ``buffer``, whose side columns stay zero."""
    H = source.shape[0]
    low, high = max(top - 1, 0), min(top + n + 1, H)
    buffer[low - top + 1 : high - top + 1, 1:-1] = source[low:high]
    if top == 0:
        buffer[0] = 0
    if top + n == H:
        buffer[n + 1] = 0
    return buffer
