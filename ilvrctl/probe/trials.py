"""Noisy pictures, and how well the network tells their noise under a reading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from ilvrctl.diffusion.noise import noise_seed
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.probe.readings import Attention

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags

LOOK = 100
"""The noise strength that every reading is tried at: that of so high a level of the linear schedule."""
STRENGTHS = {LOOK: LOOK, 50: LOOK, 200: LOOK, 350: 200, 660: 350}
"""Those at which the network's level is looked for, each after a nearer one: sigma / alpha is 0.18 to 9."""
HEAD_STRENGTHS = (50, 100, 200)
"""Those that decide heads and prediction. At stronger noise a network that sees pictures of another kind than its own
prefers wrong readings; at these the right one wins for all kinds."""
AT_ONCE = 8 * 64 * 64
"""Pixels in a call."""

Errors = Mapping[str, tuple[float, ...]]
"""For each thing that the network may predict, the mean squared error of eps, picture by picture."""


class Network(Protocol):
    """What the probe needs of a network; :class:`ilvrctl.models.adm.AdmUNet` is one."""

    architecture: AdmArchitecture

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, 3 or 6, H, W) of x (B, 3, H, W), t (B,) and classes y (B,)."""

    def reread(self, hidden: HiddenFlags) -> object:
        """Read the attention tensors as ``hidden`` says."""


@dataclass(frozen=True)
class Noised:
    """x = sqrt(abar) x0 + sqrt(1 - abar) eps, (B, 3, H, W) each."""

    abar: float
    x: Tensor
    eps: Tensor


def noised(pictures: Tensor, strength: int) -> Noised:
    """``pictures`` (B, 3, H, W) in [-1, 1] at a level of the linear schedule; the noise is always the same."""
    abar = Schedule.named("linear").alphas_cumprod[strength]
    eps = torch.empty(pictures.shape)
    for n, image in enumerate(eps):
        image.normal_(generator=torch.Generator().manual_seed(noise_seed(strength, "probe", n)))
    eps = eps.to(pictures.device)
    return Noised(abar, math.sqrt(abar) * pictures + math.sqrt(1 - abar) * eps, eps)


def scaled_error(noisy: Noised) -> list[float]:
    """For each picture the error of the best multiple of x as eps: what can be had without a network."""
    x, eps = noisy.x.flatten(1).double(), noisy.eps.flatten(1).double()
    along = (x * eps).sum(1) ** 2 / (x * x).sum(1)
    return [float(error) for error in ((eps * eps).sum(1) - along) / x.shape[1]]


@torch.no_grad()
def network_errors(network: Network, noisy: Noised, attention: Attention, level: int) -> Errors:
    """The errors of a reading at a level; infinite where the network puts out something that is no number."""
    network.reread(attention.hidden)
    batch = len(noisy.x)
    t = noisy.x.new_full((batch,), float(level))
    some = max(1, AT_ONCE // noisy.x[0, 0].numel())
    parts = zip(torch.split(noisy.x, some), torch.split(t, some), _classes(network, t, some), strict=True)
    out = torch.cat([network(x, levels, y) for x, levels, y in parts])
    alpha, sigma = math.sqrt(noisy.abar), math.sqrt(1 - noisy.abar)
    out = out[:, : noisy.x.shape[1]]
    estimates = {
        "eps": out,
        "x0": (noisy.x - alpha * out) / sigma,
        "v": sigma * noisy.x + alpha * out,
    }
    return {name: _squares(estimate - noisy.eps) for name, estimate in estimates.items()}


def _classes(network: Network, t: Tensor, some: int) -> list[Tensor | None]:
    """Classes spread over all that there are: which one fits a picture is not known, and changes little."""
    classes, batch = network.architecture.num_classes, len(t)
    if classes is None:
        return [None] * math.ceil(batch / some)
    return list(torch.split(torch.arange(batch, device=t.device) * classes // batch, some))


def _squares(difference: Tensor) -> tuple[float, ...]:
    means = difference.double().square().flatten(1).mean(1).tolist()
    return tuple(float(mean) if math.isfinite(mean) else math.inf for mean in means)
