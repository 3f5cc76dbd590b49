"""How long a network call takes in batches of some size, and the size that is fastest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ilvrctl.engine import out_of_memory

if TYPE_CHECKING:
    from ilvrctl.engine import Engine

GAIN = 0.05
"""A batch twice as large must save this share of the time of a picture, to be worth its memory."""


def call_seconds(engine: Engine, size: int, rounds: int = 3) -> float:
    """Seconds that a network call for ``size`` pictures takes: the best of ``rounds``, after one to warm up."""
    import torch

    step = engine.schedule.steps([engine.schedule.T // 2])[0]
    side = engine.image_size
    x = torch.zeros(size, 3, side, side, device=engine.device)
    label = None if engine.class_count is None else 0
    denoiser = replace(engine.denoiser, class_label=label)
    times = []
    with torch.no_grad():
        for _ in range(rounds + 1):
            start = time.perf_counter()
            float(denoiser(x, step).x0.flatten()[0])  # reading a value waits for the device
            times.append(time.perf_counter() - start)
    return min(times[1:])


def best_batch_size(
    engine: Engine, most: int = 64, seconds: Callable[[Engine, int], float] = call_seconds
) -> tuple[int, float]:
    """The largest batch that is faster than its half by ``GAIN`` a picture, and its seconds a picture.

    Sizes are doubled until nothing is gained, or memory runs out.
    """
    best, least = 1, seconds(engine, 1)
    size = 2
    while size <= most:
        try:
            each = seconds(engine, size) / size
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            break
        if each > least * (1 - GAIN):
            break
        best, least, size = size, each, size * 2
    return best, least
