"""Errors that a person can act on. Each says what went wrong, why, and what to do next.

Every error that ilvrctl raises on purpose is an :class:`IlvrctlError`; the command line prints its
``message`` and ``hint`` and leaves with its ``exit_code``. Anything else is a bug.
"""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class IlvrctlError(Exception):
    """Base of all expected errors: ``message`` (what and why), ``hint`` (the next command), ``exit_code``.

    An error that is sent to another process stays what it is, and shows there where it was raised.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        trace = "".join(traceback.format_exception(type(self), self, self.__traceback__))
        return _again, (type(self), self.args, self.__dict__, trace)


class RaisedElsewhereError(Exception):
    """The cause of an error that was raised in another process: its traceback as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _again(
    kind: type[IlvrctlError], args: tuple[object, ...], values: Mapping[str, Any], trace: str
) -> IlvrctlError:
    error = kind.__new__(kind, *args)
    vars(error).update(values)
    error.__cause__ = RaisedElsewhereError(trace)
    return error


class UsageError(IlvrctlError):
    """A flag, an argument or a combination of them cannot be carried out. Exit code 2."""

    exit_code = 2


class ConfigError(UsageError):
    """A preset or configuration file has an unknown key or a value out of range. Exit code 2."""


class ForeignSettingError(ConfigError):
    """A setting, its dotted ``key``, belongs to another method or sampler than the one chosen. Exit code 2."""

    def __init__(self, key: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.key = key


class WeightsError(IlvrctlError):
    """A checkpoint is missing, broken, or something other than a denoising network. Exit code 3."""

    exit_code = 3


class MissingExtraError(IlvrctlError):
    """An optional package is not installed; the hint installs it. Exit code 3."""

    exit_code = 3


class InputError(IlvrctlError):
    """One input picture cannot be read; the others go on. Exit code 1 at the end."""


class OutputError(IlvrctlError):
    """A result cannot be written (permissions, full disk). Exit code 1."""


class DeviceError(IlvrctlError):
    """The device asked for is not there, or was lost. Exit code 1."""


class DeviceMemoryError(DeviceError):
    """A single sample does not fit into the device's memory. Exit code 1."""


class ItemError(IlvrctlError):
    """Something that nobody foresaw went wrong with one item; the others go on. Exit code 1 at the end."""


class NonFiniteError(IlvrctlError):
    """A sample became NaN or infinite; the message names the step. Exit code 1."""


_OF_THE_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENFILE),
    *(errno.EEXIST, errno.ENOTDIR),  # of folders: a file stands where the results go
}


def is_shared(error: IlvrctlError) -> bool:
    """Whether it is about no single item of a run, and would meet the next ones too, so that the run ends.

    A full or read-only disk, a folder that nothing can be written into any more, weights that cannot be read, a
    device that is gone.
    """
    if isinstance(error, OutputError):
        cause = error.__cause__
        if not isinstance(cause, OSError):
            return False
        folder = os.path.dirname(cause.filename or "")  # noqa: PTH120
        locked = (
            cause.errno in (errno.EACCES, errno.EPERM) and folder and not os.access(folder, os.W_OK | os.X_OK)
        )
        return bool(locked) or cause.errno in _OF_THE_DISK
    return isinstance(error, (WeightsError, MissingExtraError, DeviceError)) and not isinstance(
        error, DeviceMemoryError
    )


def may_pass(error: IlvrctlError) -> bool:
    """Whether an item that failed may succeed the next time, though nothing that was asked for has changed.

    So it is with memory, a device, a place to write to, and what nobody foresaw; a damaged picture stays one.
    """
    if isinstance(error, OutputError):
        return isinstance(error.__cause__, OSError) and error.__cause__.errno is not None
    return isinstance(error, (ItemError, DeviceError)) or isinstance(error.__cause__, MemoryError)


@contextmanager
def stage(what: str, name: str) -> Iterator[None]:
    """Of one item, ``name``: whatever its block raises is an :class:`IlvrctlError`.

    ``what`` is being done, such as ``decoding``. Expected errors pass; all others become an :class:`ItemError`,
    whose cause they are.
    """
    try:
        yield
    except IlvrctlError:
        raise
    except Exception as error:
        raise item_error(error, what, name) from error


def item_error(error: Exception, what: str, name: str) -> ItemError:
    """What ``error`` means for the one item that it was about; ``what`` was being done."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    kind = type(error).__name__
    failed = ItemError(f"{name}: {what} failed: {kind}{': ' if reason else ''}{reason}", "-vv shows where")
    if isinstance(error, MemoryError):
        failed = ItemError(f"{name} does not fit into memory ({what})", "scale it down first")
    failed.__cause__ = error
    return failed


def unreadable(path: Path, error: OSError) -> WeightsError:
    """Of weights that the system does not give out."""
    return WeightsError(
        f"{path}: cannot be read ({error.strerror or error})",
        "see with `ls -l` whether you may read it, or give another file with --weights",
    )


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The closest of ``known`` to ``name`` as a hint sentence, or None when nothing is close."""
    names = list(known)
    close = _of_other_number(name, names) or get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None


def _of_other_number(name: str, known: Iterable[str]) -> list[str]:
    """Those that differ from ``name`` in their numbers alone, the nearest first: fp32 is nearer to fp64 than fp16."""

    def numbers(text: str) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", text)]

    def distance(text: str) -> list[int]:
        return [abs(a - b) for a, b in zip(numbers(text), numbers(name), strict=True)]

    letters = re.sub(r"\d+", "0", name)
    return sorted(
        (one for one in known if numbers(one) and re.sub(r"\d+", "0", one) == letters), key=distance
    )
