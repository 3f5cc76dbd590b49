"""How a job is shown: what the flags ask for, and what has been counted."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ilvrctl.cli.output import terminal

if TYPE_CHECKING:
    from ilvrctl.events import JobEvent


@dataclass(frozen=True)
class Display:
    """What ``--json``, ``--quiet``, ``--verbose`` and ``--color`` (made a yes or no) ask for."""

    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    color: bool = False

    @property
    def bars(self) -> bool:
        """Whether bars are drawn: only on a terminal, and not among the lines of ``-v``."""
        return terminal(sys.stderr) and not self.quiet and self.verbose == 0


@dataclass
class Tally:
    """How many of ``total`` results are made, were there, and have failed."""

    total: int
    done: int = 0
    skipped: int = 0
    failed: int = 0
    codes: set[int] = field(default_factory=set)
    verb: str = "translated"
    start: float = field(default_factory=time.perf_counter)
    jobs: dict[str, Tally] = field(default_factory=dict)
    """The same for each job, where there are several."""

    @property
    def saved(self) -> int:
        """Results that are on disk."""
        return self.done + self.skipped

    @property
    def finished(self) -> int:
        """Results that nothing more will happen to."""
        return self.saved + self.failed

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.start

    def add(self, event: JobEvent) -> None:
        """Count one event; a failed input counts as all its results."""
        from ilvrctl.events import ItemFailed, Skipped, Written

        self.done += isinstance(event, Written)
        self.skipped += isinstance(event, Skipped)
        if isinstance(event, ItemFailed):
            self.failed += event.lost
            self.codes.add(event.error.exit_code)
        if isinstance(event, (ItemFailed, Skipped, Written)) and event.job in self.jobs:
            self.jobs[event.job].add(event)

    @property
    def code(self) -> int:
        """The exit code: 0, or 1 when some failed; when all failed for one reason, that of the reason."""
        if self.failed and not self.saved and len(self.codes) == 1:
            return next(iter(self.codes))
        return 1 if self.failed else 0

    def summary(self) -> str:
        """One line for people."""
        if self.skipped == self.total:
            what = "the result is" if self.total == 1 else f"all {self.total} results are"
            return f"nothing to do: {what} there already"
        parts = [f"{self.done} {self.verb}"]
        if self.skipped:
            parts.append(f"{self.skipped} there already")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return f"{', '.join(parts)} in {duration(self.seconds)}"

    def interrupted(self) -> str:
        """One line for people who pressed Ctrl-C."""
        if not self.saved:
            return "interrupted before a result was saved; the same command begins again"
        saved = f"{self.saved} of {self.total} results are saved"
        return f"interrupted: {saved}; the same command goes on from there"

    def record(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "event": "summary",
            "done": self.done,
            "skipped": self.skipped,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
        }


def duration(seconds: float) -> str:
    """``8.4 s``, ``2 min 5 s`` or ``3 h 12 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
