"""A network on held-out pictures, at fixed levels with fixed noise, so that curves compare."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ilvrctl.training.batches import Noised, floats
from ilvrctl.training.draws import generator
from ilvrctl.training.loss import Levels

Score = Callable[[Tensor, Noised], Tensor]
"""From a network's output and what it saw to a figure of each picture, (B,)."""


@torch.no_grad()
def by_level(
    network: nn.Module,
    pixels: Tensor,
    levels: Levels,
    time_scale: float,
    batch: int,
    count: int,
    score: Score,
) -> list[tuple[int, float]]:
    """The mean ``score`` of ``pixels`` (N, H, W, 3) uint8 by level, in the middle of ``count`` equal parts of them.

    The noise depends on the level and a picture's place alone, and is drawn on the CPU: the same for every model,
    device and batch size.
    """
    device, T = levels.alpha.device, len(levels.alpha)
    found = []
    for n in range(count):
        t = (2 * n + 1) * T // (2 * count)
        noise = generator("cpu", "validation", t)
        total = 0.0
        for part in torch.split(pixels, batch):
            x0 = floats(part.to(device))
            eps = torch.randn(x0.shape, generator=noise).to(device)
            level = torch.full((len(x0),), t, device=device)
            seen = Noised(x0, eps, level, levels.noised(x0, level, eps))
            total += float(score(network(seen.x_t, level.float() * time_scale), seen).double().sum())
        found.append((t, total / len(pixels)))
    return found
