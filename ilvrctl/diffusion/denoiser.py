"""From a network's raw output to a prediction: the clean picture, the noise, and the variance of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ilvrctl.arithmetic import EXACT, Arithmetic

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.diffusion.schedule import Step

Predicts = Literal["eps", "x0", "v", "edm"]
"""What a network was trained to put out; ``v = alpha_t eps - sigma_t x0``. ``edm``: -v of pictures over
:data:`SIGMA_DATA`, told the level 250 log s of the noise s = sigma_t / alpha_t (Karras et al. 2022, table 1)."""
SIGMA_DATA = 0.5


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
    gives (B, 3 or 6, H, W) float32; ``class_label``: of all pictures, or (B,) int64. Six outputs mean a learned-range
    variance (Nichol and Dhariwal 2021, eq. 15). ``time_scale`` multiplies t (1000 / T where the network was trained
    with rescaled timesteps). ``levels``: the network's own level for each of the chain's, where it is asked on the
    chain of another network. With ``self_condition`` the network takes the last clean estimate too, see
    :class:`SelfConditioned`. ``experts``: in the place of the network above some level, see :meth:`at`.
    ``arithmetic``: how the network is computed.
    """

    network: Callable[..., Tensor]
    predicts: Predicts = "eps"
    clip_denoised: bool = True
    time_scale: float = 1.0
    class_label: int | Tensor | None = None
    self_condition: bool = False
    levels: tuple[float, ...] | None = None
    experts: tuple[tuple[int, Denoiser], ...] = ()
    arithmetic: Arithmetic = EXACT

    def own_level(self, k: Step) -> float:
        """The network's level for t."""
        return k.t if self.levels is None else self.levels[k.t]

    def at(self, k: Step) -> Denoiser:
        """The one that is asked at x_t: of the ``experts`` (lowest level, denoiser), highest first, the first whose
        levels begin at t or below, else this one. What is no fact of a network is as here.
        """
        if not self.experts:
            return self
        level = self.own_level(k)
        one = next((one for down_to, one in self.experts if level >= down_to), self)
        return replace(
            one,
            clip_denoised=self.clip_denoised,
            class_label=self.class_label,
            levels=self.levels,
            experts=(),
            arithmetic=self.arithmetic,
        )

    def __call__(self, x: Tensor, k: Step) -> Prediction:
        """The prediction at x = x_t; with ``clip_denoised`` x0 is kept in [-1, 1] and eps made to agree."""
        if self.experts:
            return self.at(k)(x, k)
        batch, channels = x.shape[:2]
        own = self.own_level(k)
        scale, level = (1.0, own * self.time_scale) if self.predicts != "edm" else _edm_input(k)
        t = x.new_full((batch,), level)
        with self.arithmetic.stated(x.device):
            out = self.network(x * scale if scale != 1.0 else x, t, self._classes(t))
        x0, eps = _estimates(x, out[:, :channels], k, self.predicts)
        if self.clip_denoised:
            x0 = x0.clamp(-1, 1)
            eps = (x - k.alpha_t * x0) / k.sigma_t
        log_variance = _learned_range(out[:, channels:], k) if out.shape[1] == 2 * channels else None
        return Prediction(x0, eps, log_variance)

    def _classes(self, t: Tensor) -> Tensor | None:
        """The class of each picture, (B,) int64, where ``t`` (B,) is."""
        import torch

        label = self.class_label
        return t.new_full(t.shape, label, dtype=torch.long) if isinstance(label, int) else label


@dataclass
class _Last:
    """The clean estimate of the last step, and its number."""

    x0: Tensor | None = None
    i: int = -1


@dataclass(frozen=True)
class SelfConditioned:
    """``(x_t, Step) -> Prediction`` for one batch, by a network that is told its last x0 (Chen et al. 2023).

    At the first step, and at one back up the chain, there is none. Make one for each batch.
    """

    denoiser: Denoiser
    _last: _Last = field(default_factory=_Last, init=False, repr=False, compare=False)

    def __call__(self, x: Tensor, k: Step) -> Prediction:
        """The prediction at x = x_t."""
        before = self._last.x0 if k.i > self._last.i else None
        one = self.denoiser.at(k)
        found = replace(one, network=lambda x, t, y: one.network(x, t, y, before))(x, k)
        self._last.x0, self._last.i = found.x0, k.i
        return found


def _estimates(x: Tensor, out: Tensor, k: Step, predicts: Predicts) -> tuple[Tensor, Tensor]:
    if predicts == "eps":
        return (x - k.sigma_t * out) / k.alpha_t, out
    if predicts == "edm":
        r2 = k.sigma_t**2 + (SIGMA_DATA * k.alpha_t) ** 2
        x0 = SIGMA_DATA**2 * k.alpha_t / r2 * x + SIGMA_DATA * k.sigma_t / math.sqrt(r2) * out
    else:
        x0 = out if predicts == "x0" else k.alpha_t * x - k.sigma_t * out
    return x0, (x - k.alpha_t * x0) / k.sigma_t


def _edm_input(k: Step) -> tuple[float, float]:
    """What x_t is multiplied by for the network (c_in / alpha_t), and the level it is told: ``1000 log(s) / 4``."""
    scale = 1 / math.sqrt(k.sigma_t**2 + (SIGMA_DATA * k.alpha_t) ** 2)
    return scale, 250 * math.log(k.sigma_t / k.alpha_t)


def _learned_range(v: Tensor, k: Step) -> Tensor | None:
    """``(v+1)/2`` interpolates log beta and log posterior variance; None where no noise is added: where s is clean,
    or t itself, as on the way up of an encoder.
    """
    if k.s < 0 or k.s == k.t:
        return None
    low, high = math.log(k.posterior_variance), math.log(k.beta)
    return low + (high - low) * (v + 1) / 2
