"""The losses: weighted prediction of noise, picture or velocity, and the variational bound for a learned variance.

Symbols: ``SNR_t = alpha_t^2 / sigma_t^2``; ``L_simple`` is the mean over pixels of ``(eps - eps_theta)^2`` (Ho et
al. 2020, eq. 14), or the same of x0 or ``v = alpha_t eps - sigma_t x0``; ``L_vlb`` is in bits a dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ilvrctl.diffusion.denoiser import Predicts
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.training.recipe import AnyRecipe, Recipe


def weights(recipe: Recipe, schedule: Schedule) -> Tensor:
    """The weight of ``L_simple`` at every level, (T,) float32, for what the recipe ``predicts``.

    ``min-snr``: ``min(SNR_t, gamma) / SNR_t`` for eps (Hang et al. 2023, section 3.4). For v and x0 the estimate
    of the picture counts fully where noise is all there is to see: ``min(SNR_t + 1, gamma)``, over ``SNR_t + 1``
    for v. ``p2``: ``1 / (k + SNR_t)^gamma`` (Choi et al. 2022, eq. 8; L_simple is their lambda_t), which is
    times SNR_t in terms of x0, and over ``SNR_t + 1`` again for v. ``none``: 1.
    """
    snr = torch.tensor([abar / (1 - abar) for abar in schedule.alphas_cumprod], dtype=torch.float64)
    v, x0 = recipe.predicts == "v", recipe.predicts == "x0"
    if recipe.weighting == "min-snr":
        own = snr + 1 if v or x0 else snr
        found = own.clamp(max=recipe.gamma) / (torch.ones_like(own) if x0 else own)
    elif recipe.weighting == "p2":
        found = (recipe.p2_k + snr) ** -recipe.p2_gamma * (snr / (snr + 1) if v else snr if x0 else 1)
    else:
        found = torch.ones_like(snr)
    return found.float()


@dataclass(frozen=True)
class Levels:
    """What the losses need of every level, each (T,) float32 on the device, and what the network ``predicts``.

    The posterior q(x_s | x_t, x0), s = t - 1, has mean ``c_x0 x0 + c_x x_t`` and log variance ``low``; at t = 0
    ``low`` is that of t = 1, as its own is minus infinity. ``high`` is log beta_t.
    """

    alpha: Tensor
    sigma: Tensor
    weight: Tensor
    low: Tensor
    high: Tensor
    c_x0: Tensor
    c_x: Tensor
    predicts: Predicts = "eps"

    @classmethod
    def of(cls, schedule: Schedule, recipe: AnyRecipe, device: torch.device) -> Levels:
        """Computed in float64; a recipe that is no denoiser's has weights of 1."""
        steps = sorted(schedule.steps(range(schedule.T)), key=lambda k: k.t)
        variances = [k.posterior_variance for k in steps]
        variances[0] = variances[min(1, len(steps) - 1)] or steps[0].beta
        columns = {
            "alpha": [k.alpha_t for k in steps],
            "sigma": [k.sigma_t for k in steps],
            "low": [math.log(variance) for variance in variances],
            "high": [math.log(k.beta) for k in steps],
            "c_x0": [k.posterior_x0 for k in steps],
            "c_x": [k.posterior_x_t for k in steps],
        }
        tensors = {name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()}
        predicts: Predicts = "eps"
        tensors["weight"] = torch.ones(schedule.T)
        if isinstance(recipe, Recipe):
            predicts, tensors["weight"] = recipe.predicts or "eps", weights(recipe, schedule)
        return cls(**{name: x.float().to(device) for name, x in tensors.items()}, predicts=predicts)

    def noised(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """``x_t = alpha_t x0 + sigma_t eps``, (B, 3, H, W)."""
        return _at(self.alpha, t) * x0 + _at(self.sigma, t) * eps

    def noise_in(self, x_t: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The eps with ``x_t = alpha_t x0 + sigma_t eps``."""
        return (x_t - _at(self.alpha, t) * x0) / _at(self.sigma, t)

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What a perfect network puts out."""
        if self.predicts == "v":
            return _at(self.alpha, t) * eps - _at(self.sigma, t) * x0
        return eps if self.predicts == "eps" else x0

    def clean(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The estimate of x0 in a network's output."""
        if self.predicts == "eps":
            return (x_t - _at(self.sigma, t) * out) / _at(self.alpha, t)
        return out if self.predicts == "x0" else _at(self.alpha, t) * x_t - _at(self.sigma, t) * out

    def noise(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The estimate of eps in a network's output."""
        if self.predicts == "eps":
            return out
        if self.predicts == "v":
            return _at(self.alpha, t) * out + _at(self.sigma, t) * x_t
        return self.noise_in(x_t, out, t)


@dataclass(frozen=True)
class Lesson:
    """What a teacher puts in the place of a batch's pictures and noise, (B, 3, H, W), and of its weights (B,)."""

    x0: Tensor
    eps: Tensor
    weight: Tensor


def loss_of(
    out: Tensor,
    x0: Tensor,
    x_t: Tensor,
    eps: Tensor,
    t: Tensor,
    levels: Levels,
    vlb: float,
    lesson: Lesson | None = None,
) -> Tensor:
    """The loss of each picture, (B,) float32, of the network's output ``out`` (B, 3 or 6, H, W) at levels t (B,).

    With six channels ``vlb * T * L_t`` is added: the hybrid loss ``L_simple + lambda L_vlb`` (Nichol and Dhariwal
    2021, eq. 16), as L_vlb is the sum of L_t over T levels. There the mean has no gradient, and the pictures count,
    not the ``lesson``.
    """
    channels = x0.shape[1]
    found = out[:, :channels].float()
    learned = lesson or Lesson(x0, eps, levels.weight[t])
    target = levels.target(learned.x0, learned.eps, t)
    loss = learned.weight * (found - target).square().mean((1, 2, 3))
    if out.shape[1] == 2 * channels and vlb > 0:
        noise, v = levels.noise(found.detach(), x_t, t), out[:, channels:].float()
        loss = loss + vlb * len(levels.alpha) * bound(noise, v, x0, x_t, t, levels)
    return loss


def bound(eps: Tensor, v: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, levels: Levels) -> Tensor:
    """L_t in bits a dimension, (B,), of a network that says ``eps`` and, for the variance, ``v`` in about [-1, 1].

    KL(q(x_s | x_t, x0) || p(x_s | x_t)), and at t = 0 minus the log likelihood of the 8-bit picture x0.
    """
    low, high = _at(levels.low, t), _at(levels.high, t)
    log_variance = low + (high - low) * (v + 1) / 2  # eq. 15
    estimate = (x_t - _at(levels.sigma, t) * eps) / _at(levels.alpha, t)
    c_x0, c_x = _at(levels.c_x0, t), _at(levels.c_x, t)
    mean, true_mean = c_x0 * estimate + c_x * x_t, c_x0 * x0 + c_x * x_t
    kl = 0.5 * (
        log_variance
        - low
        - 1
        + (low - log_variance).exp()
        + (true_mean - mean).square() * (-log_variance).exp()
    )
    likelihood = log_likelihood(x0, mean, 0.5 * log_variance)
    terms = torch.where((t == 0)[:, None, None, None], -likelihood, kl)
    return terms.mean((1, 2, 3)) / math.log(2)


def log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log of the mass of N(mean, std) on the bin of ``x``, one of 256 values in [-1, 1]; the outer bins are open.

    Source: Ho et al. 2020, eq. 13, with the exact normal distribution function.
    """
    inverse = (-log_std).exp()
    upper = (x - mean + 1 / 255) * inverse
    lower = (x - mean - 1 / 255) * inverse
    upper = torch.where(x > 0.999, torch.full_like(x, torch.inf), upper)
    lower = torch.where(x < -0.999, torch.full_like(x, -torch.inf), lower)
    # in the right tail both values of the distribution function are nearly 1: mirrored, they are small and exact
    mirrored = (lower > 0) & (upper > 0)
    a = torch.where(mirrored, -upper, lower)
    b = torch.where(mirrored, -lower, upper)
    mass = torch.special.ndtr(b) - torch.special.ndtr(a)
    found: Tensor = mass.clamp(min=1e-12).log()
    return found


def _at(values: Tensor, t: Tensor) -> Tensor:
    return values[t][:, None, None, None]
