"""The names of the 1000 classes of ImageNet, in the order of every network that was trained on them."""

from __future__ import annotations

from functools import cache

from ilvrctl.errors import UsageError, did_you_mean
from ilvrctl.paths import DATA

WORDS = ("random", "none")
"""In the place of a class: one that is drawn for every picture, and the one that means none."""


def class_number(name: str) -> int:
    """The class that is called so, in small or capital letters: WordNet's names of the ILSVRC 2012 classes.

    UsageError for a name that none has, or two have (crane: the bird and the machine).
    """
    known = _numbers()
    found = known.get(name.strip().casefold(), ())
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"no class of ImageNet is called {name!r}",
            hint=did_you_mean(name.strip().casefold(), known) or "--class-label takes a number, too",
        )
    raise UsageError(
        f"{len(found)} classes of ImageNet are called {name!r}",
        hint=" or ".join(f"--class-label {n} ({_rows()[n]})" for n in found),
    )


@cache
def _rows() -> list[str]:
    return (DATA / "imagenet.txt").read_text("utf-8").splitlines()


@cache
def _numbers() -> dict[str, tuple[int, ...]]:
    numbers: dict[str, tuple[int, ...]] = {}
    for number, row in enumerate(_rows()):
        for name in row.casefold().split(", "):
            numbers[name] = (*numbers.get(name, ()), number)
    return numbers
