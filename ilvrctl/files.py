"""Files that are written all or nothing, locks on files, and what stands in the way in words."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ilvrctl import paths
from ilvrctl.errors import OutputError

_REASONS = {
    errno.EACCES: ("permission denied", "write somewhere else with --out"),
    errno.EPERM: ("permission denied", "write somewhere else with --out"),
    errno.EROFS: ("the disk is read-only", "write somewhere else with --out"),
    errno.ENOSPC: ("no space left on the disk", "free some space, then run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, then run the same command again"),
    errno.ENAMETOOLONG: ("the file name is too long", "give a shorter name with --out"),
    errno.ENOTDIR: ("part of its path is a file, not a folder", "write somewhere else with --out"),
    errno.EISDIR: ("a folder of that name exists", "give another name with --out"),
    errno.EEXIST: ("a file of that name exists", "write somewhere else with --out"),
}
_LONGEST = 250
"""Bytes of a name that leave room for ``.part``: most file systems take 255."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""Errors of file systems that know no locks."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """``<name>.part`` beside ``path``, for the block to write; it takes the place of ``path`` at its end.

    When the block fails (Ctrl-C included) the part is removed and an older file at ``path`` stays as it was.
    Raises OutputError with the reason for an OSError.
    """
    part = path.with_name(_part_name(path.name))
    try:
        yield part
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def _part_name(name: str) -> str:
    """``<name>.part``, shortened where a file system would not take it."""
    if len(os.fsencode(name)) <= _LONGEST:
        return f"{name}.part"
    start = os.fsencode(name)[: _LONGEST - 9].decode("utf-8", "ignore")
    return f"{start}-{sha256(os.fsencode(name)).hexdigest()[:8]}.part"


def write_text(path: Path, text: str) -> Path:
    """Write a small file, and the folders above it, all at once or not at all; returns ``path``."""
    make_folder(path.parent)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def make_folder(path: Path) -> Path:
    """``path``, after making it and those above it. OutputError with the reason when that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return path


@dataclass(frozen=True)
class Remembered:
    """What was found out about files, kept in the cache ``name``.json as long as they do not change.

    A file is known by its path, size and time of change. A cache that cannot be read or written is no error: all is
    then found out anew.
    """

    name: str

    def get(self, *files: Path) -> Any:
        """What was found out about ``files`` together, a JSON value; None where nothing is known."""
        return self._read().get(_state(files))

    def put(self, value: Any, *files: Path) -> None:
        """Remember a JSON value; of one path only the last."""
        key = _state(files)
        same = f"{_places(files)}:"
        known = {k: v for k, v in self._read().items() if not k.startswith(same)}
        part = self._file().with_suffix(f".{os.getpid()}.part")
        with suppress(OSError, TypeError, ValueError):
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({**known, key: value}), encoding="utf-8")
            part.replace(self._file())

    def _file(self) -> Path:
        return paths.cache_dir() / f"{self.name}.json"

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._file().read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return known if isinstance(known, dict) else {}


def _places(files: tuple[Path, ...]) -> str:
    return "|".join(str(file.resolve()) for file in files)


def _state(files: tuple[Path, ...]) -> str:
    states = [file.stat() for file in files]
    return f"{_places(files)}:" + ",".join(f"{s.st_size}:{s.st_mtime_ns}" for s in states)


def unwritable(path: Path, error: OSError) -> OutputError:
    """Why ``path`` could not be written, and what to do."""
    if error.errno == errno.ENOENT:
        folder = shlex.quote(str(path.parent))
        return OutputError(f"cannot write {path}: its folder does not exist", f"mkdir -p {folder}")
    reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), None))
    return OutputError(f"cannot write {path}: {reason}", hint)


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Whether the open file is locked now for this process alone; the lock ends with the process."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Whether the open file is locked now for this process alone; the lock ends with the process.

        Where the file system knows no locks, it is granted.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in _NO_LOCKS
        return True
