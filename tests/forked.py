"""Python programs as processes that have nothing big to import: forks of one, for each test worker, that did.

:func:`run` and :class:`Popen` are those of :mod:`subprocess`. To a test a fork is what these start: a child with a pid,
streams, an environment and a folder of its own, which takes signals and ends as an interpreter ends. What it cannot
show is how an interpreter starts, what that costs and what it looks at, and what becomes of the objects that are left
at its end. For that, and off Linux, there is the original.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

SERVER = f"""
import gc, sys
sys.path.append({str(Path(__file__).parent)!r})
import forked
sys.path.pop()
import rich.progress, torch
import ilvrctl.cli.app, ilvrctl.cli.translate, ilvrctl.engine, ilvrctl.work.run
from PIL import Image
Image.init()
gc.collect()
gc.freeze()  # what is there already is none of the forks' rubbish, to be looked through at their end
where = sys.argv[1]
program = forked.serve(int(where)) if where.isdecimal() else forked.serve_calls(where)
try:
    exec(program)
except SystemExit as end:
    forked.end(end.code)
forked.end(None)
"""
"""What forks find there: nearly all that a translation needs."""
CALL = """
import json, os, socket, sys
wired = lambda text: os.fsencode(text).decode("latin-1")
told = [[*map(wired, sys.argv[2:])], {wired(k): wired(v) for k, v in os.environ.items()}, wired(os.getcwd())]
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect(sys.argv[1])
socket.send_fds(server, [json.dumps(told).encode()], [0, 1, 2])
os._exit(int(server.recv(64)))
"""
"""What a script does."""
AT_START = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "MALLOC_")
"""Variables that are looked at once, when an interpreter or a library starts."""
LARGEST = 1 << 17
"""Bytes of a program with its words and its environment."""
WITH_PARENT = 1
"""PR_SET_PDEATHSIG: the process gets a signal when the one that began it has ended."""
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER: the process takes the orphans among its descendants as children."""


