"""The readings that a network's tensors allow: heads and order of its attention, and its levels. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ilvrctl.diffusion.schedule import Schedule
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
    """One schedule with its number of levels: which t a signal-to-noise ratio has."""

    noise_schedule: str
    diffusion_steps: int

    def level(self, abar: float) -> int:
        """The t whose log signal-to-noise ratio is nearest to that of ``abar``."""
        wanted = math.log(abar / (1 - abar))
        levels = Schedule.named(self.noise_schedule, self.diffusion_steps).alphas_cumprod
        return min(range(len(levels)), key=lambda t: abs(math.log(levels[t] / (1 - levels[t])) - wanted))

    def __str__(self) -> str:
        return f"{self.noise_schedule}, {self.diffusion_steps} levels"


TIMINGS = tuple(Timing(name, T) for T in (1000, 4000) for name in ("linear", "cosine"))
"""4000 levels: improved-diffusion. Where those were rescaled to 0 .. 1000 they look, and act, like 1000."""


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
