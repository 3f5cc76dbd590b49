"""What every piece of a method may use: the references of a batch, the levels and the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ilvrctl.arithmetic import EXACT, Arithmetic
from ilvrctl.methods.blocks import Grid, Statistics

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.diffusion.denoiser import Denoise, Prediction
    from ilvrctl.diffusion.noise import Noise
    from ilvrctl.diffusion.schedule import Schedule, Step
    from ilvrctl.methods.encoders import Inversion

EnergyOf = Callable[["Tensor", "Tensor", int], "Tensor"]
"""An energy bound to the references of a batch: ``(x, y_t, t) -> (B,)``, lower is better.

x is the sample (B, 3, H, W) with a gradient, y_t the reference at the same level t. At t = -1 both are clean.
"""


@dataclass(frozen=True)
class Context:
    """What a method may use: the reference y (B, 3, H, W) in [-1, 1], the levels, and the batch's noise.

    ``fresh_noise``: whether a constraint that leaves it open draws the reference's noise anew. ``networks``: those
    that the method's energies bring, loaded, by the energy's name. ``source``: the model of the references' own
    kind, if any. ``free`` (B, 1, H, W), boolean: the pixels that may become something else; the others are kept as
    in the reference. None frees all. ``class_label``: that of the network, or of each sample. ``given``: noise to
    start from; ``found``: takes the one that an encoder finds. ``arithmetic``: of the energies and their networks.
    """

    reference: Tensor
    schedule: Schedule
    noise: Noise
    fresh_noise: bool = True
    networks: Mapping[str, Any] = field(default_factory=dict)
    source: Denoise | None = None
    free: Tensor | None = None
    class_label: int | tuple[int, ...] | None = None
    given: Inversion | None = None
    found: Inversion | None = None
    arithmetic: Arithmetic = EXACT
    _statistics: dict[Grid, Statistics] = field(default_factory=dict, repr=False, compare=False)

    def statistics(self, blocks: Grid) -> Statistics:
        """mu_0 and s_0 of the reference with so many blocks; computed once."""
        if blocks not in self._statistics:
            self._statistics[blocks] = Statistics.of(self.reference, blocks)
        return self._statistics[blocks]

    def reference_at(self, t: int, eps: Tensor) -> Tensor:
        """The reference noised to level t with the given eps: ``alpha_t y + sigma_t eps``."""
        return self.noised(self.reference, t, eps)

    def kept(self, x: Tensor, t: int, eps: Tensor) -> Tensor:
        """x = x_t with the pixels that are not free as in the reference noised with eps; x itself if all are."""
        if self.free is None:
            return x
        import torch

        return torch.where(self.free, x, self.reference_at(t, eps))

    def drawing(self, eps: Tensor) -> Context:
        """With noise that was drawn already."""
        return replace(self, noise=lambda: eps)

    def climbed(self, x: Tensor, s: int, t: int) -> Tensor:
        """x = x_s taken up to level t: ``q(x_t | x_s)``, in one draw."""
        (alpha_s, _), (alpha_t, _) = self.schedule.level(s), self.schedule.level(t)
        ratio = alpha_t / alpha_s
        return ratio * x + math.sqrt(1 - ratio**2) * self.noise()

    def noised(self, x0: Tensor, t: int, eps: Tensor) -> Tensor:
        """``alpha_t x0 + sigma_t eps``."""
        alpha_t, sigma_t = self.schedule.level(t)
        return alpha_t * x0 + sigma_t * eps


def shift_mean(prediction: Prediction, x: Tensor, shift: Tensor, k: Step) -> Prediction:
    """The prediction at x = x_t whose ancestral mean E[x_s | x_t] lies ``shift`` (B, 3, H, W) further.

    The mean is ``(x - beta / sigma_t eps) alpha_s / alpha_t``, so ``deps = -shift (alpha_t / alpha_s) sigma_t /
    beta``; x0 follows from ``x = alpha_t x0 + sigma_t eps``. Every sampler steps from these, so every one is
    guided.
    """
    from ilvrctl.diffusion.denoiser import Prediction

    eps = prediction.eps - shift * (k.alpha_t / k.alpha_s * k.sigma_t / k.beta)
    x0 = prediction.x0 + shift * (k.sigma_t**2 / (k.alpha_s * k.beta))
    return Prediction(x0, eps, prediction.log_variance)


def with_mean_of(last: tuple[Tensor, Prediction], x: Tensor, k: Step) -> Prediction:
    """A prediction at x with the mean that the network gave at another sample: the published stale output."""
    there, prediction = last
    restated = replace(prediction, eps=(x - k.alpha_t * prediction.x0) / k.sigma_t)
    return shift_mean(restated, x, k.posterior_x_t * (there - x), k)


def ancestral_mean(prediction: Prediction, x: Tensor, k: Step) -> Tensor:
    """E[x_s | x_t, x0]: the posterior mean (Ho et al. 2020, eq. 7)."""
    return k.posterior_x0 * prediction.x0 + k.posterior_x_t * x
