"""Runs ``ilvrctl batch`` again and again in children of a process that has imported torch, and kills each.

Arguments: kills, signal number, words of the command. Prints the exit codes of children that ended by themselves.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import ilvrctl.engine  # noqa: F401  torch is imported once
from ilvrctl.cli.app import main

kills, number, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
chance = random.Random(7)
folder = Path(words[words.index("-o") + 1])
done = 0
while done < kills:
    out = folder / str(len(list(folder.iterdir())) if folder.exists() else 0)
    if folder.exists() and not (folder / "complete").exists():
        out = folder / str(max(int(p.name) for p in folder.iterdir() if p.name.isdigit()))
    (folder / "complete").unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        sys.argv = ["ilvrctl", *words[: words.index("-o")], "-o", str(out), *words[words.index("-o") + 2 :]]
        main()
        os._exit(0)
    start, manifest = time.time(), out / "manifest.jsonl"
    before = manifest.stat().st_size if manifest.exists() else 0
    while time.time() - start < 30 and not (manifest.exists() and manifest.stat().st_size > before):
        time.sleep(0.005)
    time.sleep(chance.random() * 0.8)
    os.kill(child, number)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        print(os.WEXITSTATUS(status), flush=True)
        if os.WEXITSTATUS(status) == 0:
            (folder / "complete").touch()
            done += 0 if number == signal.SIGKILL else 1
            continue
    done += 1
