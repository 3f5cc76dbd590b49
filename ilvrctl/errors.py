"""Errors that a person can act on. Each says what went wrong, why, and what to do next.

Every error that ilvrctl raises on purpose is an :class:`IlvrctlError`; the command line prints its
``message`` and ``hint`` and leaves with its ``exit_code``. Anything else is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class IlvrctlError(Exception):
    """Base of all expected errors: ``message`` (what and why), ``hint`` (the next command), ``exit_code``."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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
    """The device asked for is not there, or ran out of memory at batch size 1. Exit code 1."""


class NonFiniteError(IlvrctlError):
    """A sample became NaN or infinite; the message names the step. Exit code 1."""


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The closest of ``known`` to ``name`` as a hint sentence, or None when nothing is close."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None
