"""`ilvrctl batch --status OUT`: where a run stands, read from its manifest; and the table at the end of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.cli.display import Display, Tally, duration
from ilvrctl.cli.output import data, data_json, say
from ilvrctl.errors import UsageError
from ilvrctl.text import visible

if TYPE_CHECKING:
    from ilvrctl.plans.manifest import Manifest

SHOWN = 10
"""Failures that are listed."""


def show_status(folder: Path, display: Display) -> None:
    """The state of every job, the last failures, speed and time left. UsageError where there is no manifest."""
    from ilvrctl.plans.manifest import is_written, manifest_files, read_manifest

    if not manifest_files(folder):
        raise UsageError(f"there is no manifest in {folder}", hint="give the output folder of ilvrctl batch")
    manifest = read_manifest(folder)
    running = is_written(folder)
    rows = _rows(manifest)
    todo = sum(row["to_do"] for row in rows)
    speed = _speed(manifest)
    left = todo / speed if running and speed and todo else None
    if display.as_json:
        for row in rows:
            data_json({"event": "job", **row})
        rate = None if speed is None else round(speed, 4)
        seconds = None if left is None else round(left)
        data_json({"event": "status", "running": running, "images_per_second": rate, "seconds_left": seconds})
        return
    for line in table(rows):
        data(line)
    failed = [entry for entry in manifest.entries.values() if entry.status == "failed"]
    for entry in failed[-SHOWN:]:
        say(f"{entry.job}: {entry.error}", label="failed", color=display.color)
    if len(failed) > SHOWN:
        say(f"and {len(failed) - SHOWN} earlier failures")
    pace = "" if speed is None else f", {speed:.2f} images/s"
    rest = "" if left is None else f", about {duration(left)} left"
    say(f"{'running' if running else 'not running'}{pace}{rest}")


def _rows(manifest: Manifest) -> list[dict[str, Any]]:
    counts = Counter((entry.job, entry.status) for entry in manifest.entries.values())
    rows = []
    for name, job in manifest.jobs.items():
        done, failed = counts[name, "done"], counts[name, "failed"]
        todo = max(0, job.items - done - failed)
        rows.append({"job": name, "to": job.to, "done": done, "failed": failed, "to_do": todo})
    return rows


def _speed(manifest: Manifest) -> float | None:
    """Results a second since the last run began; None when it has made none."""
    if not manifest.runs:
        return None
    begun = manifest.runs[-1].time
    times = [e.time for e in manifest.entries.values() if e.time > begun and e.seconds is not None]
    if not times:
        return None
    passed = (_time(max(times)) - _time(begun)).total_seconds()
    return len(times) / passed if passed > 0 else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def tally_rows(jobs: Mapping[str, Tally], targets: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row a job of what a run came to."""
    return [
        {
            "job": name,
            "to": targets.get(name, ""),
            "done": job.saved,
            "failed": job.failed,
            "to_do": max(0, job.total - job.finished),
        }
        for name, job in jobs.items()
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of equal columns, the last for all together."""
    total = {key: sum(row[key] for row in rows) for key in ("done", "failed", "to_do")}
    heads = {"job": "job", "to": "to", "done": "done", "failed": "failed", "to_do": "to do"}
    last = [{"job": "all", "to": "", **total}] if len(rows) > 1 else []
    whole = [{key: visible(str(row[key])) for key in heads} for row in (heads, *rows, *last)]
    widths = {key: max(len(row[key]) for row in whole) for key in heads}
    return [_line(row, widths) for row in whole]


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    cells = (f"{row[key]:{'<' if key in ('job', 'to') else '>'}{width}}" for key, width in widths.items())
    return "  ".join(cells).rstrip()
