"""A result that somebody asked for on the page: what it is made of, and how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ilvrctl.errors import IlvrctlError
from ilvrctl.plans.command_line import command_line

State = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Files:
    """Of a result: what is given to ``ilvrctl edit``, and what comes out; ``painted``: the photo is made here too."""

    photo: Path
    result: Path
    scribble: Path | None = None
    mask: Path | None = None
    painted: bool = False

    @property
    def pictures(self) -> list[str]:
        """The pictures that the command names."""
        return [str(path) for path in (self.photo, self.scribble) if path is not None]

    @property
    def made(self) -> list[Path]:
        """Those that are not the user's own."""
        found = (self.photo if self.painted else None, self.scribble, self.mask, self.result)
        return [path for path in found if path is not None]


@dataclass
class Run:
    """``files`` as they are in the session's folder and ``kept_as`` as they will be; ``values``: the parameters;
    ``shown``: what the page's controls stood at.

    ``boxes``: the parts that are made one after the other, of which ``part``, from 1, is in work, at ``step`` of
    ``steps``; ``previews``: the last one of each, as an address that holds its data.
    """

    number: int
    files: Files
    kept_as: Files
    values: Mapping[str, Any]
    shown: Mapping[str, Any]
    state: State = "waiting"
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    part: int = 0
    step: int = 0
    steps: int = 0
    previews: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    error: IlvrctlError | None = None
    notes: list[str] = field(default_factory=list)
    kept: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def command(self) -> str:
        """What makes this result without the page, once it is kept."""
        mask = {} if self.kept_as.mask is None else {"mask": str(self.kept_as.mask)}
        values = {**self.values, **mask, "out": str(self.kept_as.result)}
        return command_line("edit", self.kept_as.pictures, values)

    def view(self) -> dict[str, Any]:
        """What the page is told; ``at`` tells which of two is the later one: answers and events overtake each other."""
        return {
            "at": time.monotonic_ns() // 1000,
            "id": self.number,
            "state": self.state,
            "controls": dict(self.shown),
            "boxes": self.boxes,
            "done": max(0, self.part - 1) * self.steps + self.step,
            "of": max(1, len(self.boxes)) * self.steps,
            "seconds": round(self.seconds, 1),
            "error": self.error and {"message": self._said(self.error.message), "hint": self.error.hint},
            "notes": [self._said(note) for note in self.notes],
            "kept": self.kept,
            "command": self.command,
        }

    def _said(self, text: str) -> str:
        """A message about the files of the session, about those that are kept."""
        return text.replace(str(self.files.result.parent), str(self.kept_as.result.parent))
