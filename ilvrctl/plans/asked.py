"""Settings as they are asked for: by flags, by a job, or by Python; made into choices, and these into settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.config import Layer, build, merge, nested, parse_value
from ilvrctl.errors import UsageError, did_you_mean
from ilvrctl.memory import recalled
from ilvrctl.plans.grid import Choice, Option, Picked, Tier, Variant, expand
from ilvrctl.plans.parameter import Command, Parameter
from ilvrctl.plans.parameters import TABLE, parameters_of
from ilvrctl.plans.values import PAIRS, comma_list, flag_choices, once, set_choices
from ilvrctl.presets import MethodPreset, find_method

if TYPE_CHECKING:
    from ilvrctl.plans.find_networks import FoundNetworks
    from ilvrctl.settings import Settings


@dataclass(frozen=True)
class Asked:
    """The ``choices`` of settings, the ``facts`` of networks, and all ``values`` of other parameters by name."""

    choices: tuple[Choice, ...] = ()
    facts: Layer = field(default_factory=lambda: Layer({}))
    values: Mapping[str, Any] = field(default_factory=dict)

    def variants(self, networks: FoundNetworks, way: Layer | None = None) -> list[Variant]:
        """The settings that are meant, in one or several variants; ``way``: how the command works."""
        if self.values.get("as_published"):
            networks = replace(
                networks, settings=networks.published, encoder=None if networks.implied else networks.encoder
            )
        return expand(self.choices, lambda picked: build_asked(networks, picked, way))


def asked_by_flags(command: Command, given: Mapping[str, Any]) -> Asked:
    """What the options of a command line ask for, ``{name: value}`` of those that were given.

    UsageError for a value that cannot be read and for two that exclude each other.
    """
    _check_rivals(given, lambda row: row.flag)
    rows = parameters_of(command)
    flags = {
        row.flag: (row.key, _set_to(row, given[name]), row.kind if row.listed else None)
        for name, row in rows.items()
        if row.key and name != "preset" and name in given
    }
    assigned, facts = set_choices(given.get("set", ()))
    choices = (*preset_choices("--preset", given.get("preset")), *flag_choices(flags), *assigned)
    return Asked(
        choices, facts, {n: v for n, v in given.items() if n in rows and not rows[n].key and n != "set"}
    )


def asked_by_values(command: Command, values: Mapping[str, Any]) -> Asked:
    """What Python asks for: as flags for text, a list for several values, or a value as it is.

    ``set``: a mapping of dotted keys, or texts ``key=value``. UsageError for a name that no flag has, or one that says
    nothing to Python.
    """
    rows = {row.name: row for row in parameters_of(command).values()}
    given = {name.rstrip("_"): value for name, value in values.items() if value is not None}
    for name in given:
        if name not in rows:
            known = [row.name for row in rows.values() if not row.in_shells]
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            raise UsageError(f"unknown parameter {name!r}", hint=hint)
        if rows[name].in_shells:
            raise UsageError(f"{name} is for the command line: {rows[name].flag} of ilvrctl {command}")
    _check_rivals(given, lambda row: row.name)
    texts = {name: v for name, v in given.items() if isinstance(v, str) and rows[name].key}
    asked = asked_by_flags(command, texts)
    choices = [
        choice_of(rows[name], _values(rows[name], value), f"{name}=")
        for name, value in given.items()
        if rows[name].key and name not in texts
    ]
    assigned, facts = _assigned(given.get("set", {}))
    others = {name: value for name, value in given.items() if not rows[name].key and name != "set"}
    order = {row.key: place for place, row in enumerate(TABLE)}
    settings = sorted((*asked.choices, *choices), key=lambda choice: order[choice.key])
    return Asked((*settings, *assigned), facts, others)


def _check_rivals(given: Mapping[str, Any], name_of: Callable[[Parameter], str]) -> None:
    """UsageError when two parameters are given of which one takes the place of the other.

    ``given``: what was given, by name; ``name_of``: what a message calls a parameter.
    """
    rows = {row.name: row for row in TABLE}
    for row in TABLE:
        if row.rival is not None and row.name in given and row.rival[0] in given:
            other, what = row.rival
            raise UsageError(
                f"{name_of(row)} and {name_of(rows[other])} both say {what}", hint="give one of them"
            )


def _set_to(row: Parameter, value: Any) -> Any:
    return row.sets if row.sets is not None and value else value


def _values(row: Parameter, value: Any) -> list[Any]:
    """The values in a list; of pairs one value is a list or a tuple itself."""
    if not isinstance(value, (list, tuple)):
        return [value]
    if row.kind in PAIRS and not (value and isinstance(value[0], (list, tuple, str))):
        return [list(value)]
    return [list(one) if isinstance(one, tuple) else one for one in value]


def _assigned(given: Any) -> tuple[list[Choice], Layer]:
    """Of ``set``: choices, and the facts of networks."""
    if not isinstance(given, Mapping):
        return set_choices([given] if isinstance(given, str) else list(given))
    pairs = dict(leaves(given))
    facts = [nested("set=", key, v) for key, v in pairs.items() if key.split(".")[0] in ("model", "source")]
    rest = {key: v for key, v in pairs.items() if key.split(".")[0] not in ("model", "source")}
    return [set_choice(key, value, "set=") for key, value in rest.items()], merge(*facts)


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of nested settings, with their values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def set_choice(key: str, value: Any, origin: str) -> Choice:
    """One value of any setting."""
    return Choice(key, (Option(str(value), value, nested(origin, key, value)),), "set")


def choice_of(row: Parameter, values: Sequence[Any], origin: str, folder: Path | None = None) -> Choice:
    """The choice of a parameter between ``values``; ``origin``: where they stand.

    ``folder``: of files that are named. UsageError for a value given twice.
    """
    if row.name == "preset":
        return _preset_choice(values, folder)
    texts = [_text(value) for value in values]
    once(f"{origin}: {row.name}", texts)
    read = [row.kind(f"{origin}:", v) if row.kind in PAIRS and isinstance(v, str) else v for v in values]
    options = (
        Option(t, v, nested(origin, row.key, _set_to(row, v))) for t, v in zip(texts, read, strict=True)
    )
    return Choice(row.key, tuple(options))


def _text(value: Any) -> str:
    return ":".join(map(str, value)) if isinstance(value, list) else str(value)


def preset_choices(flag: str, text: str | None) -> list[Choice]:
    """The choice of ``--preset``: names or files."""
    return [] if text is None else [_preset_choice(comma_list(flag, text), None)]


def _preset_choice(names: Sequence[str], folder: Path | None) -> Choice:
    options = (Option(Path(name).stem, Path(name).stem, preset_layer(name, folder)) for name in names)
    return Choice("preset", tuple(options), "preset")


def preset_layer(name_or_file: str, folder: Path | None = None) -> Layer:
    """The settings of a preset: a name, a file of settings, or a file as ``presets show`` prints it.

    A file's name counts from ``folder``.
    """
    if folder is not None and Path(name_or_file).suffix in (".yaml", ".yml"):
        name_or_file = str(folder / name_or_file)
    layer = find_method(name_or_file)
    if "settings" not in layer.values:
        return layer
    preset = build(MethodPreset, Layer({"name": name_or_file, **layer.values}, layer.origins))
    return Layer(preset.settings, {key[1:]: at for key, at in layer.origins.items() if key[0] == "settings"})


def environment_layer() -> Layer:
    """The settings that the environment gives."""
    given = [(row.environment, row.key) for row in TABLE if row.key and os.environ.get(row.environment)]
    return merge(*(parse_value(name, key, os.environ[name]) for name, key in given))


def layer_of(flags: Mapping[str, tuple[str, Any]]) -> Layer:
    """The settings that flags give, ``{flag: (key, value)}``; a value of None was not given."""
    return merge(*(nested(flag, key, value) for flag, (key, value) in flags.items() if value is not None))


def build_asked(networks: FoundNetworks, picked: Picked, way: Layer | None = None) -> Settings:
    """Target < way < preset < compat < environment < --speed < --set < other flags, ``way`` being how the command
    works. A replay asks the environment nothing.
    """
    seeds = [pair for pair in picked if pair[0].key == "seed" and type(pair[1].value) is int]
    others = tuple(pair for pair in picked if pair not in seeds)  # jobs often differ in the seed alone
    said = [(choice.key, choice.tier, option.layer.values, option.layer.trusted) for choice, option in others]
    begun = networks.settings.values, networks.settings.trusted, way and way.values
    beside = networks.encoder is None, networks.two_models.values, networks.implied
    key = repr((said, begun, beside, networks.samples is None))
    built = recalled(("settings", key), lambda: _built(networks, others, way))
    return replace(built, seed=seeds[-1][1].value) if seeds else built


def _built(networks: FoundNetworks, picked: Picked, way: Layer | None) -> Settings:
    from ilvrctl.settings import build_settings, method_named

    def layers(tier: Tier) -> list[Layer]:
        return [option.layer for choice, option in picked if choice.tier == tier and choice.key != "speed"]

    replayed = networks.samples is not None
    speed = [option.layer for choice, option in picked if choice.key == "speed"]
    said = [*([] if way is None else [way]), *layers("preset")]
    environment = [] if replayed else [environment_layer()]
    overrides = [*environment, *speed, merge(*layers("set")), merge(*layers("flag"))]
    below = [networks.settings]
    if networks.encoder is not None and not replayed:
        names = {method_named(layer) for layer in [*said, *overrides]} - {None}
        ours = networks.two_models
        if names <= {method_named(ours)} and (names or not _alone(networks, [*said, *overrides])):
            below.append(ours)
        elif names and not networks.implied:
            overrides.insert(0, Layer.of("--from", {"method": {"name": method_named(ours)}}))
    return build_settings(*below, *said, overrides=overrides)


def _alone(networks: FoundNetworks, said: Sequence[Layer]) -> bool:
    """Whether the target's model works alone: a source that nobody asked for takes no part where it is said how to
    sample, beyond how far to go.
    """
    from ilvrctl.settings import says_how

    return networks.implied and any(map(says_how, said))
