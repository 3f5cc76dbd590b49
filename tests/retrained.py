"""The shipped model as if it had been trained otherwise: what the probe is to find, or not."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ilvrctl import paths
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.files.loading import load_unet
from ilvrctl.probe import Timing
from ilvrctl.probe.pictures import DRAWINGS, probe_pictures


def shipped() -> AdmUNet:
    return load_unet(
        paths.DATA / "emoji3d-64.safetensors", HiddenFlags(num_heads=1), device=torch.device("cpu")
    )


def drawings(size: int, channels: int = 3, count: int = len(DRAWINGS)) -> tuple[Tensor, tuple[str, ...]]:
    """Some of the probe's pictures: those that a network which was trained on such knows."""
    x, names = probe_pictures(size, channels)
    keep = [names.index(name) for name in DRAWINGS[:count]]
    return x[keep], tuple(names[n] for n in keep)


def two_drawings(size: int, channels: int = 3) -> tuple[Tensor, tuple[str, ...]]:
    """Enough for most facts; they do not show how far a level can be off."""
    return drawings(size, channels, 2)


class Retrained:
    """The shipped model as if trained with other levels and another prediction.

    What it says to a picture at a level lies between what the model says at two, each a tenth off at most. That is
    remembered for all of its kind.
    """

    said: ClassVar[dict[object, Tensor]] = {}

    def __init__(self, timing: Timing, predicts: str = "eps", *, beyond: bool = False) -> None:
        self.network = shipped()
        self.architecture = self.network.architecture
        self.levels = timing.schedule.alphas_cumprod
        self.predicts = predicts
        self.beyond = beyond

    def reread(self, hidden: HiddenFlags) -> object:
        return self.network.reread(hidden)

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        abar = self.levels[min(int(t[0]), len(self.levels) - 1)]
        level = Timing("linear", 1000).level(abar)
        if level is not None and self.beyond and int(t[0]) >= len(self.levels):
            level *= (int(t[0]) + 1) / len(self.levels)
        below, part = divmod(10 * math.log(min(999.0 if level is None else level, 999.0) + 1), 1)
        v = torch.lerp(self.model_says(x, below), self.model_says(x, below + 1), part)
        alpha, sigma = math.sqrt(abar), math.sqrt(1 - abar)
        return {"eps": alpha * v + sigma * x, "x0": alpha * x - sigma * v, "v": v}[self.predicts]

    def model_says(self, x: Tensor, n: float) -> Tensor:
        """v at the level exp(n / 10) - 1."""
        return torch.cat([self.model_says_to(one, n) for one in x.split(1)])

    def model_says_to(self, one: Tensor, n: float) -> Tensor:
        key = (self.network.architecture.hidden, n, float(one.sum()))
        if key not in self.said:
            self.said[key] = self.network(one, one.new_full((1,), math.expm1(n / 10)))
        return self.said[key]
