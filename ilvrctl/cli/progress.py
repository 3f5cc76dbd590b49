"""Renderers of job events: rich bars on a terminal, a plain line an item elsewhere, JSON lines for programs."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ilvrctl.cli.output import data, data_json, say, stderr_console
from ilvrctl.events import (
    BatchShrunk,
    BatchStarted,
    Extra,
    ItemFailed,
    JobEvent,
    Loaded,
    Skipped,
    StepDone,
    Warned,
    Written,
)

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from ilvrctl.jobs.plan import Plan


@dataclass
class Tally:
    """What has happened so far."""

    done: int = 0
    skipped: int = 0
    failures: list[ItemFailed] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)

    def add(self, event: JobEvent) -> None:
        """Count one event."""
        self.done += isinstance(event, Written)
        self.skipped += isinstance(event, Skipped)
        if isinstance(event, ItemFailed):
            self.failures.append(event)

    def summary(self) -> str:
        """One line for people."""
        parts = [f"{self.done} translated"]
        if self.skipped:
            parts.append(f"{self.skipped} already done")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        return f"{', '.join(parts)} in {time.perf_counter() - self.start:.1f} s"

    def record(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "event": "summary",
            "done": self.done,
            "skipped": self.skipped,
            "failed": len(self.failures),
            "seconds": round(time.perf_counter() - self.start, 3),
        }


class Renderer(Protocol):
    """Shows events to somebody; a context manager."""

    def show(self, event: JobEvent) -> None:
        """Show one event."""

    def __enter__(self) -> Renderer: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def message(event: JobEvent) -> str | None:
    """The line that people read about an event; None for events that only move a bar."""
    if isinstance(event, ItemFailed):
        hint = f" (hint: {event.error.hint})" if event.error.hint else ""
        return f"failed: {event.error.message}{hint}"
    if isinstance(event, BatchShrunk):
        return f"out of memory: going on with {event.now} at a time instead of {event.before}"
    if isinstance(event, Extra):
        return f"{event.kind}: {event.path}"
    if isinstance(event, Warned):
        return f"warning: {event.message}"
    return None


class Plain:
    """One line an item on stderr; with ``quiet`` only failures and warnings."""

    def __init__(self, plan: Plan, *, quiet: bool, verbose: int) -> None:
        self._total = len(plan.outputs)
        self._seen = 0
        self._quiet = quiet
        self._verbose = verbose

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def show(self, event: JobEvent) -> None:
        """Print the event's line."""
        if isinstance(event, (Written, Skipped, ItemFailed)):
            self._seen += 1
        line = message(event) or self._progress(event)
        if line and not (self._quiet and not isinstance(event, (ItemFailed, Warned, BatchShrunk))):
            say(line)

    def _progress(self, event: JobEvent) -> str | None:
        count = f"[{self._seen}/{self._total}]"
        if isinstance(event, Written):
            return f"{count} {event.key} -> {event.path or 'standard output'} ({event.seconds:.1f} s)"
        if isinstance(event, Skipped):
            return f"{count} {event.path} is there already"
        if isinstance(event, Loaded) and self._verbose:
            return f"{event.model} on {event.device} in {event.precision}, loaded in {event.seconds:.1f} s"
        if isinstance(event, StepDone) and self._verbose > 1:
            return f"step {event.i + 1}/{event.n}, level {event.t}"
        return None


class Bars:
    """Rich bars on stderr: pictures (with speed and time left) and the steps of the batch."""

    def __init__(self, plan: Plan, color: str) -> None:
        self._progress = _bars(color)
        self._pictures: TaskID = self._progress.add_task("pictures", total=len(plan.outputs), speed="")
        self._steps: TaskID = self._progress.add_task("loading", total=None, speed="")
        self._finished = 0.0
        self._start: float | None = None
        self._made = 0

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.update(self._steps, visible=False)
        self._progress.stop()

    def show(self, event: JobEvent) -> None:
        """Move the bars, and print what people must read above them."""
        from rich.text import Text

        if (line := message(event)) is not None:
            self._progress.console.print(Text(line))
        if isinstance(event, (Written, Skipped, ItemFailed)):
            self._finished += 1
            self._made += isinstance(event, Written)
            self._progress.update(self._pictures, completed=self._finished, speed=self._speed())
        elif isinstance(event, BatchStarted):
            self._start = self._start or time.perf_counter()
            name = f"batch of {len(event.samples)}"
            self._progress.reset(self._steps, total=event.steps, description=name)
        elif isinstance(event, StepDone):
            share = len(event.samples) * (event.i + 1) / event.n
            self._progress.update(self._steps, completed=event.i + 1)
            self._progress.update(self._pictures, completed=self._finished + share, speed=self._speed(share))

    def _speed(self, share: float = 0.0) -> str:
        if self._start is None:
            return ""
        rate = (self._made + share) / max(time.perf_counter() - self._start, 1e-9)
        return f"{rate:.2f} images/s" if rate >= 0.1 else f"{1 / max(rate, 1e-9):.0f} s an image"


def _bars(color: str) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        console=stderr_console(color),
        redirect_stdout=False,
        redirect_stderr=False,
    )


class Results:
    """What goes to stdout for each event: output paths, JSON lines, or the picture's bytes.

    While bars are drawn on the same terminal, lines wait until the bars are gone.
    """

    def __init__(self, *, as_json: bool, hold: bool) -> None:
        self._json = as_json
        self._hold = hold
        self._held: list[JobEvent] = []

    def add(self, event: JobEvent) -> None:
        """Write the event's line now, or keep it."""
        if self._hold:
            self._held.append(event)
        else:
            self._write(event)

    def flush(self) -> None:
        """Write what was kept."""
        for event in self._held:
            self._write(event)
        self._held.clear()

    def _write(self, event: JobEvent) -> None:
        if isinstance(event, Written) and event.data is not None:
            sys.stdout.buffer.write(event.data)
            sys.stdout.buffer.flush()
        elif self._json:
            if (value := event_record(event)) is not None:
                data_json(value)
        elif isinstance(event, (Written, Skipped)):
            data(str(event.path))


def event_record(event: JobEvent) -> dict[str, Any] | None:
    """An event as a JSON value; None for those that only tell how far a batch is."""
    if isinstance(event, (Written, Skipped)):
        seconds = {"seconds": round(event.seconds, 3)} if isinstance(event, Written) else {}
        return {
            "event": "done" if isinstance(event, Written) else "skipped",
            "input": event.key,
            "sample": event.sample,
            "output": str(event.path),
            **seconds,
        }
    if isinstance(event, ItemFailed):
        return {
            "event": "failed",
            "input": event.key,
            "sample": event.sample,
            "error": event.error.message,
            "hint": event.error.hint,
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
    return {"event": "warning", "message": event.message} if isinstance(event, Warned) else None
