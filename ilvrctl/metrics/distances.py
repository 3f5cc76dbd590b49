"""Distances between two sets of feature vectors, (n, d), all arithmetic in float64.

The Fréchet distance and its statistics, KID with a standard error, precision and recall.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ilvrctl.metrics.intervals import Estimate

NEIGHBOURS = 3
"""k of precision and recall (Kynkäänniemi et al. 2019)."""
_ROWS = 2048  # of a kernel matrix at a time
_NORMAL_975 = 1.959963984540054


@dataclass(frozen=True)
class Moments:
    """Count, mean (d,) and scatter ``sum (f - mean)(f - mean)^T`` (d, d) of a set that grows batch by batch."""

    n: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, d: int) -> Moments:
        return cls(0, torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64))

    def add(self, batch: Tensor) -> Moments:
        """With ``batch`` (b, d) as well (Chan, Golub and LeVeque 1979: exact to rounding in any order)."""
        values = batch.double()
        n, b = self.n + len(values), len(values)
        mean = values.mean(0)
        centred = values - mean
        delta = mean - self.mean
        scatter = self.scatter + centred.T @ centred + torch.outer(delta, delta) * (self.n * b / n)
        return replace(self, n=n, mean=self.mean + delta * (b / n), scatter=scatter)

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance matrix, (d, d). ValueError for fewer than two vectors."""
        if self.n < 2:
            raise ValueError("a covariance needs at least two vectors")
        return self.scatter / (self.n - 1)


def moments(features: Tensor) -> Moments:
    """Of ``features`` (n, d)."""
    found = Moments.empty(features.shape[1])
    for batch in _parts(features):
        found = found.add(batch)
    return found


def frechet(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    """``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Heusel et al. 2017, eq. 6).

    The trace of the root is the sum of the singular values of ``C1^(1/2) C2^(1/2)``, which needs no small offset
    where the covariances are singular.
    """
    root = torch.linalg.svdvals(_root(cov_1) @ _root(cov_2)).sum()
    gap = (mean_1 - mean_2).square().sum()
    return float(gap + cov_1.trace() + cov_2.trace() - 2 * root)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root; eigenvalues below 0 are rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    return torch.as_tensor((vectors * values.clamp(min=0).sqrt()) @ vectors.T)


def kid(a: Tensor, b: Tensor, pairs: Sequence[int | None] | None = None) -> Estimate:
    """The squared MMD with the kernel ``(x.y / d + 1)^3`` of all vectors (Binkowski et al. 2018, eq. 4 and 5).

    Unbiased, so it may be below 0. The interval is ``value +- 1.96 SE`` with the standard error of
    :func:`kid_with_error`. ``pairs``: where ``a[i]`` shows the same thing as ``b[pairs[i]]``, that pair is left
    out of the cross term, as k(x, x) is of the others; without this a set has a negative distance to itself.
    ValueError for fewer than two vectors a side.
    """
    value, error = kid_with_error(a, b, pairs)
    if not math.isfinite(error):
        return Estimate(value, None, None, len(a))
    return Estimate(value, value - _NORMAL_975 * error, value + _NORMAL_975 * error, len(a))


def kid_with_error(a: Tensor, b: Tensor, pairs: Sequence[int | None] | None = None) -> tuple[float, float]:
    """KID, and its standard error by leaving out one picture at a time (the jackknife of two samples).

    ``SE^2 = (m - 1)/m sum (T_-i - mean)^2 + (n - 1)/n sum (T_-j - mean)^2``; a pair that shows one thing is left
    out together. It holds near 0 too, where the usual first-order formula does not; infinite for two vectors.
    """
    m, n = len(a), len(b)
    if min(m, n) < 2:
        raise ValueError("KID needs at least two vectors a side")
    sums = _Sums(_row_sums(a, a, own=True), _row_sums(b, b, own=True), *_cross_sums(a, b, pairs))
    matched = [(i, j) for i, j in enumerate(pairs or ()) if j is not None]
    value = sums.value()
    if min(m, n) < 3:
        return value, math.inf
    if len(matched) == m == n and len({j for _, j in matched}) == n:
        partner = torch.tensor([j for _, j in matched])
        left = sums.without_pairs(partner)
        return value, float(((m - 1) / m * (left - left.mean()).square().sum()).sqrt())
    left_a, left_b = sums.without_a(), sums.without_b()
    variance = (m - 1) / m * (left_a - left_a.mean()).square().sum()
    variance = variance + (n - 1) / n * (left_b - left_b.mean()).square().sum()
    return value, float(variance.sqrt())


@dataclass(frozen=True)
class _Sums:
    """Row sums of the three kernel matrices, their diagonals (or pairs) left out.

    ``aa`` (m,), ``bb`` (n,), ``ab`` (m,) and ``ba`` (n,) of the cross matrix; ``terms_a`` and ``terms_b``: how many
    entries of the cross matrix are in each row and column.
    """

    aa: Tensor
    bb: Tensor
    ab: Tensor
    ba: Tensor
    terms_a: Tensor
    terms_b: Tensor

    def value(self) -> float:
        m, n = len(self.aa), len(self.bb)
        own = self.aa.sum() / (m * (m - 1)) + self.bb.sum() / (n * (n - 1))
        return float(own - 2 * self.ab.sum() / self.terms_a.sum())

    def without_a(self) -> Tensor:
        m, n = len(self.aa), len(self.bb)
        aa = (self.aa.sum() - 2 * self.aa) / ((m - 1) * (m - 2))
        cross = (self.ab.sum() - self.ab) / (self.terms_a.sum() - self.terms_a)
        return aa + self.bb.sum() / (n * (n - 1)) - 2 * cross

    def without_b(self) -> Tensor:
        return _Sums(self.bb, self.aa, self.ba, self.ab, self.terms_b, self.terms_a).without_a()

    def without_pairs(self, partner: Tensor) -> Tensor:
        """Leaving out ``a[i]`` and ``b[partner[i]]``, whose own entry of the cross matrix is left out already."""
        m = len(self.aa)
        bb, ba = self.bb[partner], self.ba[partner]
        own = (self.aa.sum() - 2 * self.aa + self.bb.sum() - 2 * bb) / ((m - 1) * (m - 2))
        return own - 2 * (self.ab.sum() - self.ab - ba) / ((m - 1) * (m - 2))


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return torch.as_tensor((a.double() @ b.double().T / a.shape[1] + 1) ** 3)


def _parts(rows: Tensor) -> Iterator[Tensor]:
    """The rows, so many at a time that a matrix against all others fits into memory."""
    return (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))


