"""Renderers of job events: bars on a terminal, a plain line an item elsewhere, JSON lines for programs."""

from __future__ import annotations

import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Protocol

from ilvrctl.cli.display import Display, Tally, duration
from ilvrctl.cli.output import LABELS, data, data_bytes, json_line, say, stderr_console, terminal
from ilvrctl.events import (
    BatchShrunk,
    BatchStarted,
    Extra,
    ItemFailed,
    JobEvent,
    Loaded,
    Skipped,
    StepDone,
    Stopped,
    Warned,
    Written,
)

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID


class Renderer(Protocol):
    """Shows events to somebody; a context manager."""

    def show(self, event: JobEvent) -> None:
        """Show one event."""

    def __enter__(self) -> Renderer: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def message(event: JobEvent) -> tuple[str | None, str] | None:
    """Label and line that people read about an event; None for events that only move a bar."""
    if isinstance(event, ItemFailed):
        hint = f"; {event.error.hint}" if event.error.hint else ""
        settings = ", ".join(f"{key}={value}" for key, value in event.changes.items())
        return (
            "failed",
            f"{settings}: {event.error.message}{hint}" if settings else f"{event.error.message}{hint}",
        )
    if isinstance(event, BatchShrunk):
        return "warning", f"out of memory: going on with {event.now} at a time instead of {event.before}"
    if isinstance(event, Extra):
        return None, f"{event.kind}: {event.path}"
    if isinstance(event, Warned):
        return "warning", event.message
    if isinstance(event, Stopped):
        failures = "1 failure" if event.failures == 1 else f"{event.failures} failures"
        return "warning", f"stopped after {failures}; the same command goes on with the rest"
    return None


class Plain:
    """One line an item on stderr; with ``quiet`` only failures and warnings."""

    def __init__(self, tally: Tally, display: Display) -> None:
        self._tally = tally
        self._display = display

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def show(self, event: JobEvent) -> None:
        """Print the event's line."""
        if (line := message(event)) is None and (progress := self._progress(event)) is not None:
            line = None, progress
        if line is not None and (line[0] is not None or not self._display.quiet):
            say(line[1], label=line[0], color=self._display.color)
        if isinstance(event, ItemFailed) and self._display.verbose > 1:
            say("".join(traceback.format_exception(event.error)).rstrip())

    def _progress(self, event: JobEvent) -> str | None:
        count = f"[{self._tally.finished}/{self._tally.total}]"
        if isinstance(event, Written):
            return f"{count} {event.name} -> {event.path or 'standard output'} ({duration(event.seconds)})"
        if isinstance(event, Skipped) and not self._display.bars:
            return f"{count} {event.path} is there already"
        if isinstance(event, Loaded) and self._display.verbose:
            return (
                f"{event.model} on {event.device} in {event.precision}, loaded in {duration(event.seconds)}"
            )
        if isinstance(event, StepDone) and self._display.verbose > 1:
            return f"step {event.i + 1}/{event.n}, level {event.t}"
        return None


JOB_BARS = 12
"""Jobs that have a bar of their own."""


