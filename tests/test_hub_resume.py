"""A transfer goes on only where it is sure that the server still has the same file; never two files in one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from servers import Page, Server, Toys, arrived, get, refused, remains, toy_checkpoint

from ilvrctl import paths
from ilvrctl.hub import limits
from ilvrctl.hub.errors import BrokenOffError, SourceError
from ilvrctl.hub.events import Failed, Fetched, Present
from ilvrctl.hub.fetch import Order, fetch
from ilvrctl.hub.limits import Limits, Pace
from ilvrctl.hub.pins import load_pins, save_pin
from ilvrctl.hub.registry import items_of
from ilvrctl.presets import find_model

pytest_plugins = ("downloads",)
pytestmark = pytest.mark.usefixtures("in_a_hurry")

ID = "1AbCdEfGhIjKlMnOpQrStUvWxYz012345"


def ago(seconds: float) -> dict[str, str]:
    """Last-Modified so long before now."""
    when = datetime.now(timezone.utc) - timedelta(seconds=seconds)
    return {"Last-Modified": format_datetime(when, usegmt=True)}


NOW = {"Last-Modified": "the time of the request"}
LONG_AGO = ago(1e6)
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another ETag on the 206": ({}, {}),
    "no ETag and no time": ({"mark": ""}, {"mark": ""}),
    "a weak ETag that stays": ({"mark": 'W/"1"'}, {"mark": 'W/"1"'}),
    "a weak ETag and a time that stays": (
        {"mark": 'W/"1"', "headers": LONG_AGO},
        {"mark": 'W/"1"', "headers": LONG_AGO},
    ),
    "an ETag without quotation marks": ({"mark": "1"}, {"mark": "1"}),
    "a time of this second": ({"mark": "", "headers": NOW}, {"mark": "", "headers": NOW}),
    "another time": ({"mark": "", "headers": LONG_AGO}, {"mark": "", "headers": ago(1e5)}),
    "a 206 without the ETag": ({"mark": '"1"'}, {"mark": ""}),
    "a 206 without the time": ({"mark": "", "headers": LONG_AGO}, {"mark": ""}),
    "an ETag and then a time": ({"mark": '"1"'}, {"mark": "", "headers": LONG_AGO}),
}


def put(server: Server, kind: str, body: bytes, **facts: Any) -> Page:
    if facts.get("headers") is NOW:
        facts["headers"] = ago(0)
    if kind == "web":
        return server.put("toy.pt", body, **facts)
    given = facts.pop("headers", {})
    page = server.drive(ID, body, **facts)
    page.headers = {**page.headers, **given}
    return page


@pytest.mark.parametrize("kind", ["web", "drive"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_of_the_same_size_that_changed_between_a_cut_and_the_rest(
    drive: Server, toys: Toys, kind: str, change: str
) -> None:
    path = toys.preset(f"gdrive:{ID}" if kind == "drive" else drive.url("toy.pt"))
    before, after = CHANGES[change]
    old = toy_checkpoint(1)
    assert len(old) == len(toys.body)
    put(drive, kind, old, cuts=[0.6], careless=True, **before)
    refused(get("--retries", "0"), 1)
    put(drive, kind, toys.body, careless=True, **after)
    arrived(get(), toys, path)


@pytest.mark.parametrize("kind", ["web", "drive"])
def test_a_time_of_long_ago_is_as_good_as_an_etag(drive: Server, toys: Toys, kind: str) -> None:
    path = toys.preset(f"gdrive:{ID}" if kind == "drive" else drive.url("toy.pt"))
    page = put(drive, kind, toys.body, cuts=[0.6], mark="", headers=LONG_AGO)
    refused(get("--retries", "0"), 1, "are kept, and the same command goes on")
    arrived(get(), toys, path)
    assert page.asked[-1]["range"] == f"bytes={int(0.6 * len(toys.body))}-"
    assert page.asked[-1]["if-range"] == LONG_AGO["Last-Modified"]


def test_what_nobody_can_go_on_from_is_not_kept(server: Server, toys: Toys) -> None:
    toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body, cuts=[0.6], mark="")
    ran = get("--retries", "0")
    refused(ran, 1)
    assert "kept" not in ran.err and remains() == []


def test_a_file_that_changes_while_it_comes(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    pages = [
        Page(toy_checkpoint(2), cuts=[0.7], careless=True),
        Page(toy_checkpoint(1), cuts=[0.9], careless=True),
        Page(toys.body, careless=True),
    ]
    server.pages["/toy.pt"] = lambda _: pages.pop(0) if len(pages) > 1 else pages[0]
    arrived(get(), toys, path)


def test_bytes_and_note_of_two_versions_are_not_joined(server: Server, toys: Toys) -> None:
    """A kill between the note of a new version and its first byte leaves nothing of the old one."""
    path = toys.preset(server.url("toy.pt"))
    page = server.put("toy.pt", toy_checkpoint(1), cuts=[0.6])
    refused(get("--retries", "0"), 1)
    page.body, page.cuts = toys.body, [0.0]
    refused(get("--retries", "0"), 1)
    arrived(get(), toys, path)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


def test_a_drip_ends_after_a_minute_and_a_slow_attempt_before() -> None:
    clock = Clock()
    pace = Pace(Limits(timeout=30, clock=clock))
    broken = 0
    with pytest.raises(SourceError, match=r"drip is too slow to wait for: 3[01],\d00 bytes in 61 s") as ended:
        for _ in range(200):
            pace.begin()
            try:
                while True:
                    clock.now += 1
                    pace.count(500, "drip")
            except BrokenOffError as error:
                assert "drip is too slow: 15,500 bytes in 31 s" in error.message
                broken += 1
                clock.now += 3600  # the wait before the next attempt is no transfer
    assert broken == 1 and not isinstance(ended.value, BrokenOffError)


def test_what_is_fast_enough_goes_on() -> None:
    clock = Clock()
    pace = Pace(Limits(timeout=30, clock=clock))
    for _ in range(600):
        clock.now += 1
        pace.count(1100, "slow but sure")


@pytest.mark.parametrize("kind", ["web", "drive"])
def test_a_drip_ends_with_a_word(
    drive: Server, toys: Toys, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MINUTE", 1.0)
    toys.preset(f"gdrive:{ID}" if kind == "drive" else drive.url("toy.pt"))
    page = put(drive, kind, toys.body, rate=500)
    start = time.monotonic()
    refused(get("--timeout", "0.4", "--retries", "4"), 1, "is too slow to wait for", "are kept")
    assert time.monotonic() - start < 0.1 * len(toys.body) / 500 and len(page.asked) < 12


def pair(starts: Sequence[float], names: Sequence[str], order: Order) -> list[object]:
    """The last events of runs that begin so many seconds from now."""
    ends: list[object] = [None] * len(starts)

    def run(n: int) -> None:
        time.sleep(starts[n])
        *_, ends[n] = fetch([find_model(names[n])], order)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(starts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("names", [("toy", "toy"), ("toy", "twin")])
def test_pairs_at_random_offsets_end_with_right_files(
    server: Server, toys: Toys, names: tuple[str, str]
) -> None:
    """The same file twice at once, asked for by one name and by two."""
    chance = Random(7)
    order = Order(lambda item, path: None, Limits(timeout=5))
    path = toys.preset(server.url("toy.pt"))
    toys.preset(server.url("toy.pt"), name="twin", file="toy.pt")
    page = server.put("toy.pt", toys.body, rate=2e7)
    for _ in range(20):
        page.cuts = [chance.random()] if chance.random() < 0.5 else []
        ends = pair([chance.random() * 0.1, chance.random() * 0.1], names, order)
        assert sorted(type(end).__name__ for end in ends) == ["Fetched", "Present"], ends
        assert path.read_bytes() == toys.body
        assert remains() == ["toy.pt"]
        path.unlink()


def test_a_part_of_another_user_is_begun_anew(
    server: Server, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toys.preset(server.url("toy.pt"))
    page = server.put("toy.pt", toys.body, cuts=[0.6])
    refused(get("--retries", "0"), 1, "are kept")
    allowed = os.access
    with path.with_name("toy.pt.part").open("rb") as theirs:  # open, so that its number is not given again
        monkeypatch.setattr(
            os,
            "access",
            lambda at, mode: (
                allowed(at, mode) and not os.path.samestat(Path(at).stat(), os.fstat(theirs.fileno()))
            ),
        )
        arrived(get("--retries", "0"), toys, path)
    assert "range" not in page.asked[-1]


def test_the_lock_of_one_user_is_open_to_the_others(server: Server, toys: Toys) -> None:
    toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body)
    before = os.umask(0o077)
    try:
        assert get().code == 0
    finally:
        os.umask(before)
    (lock,) = (paths.weights_dir() / ".locks").glob("toy*")
    assert lock.stat().st_mode & 0o777 == 0o666


def test_hashes_noted_at_once_are_all_kept() -> None:
    paths.weights_dir().mkdir(parents=True)
    threads = [threading.Thread(target=save_pin, args=(f"{n}.pt", "0" * 64, n, "a")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {name: pin.size for name, pin in load_pins().items()} == {f"{n}.pt": n for n in range(8)}


def test_a_page_of_drive_without_end_takes_no_memory(drive: Server, toys: Toys) -> None:
    toys.preset(f"gdrive:{ID}")
    page = drive.put("drive.google.com/uc", b"<html>" + b"x" * (8 << 20), kind="text/html", rate=4e7)
    refused(get("--retries", "0"), 1, "gone, private or over its quota")
    assert page.asked


def test_what_kills_and_earlier_versions_left_is_removed(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body)
    path.parent.mkdir(parents=True)
    for name in (
        *(
            "toy.pt.part",
            "toy.pt.part.json",
            "toy.pt.drive",
            "toy.pt.drive.json",
            "toy.pt.driveab12cd_9.part",
        ),
        *("toy.pt.drive.part", "toy.pt.drive.part.json"),
    ):
        (path.parent / name).write_bytes(b"left")
    (path.parent / "toy.pt.2.part").write_bytes(b"of another file")
    assert get().code == 0
    assert remains() == ["toy.pt", "toy.pt.2.part"]


@pytest.mark.parametrize("file", ["x.pt.part", "x.pt.drive", "x.part.json", "sha256.lock.json"])
def test_a_file_cannot_have_the_name_of_a_part(toys: Toys, file: str) -> None:
    toys.preset("https://a.example/x", file=file)
    refused(get(), 2, "downloads need for themselves")


def test_a_bundled_model_whose_file_is_missing_is_missing(toys: Toys) -> None:
    toys.preset(bundled=True)
    ran = get()
    refused(ran, 1, "comes with ilvrctl, and is missing")
    assert "already here" not in ran.err and ran.lines == []
    refused(get("--verify"), 1, "is missing")


def test_what_cannot_be_used_is_said_though_it_is_here(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"), unsupported="it is upside down")
    server.put("toy.pt", toys.body)
    for _ in range(2):
        ran = get()
        assert ran.code == 0 and "warning: toy cannot be used for translation: it is upside down" in ran.err
        assert "use it:" not in ran.err
    assert path.is_file()


def test_a_finished_download_tells_the_command_that_uses_it(server: Server, toys: Toys) -> None:
    path = toys.preset(server.url("toy.pt"))
    server.put("toy.pt", toys.body)
    assert "use it: ilvrctl translate PICTURES --to toy" in get().err
    path.unlink()
    target = paths.config_dir() / "targets" / "toys.yaml"
    target.parent.mkdir()
    target.write_text("model: toy\n")
    events = list(fetch([find_model("toy")], Order(lambda item, path: None)))
    assert isinstance(events[-1], Fetched) and events[-1].use == "ilvrctl translate PICTURES --to toys"


def test_events_of_a_model_of_ones_own_elsewhere(toys: Toys, tmp_path: Path) -> None:
    path = toys.preset(file=str(tmp_path / "mine.pt"))
    (missing,) = fetch([find_model("toy")], Order(lambda item, path: None))
    assert isinstance(missing, Failed) and "is missing" in missing.error.message
    path.write_bytes(toys.body)
    assert list(fetch([find_model("toy")], Order(lambda item, path: None))) == [Present("toy", path)]


def test_a_long_name_has_a_lock_and_a_part(server: Server, toys: Toys) -> None:
    name = "a" * 120 + "/" + "b" * 240 + ".pt"
    path = toys.preset(server.url("toy.pt"), file=name)
    server.put("toy.pt", toys.body)
    ran = get()
    assert ran.code == 0, ran.err
    assert path.read_bytes() == toys.body
    assert items_of(find_model("toy"))[0][0].path == path
