"""What a download tells while it works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ilvrctl.errors import IlvrctlError
from ilvrctl.events import Noted, Warned

Trust = Literal["published", "pinned", "first seen"]


@dataclass(frozen=True)
class Present:
    """The file is there already; ``after_waiting`` when another process fetched it in the meantime."""

    name: str
    path: Path
    after_waiting: bool = False


@dataclass(frozen=True)
class Waiting:
    """Another process is fetching this file."""

    name: str


@dataclass(frozen=True)
class Asking:
    """A source is asked for the file; ``kept`` bytes of it are here from before."""

    name: str
    source: str
    kept: int = 0


@dataclass(frozen=True)
class Received:
    """``done`` of ``total`` bytes are here; ``total`` is None when the server does not tell."""

    name: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Retrying:
    """A transfer broke off with ``kept`` bytes here, and goes on in ``wait`` seconds."""

    name: str
    reason: str
    kept: int
    wait: float


@dataclass(frozen=True)
class SourceFailed:
    """A source did not deliver; ``left`` others will be asked."""

    name: str
    source: str
    error: IlvrctlError
    left: int


@dataclass(frozen=True)
class Checking:
    """All bytes are here and are being checked."""

    name: str


@dataclass(frozen=True)
class Fetched:
    """The file is in place. ``trust``: what its sha256 was compared with; ``use``: a command for it, or ""."""

    name: str
    path: Path
    source: str
    size: int
    sha256: str
    trust: Trust
    seconds: float
    use: str = ""


@dataclass(frozen=True)
class Verified:
    """An installed file was read again and is what it was."""

    name: str
    path: Path
    size: int
    sha256: str
    trust: Trust


@dataclass(frozen=True)
class Failed:
    """There is no such file here, or a bad one; ``kept`` bytes of an unfinished transfer remain."""

    name: str
    error: IlvrctlError
    kept: int = 0


HubEvent = (
    Present
    | Waiting
    | Asking
    | Received
    | Retrying
    | SourceFailed
    | Checking
    | Fetched
    | Verified
    | Failed
    | Noted
    | Warned
)
