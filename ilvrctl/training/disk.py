"""What a training needs of the disk before it starts: room for what it will write, and a folder of its own."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ilvrctl.errors import OutputError, UsageError
from ilvrctl.files import make_folder, unwritable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def check_room(wanted: Mapping[Path, int]) -> None:
    """OutputError unless there is room for so many bytes in each folder, and for the sum of those on one disk.

    A folder need not be there yet. What a disk says leaves quotas out, so the bytes are taken for a moment too,
    where the system can do that without writing them.
    """
    on_disk: dict[int, int] = {}
    for folder, size in wanted.items():
        folder = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
        device = folder.stat().st_dev
        on_disk[device] = on_disk.get(device, 0) + size
        free = shutil.disk_usage(folder).free
        if free < on_disk[device]:
            raise _no_room(folder, on_disk[device], f"{_megabytes(free)} are free")
        _take(folder, size)


def _take(folder: Path, size: int) -> None:
    probe = folder / f".room-{os.getpid()}.part"
    try:
        with probe.open("wb") as file:
            if hasattr(os, "posix_fallocate") and size:
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _no_room(folder, size, "the system gives less") from error
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise unwritable(folder, error) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def _no_room(folder: Path, size: int, found: str) -> OutputError:
    return OutputError(
        f"no room in {folder}: this training needs {_megabytes(size)} there, and {found}",
        "free some space, or write somewhere else with --out (ILVRCTL_WEIGHTS is the place of the weights, "
        "ILVRCTL_CACHE that of decoded pictures)",
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def try_alone(lock: FileLock, seconds: float) -> bool:
    """Whether the lock is held now, after waiting for it so long; granted where the file system knows no locks."""
    try:
        make_folder(Path(lock.lock_file).parent)
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    except NotImplementedError:
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise unwritable(Path(lock.lock_file), error) from error
    return True


@contextmanager
def alone(path: Path, what: str, hint: str) -> Iterator[None]:
    """Hold the lock on the small file ``path``; UsageError when another process holds it."""
    lock = FileLock(path, thread_local=False)
    if not try_alone(lock, 0):
        raise UsageError(what, hint)
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):  # nothing was written, so nothing is left
            if [*path.parent.iterdir()] in ([path], []):
                path.unlink(missing_ok=True)
                path.parent.rmdir()


def same_file(source: Path, target: Path) -> Path:
    """``target`` with the content of ``source``, on the same bytes of the disk where it can be, all at once."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise unwritable(target, error) from error
    with suppress(OSError):
        part.unlink()  # what is left when both were one file already
    return target
