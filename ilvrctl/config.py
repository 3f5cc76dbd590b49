"""YAML to frozen dataclasses through one strict builder: an unknown key or a wrong value is an error that
says where it stands and what was meant.

Settings come in layers, defaults < preset < environment < flags. Each value remembers where it came from, so
that an error names the file and line, the variable or the flag.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from ilvrctl.errors import ConfigError, ForeignSettingError, InputError, did_you_mean
from ilvrctl.fields import Between
from ilvrctl.files import read_text
from ilvrctl.sizes import SizeText
from ilvrctl.text import visible
from ilvrctl.yaml_core import load_yaml

T = TypeVar("T")
KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """Nested settings from one source; ``origins`` says for each key path where it stands.

    ``trusted``: whether the person wrote it, or chose it by name or path. What a picture tells is not: it may name
    neither code nor files, see :mod:`ilvrctl.trust`.
    """

    values: Mapping[str, Any]
    origins: Mapping[KeyPath, str] = field(default_factory=dict)
    trusted: bool = True

    @classmethod
    def of(cls, origin: str, values: Mapping[str, Any], *, trusted: bool = True) -> Layer:
        """A layer whose every value came from one place, for instance a flag."""
        return cls(values, {path: origin for path, _ in _leaves(values)}, trusted)


def read_yaml(path: Path, *, limit: int = 16 << 20) -> Layer:
    """A YAML mapping with the line of every key. ConfigError when the file is no readable YAML mapping.

    The file is read as :func:`ilvrctl.files.read_text` says; ``limit`` in bytes.
    """
    try:
        return parse_yaml(read_text(path, limit=limit), visible(path.name))
    except InputError as error:
        raise ConfigError(error.message) from error


def parse_yaml(text: str, name: str) -> Layer:
    """The same for the ``text`` of a file called ``name``."""
    try:
        node, values = load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _not_yaml(name, error) from error
    if node is None:
        return Layer({})
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{name} must hold a mapping of keys to values")
    origins: dict[KeyPath, str] = {}
    _note_lines(node, (), name, origins)
    return Layer(values, origins)


def _not_yaml(name: str, error: Exception) -> ConfigError:
    """The parser's complaint in one line, with the place where it stopped."""
    what = " ".join(str(getattr(error, "problem", None) or error).split())
    mark = None if "nest" in what else getattr(error, "problem_mark", None)  # too deep: no line of the many
    line, column = ("", "") if mark is None else (f", line {mark.line + 1}", f" (column {mark.column + 1})")
    indented = column and re.search("expected|not allowed|any token", what)
    hint = "what belongs together begins in one column, after spaces" if indented else None
    return ConfigError(f"{name}{line}: not valid YAML: {visible(what)}{column}", hint)


def _note_lines(node: yaml.MappingNode, prefix: KeyPath, name: str, origins: dict[KeyPath, str]) -> None:
    for key, value in node.value:
        path, where = (*prefix, str(key.value)), f"{name}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str"):
            raise ConfigError(f"{where}: a key that is no text: {key.value!r}", hint="put it in quotes")
        if path in origins:
            raise ConfigError(f"{where}: {'.'.join(path)!r} is given twice")
        origins[path] = where
        _note_inner(value, path, name, origins)


def _note_inner(node: yaml.Node, path: KeyPath, name: str, origins: dict[KeyPath, str]) -> None:
    """The lines within a value; the items of a list are counted from 1."""
    if isinstance(node, yaml.MappingNode):
        _note_lines(node, path, name, origins)
    elif isinstance(node, yaml.SequenceNode):
        for n, item in enumerate(node.value, 1):
            inner = (*path, str(n))
            origins[inner] = f"{name}, line {item.start_mark.line + 1}"
            _note_inner(item, inner, name, origins)


