"""Two networks on one chain: which of its own levels the source's is asked at, for every level of the target's."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from ilvrctl.diffusion.schedule import LEAST_ABAR, Schedule, Step
from ilvrctl.errors import UsageError
from ilvrctl.sizes import AnySize, Size

SAME_ABAR = 1e-6
"""Schedules that differ by no more, and have as many levels, are one: their levels match by number."""
NEAR_ALPHA = 0.9
"""Levels with this share of the alpha of the noisiest that the source knows, or more, are taken for that: so much do
the ends of one schedule differ with T. Beyond it eps is no longer right, and x0 is made of that over alpha."""

GREY_LEVEL = 2 / 255
"""Noise of one level is taken for that of another where their alphas differ by no more: a picture that is all that
differs is then off by one of 255 greys."""


def match_levels(source: Schedule, target: Schedule) -> tuple[float, ...] | None:
    """For the target's levels from 0 up, the source's of the same abar; None where both have the same schedule.

    Between two levels of the source, log abar / (1 - abar) is taken as linear in the level (as k-diffusion's
    ``sigma_to_t``): the networks take fractions. What is cleaner than the source's level 0 is given at that, as the
    clean picture is. The levels that are noisier than all that the source knows are left out, and those above them.
    """
    if source.T == target.T and _farthest(source, target) <= SAME_ABAR:
        return None
    own = _noisiness(source)
    least = NEAR_ALPHA * math.sqrt(source.alphas_cumprod[-1])
    known = [t for t in range(target.T) if target.level(t)[0] >= least]
    return tuple(_place(noise, own) for noise in _noisiness(target)[: len(known)])


def check_match(levels: Sequence[float] | None, steps: Sequence[Step]) -> None:
    """UsageError for a chain with levels that are not among those of :func:`match_levels`."""
    if levels is None or steps[0].t < len(levels):
        return
    raise UsageError(
        f"level {steps[0].t} of the target's model is noisier (alpha {steps[0].alpha_t:.2g}) than all that the "
        "source's model was trained on: it cannot encode up to there",
        hint=f"--start {len(levels)} begins at the noisiest level that both know"
        if levels
        else "another model of the inputs' own kind: these two have no level in common",
    )


def check_noise(alphas: Sequence[float], steps: Sequence[Step], schedule: Schedule) -> None:
    """UsageError for noise of another level than a chain begins at; ``alphas``: of the steps that it was found in."""
    first = steps[0]
    if abs(alphas[0] - first.alpha_t) <= GREY_LEVEL:
        return
    nearest = min(range(schedule.T), key=lambda t: abs(schedule.level(t)[0] - alphas[0]))
    close = abs(schedule.level(nearest)[0] - alphas[0]) <= GREY_LEVEL
    raise UsageError(
        f"it is noise of a level with alpha {alphas[0]:.3g}, and the sampling begins at level {first.t} "
        f"with alpha {first.alpha_t:.3g}",
        hint=f"--start {nearest + 1}" if close else "find it again, with a --start that both schedules have",
    )


def check_noises_of_steps(alphas: Sequence[float], steps: Sequence[Step]) -> None:
    """UsageError for the noises of other steps than a chain has: of so many, at levels with these ``alphas``."""
    here = [k.alpha_t for k in steps]
    if len(alphas) != len(here) or any(abs(a - b) > SAME_ABAR for a, b in zip(alphas, here, strict=True)):
        raise UsageError(
            f"it holds the noises of {len(alphas)} steps, and this chain has {len(here)} steps or other levels",
            hint="--steps and --start as it was found with, or --method ddib, which needs those of no step",
        )


def match_sizes(source: AnySize, target: AnySize) -> None:
    """UsageError unless two networks make pictures of one size: noise of another size is not the picture's."""
    if Size.of(source) != Size.of(target):
        raise UsageError(
            f"the source's model makes pictures of {source} px and the target's of {target} px: noise that one "
            "finds in a picture cannot be resized for the other and stay noise",
            hint=f"a model of the inputs' own kind for the same size, or both at one: --size {target}",
        )


def match_channels(source: int, target: int) -> None:
    """UsageError unless two networks make pictures of as many channels: noise has as many as its picture."""
    if source != target:
        raise UsageError(
            f"the source's model makes pictures of {source} channels and the target's of {target}",
            hint="a model of the inputs' own kind for such pictures",
        )


def _farthest(source: Schedule, target: Schedule) -> float:
    return max(abs(a - b) for a, b in zip(source.alphas_cumprod, target.alphas_cumprod, strict=True))


def _noisiness(schedule: Schedule) -> list[float]:
    """``-log abar / (1 - abar)`` of every level, ascending."""
    return [math.log(max(1 - abar, LEAST_ABAR) / abar) for abar in schedule.alphas_cumprod]


def _place(noise: float, own: Sequence[float]) -> float:
    """Where it falls among the levels ``own``, from 0 to the last."""
    above = bisect_left(own, noise)
    if above in (0, len(own)):
        return float(min(above, len(own) - 1))
    below = above - 1
    return below + (noise - own[below]) / (own[above] - own[below])
