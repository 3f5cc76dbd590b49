"""From settings to a method: its definition by name, then what each layer changes, piece by piece.

The definitions are the method presets (``presets/methods/NAME.yaml`` and the user's own) that hold nothing but a
``method``. One that names another in turn starts from that one; one that names none starts from no steering at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ilvrctl.config import KeyPath, Layer, build, build_named, merge, unknown_name
from ilvrctl.errors import ConfigError, ForeignSettingError, UsageError, did_you_mean
from ilvrctl.memory import recalled
from ilvrctl.methods.constraints import CONSTRAINTS
from ilvrctl.methods.encoders import ENCODERS
from ilvrctl.methods.energies import ENERGIES, Energy, UserEnergy
from ilvrctl.methods.levels import RIGHT, check_order, mistake
from ilvrctl.methods.merge import MERGES
from ilvrctl.methods.method import Method
from ilvrctl.presets import find_method, preset_files

DEFAULT = "ilvr"
FIELDS = frozenset(f.name for f in dataclasses.fields(Method)) - {"name"}
SHORT = {
    "N": "low_pass",
    "N_above": "low_pass",
    "kernel": "low_pass",
    "reference_level": "low_pass",
    "blocks": "block_statistics",
    "size": "block_statistics",
    "order": "block_statistics",
}
"""Settings of a method's filter or blocks that may be given as the method's own, and whose they are."""
_OF_THE_ENERGY = ("N", "kernel")
"""Those that the energy ``low_pass`` has too."""


def method_names() -> list[str]:
    """Every name that ``--method`` knows."""
    return [name for name in preset_files("methods") if set(find_method(name).values) == {"method"}]


def name_of(layers: Sequence[Layer]) -> str:
    """The method that the layers name, the last one winning. ConfigError for what is no name."""
    name = DEFAULT
    for layer in layers:
        given = layer.values.get("method")
        if isinstance(given, Mapping) and given.get("name") is not None:
            name = given["name"]
            if not isinstance(name, str):
                raise _unknown(name, layer)
    return name


def family(name: str) -> list[str]:
    """The method's name and those that its definition starts from; only itself when it has no definition."""
    try:
        return [name, *(n for n, _ in _definitions(name, ()))]
    except ConfigError:
        return [name]


def build_method(layers: Sequence[Layer]) -> Method:
    """The method that the layers describe, from their keys ``method`` and ``methods``.

    A layer that names another method than the one chosen in the end is left out; ``methods: {NAME: ...}`` is what a
    layer changes of NAME where that is the one chosen. A layer that tells every piece, as a result's record does,
    needs no definition. ConfigError says where a value that cannot be used stands.
    """
    said = repr([[layer.values.get(key) for key in ("method", "methods")] for layer in layers])
    return recalled((build_method, said), lambda: _built(layers))


def _built(layers: Sequence[Layer]) -> Method:
    name = name_of(layers)
    given = [_mine(layer, name) for layer in layers]
    complete = [n for n, layer in enumerate(given) if layer.values.keys() >= FIELDS]
    if complete:
        below, given = [], given[complete[-1] :]
    else:
        origin = next((layer for layer in reversed(layers) if "name" in _mapping(layer)), Layer({}))
        below = [layer for _, layer in _definitions(name, (), origin)]
    special = [_special(layer, name) for layer in layers]
    return _assemble(name, [*below, *special, *given])


def _mapping(layer: Layer) -> Mapping[str, Any]:
    found = layer.values.get("method", {})
    if not isinstance(found, Mapping):
        at = _at(layer, ("method",))
        raise ConfigError(f"{at}method must be a name or a mapping with a name, not {found!r}")
    return found


def _mine(layer: Layer, name: str) -> Layer:
    """What the layer says of the method called ``name``."""
    found = _mapping(layer)
    if found.get("name", name) != name:
        return Layer({})
    return Layer({key: value for key, value in found.items() if key != "name"}, layer.origins)