def _row_sums(a: Tensor, b: Tensor, *, own: bool) -> Tensor:
    """Sums of the rows of k(a, b); ``own``: without the diagonal."""
    rows = torch.cat([_kernel(part, b).sum(1) for part in _parts(a)])
    return rows - _diagonal(a, a) if own else rows


def _diagonal(a: Tensor, b: Tensor) -> Tensor:
    return ((a.double() * b.double()).sum(1) / a.shape[1] + 1) ** 3


def _cross_sums(
    a: Tensor, b: Tensor, pairs: Sequence[int | None] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row and column sums of k(a, b) without the pairs, and how many entries each has."""
    ab, ba = _row_sums(a, b, own=False), _row_sums(b, a, own=False)
    terms_a = torch.full((len(a),), float(len(b)), dtype=torch.float64)
    terms_b = torch.full((len(b),), float(len(a)), dtype=torch.float64)
    matched = [(i, j) for i, j in enumerate(pairs or ()) if j is not None]
    if matched:
        i, j = (torch.tensor(side) for side in zip(*matched, strict=True))
        same = _diagonal(a[i], b[j])
        ones = torch.ones_like(same)
        ab, ba = ab.index_add(0, i, -same), ba.index_add(0, j, -same)
        terms_a, terms_b = terms_a.index_add(0, i, -ones), terms_b.index_add(0, j, -ones)
    return ab, ba, terms_a, terms_b


def inside(points: Tensor, cloud: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Whether each of ``points`` (n, d) is as near to some vector of ``cloud`` as that one's k-th neighbour; (n,).

    Kynkäänniemi et al. 2019, eq. 1: precision is the mean for outputs among real pictures, recall the mean for real
    pictures among outputs. ValueError for a cloud of k vectors or fewer.
    """
    if len(cloud) <= k:
        raise ValueError(f"precision and recall need more than {k} vectors")
    cloud, points = cloud.double(), points.double()
    radius = torch.cat([torch.cdist(part, cloud).kthvalue(k + 1).values for part in _parts(cloud)])
    return torch.cat([(torch.cdist(part, cloud) <= radius).any(1) for part in _parts(points)])
