"""Noise levels: the training schedules, respacing, and the transitions t -> s that a sampler walks.

Plain float64 arithmetic, without torch, so that a plan can be made and printed before the model is loaded.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal, Protocol, get_args

from ilvrctl.errors import UsageError, did_you_mean

NoiseSchedule = Literal["linear", "cosine", "quad", "sigmoid", "sigmoid_beta", "karras", "betas", "unknown"]
NOISE_SCHEDULES: tuple[str, ...] = get_args(NoiseSchedule)[:-1]
"""Beta even (``linear``) or its root (``quad``) or as a sigmoid (``sigmoid_beta``); abar as a ``cosine`` or a
``sigmoid``; ``karras``: the levels of EDM; ``betas``: listed one by one."""
Spacing = Literal["linspace", "leading", "trailing"]
BETA_START, BETA_END = 1e-4, 0.02
LEAST_ABAR = 1e-12  # where training had no signal at all: alpha is 1e-6 then, so that nothing divides by zero


def linear_betas(T: int, first: float | None = None, last: float | None = None) -> list[float]:
    """Betas from 1e-4 to 0.02 at T = 1000, scaled by 1000 / T (Ho et al. 2020; guided-diffusion), or as given."""
    first = 1000 / T * BETA_START if first is None else first
    last = 1000 / T * BETA_END if last is None else last
    if T == 1:
        return [first]
    step = (last - first) / (T - 1)
    return [first + step * i for i in range(T - 1)] + [last]


def quad_betas(T: int, first: float | None = None, last: float | None = None) -> list[float]:
    """Betas whose roots are evenly spaced: ``scaled_linear`` of diffusers, quad of ddim and rosinality.

    From 1e-4 to 0.02 unless given; these are not scaled by T.
    """
    first = BETA_START if first is None else first
    last = BETA_END if last is None else last
    return [root**2 for root in linear_betas(T, math.sqrt(first), math.sqrt(last))]


def _betas_of(abar: Callable[[float], float], T: int, max_beta: float) -> list[float]:
    return [min(max(1 - abar((i + 1) / T) / abar(i / T), 0.0), max_beta) for i in range(T)]


def cosine_betas(T: int, max_beta: float = 0.999) -> list[float]:
    """Betas of ``abar(u) = cos^2(pi/2 (u + 0.008) / 1.008)``, capped (Nichol and Dhariwal 2021, eq. 17)."""
    return _betas_of(lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2, T, max_beta)


def sigmoid_betas(T: int, max_beta: float = 0.999) -> list[float]:
    """Betas of ``abar(u)`` falling as a sigmoid from -3 to 3 (Jabri et al. 2022, figure 8; lucidrains).

    The two ends of the curve are of single precision, as published: that alone decides the last betas.
    """

    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    low, high = (struct.unpack("f", struct.pack("f", sigmoid(z)))[0] for z in (-3.0, 3.0))
    return _betas_of(lambda u: max((high - sigmoid(6 * u - 3)) / (high - low), 0.0), T, max_beta)


def sigmoid_beta_betas(T: int, first: float | None = None, last: float | None = None) -> list[float]:
    """Betas that rise as a sigmoid from -6 to 6, from 1e-4 to 0.02 unless given (GeoDiff; diffusers)."""
    first = BETA_START if first is None else first
    last = BETA_END if last is None else last
    return [(last - first) / (1 + math.exp(-z)) + first for z in linear_betas(T, -6.0, 6.0)]


def karras_abars(T: int, low: float = 0.002, high: float = 80.0, rho: float = 7.0) -> list[float]:
    """``abar = 1 / (1 + s^2)`` of T noise levels s, even in their seventh root (Karras et al. 2022, eq. 5)."""
    return [1 / (1 + root ** (2 * rho)) for root in linear_betas(T, low ** (1 / rho), high ** (1 / rho))]


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

    ``i`` counts the transitions from 0 in the order of sampling, ``n`` is how many there are. ``end``: alpha and sigma
    that ddim ends with in the place of the clean ones, where the network's scheduler has that.
    """

    i: int
    n: int
    t: int
    s: int
    alpha_t: float
    sigma_t: float
    alpha_s: float
    sigma_s: float
    end: tuple[float, float] | None = None

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


class LevelFacts(Protocol):
    """What is to be known of the levels that a network was trained on: fields of a model preset."""

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """The name of the schedule."""

    @property
    def diffusion_steps(self) -> int:
        """T."""

    @property
    def beta_start(self) -> float | None:
        """Beta of the lowest level; None: as published."""

    @property
    def beta_end(self) -> float | None:
        """Beta of the highest level; None: as published."""

    @property
    def betas(self) -> tuple[float, ...]:
        """All of them, for the schedule ``betas``."""

    @property
    def zero_snr(self) -> bool:
        """Whether they were rescaled so that the highest level is noise alone."""

    @property
    def timestep_spacing(self) -> Spacing:
        """How steps are spread over the levels."""

    @property
    def steps_offset(self) -> int:
        """Added to the levels of ``leading``."""

    @property
    def set_alpha_to_one(self) -> bool:
        """Whether ddim ends at the clean picture, and not at the lowest level."""


_BETAS: dict[str, Callable[[int, float | None, float | None], list[float]]] = {
    "linear": linear_betas,
    "quad": quad_betas,
    "sigmoid_beta": sigmoid_beta_betas,
    "cosine": lambda T, first, last: cosine_betas(T),
    "sigmoid": lambda T, first, last: sigmoid_betas(T),
}
HAVE_ENDS = ("linear", "quad", "sigmoid_beta")
"""Schedules that ``beta_start`` and ``beta_end`` change."""


