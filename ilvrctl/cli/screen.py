"""The screen: what commands tell, as bars on a terminal, plain lines elsewhere, and data on stdout.

A :class:`View` says what one event means; renderers know views only. Which event means what stands in the modules
``*_views``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.cli.display import Display, duration
from ilvrctl.cli.output import LABELS, data, data_bytes, data_path, json_line, say, stderr_console, terminal
from ilvrctl.events import Warned
from ilvrctl.text import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

TELL_EVERY = 60.0
"""Seconds between two lines of progress where no bars are drawn."""
WIDE = 60
"""Columns from which the words of a bar are shown."""
BAR = 40
"""Columns that a bar takes at most; with fewer than a tenth of it, it is left out."""


@dataclass(frozen=True)
class Line:
    """Something people read: always (``level`` -1), unless ``--quiet`` (0), with ``-v`` (1), with ``-vv`` (2).

    ``barred``: bars tell the same, so where they are drawn the line is not shown.
    """

    text: str
    label: str | None = None
    level: int = 0
    barred: bool = False


@dataclass(frozen=True)
class Bar:
    """How far something is: ``done`` of ``total`` (None: unknown), told as ``count``, ``words`` and time ``left``.

    Bars of one ``key`` take each other's place. ``told``: where no bars are drawn, a line tells it now and then.
    ``passing``: at the end nothing of it stays on the screen.
    """

    key: str
    name: str
    done: float
    total: float | None
    count: str = ""
    words: str = ""
    left: float | None = None
    told: bool = False
    passing: bool = False

    @property
    def tail(self) -> list[str]:
        """What is told in words, the most important first."""
        left = "" if self.left is None else f"{duration(self.left)} left"
        return [self.count, left, self.words]


@dataclass(frozen=True)
class View:
    """What an event means to a screen: lines, bars that move, ``gone`` bars by their keys; and to programs: a
    ``record`` (with ``--json``), or the ``path`` or the bytes (``content``) of a result.
    """

    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    record: Mapping[str, Any] | None = None
    path: Path | None = None
    content: bytes | None = None
    gone: tuple[str, ...] = ()


def facts(what: str, event: object, names: str) -> dict[str, Any]:
    """The record of an event called ``what``: its attributes, ``key=name`` where a key is no attribute's name."""
    pairs = [(name.partition("=")[0], name.rpartition("=")[2]) for name in names.split()]
    return {"event": what, **{key: _plain(attrgetter(name)(event)) for key, name in pairs}}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    return str(value) if isinstance(value, (Path, Exception)) else value


def warned(event: Warned) -> View:
    """The view of a warning, in every kind of work."""
    return View((Line(event.message, "warning", -1),), record=facts("warning", event, "message"))


class Plain(AbstractContextManager["Plain"]):
    """Lines on stderr, and now and then one that tells how far it is."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._level = -1 if display.quiet else display.verbose
        self._told = time.monotonic()

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, view: View) -> None:
        """Print what is to be read about an event."""
        for line in view.lines:
            if line.level <= self._level and not (line.barred and self._display.bars):
                self._print(line)
        self._move(view)

    def _print(self, line: Line) -> None:
        say(line.text, label=line.label, color=self._display.color)

    def _move(self, view: View) -> None:
        for bar in view.bars:
            if bar.told and self._level >= 0 and time.monotonic() - self._told >= TELL_EVERY:
                self._told = time.monotonic()
                say(f"{bar.name}: {', '.join(filter(None, bar.tail))}")


class Bars(Plain):
    """Bars on stderr, in as many columns as there are, and the lines above them."""

    def __init__(self, display: Display) -> None:
        from rich.live import Live

        super().__init__(display)
        self._console = stderr_console(color=display.color)
        self._bars: dict[str, Bar] = {}
        self._live = Live(
            console=self._console,
            get_renderable=self._drawn,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Bars:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars = {key: bar for key, bar in self._bars.items() if not bar.passing}
        self._live.stop()

    def _print(self, line: Line) -> None:
        from rich.text import Text

        label = [(f"{line.label}: ", f"bold {LABELS[line.label]}")] if line.label else []
        self._console.print(Text.assemble(*label, visible(line.text)))

    def _move(self, view: View) -> None:
        moved = self._bars | {bar.key: bar for bar in view.bars}
        self._bars = {key: bar for key, bar in moved.items() if key not in view.gone}

    def _drawn(self) -> RenderableType:
        from rich.console import Group

        bars, width = list(self._bars.values()), self._console.width
        names = min(max((len(bar.name) for bar in bars), default=0), max(7, width // 4))
        return Group(*(drawn(bar, width, names, self._console.encoding) for bar in bars))


def drawn(bar: Bar, width: int, names: int, encoding: str) -> Text:
    """A bar in one line of ``width`` columns, its name in ``names`` of them; what has no room is left out."""
    from rich.text import Text

    full, empty = ("━", "━") if encoding.lower().startswith("utf") else ("#", "-")
    line = Text(no_wrap=True, overflow="ellipsis")
    name = Text(visible(bar.name))
    name.truncate(names, overflow="ellipsis", pad=True)
    tail = visible("  ".join(filter(None, bar.tail[: 2 if width < WIDE else 3])))
    room = min(BAR, width - names - len(tail) - 3)
    line.append_text(name)
    if room >= BAR // 10 and bar.total:
        part = round(room * min(1.0, bar.done / bar.total))
        line.append(" " + full * part, style="green" if bar.done >= bar.total else "magenta")
        line.append(empty * (room - part), style="grey23")
    line.append(f" {tail}")
    line.truncate(width - 1)
    return line


class Programs:
    """What goes to stdout: JSON lines, or the paths or bytes of results.

    While bars are drawn on the same terminal, lines wait until the bars are gone.
    """

    def __init__(self, display: Display, *, hold: bool) -> None:
        self._json, self._hold = display.as_json, hold
        self._held: list[str | Path] = []

    def add(self, view: View) -> None:
        """Write what an event brings now, or keep its line."""
        if view.content is not None:
            data_bytes(view.content)
        if self._json:
            lines: list[str | Path] = [] if view.record is None else [json_line(view.record, _encoding())]
        else:
            lines = [] if view.path is None else [view.path]
        self._held += lines
        if not self._hold:
            self.flush()

    def flush(self) -> None:
        """Write what was kept."""
        while self._held:
            line = self._held.pop(0)
            data_path(line) if isinstance(line, Path) else data(line)


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


class Screen:
    """People and programs together; a context manager. ``bars``: whether there is anything for bars to tell."""

    def __init__(self, display: Display, *, bars: bool = True) -> None:
        bars = bars and display.bars
        self._people: Plain = Bars(display) if bars else Plain(display)
        self.programs = Programs(display, hold=bars and terminal(sys.stdout))

    def __enter__(self) -> Screen:
        self._people.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._people.__exit__()
        self.programs.flush()

    def show(self, view: View) -> None:
        """Show one event."""
        self._people.show(view)
        self.programs.add(view)
