"""What a stranger's record may not do: name code to run, or a file to open. Decided here, for every setting.

The finished settings are looked through for what names code or a file, which the types of their fields tell
(:mod:`ilvrctl.fields`). Such a text must stand in a layer that the person wrote or chose, as a value or as a key,
wherever; or be a default; or, of files, be a name of the registry.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ilvrctl.config import KeyPath, Layer
from ilvrctl.errors import ConfigError, UsageError
from ilvrctl.fields import CODE, FILE
from ilvrctl.methods.networks import is_file
from ilvrctl.presets import resolve_model

_PLAIN = re.compile(r"[\w./-]+(:[\w.]+)?")


def check_trust(settings: Any, layers: Sequence[Layer]) -> None:
    """ConfigError when settings run code or open a file that only a layer without trust names.

    An energy of weight 0 is not used, so it may stay.
    """
    strangers = [layer for layer in layers if not layer.trusted]
    if not strangers:
        return
    written = {text for layer in layers if layer.trusted for text in _texts(layer.values)}
    origin = next((at for layer in strangers for at in layer.origins.values()), "the record")
    for path, kind, value in named(settings):
        if value not in written and not (kind == FILE and _registered(value)):
            raise _refused(origin, path, kind, value)


def named(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str, str]]:
    """What settings name: path of the field, ``code`` or ``file``, and the text, where it is no default."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from named(inner, (*path, str(key)))
    if not dataclasses.is_dataclass(value) or isinstance(value, type) or getattr(value, "weight", 1) == 0:
        return
    hints = typing.get_type_hints(type(value), include_extras=True)
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        for kind in {CODE, FILE} & set(getattr(hints[field.name], "__metadata__", ())):
            if inner != field.default:
                yield (*path, field.name), kind, inner
        yield from named(inner, (*path, field.name))


def _registered(name: str) -> bool:
    """Whether it is the name of a model, and not a file."""
    try:
        return not is_file(name) and bool(resolve_model(name))
    except UsageError:
        return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def _refused(origin: str, path: KeyPath, kind: str, value: str) -> ConfigError:
    key = ".".join(path[1:] if path[0] == "method" else path)
    what = "calls the function" if kind == CODE else "opens the file"
    plain = _PLAIN.fullmatch(value) and all(_PLAIN.fullmatch(part) and "." not in part for part in path)
    allow = (
        f"--set {key}={value}" if plain else f"--set {key}=" + ("module:function" if kind == CODE else "FILE")
    )
    return ConfigError(
        f"{origin}: {key} {what} {value!r}, which no picture may ask for",
        hint=f"if you want it: {allow}; without it: --set {'.'.join(path[1:-1])}=0",
    )
