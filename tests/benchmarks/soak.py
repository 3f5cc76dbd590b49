"""A night in minutes: ``python tests/benchmarks/soak.py --pictures 2000 --every 20 --fill 2``.

Pictures of all formats and sizes, some of them broken in every way, are translated by runs that are killed again and
again and meet a full disk; then a last run comes to its end. Every input must be a right result or have been told
with its reason, nothing may be left over, and the memory of the last runs must be that of the first. Prints a
summary, and what was not possible on this machine; exit code 1 when something is wrong.

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
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from PIL import Image

INSIDE = "SOAK_INSIDE"
WRAP = ("unshare", "-rm", "setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--")
SLACK = 64 << 10
"""KiB by which the memory of two runs may differ."""
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    ".png": ("PNG", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ".jpg": ("JPEG", ("L", "RGB", "CMYK")),
    ".JPEG": ("JPEG", ("RGB",)),
    ".webp": ("WEBP", ("RGB", "RGBA")),
    ".gif": ("GIF", ("L", "P")),
    ".bmp": ("BMP", ("1", "L", "RGB")),
    ".tif": ("TIFF", ("1", "L", "RGB", "RGBA", "CMYK", "I;16")),
}


def picture(chance: random.Random) -> tuple[str, bytes]:
    """A sound picture of some format, kind and size: its suffix and bytes."""
    suffix = chance.choice(list(FORMATS))
    format_, modes = FORMATS[suffix]
    mode = chance.choice(modes)
    longest = chance.choice((8, 64, 200, 200, 900))
    size = chance.randint(1, longest), chance.randint(1, longest)
    small = Image.frombytes("RGB", (4, 4), chance.randbytes(48)).resize(size)
    if mode == "I;16":
        image = Image.frombytes(
            "I;16", size, b"".join(v.to_bytes(2, "little") for v in small.convert("L").tobytes())
        )
    else:
        image = small.convert(mode)
    stream = BytesIO()
    image.save(stream, format_)
    return suffix, stream.getvalue()


def bomb() -> bytes:
    """A few bytes that claim to be 3.6 gigapixels."""
    stream = BytesIO()
    Image.new("L", (1, 1)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def not_a_number() -> bytes:
    """A TIFF of floats that are none."""
    stream = BytesIO()
    Image.frombytes("F", (16, 16), b"\0\0\xc0\x7f" * 256).save(stream, "TIFF")
    return stream.getvalue()


def _cut(path: Path, chance: random.Random) -> None:
    stream = BytesIO()
    Image.frombytes("RGB", (80, 80), chance.randbytes(19_200)).save(
        stream, chance.choice(("PNG", "JPEG", "BMP"))
    )
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) // 3])


def _unreadable(path: Path, chance: random.Random) -> None:
    Image.new("RGB", (9, 9)).save(path, "PNG")
    path.chmod(0)


BROKEN: dict[str, Callable[[Path, random.Random], object]] = {
    "cut": _cut,
    "bomb": lambda path, _: path.write_bytes(bomb()),
    "text": lambda path, _: path.write_text("this is no picture\n"),
    "noise": lambda path, chance: path.write_bytes(chance.randbytes(5000)),
    "empty": lambda path, _: path.write_bytes(b""),
    "unreadable": _unreadable,
    "not a number": lambda path, _: path.write_bytes(not_a_number()),
}
"""Files called as pictures that fail, each with its reason."""
NO_FILES: dict[str, Callable[[Path, random.Random], object]] = {
    "pipe": lambda path, _: os.mkfifo(path),
    "dangling link": lambda path, _: path.symlink_to("nowhere.png"),
    "link in a circle": lambda path, _: path.symlink_to(path.name),
    "folder": lambda path, _: path.mkdir(),
}
"""What is called as a picture and is no file: passed by."""


@dataclass
class Soak:
    """What was put in, and what came out of the runs so far."""

    place: Path
    good: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    filled: int = 0
    memory: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
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
            suffix, data = picture(chance)
            path = folder / f"{n % 7}" / f"good{n}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self.good[str(path)] = sha256(data).hexdigest()
        for n in range(bad):
            kind = list(kinds)[n % len(kinds)]
            path = folder / f"{n % 7}" / f"bad{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            kinds[kind](path, chance)
            (self.broken if kind in BROKEN else self.others)[str(path)] = kind
        readable = next((path for path, kind in self.broken.items() if kind == "unreadable"), None)
        if readable is not None and os.access(readable, os.R_OK):
            self.impossible.append(
                "files that may not be read: root reads all, and setpriv is not allowed here"
            )
            for path in [path for path, kind in self.broken.items() if kind == "unreadable"]:
                del self.broken[path]
                self.good[path] = sha256(Path(path).read_bytes()).hexdigest()

    def run(self, steps: int, limit: float | None = None, size: int | None = None) -> int | None:
        """A run in a child, killed after ``limit`` seconds; its exit code, None for one that was killed.

        ``size``: bytes that none of its files may exceed.
        """
        pid = os.fork()
        if pid == 0:
            try:
                self._child(steps, size)
            except BaseException:
                traceback.print_exc()
            os._exit(70)  # what the parent has to tidy up is not the child's
        end = None if limit is None else time.monotonic() + limit
        while end is None or time.monotonic() < end:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                break
            time.sleep(0.02)
        else:
            os.kill(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        self.memory.append(used.ru_maxrss)
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            self.codes.append(code)
        return None if code < 0 else code

    def _child(self, steps: int, size: int | None) -> None:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(self.place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        words = ["translate", str(self.place / "in"), "-r", "--to", "emoji3d", "--steps", str(steps)]
        sys.argv = [
            "ilvrctl",
            *words,
            "--precision",
            "fp32",
            "--batch-size",
            "8",
            "-o",
            str(self.out),
            "--json",
        ]
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

    def full_disk(self, steps: int) -> None:
        """A run while the disk is full ends once, says so once, and leaves nothing."""
        ballast = self.out / ".ballast"
        self.filled += 1
        if not os.path.ismount(self.out):
            code = self.run(steps, size=500)
            self.expect(code == 1, f"files of limited size: exit code {code}")
            return
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        code = self.run(steps)
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
        outputs = {str(one["output"]) for one in done.values()}
        there = {str(path) for path in self.out.rglob("*") if path.is_file()}
        self.expect(there == outputs, f"left over or lost: {sorted(there ^ outputs)[:5]}")
        for name, one in done.items():
            if name in self.good and (problem := _problem(Path(str(one["output"])), self.good[name])):
                self.wrong.append(f"{name}: {problem}")

    def check_memory(self) -> None:
        """The last runs need no more than the first."""
        third = max(1, len(self.memory) // 3)
        first, last = max(self.memory[:third]), max(self.memory[-third:])
        self.expect(last <= first * 1.15 + SLACK, f"memory grows: {first >> 10} to {last >> 10} MiB")


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
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def soak(args: argparse.Namespace, place: Path) -> Soak:
    """All of it."""
    chance = random.Random(args.seed)
    soak = Soak(place)
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
            soak.full_disk(args.steps)
        if soak.run(args.steps, args.every * (0.5 + chance.random())) is None:
            kills += 1
        else:
            break
    if soak.filled < args.fill:
        soak.impossible.append(
            "the disk filled as often as asked: all was done too soon, or the time was over"
        )
    code = soak.run(args.steps)
    soak.expect(code == 1, f"the last run ended with exit code {code}")  # some pictures are broken
    soak.verdict_on()
    made = results(soak.out)
    soak.check_memory()
    if args.compare:
        for path in list(soak.out.iterdir()):
            shutil.rmtree(path)
        soak.run(args.steps)
        soak.expect(made == results(soak.out), "a quiet run makes other bytes")
    low, high = min(soak.memory) >> 10, max(soak.memory) >> 10
    print(
        f"{len(soak.good)} sound and {len(soak.broken)} broken pictures, {len(soak.others)} that are no files"
    )
    print(f"{len(soak.memory)} runs, {kills} killed, {soak.filled} met a full disk; {low} to {high} MiB")
    print(f"{len(made)} results; the last run ended with exit code {code}")
    return soak


def main() -> int:
    """Read the arguments, go where a disk can be filled, and tell how it went."""
    parser = argparse.ArgumentParser(description="Kills, full disks and broken pictures.")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--broken", type=float, default=0.05, help="share of the pictures")
    parser.add_argument("--minutes", type=float, default=60, help="after which no run is killed any more")
    parser.add_argument("--every", type=float, default=20, help="seconds from kill to kill, on average")
    parser.add_argument("--kills", type=int, default=1000, help="at most")
    parser.add_argument("--fill", type=int, default=2, help="how often the disk is full")
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
