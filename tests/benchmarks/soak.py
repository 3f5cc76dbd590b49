"""A night in minutes: ``python tests/benchmarks/soak.py --pictures 2000 --every 20 --fill 2``.

Pictures of all formats and sizes, some of them broken in every way, are translated by runs that are killed or asked to
stop again and again, and meet a full disk; then a last run comes to its end. Every input must be a right result or have
been told with its reason, nothing may be left over, and of the runs that made a result the last must need no more
memory than the first. Prints a summary, and what was not possible on this machine; exit code 1 when something is wrong.

With ``unshare`` and ``setpriv`` results go to a small file system that can be filled, and files that may not be read
cannot be read by root either; without them the summary says so, and full disks are files of limited size.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from PIL import Image
from soak_pictures import BROKEN, CALLED, FORMATS, NAMES, NO_FILES, picture

INSIDE = "SOAK_INSIDE"
WRAP = ("unshare", "-rm", "setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--")
SLACK = 64 << 10
"""KiB by which the memory of two runs may differ."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGKILL, signal.SIGINT)
"""How runs are ended, in turn."""
WAYS: dict[str, tuple[str, ...]] = {
    "translate": ("translate", "{in}", "-r"),
    "batch": ("batch", "{jobs}", "--device", "cpu"),
    "processes": ("batch", "{jobs}", "--devices", "cpu,cpu"),
}
"""How pictures are translated: the words of the command."""