def _leaves(values: Mapping[str, Any], prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in values.items():
        yield (*prefix, str(key)), value
        if isinstance(value, Mapping):
            yield from _leaves(value, (*prefix, str(key)))


def merge(*layers: Layer) -> Layer:
    """One layer out of several; a later one wins key by key, and mappings are merged. Trusted if all are."""
    values: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    for layer in layers:
        _merge_into(values, layer.values)
        lists = {path for path in layer.origins if (*path, "1") in origins}  # that this layer replaces
        for path in [path for path in origins if path[:-1] in lists and path[-1].isdigit()] if lists else ():
            del origins[path]
        origins.update(layer.origins)
    return Layer(values, origins, all(layer.trusted for layer in layers))


def _merge_into(values: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping):
            old = values.get(key)
            inner = dict(old) if isinstance(old, Mapping) else {}
            _merge_into(inner, value)
            values[key] = inner
        else:
            values[key] = value


def parse_assignment(text: str) -> Layer:
    """``--set key.sub=value`` as a layer; the value is read as YAML. ConfigError without a key and ``=``."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r} is not of the form key=value", hint="for example --set method.N=8")
    return parse_value(f"--set {text}", key.strip(), value)


def parse_value(origin: str, key: str, text: str) -> Layer:
    """A layer of the one dotted ``key``, its value read as YAML. ConfigError when it is none."""
    try:
        value = load_yaml(text)[1]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: the value is not valid YAML") from error
    return nested(origin, key, value)


def nested(origin: str, key: str, value: Any) -> Layer:
    """A layer of the one dotted ``key``: ``method.N`` becomes ``{method: {N: value}}``."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return Layer.of(origin, value)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """The types of a dataclass's fields; a fifth of the time of listing all models without the cache."""
    return typing.get_type_hints(cls, include_extras=True)


def build(cls: type[T], layer: Layer, prefix: KeyPath = ()) -> T:
    """A frozen dataclass from a layer. ConfigError for an unknown key, a missing one, or a wrong value.

    Field types may be bool, int, float, str, None, Literal, fixed tuples, ``tuple[X, ...]``, unions of these,
    and nested dataclasses; an int is taken where a float is asked for, which must be finite. A number may have a
    range, ``Annotated[int, Between(1)]``.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    hints = _hints(typing.cast(Any, cls))
    values = {}
    for key, value in layer.values.items():
        path = (*prefix, str(key))
        if key not in fields:
            raise _error(
                layer,
                path,
                f"unknown key {_shown('.'.join(path))}",
                hint=_known(str(key), tuple(fields), prefix),
            )
        values[key] = _value(hints[key], value, layer, path)
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        first = [f"{origin}: " for origin in layer.origins.values()][:1]
        raise ConfigError(f"{''.join(first)}missing key {'.'.join((*prefix, missing[0]))!r}")
    return cls(**values)


def build_named(
    table: Mapping[str, Any],
    layers: Sequence[Layer],
    key: str,
    default: str,
    *,
    prefix: KeyPath = (),
    use: Callable[[str], str],
) -> Any:
    """The frozen dataclass out of ``table`` that the layers name under ``key``, with its settings.

    Each layer's value is a name or a mapping with a ``name``; the last name wins, and a class keeps of what was
    said before it was named what it knows too. ``prefix``: the path of the layers' values; ``use`` tells how
    another row is chosen. ConfigError says where the name or setting stands that cannot be used.
    """
    name, values = default, dict[str, Any]()
    origins = merge(*layers).origins
    for layer in layers:
        given = layer.values.get(key) or {}
        given = {"name": given} if isinstance(given, str) else given
        origin = layer.origins.get((*prefix, key))
        if not isinstance(given, Mapping):
            raise ConfigError(f"{_at(origin)}{key} must be a name or a mapping with a name, not {given!r}")
        asked = given.get("name", name)
        if asked not in list(table):
            raise unknown_name(key, asked, table, layer.origins.get((*prefix, key, "name"), origin))
        if asked != name:
            name, values = asked, {k: v for k, v in values.items() if k in _fields(table[asked])}
        values.update({k: v for k, v in given.items() if k != "name"})
    for setting in sorted(values.keys() - _fields(table[name])):
        owners = [other for other, cls in table.items() if setting in _fields(cls)]
        if owners:
            raise ForeignSettingError(
                ".".join((*prefix, key, setting)),
                f"{_at(origins.get((*prefix, key, setting)))}the {key} {name} has no {setting!r}; "
                f"it belongs to {' and '.join(owners)}",
                hint=use(owners[0]),
            )
    return build(table[name], Layer(values, origins), (*prefix, key))


def unknown_name(
    what: str, name: Any, known: Iterable[str], origin: str | None = None, hint: str | None = None
) -> ConfigError:
    """The error for a name that is in no table, with the closest one that is, or ``hint`` when none is close."""
    names = list(known)
    return ConfigError(
        f"{_at(origin)}unknown {what} {name!r}; known: {', '.join(names)}",
        hint=did_you_mean(str(name), names) or hint,
    )


def _fields(cls: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(cls)}


def _at(origin: str | None) -> str:
    return f"{origin}: " if origin else ""


def _known(key: str, fields: tuple[str, ...], prefix: KeyPath) -> str:
    where = f" under {'.'.join(prefix)!r}" if prefix else ""
    return did_you_mean(key, fields) or f"known keys{where}: {', '.join(fields)}"


def _error(layer: Layer, path: KeyPath, message: str, hint: str | None = None) -> ConfigError:
    paths = (path[:n] for n in range(len(path), -1, -1))
    origin = next((layer.origins[p] for p in paths if p in layer.origins), None)
    return ConfigError(f"{origin}: {message}" if origin else message, hint=hint)


def _value(kind: Any, value: Any, layer: Layer, path: KeyPath) -> Any:
    found = _fit(kind, value, layer, path)
    if found is _NO_FIT:
        message = f"{'.'.join(path)} must be {_describe(kind)}, not {_shown(value)}"
        raise _error(layer, path, message, hint=_choice_hint(kind, value))
    return found


def _shown(value: Any) -> str:
    """A value in a message: not all of it where it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


_NO_FIT = object()


def _fit(kind: Any, value: Any, layer: Layer, path: KeyPath) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        return _in_range(_fit(get_args(kind)[0], value, layer, path), kind.__metadata__, layer, path)
    if origin in (Union, types.UnionType):
        fits = (_fit(option, value, layer, path) for option in get_args(kind))
        return next((fit for fit in fits if fit is not _NO_FIT), _NO_FIT)
    if origin is Literal:
        return value if value in get_args(kind) else _NO_FIT
    if origin is tuple:
        return _fit_tuple(get_args(kind), value, layer, path)
    if origin is not None and issubclass(origin, Mapping):
        return dict(value) if isinstance(value, Mapping) else _NO_FIT
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, kind):
            return value
        return build(kind, Layer(value, layer.origins), path) if isinstance(value, Mapping) else _NO_FIT
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= sys.float_info.max:
            raise _error(layer, path, f"{'.'.join(path)} must be a finite number, not {value}")
        return float(value)
    return value if type(value) is kind else _NO_FIT


