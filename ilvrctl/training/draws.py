"""Everything random in training, as a function of the seed and a counter: nothing of it is state.

So a run that was stopped goes on with just the draws that it would have made, and several processes that share
a batch draw what one alone would.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import torch
from torch import Tensor

from ilvrctl.devices import uploaded


def generator(device: torch.device | str, *what: int | str) -> torch.Generator:
    """A generator for what is named: ``generator("cpu", seed, "noise", step)``."""
    digest = sha256(":".join(map(str, what)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=generator("cpu", seed, "order", epoch))


def order(seed: int, step: int, batch: int, count: int) -> Tensor:
    """Which of ``count`` pictures the batch number ``step`` holds, (batch,) int64: each once an epoch."""
    first = step * batch
    picked = [_permutation(seed, n // count, count)[n % count] for n in range(first, first + batch)]
    return torch.stack(picked)


@dataclass(frozen=True)
class Draw:
    """The random part of one step, for the whole batch, on the device."""

    t: Tensor
    eps: Tensor
    flip: Tensor
    shift: Tensor


def draw(
    seed: int,
    step: int,
    batch: int,
    size: int,
    T: int,
    shift: int,
    device: torch.device,
    lower: tuple[float, int] | None = None,
    channels: int = 3,
) -> Draw:
    """Levels (B,) int64, noise (B, C, H, W), flips (B,) bool, shifts (B, 2) int64 from -shift to shift.

    Levels are uniform over all T; with ``lower = (share, below)`` about this share is uniform over those below.
    """
    small = generator("cpu", seed, "small", step)
    t = torch.randint(T, (batch,), generator=small)
    flips = torch.rand(batch, generator=small) < 0.5
    shifts = torch.randint(-shift, shift + 1, (batch, 2), generator=small)
    if lower is not None:
        share, below = lower
        levels = generator("cpu", seed, "levels", step)
        low = torch.rand(batch, generator=levels) < share
        t = torch.where(low, torch.randint(below, (batch,), generator=levels), t)
    noise = generator(device, seed, "noise", step)
    eps = torch.randn((batch, size, size, channels), generator=noise, device=device).permute(0, 3, 1, 2)
    return Draw(uploaded(t, device), eps, uploaded(flips, device), uploaded(shifts, device))
