"""Real processes: two at once, one that is killed, one that is interrupted."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from threading import Event

import forked
import pytest
from commands import PATIENCE, environment
from servers import Page, Server, Toys, arrived, get, remains, rerouted

from ilvrctl import paths

pytest_plugins = ("downloads",)
pytestmark = pytest.mark.usefixtures("in_a_hurry")

ID = "1AbCdEfGhIjKlMnOpQrStUvWxYz012345"


def start(server: Server, *args: str) -> subprocess.Popen[str]:
    """``ilvrctl download toy`` as a process, with every request sent to the server."""
    words = rerouted(server.base, "download", "toy", "--timeout", "60", *args)
    pipe = subprocess.PIPE
    return forked.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment())


def wait_for(size: int, process: subprocess.Popen[str]) -> None:
    """Until so many bytes are in an unfinished file."""
    while process.poll() is None:
        if any(path.stat().st_size >= size for path in paths.weights_dir().glob("toy.pt*.part")):
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate())


def source_of(kind: str, server: Server, toys: Toys, gate: Event) -> tuple[Page, Path]:
    if kind == "drive":
        return server.drive(ID, toys.body, gate=gate), toys.preset(f"gdrive:{ID}")
    return server.put("toy.pt", toys.body, gate=gate), toys.preset(server.url("toy.pt"))


def test_two_at_once_make_one_transfer(server: Server, toys: Toys) -> None:
    gate = Event()
    page, path = source_of("web", server, toys, gate=gate)
    first = start(server)
    wait_for(512 * 1024, first)
    second = start(server)
    assert second.stderr is not None
    assert any("another process is fetching it" in line for line in iter(second.stderr.readline, ""))
    gate.set()
    both = [first, second]
    ends = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert [out for out, _ in ends] == [f"{path}\n"] * 2
    assert len(page.asked) == 1
    assert sum("another process fetched it" in err for _, err in ends) == 1
    assert path.read_bytes() == toys.body
    assert remains() == ["toy.pt"]


@pytest.mark.parametrize("kind", ["web", "drive"])
def test_killed_in_the_middle_and_again(drive: Server, toys: Toys, kind: str) -> None:
    gate = Event()
    page, path = source_of(kind, drive, toys, gate=gate)
    process = start(drive)
    wait_for(512 * 1024, process)
    process.kill()
    process.communicate()
    assert not path.exists()
    gate.set()
    arrived(get(), toys, path)
    assert int(page.asked[-1]["range"][6:-1]) >= 512 * 1024


@pytest.mark.parametrize(
    ("kind", "end"), [("web", signal.SIGINT), ("drive", signal.SIGINT), ("web", signal.SIGTERM)]
)
def test_interrupted_and_again(drive: Server, toys: Toys, kind: str, end: signal.Signals) -> None:
    gate = Event()
    page, path = source_of(kind, drive, toys, gate=gate)
    process = start(drive)
    wait_for(512 * 1024, process)
    process.send_signal(end)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + end, err
    assert "of toy is kept; the same command goes on from there" in err
    assert "Traceback" not in err and out == ""
    assert not path.exists()
    gate.set()
    arrived(get(), toys, path)
    assert "range" in page.asked[-1]
