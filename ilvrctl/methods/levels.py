"""Where on the chain: a level as a whole number, or a fraction of T as a number with a decimal point."""

from __future__ import annotations

from ilvrctl.errors import UsageError

Level = int | float


def level_of(value: Level, T: int) -> Level:
    """The level that ``value`` means where there are T of them."""
    return value * T if isinstance(value, float) else value


RIGHT = {
    "start": "--start 0.8 is a fraction of T, --start 500 a level, --start 1.0 all of T",
    "range": "--range 1.0:0.2 in fractions of T, --range 1000:200 in levels",
}
"""What right values look like, by the name of the setting."""


def mistake(value: Level) -> str | None:
    """What is wrong with a value whatever the model; None for one that some model has.

    The whole number 1 is refused: as a level it is next to the clean end, and who writes it mostly means 1.0.
    """
    if isinstance(value, float):
        return None if 0 <= value <= 1 else f"a fraction of T goes from 0.0 to 1.0, not {value}"
    if value == 1:
        return "1 may be the level 1 or all of T, which is 1.0"
    return f"levels are counted from 0, not {value}" if value < 0 else None


def check_level(name: str, value: Level, T: int) -> None:
    """UsageError for a whole number that is no level where there are T of them."""
    if not isinstance(value, float) and value > T:
        raise UsageError(
            f"{name} {value} is no level of this model, which has {T}",
            hint=f"{T} or 1.0 is all of them; {RIGHT[name]}",
        )


def check_order(name: str, bounds: tuple[Level, Level], T: int | None = None) -> None:
    """UsageError for a range HIGH:LOW that is the wrong way round or empty; without T where that shows."""
    high, low = bounds
    if T is None and type(high) is not type(low):
        return
    if level_of(high, T or 1) <= level_of(low, T or 1):
        right = f"{low}:{high}" if high != low else "1.0:0.2"
        raise UsageError(
            f"{name} {high}:{low} is empty: its high end comes first, then a lower one",
            hint=f"--range {right}",
        )
