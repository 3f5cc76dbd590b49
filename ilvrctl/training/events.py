"""What training tells while it runs. The command line shows these; nothing here prints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ilvrctl.events import Warned
from ilvrctl.training.pictures import Decoded


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
