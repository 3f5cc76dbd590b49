"""Everything that decides the pixels of a result, in one frozen value with a hash."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from ilvrctl.config import Layer, build, merge
from ilvrctl.diffusion.samplers import DDPM, SAMPLERS, Sampler
from ilvrctl.diffusion.schedule import Schedule, Step, space_timesteps, spread_levels
from ilvrctl.errors import ConfigError, did_you_mean
from ilvrctl.methods import ILVR, METHODS, Method

COMPAT: dict[str, Layer] = {
    "ilvr_adm": Layer.of("compat: ilvr_adm", {"method": {"reference_level": "t"}}),
}
"""Published code whose behaviour differs from its paper, as the settings that reproduce it."""


@dataclass(frozen=True)
class Settings:
    """How a reference becomes a sample.

    ``steps`` respaced steps spread over the levels, or exactly the published ``timestep_respacing`` string where
    it is given. ``clip_denoised`` keeps the clean estimates in [-1, 1]. ``class_label`` for class-conditional
    networks. ``fit`` and ``background`` make the input square. ``precision`` as asked for.
    """

    method: Method = field(default_factory=ILVR)
    sampler: Sampler = field(default_factory=DDPM)
    steps: int = 100
    timestep_respacing: str | None = None
    seed: int = 0
    clip_denoised: bool = True
    class_label: int | None = None
    fit: Literal["crop", "pad", "stretch"] = "crop"
    background: str = "white"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    def chain(self, schedule: Schedule) -> list[Step]:
        """The transitions that will be walked; UsageError for steps that the schedule cannot give."""
        if self.timestep_respacing is not None:
            return schedule.steps(space_timesteps(schedule.T, self.timestep_respacing))
        return schedule.steps(spread_levels(schedule.T, self.steps))

    def check(self, schedule: Schedule, image_size: int) -> list[Step]:
        """The chain, once chain and method are known to work for a model. UsageError when they cannot."""
        steps = self.chain(schedule)
        self.method.check(image_size, steps, schedule.T)
        return steps

    def record(self) -> dict[str, Any]:
        """As plain JSON values, from which :func:`build_settings` makes an equal value."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for part in ("method", "sampler"):
            values[part] = {"name": values[part].name, **dataclasses.asdict(values[part])}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    def identity(self, weights_sha256: str) -> str:
        """sha256 of the settings and the weights: equal for equal pixels of the same input and sample number."""
        text = json.dumps({"settings": self.record(), "weights": weights_sha256}, sort_keys=True)
        return sha256(text.encode()).hexdigest()


def build_settings(*layers: Layer) -> Settings:
    """Settings from layers, the later winning; ``compat`` lies below flags, above what the preset says.

    ConfigError names the source of a value that cannot be used.
    """
    layers = tuple(_named_parts(layer) for layer in layers)
    layer = merge(*layers)
    compat = layer.values.get("compat")
    if compat is not None:
        if compat not in COMPAT:
            raise ConfigError(
                f"unknown compat {compat!r}; known: {', '.join(COMPAT)}", hint=did_you_mean(compat, COMPAT)
            )
        layer = merge(layers[0], COMPAT[compat], *layers[1:])
    parts = {
        "method": _part(METHODS, "method", ILVR.name, layer),
        "sampler": _part(SAMPLERS, "sampler", DDPM.name, layer),
    }
    rest = {key: value for key, value in layer.values.items() if key not in (*parts, "compat")}
    return dataclasses.replace(build(Settings, Layer(rest, layer.origins)), **parts)


def _named_parts(layer: Layer) -> Layer:
    """``method: ilvr`` written out as ``method: {name: ilvr}``, so that layers merge."""
    written = {
        key: {"name": value} if key in ("method", "sampler") and isinstance(value, str) else value
        for key, value in layer.values.items()
    }
    return Layer(written, layer.origins)


def _part(table: Mapping[str, Any], key: str, default: str, layer: Layer) -> Any:
    """The method or sampler that the layer names, built by its class in the table."""
    given = layer.values.get(key, {})
    if not isinstance(given, Mapping):
        raise ConfigError(f"{key} must be a name or a mapping with a name, not {given!r}")
    name = given.get("name", default)
    if name not in table:
        raise ConfigError(
            f"unknown {key} {name!r}; known: {', '.join(table)}", hint=did_you_mean(str(name), table)
        )
    facts = {k: value for k, value in given.items() if k != "name"}
    return build(table[name], Layer(facts, layer.origins), (key,))
