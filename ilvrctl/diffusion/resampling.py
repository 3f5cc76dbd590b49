"""Resampling: going back up a chain and down again, so that what was filled in fits what was kept around it."""

from __future__ import annotations

from collections.abc import Sequence

from ilvrctl.diffusion.schedule import Step
from ilvrctl.errors import UsageError


def check_resampling(jump: int, times: int, steps: int) -> None:
    """Raise UsageError unless a chain of so many steps can be walked with these jumps."""
    if jump < 1 or times < 1:
        raise UsageError(
            f"resampling {jump} steps {times} times: both numbers start at 1",
            hint="for example --resample 10x3",
        )
    if times > 1 and jump >= steps:
        raise UsageError(
            f"resampling goes back {jump} steps, and there are only {steps}",
            hint=f"--resample {max(1, steps // 5)}x{times}, or more --steps",
        )


def resampled(steps: Sequence[Step], jump: int, times: int) -> list[tuple[Step, Step | None]]:
    """The steps in the order of walking, each with the earlier one to go back to after it, if any.

    Every ``jump`` steps, counted from the clean end, the last ``jump`` are walked ``times`` times in all (RePaint,
    Lugmayr et al., CVPR 2022, appendix B: 250 steps, jumps of 10, 10 times are 2410 calls).
    """
    n, i = len(steps), 0
    left = dict.fromkeys(range(0, n - jump, jump), times - 1)
    walk: list[tuple[Step, Step | None]] = []
    while i < n:
        at = steps[i].remaining - 1
        back = None
        if left.get(at, 0) > 0:
            left[at] -= 1
            back = steps[i + 1 - jump]
        walk.append((steps[i], back))
        i = i + 1 if back is None else back.i
    return walk
