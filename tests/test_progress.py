"""Progress counts what is saved, tells the time that all jobs need, and is a line a minute where no bars are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ilvrctl.cli import screen
from ilvrctl.cli.display import Display, Tally
from ilvrctl.cli.job_views import job_view
from ilvrctl.cli.screen import Bar, Plain, View, drawn
from ilvrctl.events import Arrived, BatchStarted, JobEvent, SampleId, StepDone, Written

SAMPLES = tuple(SampleId(n, 1) for n in range(4))


def steps(done: int, n: int = 10) -> JobEvent:
    return StepDone(SAMPLES, done - 1, n, 500, torch.zeros(0), torch.zeros(0))


def bar(tally: Tally, event: JobEvent) -> Bar:
    """The bar of all results after an event."""
    tally.add(event)
    return next(one for one in job_view(event, tally).bars if one.key == "results")


def test_the_count_is_of_what_is_saved() -> None:
    tally = Tally(8)
    bar(tally, BatchStarted(SAMPLES, 10))
    sampled = bar(tally, steps(10))
    assert (sampled.count, sampled.done) == ("0/8", 4)
    saved = bar(tally, Written("a.png", 1, Path("out/a.png"), 1.0))
    assert (saved.count, saved.done) == ("1/8", 4)


def test_the_time_left_is_that_of_all_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    tally = Tally(12, jobs={"a": Tally(4), "b": Tally(8)})
    bar(tally, BatchStarted(SAMPLES, 10))
    now[0] += 8.0
    left = bar(tally, steps(10)).left
    assert left == pytest.approx(16.0), "4 of 12 in 8 s, whatever job they are of"


def test_what_arrives_is_more_to_do() -> None:
    tally = Tally(0)
    assert bar(tally, Arrived(3)).count == "0/3"
    assert bar(tally, Arrived(2)).count == "0/5"


def test_a_line_a_minute_where_no_bars_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(screen, "say", lambda text, **_: told.append(text))
    plain = Plain(Display())
    for second in range(0, 181, 10):
        now[0] = float(second)
        plain.show(
            View(bars=(Bar("results", "results", 1, 8, f"{second}/8", "0.50 images/s", 9.0, told=True),))
        )
    assert told == [f"results: {second}/8, 9.0 s left, 0.50 images/s" for second in (60, 120, 180)]


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_bar_holds_in_any_width_and_keeps_its_count(width: int) -> None:
    one = Bar("results", "results", 7, 1200, "7/1200", "11.2 s an image  3 failed", 13_000.0)
    line = drawn(one, width, 8, "utf-8").plain
    assert len(line) < width and "7/1200" in line
