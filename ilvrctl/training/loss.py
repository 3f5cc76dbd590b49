"""The losses: weighted eps prediction, and the variational bound for a learned variance.

Symbols: ``SNR_t = alpha_t^2 / sigma_t^2``; ``L_simple`` is the mean over pixels of ``(eps - eps_theta)^2`` (Ho et
al. 2020, eq. 14); ``L_vlb`` is in bits a dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.training.recipe import Recipe


def weights(recipe: Recipe, schedule: Schedule) -> Tensor:
    """The weight of ``L_simple`` at every level, (T,) float32.

    ``min-snr``: ``min(SNR_t, gamma) / SNR_t`` for eps prediction (Hang et al. 2023, section 3.4). ``p2``:
    ``1 / (k + SNR_t)^gamma`` (Choi et al. 2022, eq. 8; L_simple is their lambda_t). ``none``: 1.
    """
    snr = torch.tensor([abar / (1 - abar) for abar in schedule.alphas_cumprod], dtype=torch.float64)
    if recipe.weighting == "min-snr":
        found = snr.clamp(max=recipe.gamma) / snr
    elif recipe.weighting == "p2":
        found = (recipe.p2_k + snr) ** -recipe.p2_gamma
    else:
        found = torch.ones_like(snr)
    return found.float()


@dataclass(frozen=True)
class Levels:
    """What the losses need of every level, each (T,) float32 on the device.

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

    @classmethod
    def of(cls, schedule: Schedule, recipe: Recipe, device: torch.device) -> Levels:
        """Computed in float64."""
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
        tensors["weight"] = weights(recipe, schedule)
        return cls(**{name: x.float().to(device) for name, x in tensors.items()})

    def noised(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """``x_t = alpha_t x0 + sigma_t eps``, (B, 3, H, W)."""
        return _at(self.alpha, t) * x0 + _at(self.sigma, t) * eps


def loss_of(
    out: Tensor, x0: Tensor, x_t: Tensor, eps: Tensor, t: Tensor, levels: Levels, vlb: float
) -> Tensor:
    """The loss of each picture, (B,) float32, of the network's output ``out`` (B, 3 or 6, H, W) at levels t (B,).

    With six channels ``vlb * T * L_t`` is added: the hybrid loss ``L_simple + lambda L_vlb`` (Nichol and Dhariwal
    2021, eq. 16), as L_vlb is the sum of L_t over T levels. There the mean has no gradient.
    """
    channels = x0.shape[1]
    found = out[:, :channels].float()
    loss = levels.weight[t] * (found - eps).square().mean((1, 2, 3))
    if out.shape[1] == 2 * channels and vlb > 0:
        v = out[:, channels:].float()
        loss = loss + vlb * len(levels.alpha) * bound(found.detach(), v, x0, x_t, t, levels)
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
