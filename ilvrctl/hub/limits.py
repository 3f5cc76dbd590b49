"""How patient a download is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONNECT = 15.0  # seconds
BACKOFF = 0.5  # seconds before the second try, then doubled
LONGEST_WAIT = 60.0  # seconds
SLOWEST = 1024  # bytes per second
DRIVE_PATIENCE = 4  # gdown reports every half megabyte, so it is given this many times the silence


@dataclass(frozen=True)
class Limits:
    """``timeout``: seconds of silence, or of less than a kilobyte a second, that end an attempt.

    ``retries``: attempts in a row that bring nothing new before a source is given up. ``cookies``: a file of
    cookies in Netscape's format.
    """

    timeout: float = 30.0
    retries: int = 4
    cookies: Path | None = None

    def wait(self, failures: int, asked: float) -> float:
        """Seconds before the next attempt after ``failures`` in a row; ``asked``: what the server wants."""
        return min(max(BACKOFF * float(2**failures), asked), LONGEST_WAIT)
