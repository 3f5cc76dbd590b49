"""Noise that belongs to a picture, not to a batch: one generator an image, seeded by what is asked for.

So a picture's result does not depend on its neighbours in the batch, the batch size, the order, the device or a
resumed run, and a renamed copy of an input gives the same pixels.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING

from ilvrctl.devices import pins

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Noise = Callable[[], "Tensor"]
"""Draws the next standard normals for the whole batch: (B, C, H, W), float32."""


def noise_seed(seed: int, digest: str, sample: int) -> int:
    """The generator's seed for sample number ``sample`` (from 1) of the input with sha256 ``digest``."""
    identity = sha256(f"{seed}:{digest}:{sample}".encode()).digest()
    return int.from_bytes(identity[:8], "big") >> 1


def drawn_class(seed: int, digest: str, sample: int, count: int) -> int:
    """The class of ``count`` that is drawn for sample number ``sample`` of the input with sha256 ``digest``."""
    return noise_seed(seed, f"class of {digest}", sample) % count


AHEAD = 2
"""Draws that are made before they are asked for: as many as a step of ILVR takes."""


class NoiseStream:
    """Standard normals for a batch, (B, C, H, W) float32: image b from its own CPU generator ``seeds[b]``.

    Off the CPU the next draws are made while the device works, by as many threads as there are images or processors,
    and copied from pinned memory, so that drawing never stalls the device; which thread draws changes no number. On
    the CPU the network wants the processors itself. Use as a context manager; calling it draws.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> None:
        import torch

        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shape = shape
        self._device = device
        count = 0 if device.type == "cpu" else min(len(seeds), _processors())
        self._hands = [ThreadPoolExecutor(1, "noise") for _ in range(count)]
        self._coming = deque(self._begun() for _ in range(AHEAD if count else 0))

    def _begun(self) -> tuple[Tensor, list[Future[None]]]:
        """A draw, and what is still at work on it. Every hand has images of its own, so their draws stay in order."""
        import torch

        noise = torch.empty((len(self._generators), *self._shape), pin_memory=pins(self._device))
        n = len(self._hands)
        parts = [(noise[i::n], self._generators[i::n]) for i in range(n)]
        return noise, [hand.submit(_fill, *part) for hand, part in zip(self._hands, parts, strict=True)]

    def __call__(self) -> Tensor:
        """The next draw, on the device."""
        import torch

        if not self._hands:
            noise = torch.empty((len(self._generators), *self._shape))
            _fill(noise, self._generators)
            return noise
        self._coming.append(self._begun())
        noise, work = self._coming.popleft()
        for one in work:
            one.result()
        return noise.to(self._device, non_blocking=pins(self._device))

    def __enter__(self) -> NoiseStream:
        return self

    def __exit__(self, *_: object) -> None:
        for hand in self._hands:
            hand.shutdown(wait=True, cancel_futures=True)


def _fill(noise: Tensor, generators: Sequence[torch.Generator]) -> None:
    """Draw image by image, each from its own generator. PyTorch lets other threads run meanwhile."""
    for image, generator in zip(noise, generators, strict=True):
        image.normal_(generator=generator)


def _processors() -> int:
    """How many this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
