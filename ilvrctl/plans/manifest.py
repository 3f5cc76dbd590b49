"""The manifest of an output folder: what was made there, when, from what and with what. Append-only JSON lines.

``manifest.jsonl`` stands in the output folder of `ilvrctl batch`; a part of a divided run (``--shard 3/16``)
writes ``manifest.3-of-16.jsonl`` beside it, so that no file has two writers. Readers take all of them together.
Every line is a JSON object with a ``kind``:

``run``
    A run began: ``time`` (UTC), ``ilvrctl`` (its release), ``shard`` (``1/1``), and ``jobs``, which maps the name
    of a job to ``items`` (results planned in all), ``to`` (the target) and ``settings``: for every column of a
    sweep the flat mapping of what its matrix set, ``[{"N": 4, "method": "ilvr"}, ...]``; ``[{}]`` without one.
``item``
    A result was made, or failed: the fields of :class:`Entry`. Of several lines about one ``output`` the last
    counts.

No line holds an absolute path or a host name: ``output`` is relative to the folder, with ``/`` on every system.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from heapq import merge
from pathlib import Path
from typing import Any, Literal

from ilvrctl import __version__
from ilvrctl.errors import InputError, UsageError
from ilvrctl.files import make_folder, try_lock, unwritable

MANIFEST = "manifest.jsonl"
_FILES = ("manifest.jsonl", "manifest.*-of-*.jsonl")


@dataclass(frozen=True)
class Entry:
    """One result. ``status``: ``done`` (the file ``output`` was there when this was written) or ``failed``.

    ``input``: its name below the folder that was given, ``input_sha256`` that of its bytes (empty if they could not
    be read), ``input_size`` and ``input_mtime_ns`` as the file system told them. ``sample`` counts from 1.
    ``settings``: what the matrix of its job set for it, flat, as JSON values, empty without a matrix.
    ``config_sha256``: of everything but the input that decides the pixels. ``seconds``: its share of its batch.
    ``again``: it failed for a reason that may have passed, so that the next run tries it.
    """

    job: str
    input: str
    sample: int
    output: str
    status: Literal["done", "failed"]
    config_sha256: str
    input_sha256: str = ""
    input_size: int | None = None
    input_mtime_ns: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    error: str | None = None
    hint: str | None = None
    again: bool | None = None
    time: str = ""


@dataclass(frozen=True)
class JobHead:
    """What a run was to make of one job: ``items`` results, ``to`` a target; ``settings`` of each column."""

    items: int
    to: str = ""
    settings: tuple[Mapping[str, Any], ...] = ({},)


@dataclass(frozen=True)
class RunHead:
    """The beginning of a run, of which ``shard`` (``1/1`` of all) has the file."""

    jobs: Mapping[str, JobHead]
    shard: str = "1/1"
    ilvrctl: str = __version__
    time: str = ""


@dataclass(frozen=True)
class Manifest:
    """All that is known of a folder: its ``runs`` in order of time, and the last entry of every output."""

    runs: tuple[RunHead, ...] = ()
    entries: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def jobs(self) -> dict[str, JobHead]:
        """The jobs of the latest run of each."""
        return {name: job for run in self.runs for name, job in run.jobs.items()}


def manifest_files(folder: Path) -> list[Path]:
    """The manifest and those of shards, if any."""
    return sorted(path for pattern in _FILES for path in folder.glob(pattern))


def read_manifest(folder: Path) -> Manifest:
    """What the manifests in ``folder`` tell; empty where there is none.

    In a file the later line counts, whatever the clock said; the time decides between files. A line that is torn (the
    run was killed while it wrote) or unknown is passed by. InputError when a file cannot be read.
    """
    runs: list[RunHead] = []
    entries: dict[str, Entry] = {}
    for path in manifest_files(folder):
        last: dict[str, Entry] = {}
        begun: list[RunHead] = []
        for found in _read(path):
            if isinstance(found, RunHead):
                begun.append(found)
            else:
                last[found.output] = found
        runs = list(merge(runs, begun, key=lambda run: run.time))
        for name, entry in last.items():
            if name not in entries or entries[name].time <= entry.time:
                entries[name] = entry
    return Manifest(tuple(runs), entries)


def _read(path: Path) -> Iterator[Entry | RunHead]:
    try:
        with path.open("rb") as file:
            for line in file:
                whole = line.endswith(b"\n")
                if whole and (found := _parse(line)) is not None:
                    yield found
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _parse(line: bytes) -> Entry | RunHead | None:
    try:
        values = json.loads(line.decode("utf-8", "surrogateescape"))
        kind = values.pop("kind")
        if kind == "item":
            return Entry(**values)
        if kind == "run":
            jobs = {name: JobHead(**job) for name, job in values.pop("jobs").items()}
            return RunHead(jobs=jobs, **values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return None


class ManifestWriter:
    """Appends lines to the manifest of a folder; a context manager, the only writer as long as it is open."""

    def __init__(self, folder: Path, shard: tuple[int, int] = (1, 1)) -> None:
        self.path = folder / _name(shard)
        self._shard = f"{shard[0]}/{shard[1]}"
        self._descriptor = -1

    def __enter__(self) -> ManifestWriter:
        """Open and lock the file, and cut off a torn last line.

        UsageError when another run writes it, OutputError when it cannot be written.
        """
        make_folder(self.path.parent)
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            if not try_lock(self._descriptor):
                os.close(self._descriptor)
                raise UsageError(
                    f"another run is writing {self.path}",
                    hint="wait for it (ilvrctl batch --status FOLDER), or divide the work with --shard",
                )
            _cut_torn_line(self._descriptor)
        except OSError as error:
            raise unwritable(self.path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, and with it the lock."""
        os.close(self._descriptor)

    def begin(self, jobs: Mapping[str, JobHead]) -> None:
        """Tell that a run begins. OutputError when that cannot be written."""
        self._append("run", RunHead(jobs, self._shard))

    def add(self, entries: Iterable[Entry]) -> None:
        """Append entries, each flushed. OutputError when that cannot be done (full disk)."""
        for entry in entries:
            self._append("item", entry)

    def _append(self, kind: str, value: Entry | RunHead) -> None:
        values = {"kind": kind, **dataclasses.asdict(value), "time": _now()}
        plain = {key: v for key, v in values.items() if v is not None}
        line = json.dumps(plain, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                os.write(self._descriptor, line[written:])
        except OSError as error:
            raise unwritable(self.path, error) from error


def is_written(folder: Path) -> bool:
    """Whether a run is writing the folder's manifest, or that of a shard, at this moment."""
    for path in manifest_files(folder):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            continue
        free = try_lock(descriptor)
        os.close(descriptor)
        if not free:
            return True
    return False


def _name(shard: tuple[int, int]) -> str:
    return MANIFEST if shard == (1, 1) else f"manifest.{shard[0]}-of-{shard[1]}.jsonl"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _cut_torn_line(descriptor: int) -> None:
    """Remove what stands behind the last line break: the line that a killed run did not finish."""
    end = size = os.lseek(descriptor, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65536)
        os.lseek(descriptor, start, os.SEEK_SET)
        block = os.read(descriptor, end - start)
        if (at := block.rfind(b"\n")) >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
