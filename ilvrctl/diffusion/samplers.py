"""Samplers: pure functions of one transition t -> s. What a multistep one remembers is its explicit carry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.diffusion.denoiser import Prediction
    from ilvrctl.diffusion.noise import Noise
    from ilvrctl.diffusion.schedule import Step

FixedVariance = Literal["fixed_small", "fixed_large"]
Variance = Literal["auto", "learned", "fixed_small", "fixed_large"]


class Sampler(Protocol):
    """One rule for x_t -> x_s. ``stochastic`` tells whether it adds fresh noise."""

    name: ClassVar[str]

    @property
    def stochastic(self) -> bool:
        """Whether a step adds fresh noise."""

    def step(
        self, x: Tensor, prediction: Prediction, k: Step, noise: Noise, carry: Any
    ) -> tuple[Tensor, Any]:
        """``(x_s, carry)`` from x = x_t (B, 3, H, W), the prediction there and the last carry (None at first)."""


@dataclass(frozen=True)
class DDPM:
    """Ancestral sampling from the posterior q(x_s | x_t, x0) (Ho et al. 2020, eq. 6 and 7).

    ``variance``: ``learned`` (six-output networks), ``fixed_small`` (the posterior's), ``fixed_large`` (beta), or
    ``auto``: learned where the network has it, else what the model's preset says, else ``fixed_small``. The last
    step draws noise but does not add it, as published.
    """

    name: ClassVar[str] = "ddpm"
    variance: Variance = "auto"

    @property
    def stochastic(self) -> bool:
        """Always: every step but the last adds noise."""
        return True

    def step(
        self, x: Tensor, prediction: Prediction, k: Step, noise: Noise, carry: Any
    ) -> tuple[Tensor, Any]:
        """x_s = posterior mean + sqrt(variance) z."""
        mean = k.posterior_x0 * prediction.x0 + k.posterior_x_t * x
        z = noise()
        if k.s < 0:
            return mean, carry
        if self.variance in ("auto", "learned") and prediction.log_variance is not None:
            return mean + (0.5 * prediction.log_variance).exp() * z, carry
        variance = k.beta if self.variance == "fixed_large" else k.posterior_variance
        return mean + math.sqrt(variance) * z, carry


@dataclass(frozen=True)
class DDIM:
    """Deterministic steps along the network's noise, with ``eta`` times the ancestral noise added back.

    Source: Song et al. 2021, eq. 12. eta = 1 on the full chain is :class:`DDPM` with ``fixed_small``.
    """

    name: ClassVar[str] = "ddim"
    eta: float = 0.0

    @property
    def stochastic(self) -> bool:
        """Only with eta above 0."""
        return self.eta > 0

    def step(
        self, x: Tensor, prediction: Prediction, k: Step, noise: Noise, carry: Any
    ) -> tuple[Tensor, Any]:
        """x_s = alpha_s x0 + sqrt(sigma_s^2 - std^2) eps + std z, std = eta sqrt(posterior variance)."""
        std = self.eta * math.sqrt(k.posterior_variance)
        x_s = k.alpha_s * prediction.x0 + math.sqrt(max(k.sigma_s**2 - std**2, 0.0)) * prediction.eps
        return (x_s + std * noise() if std > 0 else x_s), carry


@dataclass(frozen=True)
class DPMSolver2M:
    """DPM-Solver++ (2M) on the data prediction: second order from the last estimate (Lu et al. 2022, Algorithm 2).

    With ``lambda = log(alpha / sigma)``, ``h`` the step in lambda and ``h'`` the one before, the estimate is taken
    halfway along the step, ``D = x0 + min(h, h') / (2 h') (x0 - x0')``; ``x_s = sigma_s / sigma_t x + alpha_s (1 -
    e^-h) D``. The first step, the last (whose h is infinite), and a step after one that the method moved are of
    first order, which is :class:`DDIM` with eta = 0. The carry is ``(x0, h)``.
    """

    name: ClassVar[str] = "dpmpp_2m"

    @property
    def stochastic(self) -> bool:
        """No noise is added."""
        return False

    def step(
        self, x: Tensor, prediction: Prediction, k: Step, noise: Noise, carry: Any
    ) -> tuple[Tensor, Any]:
        """x_s along the solution of the ODE."""
        if k.s < 0:
            return prediction.x0, None
        D, h = _halfway(prediction.x0, k, carry)
        return k.sigma_s / k.sigma_t * x - k.alpha_s * math.expm1(-h) * D, (prediction.x0, h)


@dataclass(frozen=True)
class DPMSolver2MSDE:
    """The SDE form of DPM-Solver++ (2M): an ancestral step from the estimate halfway along it.

    Source: Lu et al. 2022, SDE-DPM-Solver++(2M). ``alpha_s (1 - e^-2h)`` is the posterior's weight of x0 and
    ``sigma_s^2 (1 - e^-2h)`` its variance, so a step of first order is :class:`DDPM` with ``fixed_small``.
    """

    name: ClassVar[str] = "dpmpp_2m_sde"

    @property
    def stochastic(self) -> bool:
        """Every step but the last adds noise."""
        return True

    def step(
        self, x: Tensor, prediction: Prediction, k: Step, noise: Noise, carry: Any
    ) -> tuple[Tensor, Any]:
        """x_s = posterior mean from D + sqrt(posterior variance) z."""
        if k.s < 0:
            return prediction.x0, None
        D, h = _halfway(prediction.x0, k, carry)
        mean = k.posterior_x0 * D + k.posterior_x_t * x
        return mean + math.sqrt(k.posterior_variance) * noise(), (prediction.x0, h)


def _halfway(x0: Tensor, k: Step, carry: tuple[Tensor, float] | None) -> tuple[Tensor, float]:
    """The estimate in the middle of step k, by the line through the last two, and h, the step in lambda.

    A chain that is even in t ends with steps much longer in lambda than those before; the line is followed no
    further than half the step before. Beyond, it overshoots: for pictures of normal pixels, where the end of the
    ODE is known, the error at 25 steps is 0.087 without this limit, 0.006 with it and 0.053 at first order.
    """
    h = math.log(k.alpha_s * k.sigma_t / (k.sigma_s * k.alpha_t))
    if carry is None:
        return x0, h
    x0_before, h_before = carry
    return x0 + min(h, h_before) / (2 * h_before) * (x0 - x0_before), h


SAMPLERS: dict[str, type[Sampler]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "dpmpp_2m": DPMSolver2M,
    "dpmpp_2m_sde": DPMSolver2MSDE,
}
