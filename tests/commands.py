"""Running ``ilvrctl`` as a person does: in this process where that is the same, else as a process of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from PIL import Image, ImageChops, ImageStat
from typer.testing import CliRunner

from ilvrctl import paths
from ilvrctl.cli.app import build

FOX = paths.EXAMPLES / "fox.png"
CUP = paths.EXAMPLES / "cup.png"
QUICK = ("--to", "emoji3d", "--steps", "3", "--precision", "fp32")
"""The shipped model in the fewest steps that condition anything."""
PATIENCE = 600
"""Seconds after which a process is taken to hang: many times what it needs on a machine with much else to do."""

LAY_DOWN = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
asked, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(asked, sets) == 0
for i in range(3):
    sets[i] &= ~6
assert libc.capset(asked, sets) == 0
"""
"""A process of root that ran this must obey the permissions of files: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, bits
1 and 2, are among the first 32 of its effective, permitted and inheritable capabilities no longer.
"""


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code and its two streams."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines on stdout."""
        return self.out.decode().splitlines()


def ilvrctl(*args: str | Path, stdin: bytes = b"", **env: str) -> Ran:
    """Run in this process, with neither stream a terminal. Exceptions that reach the user are raised here too."""
    words = [str(arg) for arg in args]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        done = CliRunner().invoke(build(words), words, input=stdin, env=env)
    finally:
        torch.set_num_threads(threads)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout_bytes, done.stderr)


def command(*args: str | Path) -> list[str]:
    """The words that start ``ilvrctl`` as a process."""
    start = "from ilvrctl.cli.start import main; main()"
    return [sys.executable, "-c", start, *(str(arg) for arg in args)]


def obedient(words: list[str]) -> list[str]:
    """Those that start a ``python -c`` for which permissions count; skips the test where none do."""
    python, flag, start, *words = words
    if os.name == "nt":
        pytest.skip("folders of Windows are not read-only")
    if os.geteuid() == 0:
        if sys.platform != "linux":
            pytest.skip("root may write everywhere")
        start = LAY_DOWN + start
    return [python, flag, start, *words]


def environment(**env: str) -> dict[str, str]:
    """Of a process: one thread, and the package of this checkout."""
    here = str(Path(paths.__file__).parents[1])
    found = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": found, **env}


def process(*args: str | Path, stdin: bytes = b"", cwd: Path | None = None, **env: str) -> Ran:
    """Run as a process of its own."""
    run = subprocess.run if "--devices" in args else forked.run  # workers begin as their driver has begun
    done = run(
        command(*args), input=stdin, capture_output=True, cwd=cwd, env=environment(**env), timeout=PATIENCE
    )
    return Ran(done.returncode, done.stdout, done.stderr.decode())


@contextmanager
def terminal() -> Iterator[tuple[int, list[bytes]]]:
    """A pseudo-terminal: the end that a program gets, and what has been written to it so far."""
    master, slave = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:
                return
            if not chunk:
                return
            seen.append(chunk)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield slave, seen
    finally:
        os.close(slave)
        reader.join(10)
        os.close(master)


def on_terminal(
    *args: str | Path, stdout: bool = True, cwd: Path | None = None, **env: str
) -> tuple[int, str, bytes]:
    """Run with stderr, and unless told otherwise stdout, on a terminal: exit code, the screen's text, stdout."""
    with terminal() as (slave, seen):
        started = forked.Popen(
            command(*args),
            stdin=subprocess.DEVNULL,
            stdout=slave if stdout else subprocess.PIPE,
            stderr=slave,
            cwd=cwd,
            env=environment(**{"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", **env}),
        )
        piped = started.communicate(timeout=PATIENCE)[0] or b""
    return started.returncode, b"".join(seen).decode(errors="replace"), piped


PACE = 0.03
"""Processor seconds of the work in :func:`slowness` on the machine that bounds in seconds were stated on."""


@cache
def slowness() -> float:
    """How many times as long as there a piece of plain Python takes here, at least 1: what such bounds are times."""
    times = []
    for _ in range(5):
        start = time.process_time()
        for n in range(5000):
            json.loads(json.dumps({"name": str(n), "values": [*range(10)], "parts": f"a/b/{n}".split("/")}))
        times.append(time.process_time() - start)
    return max(1.0, min(times) / PACE)


def pixels(path: Path) -> bytes:
    """The decoded picture, whatever else the file holds."""
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def difference(a: Path, b: Path) -> tuple[float, int]:
    """Mean and largest difference of two pictures, in levels of 0 to 255."""
    with Image.open(a) as first, Image.open(b) as second:
        stat = ImageStat.Stat(ImageChops.difference(first.convert("RGB"), second.convert("RGB")))
    return sum(stat.mean) / 3, max(int(high) for _, high in stat.extrema)


def leftovers(folder: Path) -> list[str]:
    """Files that must not be there after a command: parts of results."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.part"))


def tree(folder: Path) -> list[str]:
    """Everything below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def json_lines(ran: Ran) -> list[dict[str, Any]]:
    """stdout as JSON lines; raises when one is not."""
    return [json.loads(line) for line in ran.lines]


def copies(folder: Path, names: Sequence[str], source: Path = FOX) -> list[Path]:
    """Copies of an example under other names, each with pixels of its own."""
    made = []
    for n, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as image:
            image.convert("RGB").rotate(3 * n).save(path)
        made.append(path)
    return made
