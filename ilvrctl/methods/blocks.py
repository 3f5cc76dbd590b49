"""Statistics of blocks: SDDM's manifold (Sun et al., ICML 2023, arXiv 2308.02154), as pure functions.

A picture (B, C, H, W) is cut into A x A blocks of h x w pixels, seen as (B, C, A, A, h, w). The manifold of level t
holds the pictures whose block means are ``mu_t`` and whose block deviations are ``s_t``: a product of spheres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ilvrctl.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

VARIANCE_FLOOR = 1e-5
"""Added to every block's variance, as published."""

PIXELS = (-2, -1)


def check_blocks(blocks: int, size: int) -> None:
    """Raise UsageError unless ``blocks`` blocks a side, of 2 px or more, cut a picture of ``size`` pixels."""
    if blocks < 1 or size % blocks or size == blocks > 1:
        counts = [str(n) for n in range(1, size // 2 + 1) if size % n == 0]
        raise UsageError(
            f"{blocks} blocks a side do not cut a picture of {size} pixels into whole blocks of 2 px or more",
            hint=f"choose --blocks from {', '.join(counts)}",
        )


def split(x: Tensor, blocks: int) -> Tensor:
    """(B, C, H, W) as (B, C, A, A, H/A, W/A) with A = ``blocks``."""
    B, C, H, W = x.shape
    return x.reshape(B, C, blocks, H // blocks, blocks, W // blocks).transpose(3, 4)


def join(x: Tensor) -> Tensor:
    """The inverse of :func:`split`."""
    B, C, A, _, h, w = x.shape
    return x.transpose(3, 4).reshape(B, C, A * h, A * w)


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of every block, each (B, C, A, A, 1, 1)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor, blocks: int) -> Statistics:
        """Those of x (B, C, H, W): the unbiased variance plus 1e-5, as published."""
        import torch

        variance, mean = torch.var_mean(split(x, blocks), PIXELS, keepdim=True)
        return cls(mean, (variance + VARIANCE_FLOOR).sqrt())

    def at(self, alpha_t: float, sigma_t: float) -> Statistics:
        """Those expected at a level: ``mu_t = alpha_t mu_0``, ``s_t^2 = alpha_t^2 s_0^2 + sigma_t^2``."""
        return Statistics(alpha_t * self.mean, ((alpha_t * self.std) ** 2 + sigma_t**2).sqrt())

    @property
    def blocks(self) -> int:
        """A, the blocks a side."""
        return self.mean.shape[2]


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
    parts = split(v, mu_t.shape[2])
    v1 = parts - parts.mean(PIXELS, keepdim=True)
    if order == 1:
        return join(v1)
    u = split(x, mu_t.shape[2]) - mu_t
    along = (v1 * u).sum(PIXELS, keepdim=True) / (u * u).sum(PIXELS, keepdim=True).clamp_min(1e-20)
    return join(v1 - along * u)
