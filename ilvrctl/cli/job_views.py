"""What the events of a job mean to a screen."""

from __future__ import annotations

import traceback
from typing import Any

from ilvrctl.cli.display import Tally, duration
from ilvrctl.cli.screen import Bar, Line, View, facts, warned
from ilvrctl.events import (
    Arrived,
    BatchShrunk,
    BatchStarted,
    Extra,
    ItemFailed,
    JobEvent,
    Loaded,
    Note,
    Noted,
    PassedBy,
    Selected,
    Skipped,
    StepDone,
    Stopped,
    Warned,
    Written,
)

JOB_BARS = 12
"""Jobs that have a bar of their own."""


def job_view(event: JobEvent, tally: Tally) -> View:
    """What a screen shows of an event that ``tally`` has counted already."""
    match event:
        case Written() | Skipped():
            return _result(event, tally)
        case ItemFailed():
            return _failed(event, tally)
        case BatchStarted(samples=samples, steps=n):
            return View(bars=(*_bars(tally), _steps(len(samples), 0, n)))
        case StepDone(samples=samples, i=i, n=n, t=t):
            line = Line(f"step {i + 1}/{n}, level {t}", level=2)
            return View((line,), (*_bars(tally), _steps(len(samples), i + 1, n)))
        case Loaded(model=model, device=device, precision=precision):
            text = f"{model} on {device} in {precision}, loaded in {duration(event.seconds)}"
            return View(
                (Line(text, level=1),), record=facts("loaded", event, "model device precision seconds")
            )
        case Selected(name=name, boxes=boxes):
            sizes = ", ".join(f"{right - left} x {lower - upper}" for left, upper, right, lower in boxes)
            return View((Line(f"{name}: what is edited lies in {sizes} px", level=1),))
        case BatchShrunk(before=before, now=now):
            text = f"out of memory: going on with {now} at a time instead of {before}"
            return View((Line(text, "warning", -1),), record=facts("batch", event, "before now"))
        case Arrived():
            return View(bars=_bars(tally), record=facts("arrived", event, "results"))
        case PassedBy(reason=reason, name=name):
            text = f"passed by: {name} ({reason})"
            return View((Line(text, level=1),), record=facts("passed_by", event, "input=name reason"))
        case Extra(kind=kind, path=path):
            return View((Line(f"{kind}: {path}"),), record=facts(kind, event, "output=path"))
        case Stopped(failures=failures):
            count = "1 failure" if failures == 1 else f"{failures} failures"
            text = f"stopped after {count}; the same command goes on with the rest"
            return View((Line(text, "warning", -1),), record=facts("stopped", event, "failures"))
        case Noted() | Warned():
            return note_view(event)


def note_view(note: Note) -> View:
    """What people may like to know, and what they should."""
    return View((Line(note.message),)) if isinstance(note, Noted) else warned(note)


def first_view(tally: Tally) -> View:
    """The bars before anything has happened."""
    return View(bars=(*_bars(tally), Bar("steps", "loading", 0, None, passing=True)))


def _result(event: Written | Skipped, tally: Tally) -> View:
    what, count = "input=name sample output=path", f"[{tally.finished}/{tally.total}]"
    if isinstance(event, Skipped):
        line = Line(f"{count} {event.path} is there already", barred=True)
        return View((line,), _bars(tally), {**facts("skipped", event, what), **_whose(event)}, event.path)
    where = event.path or "standard output"
    line = Line(f"{count} {event.name} -> {where} ({duration(event.seconds)})", barred=True)
    record = {**facts("done", event, f"{what} seconds"), **_whose(event)}
    return View((line,), _bars(tally), record, event.path, event.data)


def _failed(event: ItemFailed, tally: Tally) -> View:
    error = event.error
    settings = ", ".join(f"{key}={value}" for key, value in event.changes.items())
    text = ": ".join(filter(None, (settings, error.message))) + (f"; {error.hint}" if error.hint else "")
    trace = "".join(traceback.format_exception(error)).splitlines()
    record = facts("failed", event, "input=name sample error=error.message hint=error.hint")
    lines = (Line(text, "failed", -1), *(Line(line, level=2) for line in trace))
    return View(lines, _bars(tally), {**record, **_whose(event)})


def _whose(event: Written | Skipped | ItemFailed) -> dict[str, Any]:
    """The settings that tell a result from others of a grid, and the job, where there are any."""
    settings: dict[str, Any] = {"settings": event.changes} if event.changes else {}
    return settings | ({"job": event.job} if event.job else {})


def _steps(samples: int, done: int, total: int) -> Bar:
    name = "steps" if samples == 1 else f"steps of {samples}"
    return Bar("steps", name, done, total, f"{done}/{total}", passing=True)


def _bars(tally: Tally) -> tuple[Bar, ...]:
    """A bar of all results and one a job: they move with what is in work, and count what is saved or has failed."""
    rate, done = tally.rate, min(tally.total, tally.finished + tally.sampled)
    speed = (
        "" if rate is None else f"{rate:.2f} images/s" if rate >= 0.1 else f"{duration(1 / rate)} an image"
    )
    words = "  ".join(filter(None, (speed, f"{tally.failed} failed" if tally.failed else "")))
    count, left = f"{tally.finished}/{tally.total}", tally.seconds_left if tally.left else None
    jobs = list(tally.jobs.items())[:JOB_BARS] if len(tally.jobs) > 1 else []
    return (
        Bar("results", "results", done, tally.total, count, words, left, told=True),
        *(
            Bar(f"job {name}", f"  {name}", job.finished, job.total, f"{job.finished}/{job.total}")
            for name, job in jobs
        ),
    )
