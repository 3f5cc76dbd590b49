"""Files and folders: written all or nothing, read within bounds, held inside the folder they belong to."""

from __future__ import annotations

import codecs
import errno
import json
import os
import re
import shlex
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl import paths
from ilvrctl.errors import ConfigError, InputError, OutputError
from ilvrctl.text import visible

if TYPE_CHECKING:
    from filelock import BaseFileLock

_ELSEWHERE = "write somewhere else with --out"
_REASONS = {
    errno.EACCES: ("permission denied", _ELSEWHERE),
    errno.EPERM: ("permission denied", _ELSEWHERE),
    errno.EROFS: ("the disk is read-only", _ELSEWHERE),
    errno.ENOSPC: ("no space left on the disk", "free some space, then run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, then run the same command again"),
    errno.ENAMETOOLONG: ("the file name is too long", "give a shorter name with --out"),
    errno.ENOTDIR: ("part of its path is a file, not a folder", _ELSEWHERE),
    errno.EISDIR: ("a folder of that name exists", "give another name with --out"),
    errno.EEXIST: ("a file of that name exists", _ELSEWHERE),
}
_LONGEST = 250
"""Bytes of a name that leave room for ``.part``: most file systems take 255."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""Errors of file systems that know no locks."""
_WRITERS = 100
"""Processes that may write one and the same file at once."""
_CHUNK = 4 << 20
_POLL = 0.1  # seconds
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)[ .]*(\..*)?")
"""Names that are devices on Windows, whatever comes behind the point."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def inside(folder: Path, name: str, what: str, called: str = "its folder") -> Path:
    """The path of ``name`` in ``folder``, for a name that comes from a preset, a record, an archive or a server.

    ConfigError ("WHAT must be a name inside CALLED") for any name that leads or might lead elsewhere, here or on
    another system: absolute ones, drives, ``..``, backslashes, control characters, devices of Windows, ends that
    Windows drops, too long ones, and names below a link out of ``folder``.
    """
    parts = name.split("/")
    wrong = "absolute" if name.startswith("/") else next(filter(None, map(_wrong_part, parts)), None)
    path = folder.joinpath(*parts) if wrong is None else folder
    if wrong is None and len(os.fsencode(name)) > 4 * _LONGEST:
        wrong = "too long"
    if wrong is None and len(parts) > 1 and not _real(path.parent).is_relative_to(_real(folder)):
        wrong = "a link to elsewhere"
    if wrong is not None:
        shown = visible(name if len(name) <= 80 else f"{name[:77]}...")
        raise ConfigError(f"{what} must be a name inside {called}, and '{shown}' is {wrong}")
    return path


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # resolve() fails on links in a circle, in older Pythons


def _wrong_part(part: str) -> str | None:
    """What is wrong with one name of a path; None for an ordinary one."""
    if part in ("", ".", ".."):
        return "no plain path" if part else "without a name"
    if "\\" in part or ":" in part or visible(part) != part:
        return "written with characters that no name here has"
    if part[-1] in ". " or part[0] == " " or _RESERVED.fullmatch(part):
        return "a name that not every system can have"
    return "too long" if len(os.fsencode(part)) > _LONGEST else None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """``<name>.part`` beside ``path``, for the block to write; it takes the place of ``path`` at its end.

    The part belongs to this block alone: a second one that writes ``path`` at the same time gets another, and
    what a killed process left is taken over or removed. When the block fails (Ctrl-C included) the part is removed
    and an older file at ``path`` stays as it was. Raises OutputError with the reason for an OSError.
    """
    descriptor, part = -1, path
    try:
        descriptor, part, number = _own_part(path)
        yield part
        if sys.platform == "win32":  # where no open file can be renamed
            os.close(descriptor)
            descriptor = -1
        part.replace(path)
        sweep(path, number + 1)
    except BaseException as error:
        if part != path:
            with suppress(OSError):
                part.unlink()
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _own_part(path: Path) -> tuple[int, Path, int]:
    """A part of ``path`` that no other process writes: its open and locked file, its path and its number."""
    for number in range(1, _WRITERS):
        part = path.with_name(_part_name(path.name, number))
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if _is_ours(descriptor, part):
            os.ftruncate(descriptor, 0)
            return descriptor, part, number
        os.close(descriptor)
    raise OSError(errno.EBUSY, "too many processes are writing it")


def _is_ours(descriptor: int, part: Path) -> bool:
    """Whether the open file is locked for us, and still is ``part``: who had it may have given it its name."""
    try:
        return try_lock(descriptor) and os.path.samestat(os.fstat(descriptor), part.stat())
    except FileNotFoundError:
        return False


def sweep(path: Path, number: int = 1) -> None:
    """Remove the parts of ``path``, from a ``number`` on, that killed processes have left."""
    for left in range(number, _WRITERS):
        part = path.with_name(_part_name(path.name, left))
        try:
            descriptor = os.open(part, os.O_RDWR)
        except OSError:  # there are no more
            return
        with suppress(OSError):
            if _is_ours(descriptor, part):
                part.unlink()
        os.close(descriptor)


def _part_name(name: str, number: int = 1) -> str:
    """``<name>.part``, ``<name>.2.part`` ..., shortened where a file system would not take it."""
    end = ".part" if number == 1 else f".{number}.part"
    if len(os.fsencode(name + end)) <= _LONGEST + 5:
        return name + end
    start = os.fsencode(name)[: _LONGEST - 9 - len(end)].decode("utf-8", "ignore")
    return f"{start}-{sha256(os.fsencode(name)).hexdigest()[:8]}{end}"


def write_text(path: Path, text: str) -> Path:
    """Write a small file, and the folders above it, all at once or not at all; returns ``path``."""
    make_folder(path.parent)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def read_text(path: Path, *, limit: int = 1 << 20) -> str:
    """The text of a small file: UTF-8, or what its byte order mark says.

    InputError ("cannot read ...") for what is no regular file (a folder, a device, a pipe), larger than ``limit``
    bytes, no text, or cannot be opened.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:  # Path.open takes no opener
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(0, "it is no ordinary file")
            content = file.read(limit + 1)
        if len(content) > limit:
            raise OSError(0, f"it is larger than {limit / 1e6:.3g} MB")
        text = as_utf8(content).decode()
        if "\0" in text:
            raise OSError(0, "it is not a text, or in UTF-16 without its mark")
        return text
    except UnicodeDecodeError as error:
        raise InputError(
            f"cannot read {visible(str(path))}: it is not a text in UTF-8 ({error.reason})"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read {visible(str(path))}: {getattr(error, 'strerror', None) or error}"
        ) from error