@dataclass(frozen=True)
class Schedule:
    """The levels a network was trained on: ``abar_t`` for t = 0 .. T-1.

    ``spacing`` and ``offset``: which of them a smaller number of steps walks, as its scheduler has it (diffusers);
    ``to_clean``: whether the last step of ddim ends at the clean picture, or at the lowest level.
    """

    alphas_cumprod: tuple[float, ...]
    spacing: Spacing = "linspace"
    offset: int = 0
    to_clean: bool = True

    @classmethod
    def named(
        cls, noise_schedule: str, T: int = 1000, first: float | None = None, last: float | None = None
    ) -> Schedule:
        """The schedule of that name with T levels, and betas from ``first`` to ``last`` where it has ends.

        UsageError for another name, and for numbers that are no schedule.
        """
        if noise_schedule == "karras" and T > 0:
            return cls(tuple(karras_abars(T)))
        if noise_schedule not in _BETAS:
            raise UsageError(
                f"unknown noise schedule {noise_schedule!r}; known: {', '.join(NOISE_SCHEDULES)}",
                hint=did_you_mean(noise_schedule, NOISE_SCHEDULES),
            )
        if T < 1 or not all(0 < beta <= 1 for beta in (first, last) if beta is not None):
            raise UsageError(
                f"no noise schedule has {T} levels and betas from {first} to {last}",
                hint="--set model.diffusion_steps=1000 --set model.beta_start=0.0001 --set model.beta_end=0.02",
            )
        betas = _BETAS[noise_schedule](T, first, last)
        if max(betas) > 1:
            raise UsageError(
                f"no {noise_schedule} schedule has {T} levels: its betas would pass 1",
                hint="--set model.diffusion_steps=1000, or model.beta_end=0.2",
            )
        return cls.of_betas(betas)

    @classmethod
    def of_betas(cls, betas: Sequence[float]) -> Schedule:
        """The schedule with these betas. UsageError unless they lie between 0 and 1."""
        if not betas or not all(0 <= beta <= 1 for beta in betas) or betas[0] in (0, 1):
            raise UsageError(
                f"these {len(betas)} betas are no noise schedule: they go from {min(betas, default=0)} to "
                f"{max(betas, default=0)}, and each has to lie between 0 and 1",
                hint="--set model.noise_schedule=linear --set model.diffusion_steps=1000",
            )
        products = accumulate((1.0 - beta for beta in betas), lambda product, alpha: product * alpha)
        return cls(tuple(max(abar, LEAST_ABAR) for abar in products))

    @classmethod
    def of(cls, facts: LevelFacts) -> Schedule:
        """The schedule that the facts of a network mean; UsageError for facts that mean none, or are not known."""
        if facts.noise_schedule == "unknown":
            raise UsageError(
                "nobody knows the noise schedule that this network was trained with",
                hint=f"--set model.noise_schedule=linear (known: {', '.join(NOISE_SCHEDULES)})",
            )
        if facts.noise_schedule == "betas":
            schedule = cls.of_betas(facts.betas)
        else:
            schedule = cls.named(
                facts.noise_schedule, facts.diffusion_steps, facts.beta_start, facts.beta_end
            )
        abar = schedule.alphas_cumprod
        return cls(
            _without_signal(abar) if facts.zero_snr else abar,
            facts.timestep_spacing,
            facts.steps_offset,
            facts.set_alpha_to_one,
        )

    def spread(self, steps: int, below: int | None = None) -> list[int]:
        """``steps`` levels spread over all of them, ascending, or as many as fall ``below`` a level.

        UsageError for more steps than levels.
        """
        below = self.T if below is None else below
        levels = spread_levels(self.T, steps)
        if self.spacing == "linspace":
            return spread_levels(below, max(1, round(steps * below / self.T)))
        if steps > 1 and self.spacing == "leading":
            levels = [min(i * (self.T // steps) + self.offset, self.T - 1) for i in range(steps)]
        elif steps > 1:
            levels = [round(self.T - i * self.T / steps) - 1 for i in range(steps)]
        kept = sorted({t for t in levels if t < below})
        return kept or [below - 1]

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
        end = None if self.to_clean else self.level(0)
        return tuple(
            Step(i, len(down), t, s, *self.level(t), *self.level(s), end if s < 0 else None)
            for i, (t, s) in enumerate(zip(down, [*down[1:], -1], strict=True))
        )


def _without_signal(abar: Sequence[float]) -> tuple[float, ...]:
    """alpha shifted and scaled so that its last is all but 0 and its first kept (Lin et al. 2024, algorithm 1)."""
    alpha = [math.sqrt(a) for a in abar]
    scale = alpha[0] / (alpha[0] - alpha[-1]) if len(alpha) > 1 else 1.0
    return tuple(max(((a - alpha[-1]) * scale) ** 2, LEAST_ABAR) for a in alpha)


def recognise(betas: Sequence[float]) -> dict[str, object]:
    """The facts that a list of betas, perhaps of float32, is told by: a name where one has them, else the list.

    Their first and last give the ends of those schedules that have ends.
    """
    T = len(betas)
    first, last = (float(f"{betas[i]:.6g}") if T else 0.0 for i in (0, -1))
    for name, function in _BETAS.items():
        if _close(betas, function(T, None, None)):
            return {"noise_schedule": name, "diffusion_steps": T}
        if name in HAVE_ENDS and _close(betas, function(T, first, last)):
            return {"noise_schedule": name, "diffusion_steps": T, "beta_start": first, "beta_end": last}
    return {"noise_schedule": "betas", "diffusion_steps": T, "betas": tuple(betas)}


def _close(betas: Sequence[float], others: Sequence[float]) -> bool:
    return all(abs(a - b) <= 2e-8 + 2e-6 * abs(b) for a, b in zip(betas, others, strict=True))
