"""Statistics of blocks: SDDM's manifold (Sun et al., ICML 2023, arXiv 2308.02154), as pure functions.

A picture (B, C, H, W) is cut into A x A blocks of h x w pixels, seen as (B, C, A, A, h, w). The manifold of level t
holds the pictures whose block means are ``mu_t`` and whose block deviations are ``s_t``: a product of spheres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ilvrctl.errors import UsageError
from ilvrctl.sizes import AnySize, Size

if TYPE_CHECKING:
    from torch import Tensor

VARIANCE_FLOOR = 1e-5
"""Added to every block's variance, as published."""

PIXELS = (-2, -1)


Grid = int | tuple[int, int]
"""How many blocks there are: a side, or down and across."""


def check_blocks(blocks: int, size: AnySize) -> None:
    """Raise UsageError unless ``blocks`` blocks a side, of 2 px or more, cut a picture of ``size`` pixels."""
    sides = Size.of(size)
    if blocks < 1 or not sides.fits(blocks) or (blocks > 1 and blocks in sides):
        counts = [str(n) for n in range(1, min(sides) // 2 + 1) if sides.fits(n)]
        raise UsageError(
            f"{blocks} blocks a side do not cut a picture of {sides} pixels into whole blocks of 2 px or more",
            hint=f"choose --blocks from {', '.join(counts)}",
        )


def split(x: Tensor, blocks: Grid) -> Tensor:
    """(B, C, H, W) as (B, C, A, A, H/A, W/A) with A = ``blocks``; or with as many down and across as it says."""
    B, C, H, W = x.shape
    down, across = blocks if isinstance(blocks, tuple) else (blocks, blocks)
    return x.reshape(B, C, down, H // down, across, W // across).transpose(3, 4)


def join(x: Tensor) -> Tensor:
    """The inverse of :func:`split`."""
    B, C, down, across, h, w = x.shape
    return x.transpose(3, 4).reshape(B, C, down * h, across * w)


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of every block, each (B, C, A, A, 1, 1)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor, blocks: Grid) -> Statistics:
        """Those of x (B, C, H, W): the unbiased variance plus 1e-5, as published."""
        import torch

        variance, mean = torch.var_mean(split(x, blocks), PIXELS, keepdim=True)
        return cls(mean, (variance + VARIANCE_FLOOR).sqrt())

    def at(self, alpha_t: float, sigma_t: float) -> Statistics:
        """Those expected at a level: ``mu_t = alpha_t mu_0``, ``s_t^2 = alpha_t^2 s_0^2 + sigma_t^2``."""
        return Statistics(alpha_t * self.mean, ((alpha_t * self.std) ** 2 + sigma_t**2).sqrt())

    @property
    def blocks(self) -> tuple[int, int]:
        """The blocks down and across."""
        return self.mean.shape[2], self.mean.shape[3]


def block_adain(x: Tensor, asked: Statistics) -> Tensor:
    """``BAdaIN(x) = (x - mean) / std * s_t + mu_t`` in every block: the retraction to the manifold (B, C, H, W)."""
    own = Statistics.of(x, asked.blocks)
    return join((split(x, asked.blocks) - own.mean) / own.std * asked.std + asked.mean)


def block_means(x: Tensor, asked: Statistics) -> Tensor:
    """x with the means of its blocks, and nothing else, as asked for."""
    parts = split(x, asked.blocks)
    return join(parts - parts.mean(PIXELS, keepdim=True) + asked.mean)


def tangent(x: Tensor, v: Tensor, mu_t: Tensor, order: int = 2) -> Tensor:
    """The part of v (B, C, H, W) along the manifold at x; the rest is ``v`` minus it.

    In every block ``v1 = v - mean(v)``, ``u = x - mu_t``, ``v_m = v1 - <v1, u> / <u, u> u``: it changes neither the
    block's mean nor, to first order, its deviation. With ``order`` 1 only the means are held: ``v_m = v1``.
    """
    grid = mu_t.shape[2], mu_t.shape[3]
    parts = split(v, grid)
    v1 = parts - parts.mean(PIXELS, keepdim=True)
    if order == 1:
        return join(v1)
    u = split(x, grid) - mu_t
    along = (v1 * u).sum(PIXELS, keepdim=True) / (u * u).sum(PIXELS, keepdim=True).clamp_min(1e-20)
    return join(v1 - along * u)