class Popen(subprocess.Popen[Any]):
    """``subprocess.Popen``, with a fork where the words are ``python -c`` and nothing asks for more."""

    def _execute_child(self, *given: Any) -> None:
        how = inspect.signature(subprocess.Popen._execute_child).bind(self, *given).arguments  # type: ignore[attr-defined]
        more = how["preexec_fn"] or how["pass_fds"] or how["start_new_session"]
        if more or sys.platform != "linux" or list(how["args"][:2]) != [sys.executable, "-c"]:
            super()._execute_child(*given)  # type: ignore[misc]
            return
        ends = [how[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        streams = [own if end == -1 else end for own, end in enumerate((ends[0], ends[3], ends[5]))]
        env = dict(os.environ) if how["env"] is None else how["env"]
        self.pid = _start(how["args"][2:], env, how["cwd"] or Path.cwd(), streams)
        self._child_created = True
        self._close_pipe_fds(*ends)  # type: ignore[attr-defined]


def run(
    words: Sequence[str],
    *,
    input: Any = None,  # noqa: A002
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """``subprocess.run``."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Popen(words, **options) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(words, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _start(program: Sequence[Any], env: Mapping[str, str], folder: Any, streams: Sequence[int]) -> int:
    """The pid of a fork that runs a program with its words, as a child of this process."""
    told = [[*map(_wired, program)], {_wired(k): _wired(v) for k, v in env.items()}, _wired(folder)]
    server = _server(*sorted(item for item in env.items() if item[0].startswith(AT_START)))
    prctl = ctypes.CDLL(None).prctl
    prctl(SUBREAPER, 1, 0, 0, 0)
    try:
        socket.send_fds(server, [json.dumps(told).encode()], streams)
        return int(server.recv(64))
    finally:
        prctl(SUBREAPER, 0, 0, 0, 0)


def _wired(text: Any) -> str:
    """As letters that stand for its bytes, which the fork may read otherwise."""
    return os.fsencode(text).decode("latin-1")


def _unwired(text: str) -> str:
    return os.fsdecode(text.encode("latin-1"))


@cache
def _server(*at_start: tuple[str, str]) -> socket.socket:
    """The process that is forked, begun with those variables, as the socket on which it is asked for that."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    others = {name: value for name, value in os.environ.items() if not name.startswith(AT_START)}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(its.fileno())],
        env={**others, **dict(at_start)},
        pass_fds=[its.fileno()],
        stdin=subprocess.DEVNULL,
    )
    its.close()
    atexit.register(lambda: (ours.close(), server.wait()))
    return ours


def write_script(file: Path, program: str) -> None:
    """A script that shells can call: it runs a program as a fork, and ends with its exit code."""
    server = _listening()
    file.write_text(f"#!/bin/sh\nexec '{sys.executable}' -S -E -c '{CALL}' '{server}' '{program}' \"$@\"\n")
    file.chmod(0o755)


@cache
def _listening() -> str:
    """The address of a process that is forked by whoever calls."""
    folder = tempfile.mkdtemp(prefix="forked")  # short, as addresses of sockets must be
    address = f"{folder}/calls"
    server = subprocess.Popen([sys.executable, "-c", SERVER, address], stdin=subprocess.DEVNULL)
    atexit.register(lambda: (server.kill(), server.wait(), shutil.rmtree(folder)))
    while not Path(address).exists():
        time.sleep(0.01)
    return address


def serve_calls(address: str) -> str:
    """As :func:`serve`, for all that call there; each is told the exit code of its fork."""
    ctypes.CDLL(None).prctl(WITH_PARENT, signal.SIGKILL)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(f"{address}.new")
    listening.listen()
    Path(f"{address}.new").rename(address)
    while True:
        call, _ = listening.accept()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        request, streams, _, _ = socket.recv_fds(call, LARGEST, 3)
        if os.fork() == 0:
            listening.close()
            if pid := os.fork():
                for end in streams:
                    os.close(end)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                call.send(str(code if code >= 0 else 128 - code).encode())
                os._exit(0)
            call.close()
            return _become(*json.loads(request), streams)
        for end in streams:
            os.close(end)
        call.close()


def serve(number: int) -> str:
    """Fork whenever that socket asks. Returns in a fork: the program that it is to be, all else being prepared."""
    asked = socket.socket(fileno=number)
    while True:
        request, streams, _, _ = socket.recv_fds(asked, LARGEST, 3)
        if not request:
            os._exit(0)
        read, write = os.pipe()
        between = os.fork()
        if between == 0:
            parent = os.getpid()
            if pid := os.fork():
                os.write(write, str(pid).encode())
                os._exit(0)  # and its child goes to the process that asked
            while os.getppid() == parent:
                time.sleep(0.001)
            for end in (read, write):
                os.close(end)
            asked.close()
            return _become(*json.loads(request), streams)
        os.waitpid(between, 0)
        asked.send(os.read(read, 64))
        for end in (read, write, *streams):
            os.close(end)


def end(code: Any) -> None:
    """End as an interpreter ends after ``sys.exit(code)``, but for taking apart what was there before the fork: that
    takes 0.2 s. Who ends with a message, or with streams that take nothing any more, is taken apart too.
    """
    if code is None or isinstance(code, int):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        with suppress(Exception):
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit((code or 0) & 255)
    sys.exit(code)


def _become(program: list[str], env: dict[str, str], folder: str, streams: Sequence[int]) -> str:
    """Make this process the one that was asked for; returns its program."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        raw = open(number, "wb" if number else "rb", 0 if old.write_through else -1, closefd=False)  # noqa: SIM115
        lines = number == 2 or raw.isatty()
        new = io.TextIOWrapper(
            raw, old.encoding, old.errors, line_buffering=lines, write_through=old.write_through
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    os.environ.clear()
    os.environ.update({_unwired(name): _unwired(value) for name, value in env.items()})
    os.chdir(_unwired(folder))
    code, *words = map(_unwired, program)
    sys.argv[:] = ["-c", *words]
    return code
