"""Runs ``ilvrctl batch`` again and again in children of a process that has imported torch, and signals each.

Arguments: how many signals, which, and the words of the command, with ``-o FOLDER``: its runs get folders 0, 1 ...
in there, a new one after each that came to its end. Prints the exit codes of children that were not killed.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import ilvrctl.engine  # noqa: F401  torch is imported once
from ilvrctl.cli.app import main


def child(words: list[str]) -> int:
    """Begin a run of ``ilvrctl``; its process id."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        sys.argv = ["ilvrctl", *words]
        try:
            main()
        except SystemExit as done:
            os._exit(done.code if isinstance(done.code, int) else 1)
        os._exit(0)
    return pid


def begun(manifest: Path, size: int) -> bool:
    return manifest.exists() and manifest.stat().st_size > size


signals, number, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
at = words.index("-o") + 1
folder, run, sent = Path(words[at]), 0, 0
chance = random.Random(7)
while sent < signals:
    words[at] = str(folder / str(run))
    manifest = Path(words[at]) / "manifest.jsonl"
    size = manifest.stat().st_size if manifest.exists() else 0
    pid = child(words)
    while (
        not begun(manifest, size) and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        time.sleep(0.005)
    time.sleep(chance.random() / 2)
    os.kill(pid, number)
    status = os.waitpid(pid, 0)[1]
    if os.WIFEXITED(status):
        print(os.WEXITSTATUS(status), flush=True)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        run += 1
    else:
        sent += 1
        run += number != signal.SIGKILL
