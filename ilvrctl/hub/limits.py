"""How patient a download is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ilvrctl.hub.errors import BrokenOffError, SourceError

CONNECT = 15.0  # seconds
BACKOFF = 0.5  # seconds before the second try, then doubled
LONGEST_WAIT = 60.0  # seconds
SLOWEST = 1024  # bytes per second
MINUTE = 60.0  # seconds of transfer in which a source must have been faster than that
DRIVE_PATIENCE = 4  # Drive has pages before its files, so it is given this many times the silence for them


@dataclass(frozen=True)
class Limits:
    """``timeout``: seconds of silence, or of less than a kilobyte a second, that end an attempt.

    ``retries``: attempts in a row that bring nothing new before a source is given up. ``cookies``: a file of
    cookies in Netscape's format. ``clock``: seconds that only ever go forward, whatever the time of day does.
    """

    timeout: float = 30.0
    retries: int = 4
    cookies: Path | None = None
    clock: Callable[[], float] = time.monotonic

    def wait(self, failures: int, asked: float) -> float:
        """Seconds before the next attempt after ``failures`` in a row; ``asked``: what the server wants."""
        return min(max(BACKOFF * float(2**failures), asked), LONGEST_WAIT)


class Pace:
    """Whether what a source sends is worth waiting for: within an attempt, and over all of them.

    The second because one that drips brings something new at every attempt, and would be asked for ever.
    """

    def __init__(self, limits: Limits) -> None:
        self.clock, self._timeout = limits.clock, limits.timeout
        self._all = self._now = (0.0, 0)  # seconds and bytes
        self._last = self.clock()

    def begin(self) -> None:
        """An attempt begins; the wait before it does not count."""
        self._last, self._now = self.clock(), (0.0, 0)

    def count(self, size: int, host: str) -> None:
        """``size`` more bytes came. BrokenOffError for a slow attempt, SourceError for a slow minute."""
        now = self.clock()
        more, self._last = now - self._last, now
        self._all = _checked(self._all, more, size, MINUTE, SourceError, f"{host} is too slow to wait for")
        self._now = _checked(self._now, more, size, self._timeout, BrokenOffError, f"{host} is too slow")


def _checked(
    before: tuple[float, int], more: float, size: int, most: float, kind: type[SourceError], what: str
) -> tuple[float, int]:
    """Seconds and bytes with what came; begun anew after ``most`` seconds, unless those were too slow."""
    seconds, came = before[0] + more, before[1] + size
    if seconds <= most:
        return seconds, came
    if came < SLOWEST * seconds:
        raise kind(f"{what}: {came:,} bytes in {seconds:.0f} s")
    return 0.0, 0
