"""The one door to the terminal: data on stdout, everything else on stderr."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from ilvrctl.errors import IlvrctlError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130


def stderr_console(color: str = "auto") -> Console:
    """A rich console on stderr. ``color``: ``auto`` (terminal and no ``NO_COLOR``), ``always`` or ``never``."""
    from rich.console import Console

    terminal = sys.stderr.isatty()
    colored = color == "always" or (color == "auto" and terminal and not os.environ.get("NO_COLOR"))
    return Console(
        stderr=True,
        force_terminal=terminal or color == "always",
        no_color=not colored,
        highlight=False,
        soft_wrap=True,
    )


def say(message: str) -> None:
    """A line for people."""
    typer.echo(message, err=True)


def data(line: str) -> None:
    """A line of results; flushed, so that a pipeline goes on at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def data_json(value: Any) -> None:
    """One JSON value a line."""
    data(json.dumps(value, ensure_ascii=False))


def report_error(error: IlvrctlError) -> None:
    """What, why, and the next command."""
    say(f"error: {error.message}")
    if error.hint:
        say(f"hint: {error.hint}")


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn expected errors into a message and an exit code; Ctrl-C and SIGTERM into 130.

    A traceback is shown for bugs, and with ``-vv`` for expected errors too.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return function(*args, **kwargs)
        except IlvrctlError as error:
            if int(str(kwargs.get("verbose") or 0)) > 1:
                traceback.print_exc()
            report_error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output went away (| head): no message, and no second one at shutdown.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None

    return wrapped


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
