"""Pictures that come into a folder are translated as they come, each once it is whole."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
from commands import CUP, FOX, QUICK, command, copies, environment, ilvrctl, json_lines, tree

import ilvrctl as library
from ilvrctl.engine import Engine
from ilvrctl.errors import MissingExtraError, UsageError
from ilvrctl.events import JobEvent
from ilvrctl.plans import inbox as rules
from ilvrctl.plans.inbox import Inbox
from ilvrctl.work import watch

pytestmark = pytest.mark.usefixtures("stand_ins")

FAST = {"to": "emoji3d", "steps": 2, "precision": "fp32", "device": "cpu"}


class Clock:
    """Time that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = time.time() + 1000

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inbox").mkdir()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever can be decoded is whole at once, and all else damaged."""
    monkeypatch.setattr(rules, "SETTLED", -1e9)
    monkeypatch.setattr(rules, "PATIENCE", -1e9)


def names(box: Inbox) -> list[str]:
    return [item.name for item in box.ready()[0]]


def test_what_is_there_is_told_once_and_what_has_changed_again() -> None:
    clock = Clock()
    box = Inbox([Path("inbox")], clock=clock)
    copies(Path(), ["inbox/a.png"])
    assert names(box) == ["inbox/a.png"], "it is older than a second"
    assert names(box) == []
    shutil.copy(CUP, "inbox/a.png")
    assert names(box) == []
    clock.now += rules.SETTLED
    assert names(box) == ["inbox/a.png"]
    clock.now += 100
    assert names(box) == []


def test_a_file_that_grows_is_waited_for() -> None:
    clock = Clock()
    box = Inbox([Path("inbox")], clock=clock)
    copies(Path(), ["inbox/a.png"])
    assert names(box) == ["inbox/a.png"]
    content = FOX.read_bytes()
    for size in (100, 1000, len(content) // 2):
        Path("inbox/b.png").write_bytes(content[:size])
        clock.now += 0.9
        assert names(box) == []
    clock.now += rules.PATIENCE / 2
    assert names(box) == [], "it stands still, and is no whole picture yet"
    assert [one.name for one in box.unfinished()] == ["inbox/b.png"]
    Path("inbox/b.png").write_bytes(content)
    assert names(box) == []
    clock.now += rules.SETTLED
    assert names(box) == ["inbox/b.png"] and box.unfinished() == []


def test_a_file_that_stays_half_is_damaged_in_the_end() -> None:
    clock = Clock()
    box = Inbox([Path("inbox")], clock=clock)
    copies(Path(), ["inbox/a.png"])
    box.ready()
    Path("inbox/b.png").write_bytes(FOX.read_bytes()[:1000])
    assert names(box) == []
    clock.now += rules.PATIENCE
    assert names(box) == ["inbox/b.png"]


def test_what_is_no_picture_is_told_once_and_not_while_it_may_become_one() -> None:
    clock = Clock()
    box = Inbox([Path("inbox")], clock=clock)
    box.ready()
    Path("inbox/note.txt").write_text("hello")
    Path("inbox/new.png").touch()
    assert box.ready() == ([], [])
    shutil.copy(FOX, "inbox/new.png")
    clock.now += rules.PATIENCE
    passed = box.ready()[1]
    assert [one.name for one in passed] == ["inbox/note.txt"]
    assert box.ready()[1] == []


def test_results_in_the_folder_are_not_taken_for_inputs() -> None:
    copies(Path(), ["inbox/a.png", "inbox/out/b.png"])
    box = Inbox([Path("inbox")], recursive=True, outputs=[Path("inbox/out")], clock=Clock())
    assert names(box) == ["inbox/a.png"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["inbox/", "--dry-run"], "--dry-run does not go with --watch"),
        (["inbox/", "--sheet", "s.png"], "--sheet does not go with --watch"),
        (["inbox/", "--examples"], "--examples does not go with --watch"),
        (["inbox/", "--from-file", "list"], "--from-file does not go with --watch"),
        (["inbox/", "-o", "one.png"], "do not fit into one output"),
        (["inbox/", "-N", "7"], "N = 7 does not divide"),
        ([], "--watch needs a folder"),
        (["inbxo/"], "waits for pictures in folders"),
        ([str(FOX)], "waits for pictures in folders"),
    ],
)
def test_what_cannot_be_watched_is_refused_before_it_begins(
    words: list[str], what: str, tmp_path: Path
) -> None:
    before = tree(tmp_path)
    ran = ilvrctl("translate", *words, *QUICK, "--watch")
    assert ran.code == 2 and what in ran.err and "hint: " in ran.err, ran.err
    assert tree(tmp_path) == before


