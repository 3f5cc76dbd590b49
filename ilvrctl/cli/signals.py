"""Ctrl-C, SIGTERM and SIGHUP: the first asks to stop, a second one ends the process at once.

Nothing but what Python has loaded anyway is imported here, so that the handlers stand before anything slow begins.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask to stop; Windows has no SIGHUP."""
INTERRUPTED = 130
"""Exit code after SIGINT."""
SAME = 0.1
"""Seconds within which a second signal is the first one told twice, as shells and ``timeout`` do."""
SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop.

    Not KeyboardInterrupt itself: where that passes through code run by ``exec``, as in making a dataclass, Python
    notes it for ever and ends the process by SIGINT, although it was handled.
    """


class _Heard:
    """The first signal that came, and when; whether it is only noted, held back, or too late to be handled."""

    number: int | None = None
    at = 0.0
    noted = False
    held = False
    ending = False


def received() -> int | None:
    """The signal that asked to stop; None when none did."""
    return _Heard.number


def exit_code() -> int:
    """Of a process that was asked to stop: 130, 143 or 129."""
    return 128 + (_Heard.number or signal.SIGINT)


def check() -> None:
    """Raise KeyboardInterrupt when a signal came whose exception was lost, as in a callback of a library in C."""
    if _Heard.number is not None and not _Heard.noted:
        raise Interrupted


def listen() -> None:
    """Set the handlers; a signal that is ignored from the start (nohup) stays ignored. In the main thread only."""
    sys.unraisablehook = _lost
    with suppress(ValueError):
        for number in NUMBERS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _handle)


def _lost(what: sys.UnraisableHookArgs) -> None:
    """An exception where none can be raised, as in a callback of an import: that of a signal is raised later."""
    if isinstance(what.exc_value, Interrupted):
        _Heard.held = True
    else:
        sys.__unraisablehook__(what)


def end() -> None:
    """From here on nothing is left to be finished: a signal ends the process at once."""
    _Heard.ending = True


@contextmanager
def listening() -> Iterator[None]:
    """The handlers for the time of one command; those of before come back."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    hook = sys.unraisablehook
    listen()
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if _handle not in before.values():
            _Heard.number = None
            with suppress(ValueError):
                for number, handler in before.items():
                    signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """A signal that comes while the block writes is raised by :func:`let_go`: half a write would be written twice."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread alone
        return
    before, _Heard.noted = _Heard.noted, True
    known = _Heard.number
    try:
        yield
    finally:
        _Heard.noted = before
        _Heard.held = _Heard.held or (not before and _Heard.number != known)


def let_go() -> None:
    """Raise KeyboardInterrupt for a signal that was held."""
    if _Heard.held:
        _Heard.held = False
        raise KeyboardInterrupt


@contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Whether a signal has come: what is at work asks, finishes and saves. The first raises nothing meanwhile."""
    _Heard.noted = True
    try:
        yield lambda: _Heard.number is not None
    finally:
        _Heard.noted = False


def _handle(number: int, _: object) -> None:
    now = time.monotonic()
    if _Heard.ending or (_Heard.number is not None and now - _Heard.at > SAME):
        with suppress(OSError):
            if os.isatty(2):
                os.write(2, SHOW_CURSOR)
        os._exit(128 + number)
    if _Heard.number is None:
        _Heard.number, _Heard.at = number, now
        if not _Heard.noted:
            raise Interrupted