def as_utf8(content: bytes) -> bytes:
    """A text in UTF-8 where its byte order mark says what it is in; without such a mark as it is.

    UnicodeDecodeError for what is not what its mark says.
    """
    coding = next((coding for mark, coding in _MARKS if content.startswith(mark)), None)
    return content if coding is None else content.decode(coding).encode()


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to does not hold us up."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def make_folder(path: Path) -> Path:
    """``path``, after making it and those above it. OutputError with the reason when that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason, hint = _reason(error)
        raise OutputError(f"cannot make the folder {path}: {reason}", hint) from error
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
    reason, hint = _reason(error)
    return OutputError(f"cannot write {path}: {reason}", hint)


def _reason(error: OSError) -> tuple[str, str | None]:
    return _REASONS.get(error.errno or 0, (error.strerror or str(error), None))


class Digests:
    """sha256 of files, remembered in ``file`` by path, size and times of change if of ``above`` bytes or more.

    :meth:`keep` writes what was used to the file; one that cannot be read or written is no error.
    """

    def __init__(self, file: Path, *, above: int = 0) -> None:
        self._file, self._above = file, above
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self._known: dict[str, str] = known if isinstance(known, dict) else {}
        self._used: dict[str, str] = {}

    def of(self, path: Path, read: Callable[[Path], bytes] | None = None) -> str:
        """sha256 of the file's bytes in hexadecimal, which ``read`` gets; OSError when it cannot be read."""
        state = path.stat()
        key = f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}"
        found = self._used.get(key) or self._known.get(key)
        if not isinstance(found, str):
            found = file_sha256(path) if read is None else sha256(read(path)).hexdigest()
        if state.st_size >= self._above:
            self._used[key] = found
        return found

    def keep(self, *, unused: bool = False) -> None:
        """Remember what was asked for; ``unused``: what was known before and not asked for now too."""
        kept = {**self._known, **self._used} if unused else self._used
        if kept != self._known:
            with suppress(OutputError):
                write_text(self._file, json.dumps(kept))


def file_sha256(path: Path) -> str:
    """sha256 of a file of any size in hexadecimal."""
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock ``path``, a file that is left behind, and hold it. OSError when it cannot be made."""
    lock = lock_of(path)
    while not try_acquire(lock):
        time.sleep(_POLL)
    try:
        yield
    finally:
        lock.release()


def lock_of(path: Path) -> BaseFileLock:
    """A lock among processes, those of other users too, that goes with the process that holds it; not held yet."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False, mode=0o666)


def try_acquire(lock: BaseFileLock) -> bool:
    """Whether the lock is held now. Where the file system knows no locks, it is granted."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Whether the open file is locked now for this process alone; the lock ends with the process.

        A byte behind every file's end is locked: what is locked on Windows can be neither read nor written.
        """
        here = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, 1 << 60, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, here, os.SEEK_SET)
        return True

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Whether the open file is locked now for this process alone; the lock ends with the process.

        For a file that is itself written, which a lock of its own beside it would outlive. Where the file system
        knows no locks, it is granted.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in _NO_LOCKS
        return True
