"""Grids: flags with several values each, multiplied out into the settings that they mean."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ilvrctl.config import Layer
from ilvrctl.errors import ForeignSettingError, IlvrctlError, UsageError

if TYPE_CHECKING:
    from ilvrctl.settings import Settings

E = TypeVar("E", bound=IlvrctlError)
Tier = Literal["preset", "set", "flag"]
_BY_NAME_ALONE = ("preset", "method", "sampler")
"""Settings whose values say by themselves what they are."""
_LONGEST = 120
MOST_SETTINGS = 10_000
"""Combinations of one grid: more are never looked at, and each has a folder."""


@dataclass(frozen=True)
class Option:
    """One value of a flag: as it was written, as it is, and the layer of settings that it means."""

    text: str
    value: Any
    layer: Layer


@dataclass(frozen=True)
class Choice:
    """A flag that was given: the dotted ``key`` that it sets, and its values, of which one is taken at a time."""

    key: str
    options: tuple[Option, ...]
    tier: Tier = "flag"


Picked = tuple[tuple[Choice, Option], ...]


@dataclass(frozen=True)
class Variant:
    """One way of translating. ``changes``: the settings that tell it from the others of a grid, as JSON values.

    ``folder`` below the output folder and ``label`` on the sheet are made of these; both are empty outside a
    grid.
    """

    settings: Settings
    changes: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    label: str = ""


def expand(choices: Sequence[Choice], build: Callable[[Picked], Settings]) -> list[Variant]:
    """Every combination of the choices' options, the first choice varying slowest; equal settings come once.

    A flag takes the place of an assignment of the same key. In a grid a choice is left out where the method or
    sampler of a combination has no such setting, unless none has. UsageError naming the combination that cannot be
    built,
    and for more than :data:`MOST_SETTINGS`.
    """
    flags = {choice.key for choice in choices if choice.tier == "flag"}
    choices = [choice for choice in choices if choice.tier == "flag" or choice.key not in flags]
    several = [choice for choice in choices if len(choice.options) > 1]
    if not several:
        return [Variant(build(tuple((choice, choice.options[0]) for choice in choices)))]
    check_size([(choice.key, len(choice.options)) for choice in several])
    short = _short_keys([choice.key for choice in several])
    found: dict[str, Variant] = {}
    unused = dict.fromkeys(choice.key for choice in choices)
    refusal: dict[str, ForeignSettingError] = {}
    for options in itertools.product(*(choice.options for choice in choices)):
        picked = tuple(zip(choices, options, strict=True))
        try:
            settings, kept = _applicable(picked, build, refusal)
        except UsageError as error:
            raise naming(_label(_telling(picked, short)), error) from None
        for choice, _ in kept:
            unused.pop(choice.key, None)
        found.setdefault(settings.identity({}), _variant(settings, _telling(kept, short)))
    for key in unused:
        raise refusal[key]
    return _with_own_folders(list(found.values()))


def check_size(sizes: Sequence[tuple[str, int]]) -> None:
    """UsageError for more than :data:`MOST_SETTINGS` combinations of so many values of each key."""
    if (count := math.prod(n for _, n in sizes)) > MOST_SETTINGS:
        told = " x ".join(f"{n:,} of {key}" for key, n in sizes)
        raise UsageError(
            f"a grid of {told} is {count:,} settings, and one run plans {MOST_SETTINGS:,} at most",
            hint="fewer values, or several runs",
        )


def naming(label: str, error: E) -> E:
    """The error, its message begun with the combination that it is about, if any."""
    if label:
        error.message = f"{label}: {error.message}"
        error.args = (error.message,)
    return error


def _applicable(
    picked: Picked, build: Callable[[Picked], Settings], refusal: dict[str, ForeignSettingError]
) -> tuple[Settings, Picked]:
    """The settings of a combination without the choices that its method or sampler does not know."""
    while True:
        try:
            return build(picked), picked
        except ForeignSettingError as error:
            kept = tuple(pair for pair in picked if pair[0].key != error.key)
            if len(kept) == len(picked):
                raise
            refusal.setdefault(error.key, error)
            picked = kept


def _telling(picked: Picked, short: Mapping[str, str]) -> list[tuple[str, Option]]:
    """What tells a combination from the others, under short names."""
    return [(short[choice.key], option) for choice, option in picked if choice.key in short]


def _variant(settings: Settings, telling: Sequence[tuple[str, Option]]) -> Variant:
    changes = {key: option.value for key, option in telling}
    folder = file_safe("_".join(_part(key, option.text) for key, option in telling))
    return Variant(settings, changes, folder, _label(telling))


def _label(telling: Sequence[tuple[str, Option]]) -> str:
    return ", ".join(_part(key, option.text) for key, option in telling)


def _part(key: str, text: str) -> str:
    return text if key in _BY_NAME_ALONE else f"{key}={text}"


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """For each dotted key the shortest end that no other has; ``method.name`` is ``method``."""
    parts = {key: key.removesuffix(".name").split(".") for key in keys}
    short = {}
    for key, words in parts.items():
        ends = (".".join(words[-n:]) for n in range(1, len(words) + 1))
        others = [".".join(other) for k, other in parts.items() if k != key]
        short[key] = next((end for end in ends if not any(f".{o}".endswith(f".{end}") for o in others)), key)
    return short


def file_safe(text: str) -> str:
    """A name of a folder on every file system: no separators, no dot at either end, not too long."""
    safe = re.sub(r"[^\w.=+-]+", "-", text, flags=re.ASCII).strip(".-") or "settings"
    if len(safe) <= _LONGEST:
        return safe
    return f"{safe[: _LONGEST - 9]}-{sha256(text.encode()).hexdigest()[:8]}"


def _with_own_folders(variants: list[Variant]) -> list[Variant]:
    """Folders that fall together, in letters of either case, get a number."""
    seen: dict[str, int] = {}
    result = []
    for variant in variants:
        count = seen[variant.folder.casefold()] = seen.get(variant.folder.casefold(), 0) + 1
        folder = variant.folder if count == 1 else f"{variant.folder}~{count}"
        result.append(Variant(variant.settings, variant.changes, folder, variant.label))
    return result
