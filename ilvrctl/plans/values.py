"""What the value of a parameter is: how its text is read, what an editor may check, and lists of several values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ilvrctl.config import Layer, merge, nested, parse_assignment
from ilvrctl.errors import UsageError
from ilvrctl.plans.grid import Choice, Option
from ilvrctl.sizes import Size


@dataclass(frozen=True)
class Kind:
    """A kind of values. ``read`` makes one of a flag (for messages) and its text; ``type`` is what it makes.

    ``low`` and ``high`` bound numbers, ``choices`` are the only words, ``schema`` is what JSON Schema can check,
    ``metavar`` stands for a value in the help, and ``also`` is what a value may be in a jobs file beside.
    """

    read: Callable[[str, str], Any]
    type: Any = str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str = "NAME"
    also: type | None = None

    def __call__(self, flag: str, text: str) -> Any:
        return self.read(flag, text)


def _as_it_stands(flag: str, text: str) -> str:
    return text


word = Kind(_as_it_stands)
"""Text."""
switch = Kind(_as_it_stands, bool, {"type": "boolean"}, metavar="")
"""Yes or no: a flag without a value."""
file = Kind(_as_it_stands, Path, metavar="FILE")
"""A path."""
sheet = Kind(_as_it_stands, Path, {"type": ["boolean", "string"]}, metavar="FILE", also=bool)
"""A path, or whether there is one at all."""
size = Kind(_as_it_stands, str, {"type": ["integer", "string"]}, also=int)
"""A number, or a word in its place."""
words = Kind(_as_it_stands, list[str], {"type": "object"}, metavar="KEY=VALUE")
"""Text, given as often as wanted."""
count = Kind(_as_it_stands, int, {"type": "integer"}, metavar="")
"""How often a flag without a value is given."""


def one_of(*choices: str) -> Kind:
    """One of a few words, which the settings check."""
    return Kind(_as_it_stands, str, {"enum": list(choices)}, choices=choices)


def whole(low: int | None = None, high: int | None = None) -> Kind:
    """Whole numbers, from ``low`` up."""
    schema = {"type": "integer", **_bounds(low, high)}
    return Kind(lambda flag, text: _number(int, flag, text, low, high), int, schema, low, high, metavar="N")


def decimal(low: float, high: float) -> Kind:
    """Numbers from ``low`` to ``high``."""
    schema = {"type": "number", **_bounds(low, high)}
    return Kind(
        lambda flag, text: _number(float, flag, text, low, high), float, schema, low, high, metavar="X"
    )


def _bounds(low: float | None, high: float | None) -> dict[str, float]:
    return {key: value for key, value in (("minimum", low), ("maximum", high)) if value is not None}


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


def _read_bounds(flag: str, text: str) -> list[int | float]:
    try:
        high, low = text.split(":")
        return [_level(high), _level(low)]
    except ValueError:
        raise UsageError(
            f"{flag} {text!r} is not of the form HIGH:LOW",
            hint="for example --range 1000:200 or --range 1.0:0.2",
        ) from None


def _read_jumps(flag: str, text: str) -> list[int]:
    try:
        jump, times = text.lower().split("x")
        return [int(jump), int(times)]
    except ValueError:
        raise UsageError(
            f"{flag} {text!r} is not of the form JUMPxTIMES", hint="for example --resample 10x3"
        ) from None


def _read_level(flag: str, text: str) -> int | float:
    try:
        return _level(text)
    except ValueError:
        raise UsageError(
            f"{flag} {text!r} is no level", hint="for example --start 0.8 or --start 500"
        ) from None


def _level(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def _read_class(flag: str, text: str) -> int | str:
    return _number(int, flag, text, 0, None) if text.strip().lstrip("+-").isdigit() else text


def _read_size(flag: str, text: str) -> int | str:
    try:
        return Size.of(text).plain
    except UsageError as error:
        raise UsageError(f"{flag}: {error.message}", hint=error.hint) from None


def _read_bits(flag: str, text: str) -> int:
    if text.strip() not in ("8", "16"):
        raise UsageError(f"{flag} is 8 or 16, not {text}")
    return int(text)


bounds = Kind(_read_bounds, list, {}, metavar="HIGH:LOW")
"""``HIGH:LOW``, two bounds: levels as whole numbers, fractions with their point."""
jumps = Kind(_read_jumps, list, {}, metavar="JUMPxTIMES")
"""``JUMPxTIMES``, two whole numbers."""
level = Kind(_read_level, float, {}, metavar="LEVEL")
"""A level as a whole number, or a fraction of T with its point."""
label = Kind(_read_class, int, {"type": ["integer", "string"], "minimum": 0}, metavar="N|NAME|random|none")
"""The number of a class, or its name; or none, or one that is drawn."""
picture_size = Kind(_read_size, str, {"type": ["integer", "string"], "minimum": 1}, metavar="WIDTHxHEIGHT")
"""The size of a picture, width first; one number is a square."""
bits = Kind(_read_bits, int, {"enum": [8, 16]}, metavar="8|16")
"""Bits of a number of a picture."""
PAIRS = (bounds, jumps)
"""Kinds of which one value is a list."""


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


def comma_list(flag: str, text: str) -> list[str]:
    """The values in a comma list. UsageError for a place that is empty or a value given twice."""
    parts = split(text)
    if len(parts) > 1 and "" in parts:
        raise UsageError(f"{flag} {text!r} has an empty place in its list")
    once(f"{flag} {text!r}", parts)
    return parts


def once(what: str, texts: Sequence[str]) -> None:
    """UsageError for ``what`` that gives a value twice."""
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            raise UsageError(f"{what} names {text} twice")
        seen.add(text)


def flag_choices(flags: Mapping[str, tuple[str, Any, Kind | None]]) -> list[Choice]:
    """The choices that flags give, ``{flag: (key, value, kind)}``; a value of None was not given.

    With a kind the value is text that may be a comma list; without, it is one value as it stands.
    """
    found = []
    for flag, (key, given, read) in flags.items():
        if given is not None:
            parts = [given] if read is None else comma_list(flag, given)
            values = [(str(part), part if read is None else read(flag, part)) for part in parts]
            found.append(Choice(key, tuple(Option(t, v, nested(flag, key, v)) for t, v in values)))
    return found


_ONE_VALUE = ("timestep_respacing", "precision", "speed")
"""Settings whose commas are their own, or that make no list as flags either."""


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
        parts = [value] if key in _ONE_VALUE else comma_list(f"--set {key}", value)
        layers = [parse_assignment(f"{name}={part}") for part in parts]
        found.pop(key, None)
        options = (Option(p.strip(), _at(key, at), at) for p, at in zip(parts, layers, strict=True))
        found[key] = Choice(key, tuple(options), "set")
    return list(found.values()), merge(*facts)


def _at(key: str, layer: Layer) -> Any:
    value: Any = layer.values
    for part in key.split("."):
        value = value[part]
    return value
