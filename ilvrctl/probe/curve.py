"""The levels that a network was trained with, found without a schedule, and the schedules that have them. No torch.

At a known noise strength the error is lowest at the level that had this strength in training. Some strengths give
some levels: a curve, which either is that of one known schedule alone, or decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, variance

from ilvrctl.probe.readings import Timing, timings

STEP = 1.3
"""Factor between the levels that are tried where little is known yet."""
NEAR = 1.16
"""The levels tried above and below the best are nearer than this at last; a parabola finds the lowest between."""
MOST = 10_000
"""No network has more levels."""
EXACT = 0.08
"""Relative error of one level that is found, with pictures that the network knows well, at most ..."""
SURE = 3.0
"""... and so many times the standard error, where the pictures' differences tell of a larger one."""
CLOSE = 0.045
"""A schedule has the curve if its levels are so near, root mean square ..."""
APART = 1.5
"""... and has it not when they are so many times farther off than each may be, root of the sum of squares."""
DENOISES = 0.5
"""A trained network's error is below this times that of the best multiple of the noisy picture."""

Tried = Mapping[int, Sequence[float]]
"""For each level that was tried the logarithms of the errors, picture by picture."""


@dataclass(frozen=True)
class Point:
    """One level of the curve: at ``abar`` the error is lowest at ``level``, give or take the part ``error`` of it.

    ``denoised``: whether the network was trained at so much noise at all.
    """

    abar: float
    level: float
    error: float
    denoised: bool = True

    @property
    def strength(self) -> float:
        """sigma / alpha."""
        return math.sqrt((1 - self.abar) / self.abar)

    def apart(self, timing: Timing) -> float:
        """The logarithm of the factor between this level and a schedule's, beyond the half level of rounding."""
        level = timing.level(self.abar)
        if level is None:  # not learned: the best is the last, if the network was not trained at more noise
            last = timing.diffusion_steps - 1
            reached = last / NEAR <= self.level * math.exp(self.error)
            return 0.0 if reached and self.level * math.exp(-self.error) <= last * (1 + EXACT) else math.inf
        if not self.denoised:
            return math.inf
        return max(abs(_log(level) - _log(self.level)) - 0.5 / (level + 1), 0.0)


def next_level(tried: Tried) -> int | None:
    """The level to try next; None when the lowest error lies between near levels."""
    levels = sorted(tried)
    n = levels.index(_best(tried))
    t = levels[n]
    if n == 0 and t > 0:  # down before up: levels that are too high are not levels at all
        return max(0, min(t - 1, _level(_log(t) - math.log(STEP))))
    if n == len(levels) - 1 and t < MOST:
        return max(t + 1, _level(_log(t) + math.log(STEP)))
    gaps = [(_log(b) - _log(a), a, b) for a, b in pairwise(levels) if t in (a, b)]
    width, a, b = max((gap for gap in gaps if gap[2] - gap[1] > 1), default=(0.0, 0, 0))
    return _level((_log(a) + _log(b)) / 2) if width > math.log(NEAR) else None


def point_of(abar: float, tried: Tried, trivial: Sequence[float]) -> Point:
    """Where the error is lowest, by a parabola through the best level and its neighbours.

    How sure that is follows from the slopes of the pictures' errors there, each of which has its own lowest level, and
    from the parabola's curvature. ``trivial``: the logarithms of the errors that can be had without a network.
    """
    levels = sorted(tried)
    n = levels.index(_best(tried))
    denoised = fmean(tried[levels[n]]) - fmean(trivial) < math.log(DENOISES)
    around = levels[max(n - 1, 0) : n + 2]
    if len(around) < 3 or not all(math.isfinite(e) for t in around for e in tried[t]):
        return Point(abar, levels[n], math.inf, denoised)
    a, b, c = map(_log, around)
    slopes, bends = [], []
    for low, middle, high in zip(*(tried[t] for t in around), strict=True):
        left, right = (middle - low) / (b - a), (high - middle) / (c - b)
        slopes.append((left * (c - b) + right * (b - a)) / (c - a))
        bends.append(2 * (right - left) / (c - a))
    bend = fmean(bends)
    if bend < 1e-6 or len(slopes) < 2:
        return Point(abar, levels[n], math.inf, denoised)
    best = min(max(b - fmean(slopes) / bend, a), c)
    error = math.sqrt(variance(slopes) / len(slopes)) / bend
    return Point(abar, math.exp(best) - 1, math.hypot(EXACT, SURE * error), denoised)


@dataclass(frozen=True)
class Fit:
    """How far the levels of a schedule are from the curve: ``apart`` by their logarithms, root mean square; ``off``
    in parts of what each may be off, root of the sum of squares.
    """

    timing: Timing
    apart: float
    off: float


def fits(curve: Sequence[Point]) -> list[Fit]:
    """Every known schedule against the curve, the best first."""
    found = []
    for timing in timings():
        apart = [point.apart(timing) for point in curve]
        off = math.hypot(
            *(a / point.error if a < math.inf else a for a, point in zip(apart, curve, strict=True))
        )
        found.append(Fit(timing, math.hypot(*apart) / math.sqrt(len(curve)), off))
    return sorted(found, key=lambda fit: (fit.off, fit.apart))


def _best(tried: Tried) -> int:
    return min(tried, key=lambda t: (fmean(tried[t]), t))


def _log(level: float) -> float:
    return math.log(level + 1)


def _level(log: float) -> int:
    return round(math.exp(log) - 1)
