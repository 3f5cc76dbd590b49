"""Flags that take one value or a comma list, of which a grid is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ilvrctl.cli.request import preset_layer
from ilvrctl.config import Layer, merge, nested, parse_assignment
from ilvrctl.errors import UsageError
from ilvrctl.plans.grid import Choice, Option

Reader = Callable[[str, str], Any]
"""Reads one value: of the flag (for messages) and its text."""

_ONE_VALUE = ("timestep_respacing", "precision", "speed")
"""Settings that make no grid: a published respacing has commas of its own, a network is loaded in one precision."""


def split(text: str) -> list[str]:
    """``text`` at its commas, but for those within brackets or quotes: ``rgb(1,2,3),white`` are two."""
    parts, depth, quote = [""], 0, ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        else:
            depth += (c in "([{") - (c in ")]}")
        if c == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts] if len(parts) > 1 else [text]


def several(flag: str, text: str) -> list[str]:
    """The values in a comma list. UsageError for a place that is empty or a value given twice."""
    parts = split(text)
    for place, part in enumerate(parts):
        if len(parts) > 1 and not part:
            raise UsageError(f"{flag} {text!r} has an empty place in its list")
        if part in parts[:place]:
            raise UsageError(f"{flag} {text!r} names {part} twice")
    return parts


def flag_choices(flags: Mapping[str, tuple[str, Any, Reader | None]]) -> list[Choice]:
    """The choices that flags give, ``{flag: (key, value, reader)}``; a value of None was not given.

    With a reader the value is text that may be a comma list; without, it is one value as it stands.
    """
    found = []
    for flag, (key, given, read) in flags.items():
        if given is not None:
            parts = [given] if read is None else several(flag, given)
            values = [(str(part), part if read is None else read(flag, part)) for part in parts]
            found.append(Choice(key, tuple(Option(t, v, nested(flag, key, v)) for t, v in values)))
    return found


def set_choices(assignments: Sequence[str]) -> tuple[list[Choice], Layer]:
    """The choices of ``--set key=value``, the last of each key, and the facts of networks among them (``model.*``,
    ``source.*``).

    The value is YAML, so that ``[1.0, 0.2]`` is one value; a comma outside of brackets makes a list.
    """
    found: dict[str, Choice] = {}
    facts: list[Layer] = []
    for text in assignments:
        name, equals, value = text.partition("=")
        key = name.strip()
        if not equals or key.split(".")[0] in ("model", "source"):
            facts.append(parse_assignment(text))
            continue
        parts = [value] if key in _ONE_VALUE else several(f"--set {key}", value)
        layers = [parse_assignment(f"{name}={part}") for part in parts]
        found.pop(key, None)
        found[key] = Choice(
            key,
            tuple(Option(p.strip(), _at(key, at), at) for p, at in zip(parts, layers, strict=True)),
            "set",
        )
    return list(found.values()), merge(*facts)


def preset_choices(text: str | None) -> list[Choice]:
    """The choice of ``--preset``: names or files."""
    if text is None:
        return []
    names = several("--preset", text)
    options = (Option(Path(name).stem, Path(name).stem, preset_layer(name)) for name in names)
    return [Choice("preset", tuple(options), "preset")]


def _at(key: str, layer: Layer) -> Any:
    value: Any = layer.values
    for part in key.split("."):
        value = value[part]
    return value


def word(flag: str, text: str) -> str:
    """A value that is text."""
    return text


def whole(low: int | None = None) -> Reader:
    """Reads whole numbers, from ``low`` up."""
    return lambda flag, text: _number(int, flag, text, low, None)


def decimal(low: float, high: float) -> Reader:
    """Reads numbers from ``low`` to ``high``."""
    return lambda flag, text: _number(float, flag, text, low, high)


def bounds(flag: str, text: str) -> list[int | float]:
    """``HIGH:LOW`` as two bounds: levels as whole numbers, fractions with their point."""
    try:
        high, low = text.split(":")
        return [_level(high), _level(low)]
    except ValueError:
        raise UsageError(
            f"{flag} {text!r} is not of the form HIGH:LOW",
            hint="for example --range 1000:200 or --range 1.0:0.2",
        ) from None


def jumps(flag: str, text: str) -> list[int]:
    """``JUMPxTIMES`` as two whole numbers."""
    try:
        jump, times = text.lower().split("x")
        return [int(jump), int(times)]
    except ValueError:
        raise UsageError(
            f"{flag} {text!r} is not of the form JUMPxTIMES", hint="for example --resample 10x3"
        ) from None


def level(flag: str, text: str) -> int | float:
    """A level as a whole number, or a fraction of T with its point."""
    try:
        return _level(text)
    except ValueError:
        raise UsageError(
            f"{flag} {text!r} is no level", hint="for example --start 0.8 or --start 500"
        ) from None


def _level(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def _number(kind: type, flag: str, text: str, low: float | None, high: float | None) -> Any:
    try:
        number = kind(text)
    except ValueError:
        raise UsageError(
            f"{flag} takes {'a whole number' if kind is int else 'a number'}, not {text!r}"
        ) from None
    if (low is not None and not number >= low) or (high is not None and not number <= high):
        span = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"{flag} must be {span}, not {text}")
    return number
