"""Renderers of what a download tells: a bar on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ilvrctl.cli.display import Display
from ilvrctl.cli.output import LABELS, say, stderr_console
from ilvrctl.events import Warned
from ilvrctl.hub.events import (
    Asking,
    Checking,
    Failed,
    Fetched,
    HubEvent,
    Present,
    Received,
    Retrying,
    SourceFailed,
    Verified,
    Waiting,
)

if TYPE_CHECKING:
    from rich.progress import TaskID

Line: TypeAlias = tuple[str | None, str]
"""A label (warning, failed, hint) or None, and the text."""


def amount(size: float) -> str:
    """Bytes for people, in decimal units as download pages give them."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def lines(event: HubEvent) -> list[Line]:
    """What people read about an event; nothing for those that only move a bar."""
    if isinstance(event, Warned):
        return [("warning", event.message)]
    if isinstance(event, Failed):
        text = event.error.message
        what: Line = ("failed", text if text.startswith(event.name) else f"{event.name}: {text}")
        return [what, ("hint", event.error.hint)] if event.error.hint else [what]
    text = _progress(event)
    return [(None, text)] if text else []


def _progress(event: HubEvent) -> str:
    if isinstance(event, Present):
        other = " (another process fetched it)" if event.after_waiting else ""
        return f"{event.name}: already here{other}"
    if isinstance(event, Waiting):
        return f"{event.name}: another process is fetching it; waiting for that"
    if isinstance(event, Asking):
        kept = f", going on after {amount(event.kept)}" if event.kept else ""
        return f"{event.name}: from {event.source}{kept}"
    if isinstance(event, Retrying):
        return (
            f"{event.name}: {event.reason}; trying again in {event.wait:.1f} s, {amount(event.kept)} are here"
        )
    if isinstance(event, SourceFailed) and event.left:
        return f"{event.name}: {event.error.message.removeprefix(event.name + ': ')}; asking the next source"
    return _proved(event) if isinstance(event, (Fetched, Verified)) else ""


def _proved(event: Fetched | Verified) -> str:
    trust = {"published": "as published", "pinned": "as first seen", "first seen": "noted from now on"}[
        event.trust
    ]
    hashed = f"sha256 {event.sha256[:12]}... {trust}"
    if isinstance(event, Verified):
        return f"{event.name}: good, {amount(event.size)}, {hashed}"
    speed = amount(event.size / max(event.seconds, 1e-3))
    return f"{event.name}: {amount(event.size)} in {event.seconds:.1f} s ({speed}/s), {hashed}"


class PlainTransfers:
    """A line when something happens; with ``quiet`` only failures and warnings."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def __enter__(self) -> PlainTransfers:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def show(self, event: HubEvent) -> None:
        """Print the event's line."""
        loud = isinstance(event, (SourceFailed, Failed, Warned))
        for label, text in lines(event) if loud or not self._display.quiet else ():
            say(text, label=label, color=self._display.color)


class TransferBars:
    """A rich bar with speed and time left on stderr, and the lines above it."""

    def __init__(self, display: Display) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=stderr_console(color=display.color),
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> TransferBars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: HubEvent) -> None:
        """Move the bar, or print the event's line above it."""
        from rich.text import Text

        for label, text in lines(event):
            start = (f"{label}: ", f"bold {LABELS[label]}") if label else ""
            self._progress.console.print(Text.assemble(start, text))
        if isinstance(event, Asking):
            self._begin(event.name)
        elif isinstance(event, Received):
            if self._task is None:
                self._begin(event.name)
            if self._task is not None:
                self._progress.update(self._task, completed=event.done, total=event.total)
        elif isinstance(event, Checking) and self._task is not None:
            self._progress.update(self._task, description=f"{event.name} (checking)")
        elif isinstance(event, (Fetched, Verified, Failed, SourceFailed)):
            self._end()

    def _begin(self, name: str) -> None:
        self._end()
        self._task = self._progress.add_task(name, total=None)

    def _end(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


def record(event: HubEvent) -> dict[str, Any] | None:
    """An event as a JSON value; None for those that only move a bar."""
    if isinstance(event, Present):
        return {"event": "present", "name": event.name, "path": str(event.path)}
    if isinstance(event, (Fetched, Verified)):
        more = (
            {"source": event.source, "seconds": round(event.seconds, 3)} if isinstance(event, Fetched) else {}
        )
        return {
            "event": "done" if isinstance(event, Fetched) else "verified",
            "name": event.name,
            "path": str(event.path),
            "bytes": event.size,
            "sha256": event.sha256,
            "trust": event.trust,
            **more,
        }
    if isinstance(event, Failed):
        return {
            "event": "failed",
            "name": event.name,
            "error": event.error.message,
            "hint": event.error.hint,
            "exit_code": event.error.exit_code,
            "bytes_kept": event.kept,
        }
    if isinstance(event, SourceFailed):
        return {"event": "source", "name": event.name, "source": event.source, "error": event.error.message}
    if isinstance(event, Asking):
        return {"event": "asking", "name": event.name, "source": event.source, "bytes_kept": event.kept}
    if isinstance(event, Retrying):
        return {"event": "retry", "name": event.name, "error": event.reason, "bytes_kept": event.kept}
    if isinstance(event, Waiting):
        return {"event": "waiting", "name": event.name}
    return {"event": "warning", "message": event.message} if isinstance(event, Warned) else None
