"""How training is shown: a bar on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ilvrctl.cli.display import Display, duration
from ilvrctl.cli.output import LABELS, data, data_json, say, stderr_console
from ilvrctl.events import Warned
from ilvrctl.training.events import (
    Advanced,
    Began,
    Drawn,
    Graded,
    Published,
    Saved,
    TrainingEvent,
    Validated,
    record_of,
)
from ilvrctl.training.pictures import Decoded

if TYPE_CHECKING:
    from types import TracebackType

PLAIN_EVERY = 30.0
"""Seconds between two lines of progress where there is no bar."""


def line_of(event: TrainingEvent) -> tuple[str | None, str] | None:
    """Label and line that people read about an event; None for what only moves the bar."""
    match event:
        case Began():
            aside = f", {event.held_out} kept aside" if event.held_out else ""
            going_on = f"; goes on after {event.images:,}" if event.images else ""
            return None, (
                f"{event.name}: {event.parameters / 1e6:.1f} M parameters, {event.pictures:,} pictures{aside}, "
                f"on {event.device} in {event.precision}{going_on}"
            )
        case Validated():
            return None, f"after {event.images:,} pictures: validation loss {event.loss:.5f}"
        case Graded():
            levels = ", ".join(f"{t}: {share:.0%}" for t, share in event.levels)
            return None, f"held-out pictures told right: {event.accuracy:.1%} (by level {levels})"
        case Drawn():
            return None, f"samples: {event.path}"
        case Published():
            return None, f"{event.name} is ready: {event.files[0]}"
        case Warned():
            return "warning", event.message
        case _:
            return None


def progress_line(event: Advanced) -> str:
    """For instance ``12,000 pictures (2.0 %), 27.1/s, loss 0.0213, 6 h 2 min left``."""
    left = "" if math.isinf(event.left) else f", {duration(event.left)} left"
    return f"{event.images:,} pictures ({event.share:.1%}), {event.rate:.1f}/s, loss {event.loss:.4f}{left}"


class TrainingPlain:
    """One line a remarkable event, and a line of progress now and then."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._told = -math.inf

    def __enter__(self) -> TrainingPlain:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def show(self, event: TrainingEvent) -> None:
        """Print the event's line."""
        if isinstance(event, Advanced):
            now = time.perf_counter()
            due = now - self._told >= PLAIN_EVERY or event.share >= 1 or self._display.verbose
            if due and not self._display.quiet:
                self._told = now
                say(progress_line(event))
        elif (line := line_of(event)) is not None and (line[0] or not self._display.quiet):
            say(line[1], label=line[0], color=self._display.color)


class TrainingBar:
    """A bar on stderr with pictures seen, speed, loss and time left; other lines above it."""

    def __init__(self, display: Display) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            console=stderr_console(color=display.color),
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("pictures", total=None, text="")

    def __enter__(self) -> TrainingBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, event: TrainingEvent) -> None:
        """Move the bar, or print the event's line above it."""
        if isinstance(event, Decoded):
            self._progress.update(
                self._task,
                description="reading",
                total=event.total,
                completed=event.done,
                text=f"{event.total:,}",
            )
        elif isinstance(event, Advanced):
            self._progress.update(
                self._task,
                description="training",
                total=1.0,
                completed=event.share,
                text=progress_line(event),
            )
        elif isinstance(event, Saved):
            self._progress.update(self._task, text=f"{event.images:,} pictures: saved")
        elif (line := line_of(event)) is not None:
            from rich.text import Text

            start = [(f"{line[0]}: ", f"bold {LABELS[line[0]]}")] if line[0] else []
            self._progress.console.print(Text.assemble(*start, line[1]))


def show_training(events: Iterator[TrainingEvent], display: Display) -> Published | None:
    """Show everything; JSON lines, or the path of the weights, on stdout. Returns the event that ends it well."""
    view = TrainingBar(display) if display.bars else TrainingPlain(display)
    finished = None
    with view:
        for event in events:
            view.show(event)
            if display.as_json and (value := record_of(event)) is not None:
                data_json(value)
            if isinstance(event, Published):
                finished = event
    if finished is not None and not display.as_json:
        data(str(finished.files[0]))
    return finished


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has come: the step is finished and saved first. A second one leaves at once."""
    import signal

    asked: list[int] = []

    def handle(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
