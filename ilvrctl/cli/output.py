"""The one door to the terminal: data on stdout, everything else on stderr."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from ilvrctl.errors import IlvrctlError, UsageError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130
COLORS = ("auto", "always", "never")
LABELS = {"error": "red", "failed": "red", "warning": "yellow", "hint": "cyan"}
"""First words of a line that are coloured."""


def use_color(when: str) -> bool:
    """Whether stderr gets colours: as ``always`` or ``never`` says; ``auto`` asks NO_COLOR, FORCE_COLOR, and
    whether it is a terminal. UsageError for another word.
    """
    if when not in COLORS:
        hint = did_you_mean(when, COLORS)
        raise UsageError(f"--color {when!r} is not one of {', '.join(COLORS)}", hint=hint)
    if when != "auto":
        return when == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or terminal(sys.stderr)


def terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; one that was closed at the start (None) is not."""
    return stream is not None and bool(stream.isatty())


def stderr_console(*, color: bool) -> Console:
    """A rich console on stderr, which is a terminal."""
    from rich.console import Console

    return Console(stderr=True, force_terminal=True, no_color=not color, highlight=False, soft_wrap=True)


def say(message: str, *, label: str | None = None, color: bool = False) -> None:
    """A line for people; ``label`` (error, hint ...) stands before it, with ``color`` in its own colour."""
    start = "" if label is None else typer.style(f"{label}: ", fg=LABELS[label], bold=True)
    typer.echo(start + message, err=True, color=color)


def data(line: str) -> None:
    """A line of results; flushed, so that a pipeline goes on at once. File names keep their bytes."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(line + "\n")
    except UnicodeEncodeError:
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(line) + b"\n")
    sys.stdout.flush()


def data_bytes(content: bytes) -> None:
    """A picture on stdout."""
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def data_json(value: Any) -> None:
    """One JSON value a line."""
    data(json_line(value))


def json_line(value: Any) -> str:
    """JSON without line breaks; bytes of file names that are no text become escapes."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def report_error(error: IlvrctlError, *, color: bool = False) -> None:
    """What, why, and the next command."""
    say(error.message, label="error", color=color)
    if error.hint:
        say(error.hint, label="hint", color=color)


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn expected errors into a message and an exit code; Ctrl-C and SIGTERM into 130.

    A traceback is shown for bugs, and with ``-vv`` for expected errors too.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        when = str(kwargs.get("color") or "auto")
        got: list[int] = []
        try:
            with _quiet_libraries(), _interrupts(got):
                return function(*args, **kwargs)
        except IlvrctlError as error:
            if got:  # a library in C made something else of the interrupt, such as a damaged file
                say("interrupted")
                raise typer.Exit(INTERRUPTED) from None
            if int(str(kwargs.get("verbose") or 0)) > 1:
                traceback.print_exc()
            report_error(error, color=use_color(when if when in COLORS else "auto"))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output went away (| head): no message, and no second one at shutdown.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None

    return wrapped


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Pillow's remarks about odd files and torch's about a missing numpy are not for people: errors are raised."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
        yield


@contextmanager
def _interrupts(got: list[int]) -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt while the command runs, and are noted in ``got``."""

    def interrupted(number: int, _: object) -> None:
        got.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
