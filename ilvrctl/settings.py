"""Everything that decides the pixels of a result, in one frozen value with a hash."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from ilvrctl.config import Layer, build, merge
from ilvrctl.diffusion.samplers import DDIM, DDPM, SAMPLERS, Sampler
from ilvrctl.diffusion.schedule import Schedule, Step, space_timesteps, spread_levels
from ilvrctl.errors import ConfigError, ForeignSettingError, did_you_mean
from ilvrctl.methods import ILVR, METHODS, Method

COMPAT: dict[str, Layer] = {
    "ilvr_adm": Layer.of("compat: ilvr_adm", {"method": {"reference_level": "t"}}),
}
"""Published code whose behaviour differs from its paper, as the settings that reproduce it."""

_PARTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "method": (METHODS, ILVR.name),
    "sampler": (SAMPLERS, DDPM.name),
}
"""The settings that are built by a class out of a table: the table, and the name used unless one is given."""


@dataclass(frozen=True)
class Settings:
    """How a reference becomes a sample.

    ``steps`` respaced steps spread over the levels, or exactly the published ``timestep_respacing`` string
    where it is given. ``clip_denoised`` keeps the clean estimates in [-1, 1]. ``class_label`` for
    class-conditional networks. ``fit`` and ``background`` make the input square. ``precision`` as asked for.
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
        for part in _PARTS:
            values[part] = {"name": values[part].name, **dataclasses.asdict(values[part])}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    def identity(self, network: Mapping[str, Any]) -> str:
        """sha256 of the settings and of what the network is (JSON values).

        Equal for equal pixels of the same input and sample number.
        """
        text = json.dumps({"settings": self.record(), "network": network}, sort_keys=True)
        return sha256(text.encode()).hexdigest()


def build_settings(*presets: Layer, overrides: Sequence[Layer] = ()) -> Settings:
    """Settings from layers, the later winning: ``presets``, then ``compat``, then ``overrides``.

    A layer that gives ``steps`` takes the place of an earlier ``timestep_respacing``, and ``method.range``
    that of an earlier ``method.range_t``. A layer that names another method or sampler keeps of the earlier
    ones what the new one knows too. ConfigError names the source of a value that cannot be used.
    """
    below = [_written_out(layer) for layer in presets]
    above = [_written_out(layer) for layer in overrides]
    layers = [*below, *_compat(merge(*below, *above)), *above]
    merged = merge(*layers)
    rest = {key: value for key, value in merged.values.items() if key not in (*_PARTS, "compat")}
    settings = build(Settings, Layer(rest, merged.origins))
    return dataclasses.replace(settings, **{key: _part(key, layers) for key in _PARTS})


def _written_out(layer: Layer) -> Layer:
    """``method: ilvr`` as ``method: {name: ilvr}``, and what a value takes the place of as null."""
    values = {
        key: {"name": value} if key in _PARTS and isinstance(value, str) else value
        for key, value in layer.values.items()
    }
    if "steps" in values:
        values.setdefault("timestep_respacing", None)
    method = values.get("method")
    if isinstance(method, Mapping) and "range" in method:
        values["method"] = {"range_t": None, **method}
    return Layer(values, layer.origins)


def _compat(layer: Layer) -> list[Layer]:
    """The layer of the published code that ``layer`` wants to follow, if any."""
    name = layer.values.get("compat")
    if name is None:
        return []
    if not isinstance(name, str) or name not in COMPAT:
        raise _unknown("compat", name, COMPAT, layer.origins.get(("compat",)))
    return [COMPAT[name]]


def _part(key: str, layers: Sequence[Layer]) -> Any:
    """The method or sampler that the layers name, built by its class in the table."""
    table, name = _PARTS[key]
    values: dict[str, Any] = {}
    for layer in layers:
        given = layer.values.get(key, {})
        origin = layer.origins.get((key,))
        if not isinstance(given, Mapping):
            raise ConfigError(f"{_at(origin)}{key} must be a name or a mapping with a name, not {given!r}")
        asked = given.get("name", name)
        if asked not in list(table):
            raise _unknown(key, asked, table, layer.origins.get((key, "name"), origin))
        if asked != name:
            name, values = asked, {k: v for k, v in values.items() if k in _fields(table[asked])}
        values.update({k: v for k, v in given.items() if k != "name"})
    origins = merge(*layers).origins
    for setting in sorted(values.keys() - _fields(table[name])):
        _refuse_foreign(key, name, setting, origins.get((key, setting)))
    part = build(table[name], Layer(values, origins), (key,))
    if isinstance(part, DDIM) and not 0 <= part.eta <= 1:
        raise ConfigError(f"{_at(origins.get((key, 'eta')))}sampler.eta goes from 0 to 1, not {part.eta}")
    return part


def _refuse_foreign(key: str, name: str, setting: str, origin: str | None) -> None:
    """ForeignSettingError when the setting belongs to another row of the table than ``name``."""
    owners = [other for other, cls in _PARTS[key][0].items() if setting in _fields(cls)]
    if owners:
        raise ForeignSettingError(
            f"{key}.{setting}",
            f"{_at(origin)}the {key} {name} has no {setting!r}; it belongs to {' and '.join(owners)}",
            hint=f"--{key} {owners[0]}",
        )


def _fields(cls: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(cls)}


def _at(origin: str | None) -> str:
    return f"{origin}: " if origin else ""


def _unknown(what: str, name: Any, known: Mapping[str, Any], origin: str | None) -> ConfigError:
    return ConfigError(
        f"{_at(origin)}unknown {what} {name!r}; known: {', '.join(known)}",
        hint=did_you_mean(str(name), known),
    )
