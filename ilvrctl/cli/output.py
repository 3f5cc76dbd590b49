"""The one door to the terminal: data on stdout, everything else on stderr, and the exit code."""

from __future__ import annotations

import functools
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import typer

from ilvrctl.cli import signals
from ilvrctl.cli.mistakes import instead
from ilvrctl.errors import IlvrctlError, OutputError, UsageError, did_you_mean
from ilvrctl.text import visible

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")

_last_words: list[str] = []
"""What an interrupted command has said, until it has left."""
COLORS = ("auto", "always", "never")
LABELS = {"error": "red", "failed": "red", "warning": "yellow", "hint": "cyan"}
"""First words of a line that are coloured."""


class _Door(io.FileIO):
    """A standard stream. What stderr cannot take is dropped; of stdout the first failure is raised, and all that
    comes after it is dropped, at the end of the interpreter too.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._broken = number == 2

    def write(self, content: ReadableBuffer) -> int | None:  # type: ignore[override]
        try:
            with signals.held():
                return super().write(content)
        except BlockingIOError:
            raise
        except OSError as error:
            if not self._broken:
                self._broken = True
                if isinstance(error, BrokenPipeError):
                    raise
                why = (error.strerror or str(error)).lower()
                raise OutputError(f"cannot write to standard output: {why}") from error
            return len(memoryview(content).cast("B"))


def open_streams() -> None:
    """Make stdout and stderr streams that fail in order and write any text; closed ones lead nowhere.

    Without the latter the first file that is opened would get the number of a closed stream, and its output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            continue
        if os.name == "nt" and terminal(stream):  # pragma: no cover  (the console is no file there)
            stream.reconfigure(errors="backslashreplace")
            continue
        stream.flush()
        door = io.BufferedWriter(_Door(number))
        lines = number == 2 or stream.line_buffering
        text = io.TextIOWrapper(door, stream.encoding, "backslashreplace", line_buffering=lines)
        setattr(sys, name, text)


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
    typer.echo(start + visible(message), err=True, color=color)
    signals.let_go()


def data(text: str, *, styled: bool = False) -> None:
    """Lines of results; flushed, so that a pipeline goes on at once. ``styled`` ones hold colours of our own."""
    if sys.stdout is not None:
        sys.stdout.write((text if styled else "\n".join(map(visible, text.split("\n")))) + "\n")
        sys.stdout.flush()
    signals.let_go()


def data_path(path: Path | str) -> None:
    """The path of a result. In a pipeline it keeps its bytes, whatever they are; on a terminal it is one line."""
    if terminal(sys.stdout):
        data(visible(str(path)))
        return
    try:
        content = str(path).encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        content = os.fsencode(path)
    data_bytes(content + b"\n")


def data_bytes(content: bytes) -> None:
    """A picture, or what else is no text, on stdout."""
    if sys.stdout is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    signals.let_go()


def data_json(value: Any) -> None:
    """One JSON value a line."""
    data(json_line(value, getattr(sys.stdout, "encoding", None) or "utf-8"))


def json_line(value: Any, encoding: str = "utf-8") -> str:
    r"""JSON in one line; what is not seen, no text, or not known to the encoding becomes ``\u`` escapes."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(letter: str) -> str:
    return "\\u007f" if letter == "\x7f" else json.dumps(letter)[1:-1]


def report_error(error: IlvrctlError, *, color: bool = False, as_json: bool = False) -> None:
    """What, why, and the next command; ``as_json`` on stdout too."""
    say(error.message, label="error", color=color)
    if error.hint:
        say(error.hint, label="hint", color=color)
    if as_json:
        what = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        with suppress(OutputError, OSError):  # of two errors the first is told
            data_json({"event": "error", **what})


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn expected errors into a message, as the command's own flags want it, and an exit code.

    A traceback is shown for bugs, and with ``-vv`` for expected errors too.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        when = str(kwargs.get("color") or "auto")
        try:
            with _quiet_libraries():
                return function(*args, **kwargs)
        except IlvrctlError as error:
            if (
                signals.received()
            ):  # a library in C made something else of the interrupt, such as a damaged file
                raise KeyboardInterrupt from None
            if int(str(kwargs.get("verbose") or 0)) > 1:
                for line in traceback.format_exc().splitlines():
                    say(line)
            color = use_color(when if when in COLORS else "auto")
            report_error(error, color=color, as_json=bool(kwargs.get("json") or kwargs.get("as_json")))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            interrupted()

    return wrapped


def interrupted(text: str = "interrupted") -> NoReturn:
    """The last word of a command that was asked to stop, and its exit code."""
    _last_words.append(text)
    say(text)
    raise typer.Exit(signals.exit_code())


def finished(run: Callable[[], Any], words: Sequence[str]) -> int:
    """Run a command line of these ``words`` to its end, whatever that is; its exit code."""
    try:
        code = run()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return 1  # the reader of our output went away (| head): no word about it
    except IlvrctlError as error:  # outside of a command: its output, as that of --help, cannot be written
        report_error(error, color=use_color("auto"))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = signals.INTERRUPTED
    except Exception as error:
        if hasattr(error, "format_message"):
            return _misused(error, words)
        if not signals.received():
            raise
        code = signals.INTERRUPTED  # a library in C made something else of it
    if code == signals.INTERRUPTED and not _last_words:
        say("interrupted")
        code = signals.exit_code()
    _last_words.clear()
    return code if isinstance(code, int) else 0


def _misused(error: Any, words: Sequence[str]) -> int:
    """Tell of a command line that the library which reads it does not understand."""
    if type(error).__name__.startswith("NoArgsIsHelp"):
        error.show()
        return int(error.exit_code)
    message = error.format_message().rstrip(".")
    place = getattr(error, "ctx", None)
    path = place.command_path if place else "ilvrctl"
    before = list(words)[: list(words).index("--")] if "--" in words else words
    commands = [] if place is None or place.parent is not None else getattr(place.command, "commands", [])
    message = message[:1].lower() + message[1:]
    usage = UsageError(message, hint=instead(message, path, words, commands))
    report_error(usage, color=use_color("auto"), as_json="--json" in before)
    return usage.exit_code


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Pillow's remarks about odd files and torch's about a missing numpy are not for people: errors are raised."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
        yield


def check_stdout(wanted: bool, as_json: bool) -> None:
    """UsageError where a picture ``wanted`` on standard output would meet JSON lines, or a terminal."""
    if wanted and as_json:
        raise UsageError("-o - and --json both want standard output", hint="-o FOLDER or -o FILE.png")
    if wanted and terminal(sys.stdout):
        raise UsageError(
            "will not write the bytes of a picture to a terminal",
            hint="-o FILE, or pipe them: ... -o - > out.png",
        )


def picture_on_stdin(arguments: Sequence[str]) -> bytes | None:
    """The bytes of standard input when ``-`` is among the arguments. UsageError when nobody pipes any."""
    if "-" not in arguments:
        return None
    if terminal(sys.stdin):
        raise UsageError(
            "- reads a picture from standard input, which is a terminal",
            hint="cat cat.jpg | ilvrctl translate - --to emoji3d -o out.png",
        )
    return standard_input()


def standard_input() -> bytes:
    """All bytes of standard input; none when it is closed."""
    return b"" if sys.stdin is None else sys.stdin.buffer.read()
