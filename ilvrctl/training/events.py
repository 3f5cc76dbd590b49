"""What training tells while it runs. The command line shows these; nothing here prints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ilvrctl.events import Warned
from ilvrctl.files import unwritable
from ilvrctl.training.pictures import Decoded

E = TypeVar("E")


@dataclass(frozen=True)
class Began:
    """The network is ready: ``images`` of ``total`` seen before (total 0: as many as the time allows)."""

    name: str
    parameters: int
    pictures: int
    held_out: int
    images: int
    total: int
    device: str
    precision: str


@dataclass(frozen=True)
class Advanced:
    """``images`` seen, at ``rate`` images/s; ``loss``: mean of the weighted loss since the last; ``left`` seconds.

    ``share``: how much of the whole is done, from 0 to 1.
    """

    step: int
    images: int
    loss: float
    rate: float
    left: float
    share: float
    learning_rate: float


@dataclass(frozen=True)
class Validated:
    """Of the averaged weights on held-out pictures: mean squared error of eps, by level and over all."""

    images: int
    loss: float
    levels: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Graded:
    """Of a domain classifier on held-out pictures: share told right, by level and over all."""

    images: int
    accuracy: float
    levels: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Saved:
    """The state after ``images`` is on disk: from here the same command goes on."""

    images: int
    path: Path


@dataclass(frozen=True)
class Drawn:
    """A sheet of samples was written."""

    images: int
    path: Path


@dataclass(frozen=True)
class Published:
    """The model can be used: weights and presets are in their places."""

    name: str
    files: tuple[Path, ...]


TrainingEvent = Decoded | Began | Advanced | Validated | Graded | Saved | Drawn | Published | Warned


def record_of(event: TrainingEvent) -> dict[str, Any] | None:
    """An event as a JSON value for logs and programs; None for those that only move a bar."""
    match event:
        case Decoded():
            return None
        case Validated(images=images, loss=loss, levels=levels):
            return {"event": "validated", "images": images, "loss": loss, "levels": [*map(list, levels)]}
        case Graded(images=images, accuracy=accuracy, levels=levels):
            return {"event": "graded", "images": images, "accuracy": accuracy, "levels": [*map(list, levels)]}
        case Saved(images=images, path=path):
            return {"event": "saved", "images": images, "output": str(path)}
        case Drawn(images=images, path=path):
            return {"event": "sheet", "images": images, "output": str(path)}
        case Published(name=name, files=files):
            return {"event": "done", "name": name, "outputs": [str(path) for path in files]}
        case Warned(message=message):
            return {"event": "warning", "message": message}
        case Advanced():
            return {"event": "progress", **{k: _rounded(v) for k, v in asdict(event).items()}}
        case Began():
            return {"event": "began", **asdict(event)}


def _rounded(value: float) -> float | None:
    """With six digits; None for infinity, which JSON has not."""
    return None if not math.isfinite(value) else float(f"{value:.6g}") if isinstance(value, float) else value


def logged(events: Iterator[E], path: Path) -> Iterator[E]:
    """The same events, each appended to the JSON-lines file ``path`` too, with the time of day."""
    for event in events:
        value = record_of(event)  # type: ignore[arg-type]
        if value is not None:
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write(
                        json.dumps({"time": round(time.time(), 1), **value}, ensure_ascii=False) + "\n"
                    )
            except OSError as error:
                raise unwritable(path, error) from error
        yield event
