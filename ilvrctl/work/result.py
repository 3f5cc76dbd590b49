"""Results of a run, out of the events that tell of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ilvrctl.errors import IlvrctlError, InputError
from ilvrctl.events import ItemFailed, JobEvent, PassedBy, Skipped, Written
from ilvrctl.images.channels import as_stored
from ilvrctl.images.io import read_picture
from ilvrctl.images.metadata import read_record
from ilvrctl.plans.record import channels_of
from ilvrctl.work.machine import Tell

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Result:
    """What became of one sample of an input.

    ``state``: ``done``, ``skipped`` (it was there already) or ``failed`` with its ``error``. ``path``: its file, or
    None where nothing is written. ``changes``: the settings that tell it from others of a grid.
    """

    input: str
    state: Literal["done", "skipped", "failed"]
    sample: int | None = None
    path: Path | None = None
    seconds: float = 0.0
    error: IlvrctlError | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    data: bytes | None = field(default=None, repr=False)

    @cached_property
    def _bytes(self) -> bytes:
        if self.error is not None:
            raise self.error
        if self.data is not None:
            return self.data
        assert self.path is not None
        return self.path.read_bytes()

    @property
    def image(self) -> Image:
        """The picture, in L, RGB or RGBA as the network makes them, or I;16. The result's error where it failed."""
        try:
            channels = channels_of(self.record)
        except (InputError, ValueError):
            channels = 3
        return as_stored(read_picture(self._bytes, self.input), channels)

    @property
    def record(self) -> dict[str, Any]:
        """How it was made: the record in its file, from which ``from_image`` makes it again."""
        found: dict[str, Any] = json.loads(read_record(self._bytes, self.input))
        return found


class Results(Generator[Result, None, None]):
    """The results among the events of a run, as they are made; closing it stops the run.

    ``progress`` is told of all events; True draws the commands' bars, for ``count`` results. ``passed_by``: what in
    the folders of the inputs is none, and why.
    """

    def __init__(
        self,
        begin: Callable[[Tell], Generator[JobEvent, None, None]],
        progress: Tell | bool | None,
        count: int,
        passed_by: Iterable[PassedBy] = (),
    ) -> None:
        self.passed_by = tuple(dict.fromkeys(passed_by))
        self._found = _results(begin, progress, count)

    def send(self, value: None) -> Result:
        """The next result."""
        return self._found.send(value)

    def throw(self, *error: Any) -> Result:
        """Have the run stopped by an error; :meth:`close` stops it without one."""
        return self._found.throw(*error)


def _results(
    begin: Callable[[Tell], Generator[JobEvent, None, None]], progress: Tell | bool | None, count: int
) -> Generator[Result, None, None]:
    with ExitStack() as stack:
        tell = stack.enter_context(_bars(count)) if progress is True else progress or (lambda event: None)
        events = stack.enter_context(closing(begin(tell)))
        for event in events:
            tell(event)
            if (result := _result(event)) is not None:
                yield result


def _bars(count: int) -> AbstractContextManager[Tell]:
    """The terminal's screen, which only who asks for it gets: nothing down here needs it."""
    found: AbstractContextManager[Tell] = import_module("ilvrctl.cli.bars").bars(count)
    return found


def _result(event: JobEvent) -> Result | None:
    if isinstance(event, Written):
        return Result(
            event.name,
            "done",
            event.sample,
            event.path,
            event.seconds,
            changes=event.changes,
            data=event.data,
        )
    if isinstance(event, Skipped):
        return Result(event.name, "skipped", event.sample, event.path, changes=event.changes)
    if isinstance(event, ItemFailed):
        return Result(event.name, "failed", event.sample, error=event.error, changes=event.changes)
    return None
