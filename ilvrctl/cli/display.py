"""How a job is shown: what the flags ask for, and what has been counted."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ilvrctl.cli.output import terminal, use_color

if TYPE_CHECKING:
    from ilvrctl.events import JobEvent


@dataclass(frozen=True)
class Display:
    """What ``--json``, ``--quiet``, ``--verbose`` and ``--color`` (made a yes or no) ask for."""

    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    color: bool = False

    @classmethod
    def of(cls, as_json: bool = False, quiet: bool = False, verbose: int = 0, color: str = "auto") -> Display:
        """What a command's flags ask for. UsageError where ``color`` is not one of the three words."""
        return cls(as_json, quiet, verbose, use_color(color))

    @property
    def bars(self) -> bool:
        """Whether bars are drawn: only on a terminal, and not among the lines of ``-v``."""
        return terminal(sys.stderr) and not self.quiet and self.verbose == 0


@dataclass
class Tally:
    """How many of ``total`` results are made, were there, and have failed; what was passed by, and why."""

    total: int
    done: int = 0
    skipped: int = 0
    failed: int = 0
    passed_by: Counter[str] = field(default_factory=Counter)
    codes: set[int] = field(default_factory=set)
    verb: str = "translated"
    start: float = field(default_factory=time.perf_counter)
    jobs: dict[str, Tally] = field(default_factory=dict)
    """The same for each job, where there are several."""
    begun: float | None = None
    """When the first batch began."""
    sampled: float = 0.0
    """Results in work, by how much of each is done; none of them is saved."""

    @property
    def saved(self) -> int:
        """Results that are on disk."""
        return self.done + self.skipped

    @property
    def finished(self) -> int:
        """Results that nothing more will happen to."""
        return self.saved + self.failed

    @property
    def left(self) -> int:
        """Results that are still to be made; at the end, those that were not begun."""
        return max(0, self.total - self.finished)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.start

    @property
    def rate(self) -> float | None:
        """Results a second since the first batch began; None before that."""
        made = self.done + self.sampled
        if self.begun is None or not made:
            return None
        return made / max(time.perf_counter() - self.begun, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Until all results of all jobs are made; None when nobody can tell."""
        return None if self.rate is None else max(0.0, self.left - self.sampled) / self.rate

    def add(self, event: JobEvent) -> None:
        """Count one event; a failed input counts as all its results."""
        from ilvrctl.events import Arrived, BatchStarted, ItemFailed, PassedBy, Skipped, StepDone, Written

        match event:
            case BatchStarted():
                self.begun = self.begun or time.perf_counter()
                self.sampled = 0.0
            case StepDone(samples=samples, i=i, n=n):
                self.sampled = len(samples) * (i + 1) / n
            case Arrived(results=results):
                self.total += results
            case PassedBy(reason=reason):
                self.passed_by[reason] += 1
            case Skipped():
                self.skipped += 1
            case Written():
                self.done += 1
                self.sampled = max(0.0, self.sampled - 1)
            case ItemFailed(lost=lost, error=error):
                self.failed += lost
                self.codes.add(error.exit_code)
        if isinstance(event, (ItemFailed, Skipped, Written)) and event.job in self.jobs:
            self.jobs[event.job].add(event)

    @property
    def code(self) -> int:
        """The exit code: 0, or 1 when some failed; when all failed for one reason, that of the reason."""
        if self.failed and not self.saved and len(self.codes) == 1:
            return next(iter(self.codes))
        return 1 if self.failed else 0

    def summary(self) -> str:
        """One line for people, in which everything that was found is accounted for."""
        if self.skipped == self.total:
            what = {0: "no inputs", 1: "the result is there already"}
            usual = f"all {self.total} results are there already"
            return f"nothing to do: {what.get(self.total, usual)}{self._passed()}"
        parts = [f"{self.done} {self.verb}"]
        counts = {"there already": self.skipped, "failed": self.failed, "not begun": self.left}
        parts += [f"{count} {what}" for what, count in counts.items() if count]
        return f"{', '.join(parts)} in {duration(self.seconds)}{self._passed()}"

    def _passed(self) -> str:
        from ilvrctl.images.folders import counted

        return f"; {counted(self.passed_by)}" if self.passed_by else ""

    def interrupted(self) -> str:
        """One line for people who pressed Ctrl-C."""
        if not self.saved:
            return "interrupted before a result was saved; the same command begins again"
        saved = f"{self.saved} of {self.total} results are saved"
        return f"interrupted: {saved}; the same command goes on from there"

    def record(self) -> dict[str, Any]:
        """The same for programs; what was passed by, and was not begun, where there is any."""
        passed: Mapping[str, Any] = {"passed_by": dict(self.passed_by)} if self.passed_by else {}
        left = {"not_begun": self.left} if self.left else {}
        counts = {"done": self.done, "skipped": self.skipped, "failed": self.failed, **left, **passed}
        return {"event": "summary", **counts, "seconds": round(self.seconds, 3)}


def duration(seconds: float) -> str:
    """``8.4 s``, ``2 min 5 s`` or ``3 h 12 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def amount(size: float) -> str:
    """Bytes for people, in decimal units as download pages give them."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
