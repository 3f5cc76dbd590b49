"""The screen: what every event means, in any width, and an account of everything that was found."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import QUICK, copies, on_terminal
from hypothesis import given
from hypothesis import strategies as st

from ilvrctl.cli import screen as screens
from ilvrctl.cli.display import Display, Tally, duration
from ilvrctl.cli.job_views import job_view
from ilvrctl.cli.screen import Bar, Line, Plain, View, drawn
from ilvrctl.cli.training_views import training_view
from ilvrctl.cli.transfer_views import Transfers
from ilvrctl.errors import IlvrctlError, InputError
from ilvrctl.events import (
    BatchStarted,
    ItemFailed,
    JobEvent,
    PassedBy,
    SampleId,
    Skipped,
    StepDone,
    Stopped,
    Written,
)
from ilvrctl.hub.events import HubEvent
from ilvrctl.training.events import TrainingEvent

VALUES: dict[str, Any] = {
    "str": "a name",
    "int": 3,
    "float": 0.5,
    "bool": True,
    "Path": Path("out/a.png"),
    "IlvrctlError": InputError("it is broken", hint="mend it"),
    "int | None": 7,
    "Path | None": Path("out/a.png"),
    "bytes | None": None,
    "Image | None": None,
    "Trust": "pinned",
    "Mapping[str, Any]": {"N": 4},
    "Tensor": torch.zeros(1),
    "tuple[SampleId, ...]": (SampleId("a", 1), SampleId("b", 1)),
    "tuple[Path, ...]": (Path("a.safetensors"),),
    "tuple[tuple[int, float], ...]": ((10, 0.5),),
    "tuple[tuple[int, int, int, int], ...]": ((0, 0, 64, 64),),
}


def made(kind: type) -> Any:
    """An event with a value for every field."""
    return kind(**{field.name: VALUES[str(field.type)] for field in dataclasses.fields(kind)})


@pytest.mark.parametrize(
    "kind", typing.get_args(JobEvent | HubEvent | TrainingEvent), ids=lambda k: k.__name__
)
def test_every_event_means_something_to_a_screen(kind: type) -> None:
    event = made(kind)
    views = []
    if kind in typing.get_args(JobEvent):
        views.append(job_view(event, Tally(4)))
    if kind in typing.get_args(HubEvent):
        views.append(Transfers().view(event))
    if kind in typing.get_args(TrainingEvent):
        views.append(training_view(event))
    for view in views:
        assert view.lines or view.bars or view.gone
        assert all(line.text for line in view.lines)
        if view.record is not None:
            assert view.record["event"]


@given(
    name=st.text(min_size=1, max_size=60),
    total=st.one_of(st.none(), st.integers(1, 10**6)),
    share=st.floats(0, 1.5),
    words=st.text(max_size=40),
    left=st.one_of(st.none(), st.floats(0, 1e7)),
    width=st.integers(20, 200),
    encoding=st.sampled_from(["utf-8", "latin-1", "ascii"]),
)
def test_a_bar_holds_in_one_line_of_any_width(
    name: str, total: int | None, share: float, words: str, left: float | None, width: int, encoding: str
) -> None:
    bar = Bar("key", name, share * (total or 1), total, f"{total}/{total}", words, left)
    line = drawn(bar, width, max(7, width // 4), encoding)
    assert line.cell_len < width
    assert "\n" not in line.plain and "\x1b" not in line.plain


def test_forty_columns_hold_name_bar_count_and_time() -> None:
    text = drawn(Bar("r", "results", 3, 12, "3/12", "1.30 images/s", 125.0), 40, 10, "utf-8").plain
    assert text.startswith("results    ━")
    assert text.endswith(" 3/12  2 min 5 s left")
    assert "images/s" in drawn(Bar("r", "results", 3, 12, "3/12", "1.30 images/s", 9), 80, 10, "utf-8").plain


def test_a_terminal_of_forty_columns_has_no_broken_lines(tmp_path: Path) -> None:
    copies(tmp_path, [f"{n}.png" for n in range(3)])
    code, screen, _ = on_terminal(
        "translate", *(f"{n}.png" for n in range(3)), *QUICK, cwd=tmp_path, COLUMNS="40"
    )
    assert code == 0
    import re

    for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen).replace("\r", "\n").split("\n"):
        assert len(line) < 40 or line.startswith("3 translated"), line
    assert "3/3" in screen


def test_what_is_sampled_is_not_counted_before_it_is_saved() -> None:
    tally = Tally(4)
    samples = tuple(SampleId(name, 1) for name in "ab")
    tally.add(BatchStarted(samples, 2))
    for i in range(2):
        step = StepDone(samples, i, 2, 0, torch.zeros(1), torch.zeros(1))
        tally.add(step)
        bar = job_view(step, tally).bars[0]
        assert (bar.count, bar.done) == ("0/4", i + 1)
    tally.add(event := Written("a", 1, Path("a.png"), 1.0))
    bar = job_view(event, tally).bars[0]
    assert (bar.count, bar.done) == ("1/4", 2)


def test_time_left_is_that_of_all_jobs_and_not_helped_by_what_was_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("ilvrctl.cli.display.time.perf_counter", lambda: clock[0])
    tally = Tally(100, jobs={"a": Tally(50), "b": Tally(50)})
    for n in range(40):
        tally.add(Skipped(f"{n}", 1, Path("x"), job="a"))
    assert tally.seconds_left is None
    tally.add(BatchStarted((SampleId("x", 1),), 10))
    clock[0] = 20.0
    for n in range(10):
        tally.add(Written(f"{n}", 1, Path("x"), 1.0, job="a"))
    assert tally.rate == pytest.approx(0.5)
    assert tally.seconds_left == pytest.approx(100)
    assert [(job.finished, job.left) for job in tally.jobs.values()] == [(50, 0), (0, 50)]


def test_everything_that_was_found_is_accounted_for() -> None:
    tally = Tally(6)
    for reason, count in {"not pictures": 9, "HEIC (install ilvrctl[heic])": 2, "dangling link": 1}.items():
        for n in range(count):
            tally.add(event := PassedBy(reason, f"{n}\x1b"))
    tally.add(Written("a", 1, Path("a.png"), 1.0))
    tally.add(Skipped("b", 1, Path("b.png")))
    tally.add(ItemFailed("c", InputError("broken"), lost=2))
    tally.add(Stopped(1))
    line = tally.summary()
    assert line.startswith("1 translated, 1 there already, 2 failed, 2 not begun in ")
    assert line.endswith("; 12 passed by: 9 not pictures, 2 HEIC (install ilvrctl[heic]), 1 dangling link")
    record = tally.record()
    assert record["passed_by"] == {"not pictures": 9, "HEIC (install ilvrctl[heic])": 2, "dangling link": 1}
    counted = sum(record[key] for key in ("done", "skipped", "failed", "not_begun"))
    assert counted + sum(record["passed_by"].values()) == 6 + 12
    view = job_view(event, tally)
    assert view.lines[0].level == 1
    assert view.record == {"event": "passed_by", "input": "0\x1b", "reason": "dangling link"}
    assert Tally(0).summary() == "nothing to do: no inputs" and "passed_by" not in Tally(1).record()


def test_without_bars_a_line_a_minute_tells_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(screens.time, "monotonic", lambda: clock[0])
    bar = Bar("results", "results", 5, 10, "5/10", "0.10 images/s", 50.0, told=True)
    aside = Bar("steps", "steps", 5, 10, "5/10")
    for quiet, lines in ((False, 3), (True, 0)):
        clock[0] = 0.0
        with Plain(Display(quiet=quiet)) as plain:
            while clock[0] < 200:
                clock[0] += 7
                plain.show(View(bars=(bar, aside)))
        told = capsys.readouterr().err.splitlines()
        assert told == ["results: 5/10, 50.0 s left, 0.10 images/s"] * lines


@pytest.mark.parametrize(
    ("display", "told"),
    [
        (Display(quiet=True), ["failed: x"]),
        (Display(), ["failed: x", "usual"]),
        (Display(verbose=1), ["failed: x", "usual", "more"]),
        (Display(verbose=2), ["failed: x", "usual", "more", "most"]),
    ],
    ids=["-q", "", "-v", "-vv"],
)
def test_how_much_is_told(display: Display, told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = (Line("x", "failed", -1), Line("usual"), Line("more", level=1), Line("most", level=2))
    with Plain(display) as plain:
        plain.show(View(lines))
    assert capsys.readouterr().err.splitlines() == told


@given(st.floats(0, 1e6))
def test_a_duration_is_never_sixty_seconds(seconds: float) -> None:
    assert "60.0 s" not in duration(seconds) and " 60 s" not in duration(seconds)


def test_an_error_is_told_with_its_class(capsys: pytest.CaptureFixture[str]) -> None:
    with Plain(Display(verbose=2)) as plain:
        plain.show(job_view(ItemFailed("a", IlvrctlError("no\nway\x1b")), Tally(1)))
    told = capsys.readouterr().err
    assert told.startswith("failed: no\\nway\\x1b\n")
    assert "\x1b" not in told and "IlvrctlError" in told
