"""What the events of a download mean to a screen."""

from __future__ import annotations

import time

from ilvrctl.cli.display import amount
from ilvrctl.cli.screen import Bar, Line, View, facts, warned
from ilvrctl.events import Noted, Warned
from ilvrctl.hub import events as hub


class Transfers:
    """The views of one download, which knows how fast bytes come since a source was asked."""

    def __init__(self) -> None:
        self._start, self._kept = time.perf_counter(), 0

    def view(self, event: hub.HubEvent) -> View:
        """What a screen shows of an event."""
        if isinstance(event, Warned):
            return warned(event)
        if isinstance(event, Noted):
            return View((Line(event.message),), record=facts("note", event, "message"))
        if isinstance(event, hub.Asking):
            self._start, self._kept = time.perf_counter(), event.kept
        if isinstance(event, hub.Received):
            return View(bars=(self._bar(event),))
        return _view(event)

    def _bar(self, event: hub.Received) -> Bar:
        rate = max(0, event.done - self._kept) / max(time.perf_counter() - self._start, 1e-3)
        count, left = amount(event.done), None
        if event.total is not None:
            count += f" of {amount(event.total)}"
            left = (event.total - event.done) / rate if rate else None
        words = f"{amount(rate)}/s"
        return Bar(
            event.name, event.name, event.done, event.total, count, words, left, told=True, passing=True
        )


def _view(event: hub.HubEvent) -> View:
    name = getattr(event, "name", "")
    match event:
        case hub.Present(path=path):
            other = " (another process fetched it)" if event.after_waiting else ""
            record = facts("present", event, "name path")
            return View((Line(f"{name}: already here{other}"),), record=record, path=path)
        case hub.Waiting():
            line = f"{name}: another process is fetching it; waiting for that"
            return View((Line(line),), record=facts("waiting", event, "name"))
        case hub.Asking(source=source, kept=kept):
            line = f"{name}: from {source}" + (f", going on after {amount(kept)}" if kept else "")
            bar = Bar(name, name, 0, None, passing=True)
            return View((Line(line),), (bar,), facts("asking", event, "name source bytes_kept=kept"))
        case hub.Retrying(reason=reason, kept=kept):
            line = f"{name}: {reason}; trying again in {event.wait:.1f} s, {amount(kept)} are here"
            return View((Line(line),), record=facts("retry", event, "name error=reason bytes_kept=kept"))
        case hub.SourceFailed(error=error):
            line = f"{name}: {error.message.removeprefix(f'{name}: ')}; asking the next source"
            lines = (Line(line, level=-1),) if event.left else ()
            return View(lines, record=facts("source", event, "name source error=error.message"), gone=(name,))
        case hub.Checking():
            return View(bars=(Bar(name, name, 1, 1, "checking", passing=True),))
        case hub.Fetched() | hub.Verified():
            return _proved(event)
        case hub.Failed(error=error):
            text = error.message if error.message.startswith(name) else f"{name}: {error.message}"
            text, *sources = text.split("\n")  # a line for each source that was asked
            more = (*(Line(source, level=-1) for source in sources),)
            hint = (*more, *((Line(error.hint, "hint", -1),) if error.hint else ()))
            told = "name error=error.message hint=error.hint exit_code=error.exit_code bytes_kept=kept"
            return View((Line(text, "failed", -1), *hint), record=facts("failed", event, told), gone=(name,))
    raise TypeError(f"no view of {event}")


def _proved(event: hub.Fetched | hub.Verified) -> View:
    trust = {"published": "as published", "pinned": "as first seen", "first seen": "noted from now on"}
    hashed = f"sha256 {event.sha256[:12]}... {trust[event.trust]}"
    told = "name path bytes=size sha256 trust"
    if isinstance(event, hub.Verified):
        line, record = f"good, {amount(event.size)}, {hashed}", facts("verified", event, told)
    else:
        speed = amount(event.size / max(event.seconds, 1e-3))
        line = f"{amount(event.size)} in {event.seconds:.1f} s ({speed}/s), {hashed}"
        record = facts("done", event, f"{told} source seconds use")
    return View((Line(f"{event.name}: {line}"),), record=record, path=event.path, gone=(event.name,))
