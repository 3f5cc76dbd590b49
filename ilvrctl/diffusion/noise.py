"""Noise that belongs to a picture, not to a batch: one generator an image, seeded by what is asked for.

So a picture's result does not depend on its neighbours in the batch, the batch size, the order, the device or a
resumed run, and a renamed copy of an input gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING

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


class NoiseStream:
    """Standard normals for a batch, (B, C, H, W) float32: image b from its own CPU generator ``seeds[b]``.

    Off the CPU the next draw is made by a thread while the device works, and copied from pinned memory, so that
    drawing never stalls the device. Use as a context manager; calling it draws.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> None:
        import torch

        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shape = shape
        self._device = device
        self._ahead = ThreadPoolExecutor(1, "noise") if device.type != "cpu" else None
        self._next: Future[Tensor] | None = self._ahead.submit(self._draw) if self._ahead else None

    def _draw(self) -> Tensor:
        import torch

        noise = torch.empty(
            (len(self._generators), *self._shape), pin_memory=self._device.type == "cuda", device="cpu"
        )
        for image, generator in zip(noise, self._generators, strict=True):
            image.normal_(generator=generator)
        return noise

    def __call__(self) -> Tensor:
        """The next draw, on the device."""
        if self._ahead is None or self._next is None:
            return self._draw()
        noise = self._next.result()
        self._next = self._ahead.submit(self._draw)
        return noise.to(self._device, non_blocking=True)

    def __enter__(self) -> NoiseStream:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ahead is not None:
            self._ahead.shutdown(wait=True, cancel_futures=True)
