"""The low-pass filter phi_N of ILVR: an antialiased resize down by N and up again, as two matrix products.

A separable resize is a matrix on each axis, so ``phi_N(x) = A_h x A_w^T`` with ``A = U D`` (down, then up) of
rank H / N. The matrices are made in float64 from the published rule (PyTorch-Resizer, itself MATLAB's
``imresize``): the kernel is widened by N when shrinking, borders are mirrored, every row of weights sums to 1.
``phi_N`` is linear and keeps constants; it is *not* a projection, except for the box kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from ilvrctl.devices import uploaded
from ilvrctl.errors import UsageError, did_you_mean
from ilvrctl.sizes import AnySize, Size

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Kernel = Literal["cubic", "linear", "box", "lanczos3", "gaussian"]


def _cubic(x: float) -> float:
    """Keys' cubic convolution kernel, a = -1/2."""
    a = abs(x)
    if a <= 1:
        return 1.5 * a**3 - 2.5 * a**2 + 1
    return -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2 if a <= 2 else 0.0


def _linear(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _box(x: float) -> float:
    return 1.0 if -0.5 <= x < 0.5 else 0.0


def _lanczos3(x: float) -> float:
    if abs(x) >= 3:
        return 0.0
    if x == 0:
        return 1.0
    return math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi**2 * x**2 / 3)


def _gaussian(x: float) -> float:
    """A deviation of half a pixel of the coarse grid, cut at four of them: no overshoot, and softer than cubic."""
    return math.exp(-2 * x**2)


_KERNELS: dict[str, tuple[Callable[[float], float], float]] = {
    "cubic": (_cubic, 4.0),
    "linear": (_linear, 2.0),
    "box": (_box, 1.0),
    "lanczos3": (_lanczos3, 6.0),
    "gaussian": (_gaussian, 4.0),
}
KERNELS = tuple(_KERNELS)


def usual_factor(size: AnySize) -> int:
    """N for pictures of ``size`` pixels where nobody knows better: a sixteenth of the shorter side, as for emoji3d and
    face, or the next smaller one that divides.
    """
    sides = Size.of(size)
    return next(N for N in range(max(1, min(sides) // 16), 0, -1) if sides.fits(N))


def check_factor(N: int, size: AnySize) -> None:
    """Raise UsageError unless N is at least 1 and divides both sides; the hint lists the factors that do."""
    sides = Size.of(size)
    if N < 1 or not sides.fits(N):
        factors = [str(n) for n in range(1, min(sides) + 1) if sides.fits(n)]
        raise UsageError(
            f"N = {N} does not divide the picture size {sides}, so there is no grid of {sides}/{N} pixels",
            hint=f"choose N from {', '.join(factors)}",
        )


def resize_weights(length: int, out_length: int, kernel: str) -> list[list[float]]:
    """The matrix (out_length, length) of an antialiased resize of one axis.

    Source: the published resizer. Output pixel i looks at ``(i + 1/2) length / out_length - 1/2``; borders are
    mirrored with the edge repeated. UsageError for an unknown kernel.
    """
    if kernel not in _KERNELS:
        raise UsageError(
            f"unknown kernel {kernel!r}; known: {', '.join(KERNELS)}", hint=did_you_mean(kernel, KERNELS)
        )
    shape, width = _KERNELS[kernel]
    scale = out_length / length
    stretch = min(scale, 1.0)  # below 1 the kernel is widened: antialiasing
    taps = math.ceil(width / stretch) + 2
    rows = []
    for i in range(out_length):
        center = (i + 0.5) / scale - 0.5
        left = math.floor(center - width / stretch / 2)
        weights = [shape(stretch * (center - left - k)) for k in range(taps)]
        total = sum(weights)
        row = [0.0] * length
        for k, weight in enumerate(weights):
            j = (left + k) % (2 * length)
            row[j if j < length else 2 * length - 1 - j] += weight / total
        rows.append(row)
    return rows


@cache
def _matrices(size: int, N: int, kernel: str) -> tuple[Tensor, Tensor]:
    """``(D, U)``: down (size/N, size) and up (size, size/N), float32."""
    import torch

    check_factor(N, size)
    down = torch.tensor(resize_weights(size, size // N, kernel), dtype=torch.float64)
    up = torch.tensor(resize_weights(size // N, size, kernel), dtype=torch.float64)
    return down.float(), up.float()


@dataclass(frozen=True)
class LowPass:
    """phi_N for pictures (..., H, W), any float range, computed in float32 whatever the network's precision.

    ``down`` and ``up`` are its halves. UsageError when N does not divide H and W, or for an unknown kernel.
    """

    N: int
    kernel: Kernel = "cubic"

    def __call__(self, x: Tensor) -> Tensor:
        """phi_N(x): the same shape, only the frequencies that survive a grid of (H/N, W/N)."""
        return self.up(self.down(x))

    def down(self, x: Tensor) -> Tensor:
        """(..., H, W) -> (..., H/N, W/N)."""
        D_h, D_w = (_on(_matrices(n, self.N, self.kernel)[0], x) for n in x.shape[-2:])
        return D_h @ x.float() @ D_w.mT

    def up(self, x: Tensor) -> Tensor:
        """(..., H/N, W/N) -> (..., H, W)."""
        U_h, U_w = (_on(_matrices(n * self.N, self.N, self.kernel)[1], x) for n in x.shape[-2:])
        return U_h @ x.float() @ U_w.mT


def filtered_plainly(
    rows: Sequence[Sequence[float]], factors: int | tuple[int, int], kernel: str
) -> list[list[float]]:
    """phi_N of one channel as rows of plain numbers, for a preview before torch is there; ``factors``: N, or N
    down and across.
    """
    for N in factors if isinstance(factors, tuple) else (factors, factors):
        length = len(rows)
        for out in (length // N, length):
            rows = _resized_plainly(rows, resize_weights(len(rows), out, kernel))
        rows = list(zip(*rows, strict=True))
    return [list(row) for row in rows]


def _resized_plainly(
    rows: Sequence[Sequence[float]], weights: Sequence[Sequence[float]]
) -> list[list[float]]:
    """The matrix times the rows, without the zeros that it is full of."""
    made = []
    for weight_row in weights:
        total = [0.0] * len(rows[0])
        for weight, row in zip(weight_row, rows, strict=True):
            if weight:
                total = [a + weight * b for a, b in zip(total, row, strict=True)]
        made.append(total)
    return made


@cache
def _placed(matrix: Tensor, device: torch.device) -> Tensor:
    return uploaded(matrix, device)


def _on(matrix: Tensor, like: Tensor) -> Tensor:
    return matrix if like.device.type == "cpu" else _placed(matrix, like.device)
