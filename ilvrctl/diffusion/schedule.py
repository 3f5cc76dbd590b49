"""Noise levels: the training schedules, respacing, and the transitions t -> s that a sampler walks.

Plain float64 arithmetic, without torch, so that a plan can be made and printed before the model is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ilvrctl.errors import UsageError, did_you_mean

NOISE_SCHEDULES = ("linear", "cosine")


def linear_betas(T: int) -> list[float]:
    """Betas from 1e-4 to 0.02 at T = 1000, scaled by 1000 / T (Ho et al. 2020; guided-diffusion)."""
    first, last = 1000 / T * 1e-4, 1000 / T * 0.02
    if T == 1:
        return [first]
    step = (last - first) / (T - 1)
    return [first + step * i for i in range(T - 1)] + [last]


def cosine_betas(T: int, max_beta: float = 0.999) -> list[float]:
    """Betas of ``abar(u) = cos^2(pi/2 (u + 0.008) / 1.008)``, capped (Nichol and Dhariwal 2021, eq. 17)."""

    def abar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1 - abar((i + 1) / T) / abar(i / T), max_beta) for i in range(T)]


def space_timesteps(T: int, respacing: str) -> list[int]:
    """The levels kept by a published respacing string, ascending.

    ``"100"``: 100 levels spread over 0 .. T-1; ``"10,15,20"``: so many in each of three equal sections;
    ``"ddim50"``: the integer stride that gives exactly 50 levels, from 0 up (guided-diffusion's
    ``space_timesteps``). As published, a section of one step keeps its *lowest* level, so ``"1"`` is
    level 0; :func:`spread_levels` is the rule for any number of steps.

    Raises UsageError for a string that is malformed or asks for more levels than there are.
    """
    text = respacing.strip()
    if text.startswith("ddim"):
        return _ddim_levels(T, _counts(text[len("ddim") :], respacing)[0])
    counts = _counts(text, respacing)
    size, extra = divmod(T, len(counts))
    levels: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        length = size + (1 if section < extra else 0)
        if count > length:
            raise UsageError(
                f"respacing {respacing!r} asks for {count} steps in a section of {length} levels (T = {T})",
                hint=f"at most {length} for that section",
            )
        stride = 1.0 if count == 1 else (length - 1) / (count - 1)
        position = 0.0
        for _ in range(count):
            levels.append(start + round(position))
            position += stride
        start += length
    return sorted(set(levels))


def spread_levels(T: int, steps: int) -> list[int]:
    """``steps`` levels spread evenly over 0 .. T-1, ascending; a single step starts from T-1, pure noise.

    Equal to the published respacing string ``str(steps)`` for two steps and more.
    """
    if not 1 <= steps <= T:
        raise UsageError(f"steps must be from 1 to {T}, the number of levels of this model, not {steps}")
    return [T - 1] if steps == 1 else space_timesteps(T, str(steps))


def _counts(text: str, respacing: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise UsageError(
            f"respacing {respacing!r} is not a number of steps, a list of them, or ddim and a number",
            hint="for example --timestep-respacing 100, ddim50 or 10,15,20",
        )
    return [int(part) for part in parts]


def _ddim_levels(T: int, count: int) -> list[int]:
    for stride in range(1, T + 1):
        if len(range(0, T, stride)) == count:
            return list(range(0, T, stride))
    raise UsageError(
        f"no integer stride over {T} levels gives exactly {count} steps",
        hint=f"use --steps {count}, which spreads them evenly",
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One transition t -> s, with ``x_t = alpha_t x0 + sigma_t eps``; s = -1 is clean. All float64.

    ``i`` counts the transitions from 0 in the order of sampling, ``n`` is how many there are.
    """

    i: int
    n: int
    t: int
    s: int
    alpha_t: float
    sigma_t: float
    alpha_s: float
    sigma_s: float

    @property
    def remaining(self) -> int:
        """How many transitions follow: the index of the published sampling loops (n-1 .. 0)."""
        return self.n - 1 - self.i

    @property
    def beta(self) -> float:
        """Variance added from s to t: ``1 - abar_t / abar_s``."""
        return 1.0 - (self.alpha_t / self.alpha_s) ** 2

    @property
    def posterior_variance(self) -> float:
        """Variance of q(x_s | x_t, x0): ``beta sigma_s^2 / sigma_t^2`` (Ho et al. 2020, eq. 7)."""
        return self.beta * self.sigma_s**2 / self.sigma_t**2

    @property
    def posterior_x0(self) -> float:
        """Weight of x0 in the mean of q(x_s | x_t, x0)."""
        return self.beta * self.alpha_s / self.sigma_t**2

    @property
    def posterior_x_t(self) -> float:
        """Weight of x_t in the mean of q(x_s | x_t, x0)."""
        return self.alpha_t / self.alpha_s * self.sigma_s**2 / self.sigma_t**2


def match_models(source: Schedule, target: Schedule) -> None:
    """UsageError unless two networks know the same levels: what one encodes the other decodes level by level."""
    if source.T != target.T:
        raise UsageError(
            f"the source's model knows {source.T} levels and the target's {target.T}: their chains do not match"
        )
    if max(abs(a - b) for a, b in zip(source.alphas_cumprod, target.alphas_cumprod, strict=True)) > 1e-6:
        raise UsageError(
            "the models of source and target were trained with different noise schedules: their chains do not match"
        )


def match_sizes(source: int, target: int) -> None:
    """UsageError unless two networks make pictures of one size."""
    if source != target:
        raise UsageError(f"the source's model makes pictures of {source} px and the target's of {target} px")


@dataclass(frozen=True)
class Schedule:
    """The levels a network was trained on: ``abar_t`` for t = 0 .. T-1."""

    alphas_cumprod: tuple[float, ...]

    @classmethod
    @lru_cache(maxsize=8)
    def named(cls, noise_schedule: str, T: int = 1000) -> Schedule:
        """The published ``linear`` or ``cosine`` schedule of T levels; UsageError for another name."""
        if noise_schedule not in NOISE_SCHEDULES:
            raise UsageError(
                f"unknown noise schedule {noise_schedule!r}; known: {', '.join(NOISE_SCHEDULES)}",
                hint=did_you_mean(noise_schedule, NOISE_SCHEDULES),
            )
        abar, product = [], 1.0
        for beta in linear_betas(T) if noise_schedule == "linear" else cosine_betas(T):
            product *= 1.0 - beta
            abar.append(product)
        return cls(tuple(abar))

    @property
    def T(self) -> int:
        """The number of levels."""
        return len(self.alphas_cumprod)

    def level(self, t: int) -> tuple[float, float]:
        """``(alpha_t, sigma_t)``; t = -1 is clean, (1, 0)."""
        abar = 1.0 if t < 0 else self.alphas_cumprod[t]
        return math.sqrt(abar), math.sqrt(1.0 - abar)

    def steps(self, levels: Sequence[int]) -> list[Step]:
        """The transitions down a chain of ``levels`` (any order given, walked from the noisiest to clean)."""
        return list(self._steps(tuple(sorted(levels, reverse=True))))

    @lru_cache(maxsize=64)  # noqa: B019  of few schedules, which are values
    def _steps(self, down: tuple[int, ...]) -> tuple[Step, ...]:
        return tuple(
            Step(i, len(down), t, s, *self.level(t), *self.level(s))
            for i, (t, s) in enumerate(zip(down, [*down[1:], -1], strict=True))
        )
