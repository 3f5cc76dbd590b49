"""One process at a time: a lock of the operating system, which vanishes with the process that held it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ilvrctl.files import try_lock
from ilvrctl.hub.errors import DownloadError

_POLL = 0.1  # seconds


class FileLock:
    """An exclusive lock on ``path``, a small file that is left behind (removing it would race).

    :meth:`try_acquire` does not wait; :meth:`release` may be called at any time. Where the file system knows no
    locks, the lock is granted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Whether the lock is held now. DownloadError when the folder cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DownloadError(
                f"cannot write to {self._path.parent.parent}: {error.strerror or error}",
                hint="ILVRCTL_WEIGHTS names another folder for the weights",
            ) from error
        if try_lock(descriptor):
            self._descriptor = descriptor
            return True
        os.close(descriptor)
        return False

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for the lock on ``path`` and hold it."""
    lock = FileLock(path)
    while not lock.try_acquire():
        time.sleep(_POLL)
    try:
        yield
    finally:
        lock.release()