@dataclass
class Soak:
    """What was put in, and what came out of the runs so far; ``way``: of :data:`WAYS`."""

    place: Path
    way: str = "translate"
    steps: int = 3
    good: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    filled: int = 0
    workers: int = 0
    runs: int = 0
    memory: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """Where the results go."""
        return self.place / "out"

    def fill(self, count: int, share: float, chance: random.Random) -> None:
        """Make the inputs."""
        folder = self.place / "in"
        kinds = {**BROKEN, **NO_FILES}
        bad = max(len(kinds), round(count * share))
        for n in range(count - bad):
            format_ = FORMATS[n % len(FORMATS)]
            data = picture(chance, format_)
            name = NAMES[n // 2 % len(NAMES)].format(n=n // 2)  # two of a name, of different formats
            path = folder / f"{n // 2 % 7}" / f"{name}{format_.suffix}"
            path = path if str(path) not in self.good else path.with_name(f"{n} {path.name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self.good[str(path)] = sha256(data).hexdigest()
        for n in range(bad):
            kind = list(kinds)[n % len(kinds)]
            path = folder / f"{n % 7}" / CALLED.get(kind, "bad{n}.png").format(n=n)
            path.parent.mkdir(parents=True, exist_ok=True)
            kinds[kind](path, chance)
            (self.broken if kind in BROKEN else self.others)[str(path)] = kind
        self._reach_all()
        settings = {"to": "emoji3d", "precision": "fp32", "steps": self.steps, "recursive": True}
        job = {"name": "all", "inputs": str(folder), **settings}
        (self.place / "jobs.yaml").write_text(json.dumps({"jobs": [job]}))  # which is YAML too

    def _reach_all(self) -> None:
        """What nobody may read counts as sound where we may read everything."""
        kinds = {**self.broken, **self.others}
        locked = [Path(path) for path, kind in kinds.items() if kind in ("unreadable", "locked folder")]
        if not any(os.access(path, os.R_OK) for path in locked):
            return
        self.impossible.append("files that may not be read: root reads all, and setpriv is not allowed here")
        for path in locked:
            found = path / "inner.png" if path.is_dir() else path
            self.good[str(found)] = sha256(found.read_bytes()).hexdigest()
            self.broken.pop(str(path), self.others.pop(str(path), None))

    def run(
        self, limit: float | None = None, size: int | None = None, number: int = signal.SIGKILL
    ) -> int | None:
        """A run in a child, ended by a signal after ``limit`` seconds of the processor; its exit code, None for one
        that was ended.

        ``size``: bytes that none of its files may exceed.
        """
        self.runs += 1
        before = len(results(self.out))
        pid = os.fork()
        if pid == 0:
            try:
                self._child(size)
            except BaseException:
                traceback.print_exc()
            os._exit(70)  # what the parent has to tidy up is not the child's
        half = None if limit is None or self.way != "processes" else limit / 2
        peak, start = 0, time.monotonic()
        while limit is None or (used := processor_time(pid, start)) < limit:
            if half is not None and used > half:
                self._kill_worker(pid)
                half = None
            peak = max(peak, most_memory(pid))
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                break
            time.sleep(0.02)
        else:
            os.kill(pid, number)
        _, status, usage = os.wait4(pid, 0)
        if len(results(self.out)) > before:  # one that was ended sooner has not needed what a run needs
            self.memory.append(peak or usage.ru_maxrss)
        code = os.waitstatus_to_exitcode(status)
        if code == 128 + number:
            self.expect(not list(self.out.rglob("*.part")), f"signal {number} leaves parts")
        if limit is not None and code in (-signal.SIGKILL, 128 + number):
            return None
        self.expect(code in (0, 1), f"a run ended with exit code {code}")
        return code

    def _kill_worker(self, pid: int) -> None:
        """Kill one of the processes that the run has started; the run goes on."""
        children = Path(f"/proc/{pid}/task/{pid}/children")
        for child in children.read_text().split() if children.exists() else ():
            with suppress(OSError):  # it has ended meanwhile
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
                    self.workers += 1
                    return

    def _child(self, size: int | None) -> None:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(self.place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in SIGNALS[1::2]:
            signal.signal(number, signal.SIG_DFL)  # a signal that nohup ignores stays ignored
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        places = {"in": str(self.place / "in"), "jobs": str(self.place / "jobs.yaml")}
        sys.argv = ["ilvrctl", *(word.format_map(places) for word in WAYS[self.way])]
        if self.way == "translate":
            sys.argv += ["--to", "emoji3d", "--precision", "fp32", "--steps", str(self.steps)]
        sys.argv += ["--batch-size", "8", "-o", str(self.out), "--json"]
        from ilvrctl.cli.app import main

        try:
            main()
        except SystemExit as done:
            os._exit(done.code if isinstance(done.code, int) else 1)
        os._exit(0)

    def told(self) -> list[dict[str, object]]:
        """The events of the last run."""
        return [json.loads(line) for line in (self.place / "stdout").read_text().splitlines()]

    def expect(self, right: bool, what: str) -> None:
        """Note what is wrong."""
        if not right:
            self.wrong.append(what)

    def full_disk(self) -> None:
        """A run while the disk is full ends once, says so once, and leaves nothing."""
        ballast = self.out / ".ballast"
        self.filled += 1
        if not os.path.ismount(self.out):
            code = self.run(size=500)
            self.expect(code == 1, f"files of limited size: exit code {code}")
            return
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        code = self.run()
        errors = [line for line in (self.place / "stderr").read_text().splitlines() if "error: " in line]
        self.expect(code == 1, f"a full disk: exit code {code}")
        self.expect(len(errors) == 1 and "no space left" in errors[0], f"a full disk: {errors}")
        self.expect(not list(self.out.rglob("*.part")), "a full disk leaves parts")
        ballast.unlink()

    def verdict_on(self) -> None:
        """Compare what the last run told, and what is there, with what was put in."""
        told = self.told()
        done = {str(one["input"]): one for one in told if one["event"] in ("done", "skipped")}
        failed = {str(one["input"]) for one in told if one["event"] == "failed"}
        summary = next((one for one in told if one["event"] == "summary"), {})
        self.expect(not told or bool(summary), "the last run has no summary")
        self.expect(set(self.good) == set(done), f"good, not done: {sorted(set(self.good) - set(done))[:5]}")
        self.expect(set(self.broken) <= failed, f"broken in silence: {sorted(set(self.broken) - failed)[:5]}")
        unknown = (failed | set(done)) - set(self.good) - set(self.broken) - set(self.others)
        self.expect(not unknown, f"nobody gave these: {sorted(unknown)[:5]}")
        if passed := {str(one["input"]) for one in told if one["event"] == "passed_by"}:
            silent = {path for path, kind in self.others.items() if kind != "folder"} - passed - failed
            self.expect(not silent, f"passed by in silence: {sorted(silent)[:5]}")
        self._expect_sum(summary)
        outputs = {str(one["output"]) for one in done.values()}
        there = {str(path) for path in self.out.rglob("*") if path.is_file()} - {
            str(self.out / "manifest.jsonl")
        }
        self.expect(there == outputs, f"left over or lost: {sorted(there ^ outputs)[:5]}")
        for name, one in done.items():
            if name in self.good and (problem := _problem(Path(str(one["output"])), self.good[name])):
                self.wrong.append(f"{name}: {problem}")

    def _expect_sum(self, summary: dict[str, object]) -> None:
        """What the closing line counts is what was put in; a folder is looked into, and counts only if it cannot be."""
        passed: dict[str, int] = summary.get("passed_by", {})  # type: ignore[assignment]
        counts = [int(str(summary.get(key, 0))) for key in ("done", "skipped", "failed")]
        found = len(self.good) + len(self.broken) + sum(kind != "folder" for kind in self.others.values())
        total = sum(counts) + sum(passed.values())
        self.expect(total == found, f"{total} are accounted for, and {found} were put in")

    def check_memory(self) -> None:
        """Of the runs that made a result, the last need no more than the first."""
        if len(self.memory) < 2:
            self.impossible.append("the memory of runs to compare: fewer than two made a result")
            return
        third = max(1, len(self.memory) // 3)
        first, last = max(self.memory[:third]), max(self.memory[-third:])
        self.expect(last <= first * 1.15 + SLACK, f"memory grows: {first >> 10} to {last >> 10} MiB")


def most_memory(pid: int) -> int:
    """The most KiB of memory that a process, without those that it started, has had; 0 where nobody can tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def processor_time(pid: int, start: float) -> float:
    """Seconds that a process and those that it started have had of a processor; since ``start`` by the clock where
    nobody can tell. However much else the machine does, as much work is done between two kills.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        family = [str(pid), *children.read_text().split()]
    except OSError:
        return time.monotonic() - start
    ticks = 0
    for one in family:
        with suppress(OSError):  # it has ended meanwhile
            ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(") ")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _problem(path: Path, digest: str) -> str | None:
    """What is wrong with a result of the input of that digest."""
    from ilvrctl.images.metadata import read_record

    try:
        data = path.read_bytes()
        with Image.open(BytesIO(data)) as image:
            image.load()
        found = json.loads(read_record(data, str(path)))["input"]["sha256"]
    except Exception as error:
        return f"its result cannot be read: {error}"
    if image.size != (64, 64):
        return f"{image.size} pixels"
    return None if found == digest else "made of another input"


def results(folder: Path) -> dict[str, bytes]:
    """The bytes of all results."""
    found = (path for path in folder.rglob("*.png") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def soak(args: argparse.Namespace, place: Path) -> Soak:
    """All of it."""
    chance = random.Random(args.seed)
    soak = Soak(place, args.way, args.steps)
    soak.fill(args.pictures, args.broken, chance)
    soak.out.mkdir()
    if os.environ.get(INSIDE):
        room = f"size={(args.pictures * 24 + 4096) << 10}"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", room, "soak", str(soak.out)], capture_output=True
        )
        if mounted.returncode:
            soak.impossible.append(f"a disk to fill: {mounted.stderr.decode().strip()}")
    else:
        soak.impossible.append(
            "a disk to fill: unshare and setpriv are not here, or not allowed; files are limited"
        )
    import ilvrctl.engine  # noqa: F401  torch is imported once, before the runs are forked

    end, kills = time.monotonic() + 60 * args.minutes, 0
    while kills < args.kills and time.monotonic() < end:
        if soak.filled < args.fill and soak.filled / args.fill <= len(results(soak.out)) / len(soak.good) < 1:
            soak.full_disk()
        limit = args.every * (0.5 + chance.random())
        if soak.run(limit, number=SIGNALS[kills % len(SIGNALS)]) is None:
            kills += 1
        else:
            break
    while soak.filled < args.fill and len(results(soak.out)) < len(soak.good):
        soak.full_disk()  # the time for kills is over
    if soak.filled < args.fill:
        soak.impossible.append("the disk filled as often as asked: all was done too soon")
    code = soak.run()
    soak.expect(code == 1, f"the last run ended with exit code {code}")  # some pictures are broken
    soak.verdict_on()
    made = results(soak.out)
    if args.compare:
        for path in list(soak.out.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        soak.run()
        soak.expect(made == results(soak.out), "a quiet run makes other bytes")
    soak.check_memory()
    used = soak.memory or [0]
    low, high = min(used) >> 10, max(used) >> 10
    print(
        f"{len(soak.good)} sound and {len(soak.broken)} broken pictures, {len(soak.others)} that are no files"
    )
    workers = f", {soak.workers} workers killed" if soak.workers else ""
    print(f"{soak.way}: {soak.runs} runs, {kills} killed or stopped{workers}, {soak.filled} met a full disk")
    print(f"{low} to {high} MiB of memory in {len(soak.memory)} runs that made a result")
    print(f"{len(made)} results; the last run ended with exit code {code}")
    return soak


def main() -> int:
    """Read the arguments, go where a disk can be filled, and tell how it went."""
    parser = argparse.ArgumentParser(description="Kills, full disks and broken pictures.")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--broken", type=float, default=0.05, help="share of the pictures")
    parser.add_argument("--minutes", type=float, default=60, help="after which no run is killed any more")
    parser.add_argument(
        "--every", type=float, default=20, help="processor seconds from kill to kill, on average"
    )
    parser.add_argument("--kills", type=int, default=1000, help="at most")
    parser.add_argument("--fill", type=int, default=2, help="how often the disk is full")
    parser.add_argument("--way", choices=WAYS, default="translate", help="what makes the results")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--compare", action="store_true", help="with the bytes of a run that nothing disturbs"
    )
    args = parser.parse_args()
    here = not os.environ.get(INSIDE) and shutil.which(WRAP[0]) and shutil.which(WRAP[2])
    if here and subprocess.run([*WRAP, "true"], capture_output=True).returncode == 0:
        os.environ[INSIDE] = "1"
        os.execvp(WRAP[0], [*WRAP, sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        os.environ["ILVRCTL_CACHE"] = str(Path(folder) / "cache")
        done = soak(args, Path(folder))
        if os.path.ismount(done.out):
            subprocess.run(["umount", str(done.out)], check=True)
    for text in done.impossible:
        print(f"not possible here: {text}")
    for text in done.wrong:
        print(f"wrong: {text}")
    print("all is well" if not done.wrong else f"{len(done.wrong)} things are wrong")
    return 1 if done.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
