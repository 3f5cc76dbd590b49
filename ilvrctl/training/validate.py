"""The loss on held-out pictures, at fixed levels with fixed noise, so that curves compare."""

from __future__ import annotations

import torch
from torch import Tensor

from ilvrctl.models.adm import AdmUNet
from ilvrctl.training.batches import floats
from ilvrctl.training.draws import generator
from ilvrctl.training.loss import Levels

LEVELS = 8
MOST = 65  # pictures


@torch.no_grad()
def validate(
    network: AdmUNet, pixels: Tensor, levels: Levels, time_scale: float, batch: int
) -> tuple[tuple[int, float], ...]:
    """Mean of ``(eps - eps_theta)^2``, not weighted, by level, in the middle of :data:`LEVELS` equal parts of them.

    ``pixels``: (N, H, W, 3) uint8, of which the first :data:`MOST` are used. The noise depends on the level and
    a picture's place alone, and is drawn on the CPU: the same for every model, device and batch size.
    """
    device, T = levels.alpha.device, len(levels.alpha)
    channels, found = 3, []
    for n in range(LEVELS):
        t = (2 * n + 1) * T // (2 * LEVELS)
        noise = generator("cpu", "validation", t)
        total = 0.0
        for part in torch.split(pixels[:MOST], batch):
            x0 = floats(part, device)
            eps = torch.randn(x0.shape, generator=noise).to(device)
            level = torch.full((len(x0),), t, device=device)
            out = network(levels.noised(x0, level, eps), level.float() * time_scale)
            total += float((out[:, :channels] - eps).square().mean((1, 2, 3)).double().sum())
        found.append((t, total / min(len(pixels), MOST)))
    return tuple(found)
