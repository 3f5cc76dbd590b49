"""What a parameter is: a row of the table in :mod:`ilvrctl.plans.parameters`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ilvrctl.plans.values import Kind, switch, word

Command = Literal["translate", "edit", "draw", "jobs", "batch", "train", "doctor", "inspect"]
"""Who knows a parameter: the commands, and the ``jobs`` of a jobs file."""

SAVING = frozenset[Command]({"translate", "edit", "jobs"})
"""Who makes pictures and writes all of them."""
MAKING = frozenset[Command]({*SAVING, "draw"})
"""Who makes pictures."""
RUNS = frozenset[Command]({"translate", "edit", "batch"})
"""The commands that carry out plans."""
COMMON = "Common options"
"""The panel of most."""
METHOD = "Method"
SAMPLING = "Sampling"
PICTURES = "Pictures"
MACHINE = "Machine"
OUTPUT = "Output"
EDITED = "What is edited"
BROWSER = "In the browser"


@dataclass(frozen=True)
class Parameter:
    """A row: its ``name`` in jobs files and in Python, its ``kind`` of values, the dotted ``key`` of the setting that
    it gives, if any, and which commands know it.

    ``flags`` are its names on the command line (``--name`` where none are given), shown with ``help`` in a ``panel``,
    a value as ``metavar`` or as its kind says. ``default`` is what it is when it is not given, told as ``shown``.
    ``environment``: a variable that gives it. ``one``: a flag takes one value, no comma list.
    ``rival``: the parameter that says the same, and what both say. ``sets``: what a switch sets the setting to.
    ``in_shells``: it is for the command line alone, where a word stands for what Python has functions for.
    ``choices``: the names that its values can have, where the kind does not tell them, for shells that complete.
    """

    name: str
    help: str
    kind: Kind = word
    key: str = ""
    commands: frozenset[Command] = MAKING
    panel: str = COMMON
    flags: tuple[str, ...] = ()
    metavar: str = ""
    default: Any = None
    shown: str = ""
    environment: str = ""
    one: bool = False
    rival: tuple[str, str] | None = None
    sets: Any = None
    in_shells: bool = False
    choices: Callable[[], Sequence[str]] | tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """What messages call it on the command line."""
        return self.spellings[0].partition("/")[0]

    @property
    def spellings(self) -> tuple[str, ...]:
        """All its names on the command line."""
        return self.flags or ("--" + self.name.replace("_", "-"),)

    @property
    def shown_value(self) -> str:
        """What stands for a value in the help."""
        return self.metavar or self.kind.metavar + (",..." if self.listed else "")

    @property
    def offered(self) -> Sequence[str]:
        """The words that a shell can complete to."""
        return self.kind.choices or (self.choices() if callable(self.choices) else self.choices)

    @property
    def listed(self) -> bool:
        """Whether a flag may give several values."""
        return bool(self.key) and not self.one and self.kind is not switch
