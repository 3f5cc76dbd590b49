"""Facts that a file states of its network, under the names of a model preset: each is possible, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from ilvrctl.diffusion.denoiser import Predicts
from ilvrctl.diffusion.schedule import NOISE_SCHEDULES, Spacing
from ilvrctl.errors import WeightsError
from ilvrctl.sizes import SizeText

UNKNOWN = "unknown"
"""A fact that files of a format do not always tell, that networks of it differ in, and that has to be asked for."""


def checked(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that a file states, known to be possible. WeightsError that names the first that is not."""
    for name, value in facts.items():
        if name not in _SOUND or not _SOUND[name](value):
            shown = value if len(repr(value)) < 40 else type(value).__name__
            raise WeightsError(f"{path}: it says that {name} is {shown!r}, which no network has", _HINT)
    return dict(facts)


def _whole(most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and 1 <= value <= most


def _size(value: Any) -> bool:
    if type(value) is str:
        return SizeText().mistake(value) is None
    return _whole(1 << 16)(value)


def _beta(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


_SOUND: Mapping[str, Callable[[Any], bool]] = {
    "image_size": _size,
    "num_heads": _whole(1 << 12),
    "num_head_channels": _whole(1 << 12),
    "use_new_attention_order": lambda value: type(value) is bool,
    "noise_schedule": lambda value: value in (*NOISE_SCHEDULES, UNKNOWN),
    "diffusion_steps": _whole(1_000_000),
    "beta_start": _beta,
    "beta_end": _beta,
    "betas": lambda value: type(value) is tuple and all(map(_beta, value)),
    "zero_snr": lambda value: type(value) is bool,
    "timestep_spacing": lambda value: value in get_args(Spacing),
    "steps_offset": lambda value: value == 0 or _whole(1_000_000)(value),
    "predicts": lambda value: value in (*get_args(Predicts), UNKNOWN),
    "clip_sample": lambda value: type(value) is bool,
    "set_alpha_to_one": lambda value: type(value) is bool,
    "variance": lambda value: value in ("fixed_small", "fixed_large"),
}
"""Facts of a model preset, and what each can be."""
_HINT = "the file is damaged, or was changed; `ilvrctl inspect FILE` shows what it holds"
