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


SAMPLERS: dict[str, type[DDPM] | type[DDIM]] = {"ddpm": DDPM, "ddim": DDIM}
