"""The levels that a network was trained with, found without a schedule, and the schedules that have them. No torch.

At a known noise strength the error is lowest at the level that had this strength in training. Some strengths give
some levels: a curve, which either is that of one known schedule alone, or decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from ilvrctl.probe.readings import Timing, timings

STEP = 1.3
"""Factor between the levels that are tried where little is known yet."""
NEAR = 1.16
"""The levels tried above and below the best are nearer than this at last; a parabola finds the lowest between."""
MOST = 20_000
"""No network has more levels."""
EXACT = 0.08
"""Relative error of the levels of a network that knows the pictures well, 99 of 100 times."""
SURE = 3.0
"""For others, so many times the standard error that the pictures' differences tell."""
APART = 1.5
"""So many times off what is allowed is a schedule that the network surely was not trained with."""

DENOISES = 0.5
"""A trained network's error is below this times that of the best multiple of the noisy picture."""
Tried = Mapping[int, Sequence[float]]
"""For each level that was tried the logarithms of the errors, picture by picture."""


@dataclass(frozen=True)
class Point:
    """One level of the curve: at ``abar`` the error is lowest at ``level``, surely between ``low`` and ``high``.

    ``denoised``: whether the network was trained at so much noise at all.
    """

    abar: float
    level: float
    low: float
    high: float
    denoised: bool = True

    @property
    def strength(self) -> float:
        """sigma / alpha."""
        return math.sqrt((1 - self.abar) / self.abar)

    def miss(self, timing: Timing) -> float:
        """How far a schedule is off here, in parts of what is allowed."""
        level = timing.level(self.abar)
        if level is None:  # the network has not learned it: its last level is the best, or the first of the worse
            last = timing.diffusion_steps - 1
            return 0.0 if self.low <= NEAR * last and self.high >= last / NEAR else math.inf
        if not self.denoised:
            return math.inf
        side = self.low if level < self.level else self.high
        return abs(_log(level) - _log(self.level)) / max(abs(_log(side) - _log(self.level)), 1e-9)


def next_level(tried: Tried) -> int | None:
    """The level to try next; None when the lowest error lies between near levels."""
    levels = sorted(tried)
    n = levels.index(_best(tried))
    t = levels[n]
    if n == 0 and t > 0:  # down before up: levels that are too high are not levels at all
        return max(0, min(t - 1, _level(_log(t) - math.log(STEP))))
    if n == len(levels) - 1 and t < MOST:
        return max(t + 1, _level(_log(t) + math.log(STEP)))
    gaps = [(_log(b) - _log(a), a, b) for a, b in zip(levels, levels[1:], strict=False) if t in (a, b)]
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
    if not 0 < n < len(levels) - 1 or not all(math.isfinite(e) for t in levels[n - 1 : n + 2] for e in tried[t]):
        return Point(abar, levels[n], 0, MOST, denoised)
    a, b, c = (_log(t) for t in levels[n - 1 : n + 2])
    slopes, bends = [], []
    for low, mid, high in zip(*(tried[t] for t in levels[n - 1 : n + 2]), strict=True):
        left, right = (mid - low) / (b - a), (high - mid) / (c - b)
        slopes.append((left * (c - b) + right * (b - a)) / (c - a))
        bends.append(2 * (right - left) / (c - a))
    bend = fmean(bends)
    if bend < 1e-6:
        return Point(abar, levels[n], 0, MOST, denoised)
    error = math.sqrt(variance(slopes) / len(slopes)) / bend if len(slopes) > 1 else math.inf
    best = min(max(b - fmean(slopes) / bend, a), c)
    allowed = math.hypot(EXACT, SURE * error) + 0.5 * math.exp(-best)  # levels are whole
    return Point(abar, math.exp(best) - 1, _clip(best - allowed), _clip(best + allowed), denoised)


def fits(curve: Sequence[Point]) -> list[tuple[Timing, float]]:
    """Every known schedule with how far it is off where it is farthest, in parts of what is allowed; best first.

    Up to 1 it has the curve; beyond APART it has not.
    """
    off = [(timing, max(point.miss(timing) for point in curve)) for timing in timings()]
    return sorted(off, key=lambda pair: pair[1])


def _best(tried: Tried) -> int:
    return min(tried, key=lambda t: (fmean(tried[t]), t))


def _log(level: float) -> float:
    return math.log(level + 1)


def _level(log: float) -> int:
    return round(math.exp(log) - 1)


def _clip(log: float) -> float:
    return min(max(math.exp(min(log, 50.0)) - 1, 0.0), MOST)