def _in_range(value: Any, extras: Iterable[Any], layer: Layer, path: KeyPath) -> Any:
    """The value; ConfigError where a range that its type has is left."""
    for extra in () if value is _NO_FIT else extras:
        wrong = extra.mistake(value) if isinstance(extra, Between | SizeText) else None
        if wrong:
            raise _error(layer, path, f"{'.'.join(path)} {wrong}")
    return value


def _fit_tuple(kinds: tuple[Any, ...], value: Any, layer: Layer, path: KeyPath) -> Any:
    if not isinstance(value, list | tuple):
        return _NO_FIT
    each = [kinds[0]] * len(value) if len(kinds) == 2 and kinds[1] is Ellipsis else list(kinds)
    if len(each) != len(value):
        return _NO_FIT
    items = tuple(
        _fit(kind, item, layer, (*path, str(n)))
        for n, (kind, item) in enumerate(zip(each, value, strict=True), 1)
    )
    return _NO_FIT if any(item is _NO_FIT for item in items) else items


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}


def _describe(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Annotated:
        return _describe(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_describe(option) for option in get_args(kind)))
    if origin is Literal:
        return " or ".join(str(choice) for choice in get_args(kind))
    if origin is tuple:
        items = get_args(kind)
        count = "" if items[-1] is Ellipsis else f"{len(items)} times "
        return f"a list of {count}{_describe(items[0])}"
    return _NAMES.get(kind, "a mapping")


def _choice_hint(kind: Any, value: Any) -> str | None:
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    choices = [str(c) for option in options if get_origin(option) is Literal for c in get_args(option)]
    return did_you_mean(str(value), choices)