def test_without_watchfiles_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(MissingExtraError) as caught:
        next(library.translate("inbox", watch=True, out="out", **FAST))
    assert caught.value.hint == "pip install 'ilvrctl[watch]'"


@pytest.mark.usefixtures("settled")
def test_pictures_are_made_as_they_come_with_the_network_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    real = Engine.load
    monkeypatch.setattr(Engine, "load", lambda *a, **k: loads.append(1) or real(*a, **k))

    def looks(*_: object) -> Iterator[None]:
        copies(Path(), ["inbox/a.png"])
        yield
        yield
        copies(Path(), ["inbox/b.png"])
        Path("inbox/bad.png").write_text("this is no picture, but a letter")
        yield
        shutil.copy(CUP, "inbox/c.png")
        yield

    monkeypatch.setattr(watch, "_looks", looks)
    told: list[JobEvent] = []
    found = list(library.translate("inbox", watch=True, out="out", progress=told.append, **FAST))
    assert [one.input for one in found if one.state == "done"] == [
        "inbox/a.png",
        "inbox/b.png",
        "inbox/c.png",
    ]
    assert [one.input for one in found if one.state == "failed"] == ["inbox/bad.png"]
    assert len(loads) == 2  # the target's network and its source's
    assert [type(one).__name__ for one in told].count("Loaded") == 1
    assert tree(Path("out")) == ["a.png", "b.png", "c.png"]


@pytest.mark.usefixtures("settled")
def test_what_is_done_is_skipped_and_the_closing_line_accounts_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copies(Path(), ["inbox/a.png", "inbox/b.png"])
    assert ilvrctl("translate", "inbox/a.png", *QUICK).code == 0

    def looks(*_: object) -> Iterator[None]:
        yield
        shutil.copy(CUP, "inbox/a.png")  # another picture in the place of one that is done
        yield
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "_looks", looks)
    Path("inbox/note.txt").write_text("hello")
    ran = ilvrctl("translate", "inbox", *QUICK, "--watch", "--json")
    events = [line["event"] for line in json_lines(ran)]
    assert events.count("skipped") == events.count("done") == events.count("failed") == 1
    assert ran.code == 1
    assert (
        "1 translated, 1 there already, 1 failed in " in ran.err and "1 passed by: 1 not a picture" in ran.err
    )
    last = json_lines(ran)[-1]
    assert (last["done"], last["skipped"], last["failed"]) == (1, 1, 1)


def test_a_program_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(library.translate("inbox", watch=True, out="out", stop=lambda: True, **FAST)) == []
    with pytest.raises(UsageError, match="waits for pictures in folders"):
        library.translate("nosuch", watch=True, out="out", **FAST)


@pytest.mark.slow
def test_a_watch_ends_well_with_an_interrupt(tmp_path: Path) -> None:
    words = command("translate", "inbox/", *QUICK, "--watch")
    started = forked.Popen(
        words, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    shutil.copy(FOX, "inbox/first.png")
    assert started.stdout.readline() == "out/first.png\n"
    Path(shutil.copy(CUP, tmp_path / "second.part")).replace("inbox/second.png")
    assert started.stdout.readline() == "out/second.png\n"
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 0, err
    assert "waiting for pictures in inbox" in err and "2 translated in " in err
