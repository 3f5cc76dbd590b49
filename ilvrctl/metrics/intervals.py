"""How sure a mean is: bootstrap intervals, seeded, so that the same numbers give the same interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEVEL = 0.95
"""The share of intervals that are to hold the true mean."""
_CHUNK = 1 << 22  # resampled indices at a time: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A ``value`` with its interval ``low`` to ``high``, both None where there is none, and of how many numbers."""

    value: float
    low: float | None
    high: float | None
    n: int

    def apart(self, other: Estimate) -> bool:
        """Whether both intervals are known and do not overlap."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return False
        return self.high < other.low or other.high < self.low


def bootstrap_means(
    columns: Tensor, groups: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> list[Estimate]:
    """The mean of every column of ``columns`` (n, M), float64, with its percentile interval.

    Whole groups are drawn with replacement (Efron 1979; for clusters Davison and Hinkley 1997, 3.8): samples of
    one input are not independent, so ``groups`` names the input of every row. All columns share the draws. No
    interval with fewer than two groups, as nothing is known about the spread then.
    """
    values = columns.double()
    names = sorted(set(groups))
    place = {name: i for i, name in enumerate(names)}
    index = torch.tensor([place[group] for group in groups])
    sums = torch.zeros(len(names), values.shape[1], dtype=torch.float64).index_add_(0, index, values)
    counts = torch.zeros(len(names), dtype=torch.float64).index_add_(
        0, index, torch.ones(len(groups), dtype=torch.float64)
    )
    means = sums.sum(0) / counts.sum()
    if len(names) < 2:
        return [Estimate(float(mean), None, None, len(groups)) for mean in means]
    draws = _resampled(sums, counts, resamples, seed)
    low, high = (_quantile(draws, q) for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    rows = zip(means.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Estimate(mean, a, b, len(groups)) for mean, a, b in rows]


def _resampled(sums: Tensor, counts: Tensor, resamples: int, seed: int) -> Tensor:
    """Means (resamples, M) of as many groups as there are, drawn with replacement."""
    generator = torch.Generator().manual_seed(seed)
    n = len(counts)
    found = []
    for start in range(0, resamples, max(1, _CHUNK // n)):
        rows = min(max(1, _CHUNK // n), resamples - start)
        drawn = torch.randint(n, (rows, n), generator=generator)
        total = counts[drawn].sum(1, keepdim=True)
        found.append(torch.stack([column[drawn].sum(1) for column in sums.T], 1) / total)
    return torch.cat(found)


def _quantile(draws: Tensor, q: float) -> Tensor:
    """The quantile of every column, linear between neighbours; infinite means (PSNR of equal pictures) stay."""
    ordered = draws.sort(0).values
    place = q * (len(draws) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    between = low + (high - low) * (place - math.floor(place))
    return torch.where(low == high, low, between)
