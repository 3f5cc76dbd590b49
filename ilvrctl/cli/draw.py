"""``ilvrctl draw``, and ``ilvrctl edit PHOTO --draw``: a page in the browser that is drawn on."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.cli import signals
from ilvrctl.cli.display import Display
from ilvrctl.cli.options import display_of, given_of, takes
from ilvrctl.cli.output import command, data_json, data_path, say
from ilvrctl.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from ilvrctl.draw.server import Server
    from ilvrctl.draw.session import Session

EPILOG = """Examples:

  ilvrctl draw --to emoji3d

  ilvrctl edit photo.jpg --draw --to emoji3d

  ilvrctl draw --to face --canvas 256 --port 8000 --no-browser

  ILVRCTL_PASSWORD=... ilvrctl draw --host 192.0.2.7
"""
CANVAS = 512


@command
@takes("draw")
def draw(options: Mapping[str, Any]) -> None:
    """Paint in the browser, and have a picture of the target domain made of it.

    The page is for this machine alone, and ends with Ctrl-C. What is kept goes to the folder of -o.
    """
    serve(None, options)


def serve(photo: str | None, options: Mapping[str, Any]) -> None:
    """Serve the page until somebody stops it, which is a good end; ``photo`` None is a paper to paint on.

    MissingExtraError where what serves it is not installed, UsageError for what cannot be meant with it.
    """
    from ilvrctl.plans.inputs import STDIN
    from ilvrctl.plans.parameters_of_drawing import NOT_DRAWN, PAGE

    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise MissingExtraError("drawing in the browser needs its extra", hint="pip install 'ilvrctl[draw]'")
    given = given_of({name: value for name, value in options.items() if name not in _SHOWN})
    if unwanted := sorted(NOT_DRAWN & given.keys()):
        raise UsageError(f"--{unwanted[0].replace('_', '-')} has no meaning with --draw")
    if photo == STDIN:
        raise UsageError("--draw needs a photo in a file: the command of a result names it")
    _serve(photo, options, {name: value for name, value in given.items() if name not in PAGE | {"out"}})


_SHOWN = ("json", "quiet", "verbose", "color")


def _serve(photo: str | None, options: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    from ilvrctl.draw.guard import Access
    from ilvrctl.draw.server import Server
    from ilvrctl.draw.session import Session
    from ilvrctl.plans.values import picture_size
    from ilvrctl.sizes import Size

    display = display_of(options)
    canvas = Size.of(picture_size("--canvas", str(options.get("canvas") or CANVAS)))
    access = Access(options["host"], options["password"])
    with Session(photo, _folder(options["out"]), values, canvas) as session:
        try:
            with Server(session, access, options["port"] or 0) as server:
                _welcome(session, server, access.local, options["browser"], display)
                session.work(lambda: _look(session, display))
        except KeyboardInterrupt:
            _look(session, display, interrupted=True)
            if not display.quiet:
                made = sum(run.state == "done" for run in session.runs.values())
                kept = sum(run.kept for run in session.runs.values())
                say(f"the page is closed; {kept} of {made} results were kept")


def _folder(out: str | None) -> Path:
    from ilvrctl.plans.outputs import Destination

    folder = Destination.asked(out).folder
    if folder is None:
        raise UsageError("-o with a page is the folder of what is kept", hint="-o FOLDER")
    return folder


def _welcome(session: Session, server: Server, local: bool, browser: bool | None, display: Display) -> None:
    """Say where the page is, and open it where somebody sees it."""
    screen = has_screen() if browser is None else browser
    if display.as_json:
        data_json({"event": "serving", "address": server.address})
    if not display.quiet:
        width, height = session.picture.size
        say(f"{session.name}, {width} x {height}, to {session.target}; Ctrl-C ends it")
    say(server.address)
    if screen:
        threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
    elif local and not display.quiet:
        say(f"from another machine: {server.forward}   (there, then open the address)")


def has_screen() -> bool:
    """Whether a browser that is opened here is seen by the person who types."""
    if "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or any(
        name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def _look(session: Session, display: Display, *, interrupted: bool = False) -> None:
    """Tell what has been kept, and whether somebody stops it all."""
    while not session.news.empty():
        for file in session.news.get().files:
            if display.as_json:
                data_json({"event": "kept", "output": str(file)})
            else:
                data_path(file)
    if not interrupted:
        signals.check()
