"""The readings that a network's tensors allow: heads and order of its attention, and its levels. No torch here."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property

from ilvrctl.diffusion.schedule import BETA_END, BETA_START, Schedule
from ilvrctl.models.architecture.blocks import Attention as AttentionLayer
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags

HEAD_CHANNELS = (64, 32, 16, 128)
HEADS = (1, 4, 2, 8)
"""Values of ``num_head_channels`` and ``num_heads`` that are tried; published are 64 and 32, and 1 and 4."""


@dataclass(frozen=True)
class Attention:
    """One way to read the attention tensors; ``heads`` in every layer, in the order of the network."""

    hidden: HiddenFlags
    heads: tuple[int, ...]

    @property
    def order(self) -> str | None:
        """``legacy`` or ``new``; None where one head makes them the same."""
        if max(self.heads) == 1:
            return None
        return "new" if self.hidden.use_new_attention_order else "legacy"

    @property
    def heads_name(self) -> str:
        """The number of heads, or what it follows from."""
        if len(set(self.heads)) == 1:
            return f"{self.heads[0]} head{'s' * (self.heads[0] > 1)}"
        return f"heads of {self.hidden.num_head_channels} channels"

    def __str__(self) -> str:
        return self.heads_name + (f", {self.order} order" if self.order else "")


@dataclass(frozen=True)
class Timing:
    """One schedule with its number of levels, and its betas' ends where they are not the published ones."""

    noise_schedule: str
    diffusion_steps: int
    beta_start: float | None = None
    beta_end: float | None = None

    @property
    def facts(self) -> dict[str, str | int | float]:
        """Under the names of a model preset."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def level(self, abar: float) -> float | None:
        """The t, fractional, with the signal-to-noise ratio of ``abar``; None where all levels have more signal."""
        wanted, levels = _log_snr(abar), self._log_snrs
        if wanted < levels[-1]:
            return None
        above = next(t for t, value in enumerate(levels) if value <= wanted)
        if above == 0:
            return 0.0
        return above - (wanted - levels[above]) / (levels[above - 1] - levels[above])

    def nearest(self, abar: float) -> int:
        """The level nearest to that."""
        level = self.level(abar)
        return self.diffusion_steps - 1 if level is None else round(level)

    @property
    def schedule(self) -> Schedule:
        """All its levels."""
        return Schedule.named(self.noise_schedule, self.diffusion_steps, self.beta_start, self.beta_end)

    @cached_property
    def _log_snrs(self) -> list[float]:
        return [_log_snr(abar) for abar in self.schedule.alphas_cumprod]

    def __str__(self) -> str:
        ends = f", beta {self.beta_start:g} to {self.beta_end:g}" if self.beta_start and self.beta_end else ""
        return f"{self.noise_schedule}, {self.diffusion_steps} levels{ends}"


def _log_snr(abar: float) -> float:
    return math.log(abar / (1 - abar))


STEPS = (100, 250, 500, 1000, 2000, 4000)
"""Numbers of levels that are recognised. Where they were rescaled to 0 .. 1000 they look, and act, like 1000."""
NAMED = ("linear", "cosine", "quad", "sigmoid", "sigmoid_beta")
ENDS = (("linear", BETA_START, BETA_END), ("quad", 0.00085, 0.012))
"""Other published ends of the betas: as they are at 1000 levels, and those of Stable Diffusion."""


@cache
def timings() -> tuple[Timing, ...]:
    """The schedules that a network's levels are compared with, every one once."""
    found: dict[tuple[float, ...], Timing] = {}
    for T in STEPS:
        given = [*(Timing(name, T) for name in NAMED), *(Timing(name, T, *ends) for name, *ends in ENDS)]
        for timing in given:
            found.setdefault(timing.schedule.alphas_cumprod, timing)
    return tuple(found.values())


def attention_readings(architecture: AdmArchitecture) -> tuple[Attention, ...]:
    """Every reading that divides all attention layers; those with the same heads everywhere are one."""
    layers = attention_layers(architecture)
    flags = [HiddenFlags(num_heads=1)]
    flags += [HiddenFlags(num_head_channels=n) for n in HEAD_CHANNELS]
    flags += [HiddenFlags(num_heads=n) for n in HEADS]
    found: dict[tuple[int, ...], HiddenFlags] = {}
    for hidden in flags:
        divisor = hidden.num_head_channels or hidden.num_heads or 1
        if all(width % divisor == 0 for width in layers):
            found.setdefault(tuple(hidden.heads(width) for width in layers), hidden)
    return tuple(
        Attention(HiddenFlags(hidden.num_heads, hidden.num_head_channels, use_new_attention_order=new), heads)
        for heads, hidden in found.items()
        for new in ((False, True) if max(heads) > 1 else (False,))
    )


def attention_layers(architecture: AdmArchitecture) -> tuple[int, ...]:
    """Widths of the attention layers, in the order of the network."""
    whole = replace(architecture, hidden=HiddenFlags(num_heads=1))  # fits any width
    blocks = (*whole.encoder(), whole.middle(), *whole.decoder())
    return tuple(layer.channels for block in blocks for layer in block if isinstance(layer, AttentionLayer))


def guess_image_size(architecture: AdmArchitecture) -> int:
    """8 pixels at the coarsest level, as in every network that guided-diffusion and ilvr_adm published."""
    return 8 * architecture.downsample_factor
