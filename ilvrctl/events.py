"""What the engine and the jobs tell while they work. Renderers consume these; nothing below the CLI prints."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.errors import IlvrctlError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class SampleId:
    """One result to make: the ``key`` of its reference, as it was given, and the number of the sample, from 1."""

    key: Hashable
    sample: int


@dataclass(frozen=True)
class BatchStarted:
    """A batch begins its ``steps`` transitions."""

    samples: tuple[SampleId, ...]
    steps: int


@dataclass(frozen=True)
class StepDone:
    """Transition ``i`` of ``n`` is done, from level t: the samples ``x`` and the clean estimates, (B, 3, H, W)."""

    samples: tuple[SampleId, ...]
    i: int
    n: int
    t: int
    x: Tensor = field(repr=False)
    x0: Tensor = field(repr=False)


@dataclass(frozen=True)
class SampleDone:
    """A finished sample: ``x`` (3, H, W) in about [-1, 1]. ``noise``: its picture as noise, where that was to be kept,
    an :class:`ilvrctl.methods.encoders.Inversion`.
    """

    sample: SampleId
    x: Tensor = field(repr=False)
    noise: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class SampleFailed:
    """A sample cannot be made; the others of its batch go on."""

    sample: SampleId
    error: IlvrctlError


@dataclass(frozen=True)
class BatchShrunk:
    """Memory ran out: the batch is begun again, ``now`` samples at a time instead of ``before``."""

    before: int
    now: int


@dataclass(frozen=True)
class ItemFailed:
    """An input, or one ``sample`` of it, failed; the others go on. ``name``: what people call the input.

    ``lost``: how many results will not be made. ``changes`` as in :class:`Written`, where it failed with those
    settings alone. ``job``: the name of its job.
    """

    name: str
    error: IlvrctlError
    sample: int | None = None
    lost: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)
    job: str = ""


@dataclass(frozen=True)
class Loaded:
    """The network is in memory."""

    model: str
    device: str
    precision: str
    seconds: float


@dataclass(frozen=True)
class Selected:
    """What of a photo is edited: the ``boxes`` (left, top, right, bottom) of its parts, as they are made in turn."""

    name: str
    boxes: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True)
class Written:
    """A result is on disk at ``path``, or stands encoded as PNG in ``data`` where it has no path.

    ``name``: what people call the input. ``seconds``: its share of the time of its batch. ``image`` and ``record``:
    what the file holds. ``changes``: the settings that tell it from the other results of a grid, as JSON values.
    ``job``: the name of its job.
    """

    name: str
    sample: int
    path: Path | None
    seconds: float
    data: bytes | None = field(default=None, repr=False)
    image: Image | None = field(default=None, repr=False, compare=False)
    record: str = field(default="", repr=False)
    changes: Mapping[str, Any] = field(default_factory=dict)
    job: str = ""


@dataclass(frozen=True)
class Skipped:
    """A result was there already, made from the same input with the same settings (``changes`` of them)."""

    name: str
    sample: int
    path: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    job: str = ""


@dataclass(frozen=True)
class Arrived:
    """Something has come into a folder that is watched: so many ``results`` more are wanted."""

    results: int


@dataclass(frozen=True)
class PassedBy:
    """Something in a folder is no input, or cannot be one here. ``reason`` reads well after a number:
    "not pictures", "HEIC (install ilvrctl[heic])".
    """

    reason: str
    name: str


@dataclass(frozen=True)
class Extra:
    """Something beside the results was written: a contact sheet or an animation."""

    kind: str
    path: Path


@dataclass(frozen=True)
class Warned:
    """Something a person should know that stops nothing."""

    message: str


@dataclass(frozen=True)
class Noted:
    """Something a person may like to know."""

    message: str


Note = Noted | Warned
"""What is found out while a run is planned."""


@dataclass(frozen=True)
class Stopped:
    """So many failures that the ``left`` results were not begun, or not finished."""

    failures: int
    left: int = 0


EngineEvent = BatchStarted | StepDone | SampleDone | SampleFailed | BatchShrunk
JobEvent = (
    Loaded
    | BatchStarted
    | StepDone
    | ItemFailed
    | BatchShrunk
    | Selected
    | Written
    | Skipped
    | Arrived
    | PassedBy
    | Extra
    | Noted
    | Warned
    | Stopped
)