def _special(layer: Layer, name: str) -> Layer:
    """What the layer's ``methods`` change of the method called ``name``."""
    table = layer.values.get("methods", {})
    found = table.get(name, {}) if isinstance(table, Mapping) else table
    if not isinstance(found, Mapping):
        raise ConfigError(
            f"{_at(layer, ('methods',))}methods must be a mapping of names to settings of methods"
        )
    start = ("methods", name)
    origins = {("method", *key[2:]): at for key, at in layer.origins.items() if key[:2] == start}
    return Layer(written_out(found), origins)


def written_out(method: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a method, with what they take the place of as null: ``range_t`` of ``range``, for instance."""
    values = dict(method)
    for key, other in (("range", "range_t"), ("blocks", "size")):
        if key in values:
            values.setdefault(other, None)
    for key in ("constraint", "merge"):
        if isinstance(values.get(key), str):
            values[key] = {"name": values[key]}
    constraint = values.get("constraint")
    if isinstance(constraint, Mapping) and "blocks" in constraint:
        values["constraint"] = {"size": None, **constraint}
    return values


def _definitions(name: str, seen: tuple[str, ...], origin: Layer | None = None) -> list[tuple[str, Layer]]:
    """The definitions that ``name`` stands for, the first to start from first."""
    if name in seen or name not in preset_files("methods"):
        raise _unknown(name, origin or Layer({}))
    layer = find_method(name)
    if set(layer.values) != {"method"}:
        raise ConfigError(f"{name!r} is more than a method", hint=f"--preset {name}")
    values = layer.values["method"]
    if isinstance(values, str):
        values = {"name": values}
    base = values.get("name")
    below = _definitions(base, (*seen, name), layer) if base else []
    own = {key: value for key, value in values.items() if key != "name"}
    return [*below, (name, Layer(written_out(own), layer.origins))]


def _unknown(name: Any, layer: Layer) -> ConfigError:
    origin = layer.origins.get(("method", "name"), layer.origins.get(("method",)))
    return unknown_name("method", name, method_names(), origin)


def _assemble(name: str, layers: Sequence[Layer]) -> Method:
    whole = merge(*layers)
    kind, energies = _kind(layers), whole.values.get("energies") or {}
    if not isinstance(energies, Mapping):
        raise ConfigError(
            f"{_at(whole, ('method', 'energies'))}energies must be a mapping of names to settings"
        )
    if kind not in list(CONSTRAINTS):
        _piece("constraint", CONSTRAINTS, layers, "none")
    layers = [_long(layer, name, kind, energies, layers[n + 1 :]) for n, layer in enumerate(layers)]
    pieces: dict[str, Any] = {
        "constraint": _piece("constraint", CONSTRAINTS, layers, "none"),
        "merge": _piece("merge", MERGES, layers, "sum"),
        "encoder": _piece("encoder", ENCODERS, layers, "none"),
        "energies": {
            key: _energy(key, layers) for key in sorted(merge(*layers).values.get("energies") or {})
        },
    }
    whole = merge(*layers)
    _check_names(whole, ("method",))
    method = build(Method, Layer({"name": name, **whole.values, **pieces}, whole.origins), ("method",))
    _check_numbers(method, whole)
    return method


def _check_names(whole: Layer, path: KeyPath) -> None:
    """ConfigError for a setting that no method has; those that are short for one of a piece are known too."""
    known = [*(f.name for f in dataclasses.fields(Method)), *SHORT]
    listed = f"known keys under 'method': {', '.join(known)}; for example --set method.N=4"
    for key in whole.values.keys() - FIELDS - {"name"}:
        close = did_you_mean(key, known) or listed
        raise ConfigError(f"{_at(whole, (*path, key))}unknown key {'.'.join((*path, key))!r}", hint=close)


def _kind(layers: Sequence[Layer]) -> Any:
    """The name of the constraint, whatever else is said of it."""
    kind: Any = "none"
    for layer in layers:
        found = layer.values.get("constraint", kind)
        kind = found.get("name", kind) if isinstance(found, Mapping) else found
    return kind


def _long(layer: Layer, name: str, kind: Any, energies: Mapping[str, Any], above: Sequence[Layer]) -> Layer:
    """The layer with short settings in place: ``N`` is that of the low-pass filter, wherever there is one.

    What no piece knows is an error, unless a layer above took the piece away.
    """
    changed = any("name" in (other.values.get("constraint") or {}) for other in above)
    values, origins = dict(layer.values), dict(layer.origins)
    for key, owner in SHORT.items():
        if key not in values:
            continue
        value = values.pop(key)
        origin = origins.get(("method", key))
        if kind == owner:
            place: KeyPath = ("constraint", key)
        elif owner == "low_pass" and key in _OF_THE_ENERGY and "low_pass" in energies:
            place = ("energies", "low_pass", key)
        elif value is None or changed:
            continue
        else:
            raise _misplaced(key, name, kind, origin)
        for part in reversed(place):
            value = {part: value}
        values = dict(merge(Layer(values), Layer(value)).values)
        if origin:
            path = ("method", *place)
            origins[path] = origin
    return Layer(values, origins)


def _misplaced(key: str, name: str, kind: Any, origin: str | None) -> ForeignSettingError:
    what = "low-pass filter" if SHORT[key] == "low_pass" else "blocks"
    has = {
        "block_statistics": "--blocks says how fine its constraint is",
        "low_pass": "--N says how much it keeps",
    }
    return ForeignSettingError(
        f"method.{key}",
        f"{origin + ': ' if origin else ''}the method {name} has no {key!r}: it has no {what}",
        hint=has.get(kind, "ilvrctl presets show " + name),
    )


def _piece(key: str, table: Mapping[str, Any], layers: Sequence[Layer], default: str) -> Any:
    return build_named(
        table, layers, key, default, prefix=("method",), use=lambda name: f"--set method.{key}.name={name}"
    )


def _energy(key: str, layers: Sequence[Layer]) -> Energy:
    """The energy called ``key``: a row of the table, or one of the user's own, which says ``call``."""
    path = ("method", "energies", key)
    values: dict[str, Any] = {}
    for layer in layers:
        given = (layer.values.get("energies") or {}).get(key, {})
        if isinstance(given, int | float) and not isinstance(given, bool):
            given = {"weight": given}
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"{_at(layer, path)}{'.'.join(path)} must be a weight or a mapping, not {given!r}"
            )
        values.update(given)
    origins = merge(*layers).origins
    if key not in ENERGIES and ":" in key:
        values.setdefault("call", key)
    if "call" in values:
        return build(UserEnergy, Layer(values, origins), path)
    if key not in ENERGIES:
        raise ConfigError(
            f"{_at(merge(*layers), path)}unknown energy {key!r}; known: {', '.join(ENERGIES)}",
            hint=did_you_mean(key, ENERGIES) or f"one of your own: --set energies.{key}.call=module:function",
        )
    return build(ENERGIES[key], Layer(values, origins), path)


def _check_numbers(method: Method, whole: Layer) -> None:
    """ConfigError for levels that no model has, and for a merge without the blocks that it needs."""
    if method.start <= 0:
        at = _at(whole, ("method", "start"))
        raise ConfigError(
            f"{at}method.start must be above 0: a level, or a fraction of T such as 0.8, not {method.start}"
        )
    for key, values in (("start", (method.start,)), ("range", method.range)):
        for value in values:
            if wrong := mistake(value):
                raise ConfigError(f"{_at(whole, ('method', key))}method.{key}: {wrong}", hint=RIGHT[key])
    try:
        check_order(f"{_at(whole, ('method', 'range'))}method.range", method.range)
    except UsageError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    if getattr(method.merge, "over", "") == "block" and not method.constraint.has_blocks:
        raise ConfigError(
            f"{_at(whole, ('method', 'merge'))}a merge per block needs a constraint with blocks",
            hint="--set method.constraint.name=block_statistics, or --set method.merge.over=channel",
        )


def _at(layer: Layer, path: KeyPath) -> str:
    """``file, line 3: `` of the value at ``path``, or of the closest mapping around it."""
    found = next(
        (layer.origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in layer.origins), None
    )
    return f"{found}: " if found else ""
