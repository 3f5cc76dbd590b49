"""From a network's raw output to a prediction: the clean picture, the noise, and the variance of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.diffusion.schedule import Step

Predicts = Literal["eps", "x0", "v"]
"""What a network was trained to put out; ``v = alpha_t eps - sigma_t x0``."""


@dataclass(frozen=True)
class Prediction:
    """The network's estimates at x_t, (B, 3, H, W) float32; ``x_t = alpha_t x0 + sigma_t eps`` holds.

    ``log_variance`` of p(x_s | x_t) where the network learned it, else None.
    """

    x0: Tensor
    eps: Tensor
    log_variance: Tensor | None = None


Denoise = Callable[["Tensor", "Step"], Prediction]


@dataclass(frozen=True)
class Denoiser:
    """A network with the facts that its tensors do not tell, as ``(x_t, Step) -> Prediction``.

    ``network(x, t, y)`` takes x (B, 3, H, W) float32, t (B,) float in original levels, y (B,) int64 or None and
    gives (B, 3 or 6, H, W) float32; six outputs mean a learned-range variance (Nichol and Dhariwal 2021, eq. 15).
    ``time_scale`` multiplies t (1000 / T where the network was trained with rescaled timesteps).
    """

    network: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    predicts: Predicts = "eps"
    clip_denoised: bool = True
    time_scale: float = 1.0
    class_label: int | None = None

    def __call__(self, x: Tensor, k: Step) -> Prediction:
        """The prediction at x = x_t; with ``clip_denoised`` x0 is kept in [-1, 1] and eps made to agree."""
        batch = x.shape[0]
        t = x.new_full((batch,), k.t * self.time_scale)
        y = None if self.class_label is None else t.new_full((batch,), self.class_label).long()
        out = self.network(x, t, y)
        channels = x.shape[1]
        x0, eps = _estimates(x, out[:, :channels], k, self.predicts)
        if self.clip_denoised:
            x0 = x0.clamp(-1, 1)
            eps = (x - k.alpha_t * x0) / k.sigma_t
        log_variance = _learned_range(out[:, channels:], k) if out.shape[1] == 2 * channels else None
        return Prediction(x0, eps, log_variance)


def _estimates(x: Tensor, out: Tensor, k: Step, predicts: Predicts) -> tuple[Tensor, Tensor]:
    if predicts == "eps":
        return (x - k.sigma_t * out) / k.alpha_t, out
    x0 = out if predicts == "x0" else k.alpha_t * x - k.sigma_t * out
    return x0, (x - k.alpha_t * x0) / k.sigma_t


def _learned_range(v: Tensor, k: Step) -> Tensor | None:
    """``(v+1)/2`` interpolates log beta and log posterior variance; None where s is clean (no noise is added)."""
    if k.s < 0:
        return None
    low, high = math.log(k.posterior_variance), math.log(k.beta)
    return low + (high - low) * (v + 1) / 2
