"""What a setting holds beyond its type: a range, the name of code or a file; and settings as plain values."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Between:
    """The range of a number, its ends included; None is no end. For a field: ``Annotated[int, Between(1)]``."""

    low: float | None = None
    high: float | None = None

    def mistake(self, value: float) -> str | None:
        """What is wrong with a value, in words that follow its name; None when nothing is."""
        if (self.low is None or value >= self.low) and (self.high is None or value <= self.high):
            return None
        if self.low is None or self.high is None:
            return f"must be at {'most' if self.low is None else 'least'} {self._end}, not {value}"
        return f"goes from {self.low} to {self.high}, not {value}"

    @property
    def _end(self) -> float | None:
        return self.high if self.low is None else self.low


CODE, FILE = "code", "file"

Code = Annotated[str, CODE]
"""Text that names code to be run, ``module:function``."""
File = Annotated[str, FILE]
"""Text that names a file to be opened, or something of a registry."""

LATER: Mapping[str, bool] = {"later": True}
"""``field(default=..., metadata=LATER)``: a setting that came after results were made without it. It is left out of
records while it has its default, so that those results are known again."""


def recorded(settings: Any, *, by_name: bool = True) -> Any:
    """Settings as plain values. A dataclass that is chosen by its ``name`` has it as a key, but not in a mapping of
    names, where ``by_name`` is off.
    """
    if isinstance(settings, Mapping):
        return {key: recorded(value, by_name=False) for key, value in settings.items()}
    if not dataclasses.is_dataclass(settings):
        return settings
    values = {"name": getattr(settings, "name", None)} if by_name and hasattr(settings, "name") else {}
    cls: Any = type(settings)
    for name, later, default in _fields(cls):
        value = getattr(settings, name)
        if not (later and value == default):
            values[name] = recorded(value)
    return values


@functools.cache
def _fields(cls: Any) -> tuple[tuple[str, bool, Any], ...]:
    """Name, whether it came later, and default of each field; asked for many thousand times in a large plan."""
    return tuple((f.name, bool(f.metadata.get("later")), f.default) for f in dataclasses.fields(cls))
