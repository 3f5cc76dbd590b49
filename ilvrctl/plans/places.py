"""Questions about paths that get an answer for every path: loops of links and names too long do not raise."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ilvrctl.memory import remembered

LONGEST = 255
"""Bytes of a name that most file systems take."""


def real(path: Path) -> Path:
    """The path with all links followed, as far as they lead somewhere."""
    return Path(os.path.realpath(path))


class Folders:
    """The same answers for many files at one moment: each folder is resolved once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def place(self, path: Path) -> str:
        """As :func:`place`, in text."""
        top, name = os.path.split(path)
        if name in ("", ".", ".."):
            return str(place(path))
        if top not in self._known:
            self._known[top] = str(real_folder(Path(top)))
        return f"{self._known[top].rstrip(os.sep)}{os.sep}{name}"

    def real(self, path: Path) -> str:
        """As :func:`real`, in text."""
        where = self.place(path)
        return os.path.realpath(where) if os.path.islink(where) else where  # noqa: PTH114


class Limits:
    """How long names may be where files go; each folder is asked once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, str | None]] = {}

    def too_long(self, path: Path) -> str | None:
        """Why the file system cannot hold a file of that name, in words; None where it can."""
        if path.parent not in self._known:
            self._known[path.parent] = _limit(path.parent)
        longest, reason = self._known[path.parent]
        return reason or _too_long(path.name, longest, "file")


def _limit(folder: Path) -> tuple[int, str | None]:
    """The bytes that a name in ``folder`` may have, and what is wrong with the folders that are not there yet."""
    there = nearest(folder)
    longest = _longest(there)
    missing = folder.parts[len(there.parts) :]
    return longest, next(filter(None, (_too_long(part, longest, "folder") for part in missing)), None)


@remembered
def _longest(folder: Path) -> int:
    """The bytes that a name in a folder that is there may have."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else LONGEST
    except (OSError, ValueError):
        return LONGEST


@remembered
def nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return folder if exists(folder) or folder == folder.parent else nearest(folder.parent)


def _too_long(name: str, longest: int, what: str) -> str | None:
    size = len(os.fsencode(name))
    return f"the name of the {what} has {size} bytes, and {longest} are possible" if size > longest else None


def place(path: Path) -> Path:
    """Where the file or link itself is: the folders above it are resolved."""
    return real_folder(path.parent) / path.name if path.name not in ("", "..") else real(path)


@remembered
def real_folder(folder: Path) -> Path:
    """As :func:`real`, once for a folder, and for those above it, while a run is planned."""
    if folder.name in ("", "..") or os.path.islink(folder):  # noqa: PTH114  answers for names too long
        return real(folder)
    return real_folder(folder.parent) / folder.name


def exists(path: Path) -> bool:
    """Whether there is something, links followed."""
    return _mode(path) is not None


def is_folder(path: Path) -> bool:
    """Whether it is a folder, or a link to one."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_file(path: Path) -> bool:
    """Whether it is a regular file, or a link to one."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return None