class Bars:
    """Rich bars on stderr: results (with speed and time left) and the steps of the batch."""

    def __init__(self, tally: Tally, display: Display) -> None:
        self._tally = tally
        self._display = display
        self._progress = _bars(color=display.color)
        self._results: TaskID = self._progress.add_task("results", total=tally.total, speed="")
        self._steps: TaskID = self._progress.add_task("loading", total=None, speed="")
        self._start: float | None = None
        self._jobs = {
            name: self._progress.add_task(f"  {name}", total=job.total, speed="")
            for name, job in list(tally.jobs.items())[:JOB_BARS]
            if len(tally.jobs) > 1
        }

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.update(self._steps, visible=False)
        self._progress.stop()

    def show(self, event: JobEvent) -> None:
        """Move the bars, and print what people must read above them."""
        if (line := message(event)) is not None:
            self._print(*line)
        if isinstance(event, (Written, Skipped, ItemFailed)):
            self._move(0.0)
        elif isinstance(event, BatchStarted):
            self._start = self._start or time.perf_counter()
            name = "steps" if len(event.samples) == 1 else f"steps of {len(event.samples)}"
            self._progress.reset(self._steps, total=event.steps, description=name)
        elif isinstance(event, StepDone):
            self._progress.update(self._steps, completed=event.i + 1)
            self._move(len(event.samples) * (event.i + 1) / event.n)

    def _print(self, label: str | None, line: str) -> None:
        from rich.text import Text

        start = [(f"{label}: ", f"bold {LABELS[label]}")] if label else []
        self._progress.console.print(Text.assemble(*start, line))

    def _move(self, share: float) -> None:
        """``share``: how much of the results now in work is done."""
        done = self._tally.finished + share
        failed = f"  {self._tally.failed} failed" if self._tally.failed else ""
        speed = self._speed(self._tally.done + share) + failed
        self._progress.update(self._results, completed=done, speed=speed)
        for name, task in self._jobs.items():
            self._progress.update(task, completed=self._tally.jobs[name].finished)

    def _speed(self, made: float) -> str:
        if self._start is None:
            return ""
        rate = made / max(time.perf_counter() - self._start, 1e-9)
        return f"{rate:.2f} images/s" if rate >= 0.1 else f"{duration(1 / max(rate, 1e-9))} an image"


def _bars(*, color: bool) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        console=stderr_console(color=color),
        redirect_stdout=False,
        redirect_stderr=False,
    )


class Results:
    """What goes to stdout for each event: output paths, JSON lines, or the picture's bytes.

    While bars are drawn on the same terminal, lines wait until the bars are gone.
    """

    def __init__(self, display: Display) -> None:
        self._json = display.as_json
        self._hold = display.bars and terminal(sys.stdout)
        self._held: list[str] = []

    def add(self, event: JobEvent) -> None:
        """Write the event's line or bytes now, or keep the line."""
        if isinstance(event, Written) and event.data is not None:
            data_bytes(event.data)
        elif (line := self._line(event)) is not None:
            self._held.append(line)
            if not self._hold:
                self.flush()

    def flush(self) -> None:
        """Write what was kept."""
        while self._held:
            data(self._held.pop(0))

    def _line(self, event: JobEvent) -> str | None:
        if self._json:
            value = event_record(event)
            return None if value is None else json_line(value)
        return str(event.path) if isinstance(event, (Written, Skipped)) else None


def event_record(event: JobEvent) -> dict[str, Any] | None:
    """An event as a JSON value; None for those that only tell how far a batch is."""
    if isinstance(event, (Written, Skipped, ItemFailed)):
        settings: dict[str, Any] = {"settings": event.changes} if event.changes else {}
        settings |= {"job": event.job} if event.job else {}
    if isinstance(event, (Written, Skipped)):
        seconds = {"seconds": round(event.seconds, 3)} if isinstance(event, Written) else {}
        return {
            "event": "done" if isinstance(event, Written) else "skipped",
            "input": event.name,
            "sample": event.sample,
            "output": str(event.path),
            **seconds,
            **settings,
        }
    if isinstance(event, ItemFailed):
        return {
            "event": "failed",
            "input": event.name,
            "sample": event.sample,
            "error": event.error.message,
            "hint": event.error.hint,
            **settings,
        }
    if isinstance(event, Loaded):
        return {
            "event": "loaded",
            "model": event.model,
            "device": event.device,
            "precision": event.precision,
            "seconds": round(event.seconds, 3),
        }
    if isinstance(event, Extra):
        return {"event": event.kind, "output": str(event.path)}
    if isinstance(event, BatchShrunk):
        return {"event": "batch", "before": event.before, "now": event.now}
    if isinstance(event, Stopped):
        return {"event": "stopped", "failures": event.failures}
    return {"event": "warning", "message": event.message} if isinstance(event, Warned) else None
