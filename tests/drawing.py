"""A session of the page that is drawn on, at work and served, for tests and for the picture in the README."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ilvrctl.draw.guard import LARGEST, Access
from ilvrctl.draw.server import Server
from ilvrctl.draw.session import Session


class _EndedError(Exception):
    pass


@contextmanager
def at_work(session: Session) -> Iterator[None]:
    """The session makes what is asked of it, in a thread."""
    ended = threading.Event()

    def look() -> None:
        if ended.is_set():
            raise _EndedError

    def work() -> None:
        with pytest.raises(_EndedError):
            session.work(look)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def served(
    photo: Path | None,
    values: Mapping[str, Any],
    out: Path,
    size: tuple[int, int] = (512, 512),
    largest: int = LARGEST,
) -> Iterator[tuple[Session, Server]]:
    """A page as ``ilvrctl edit PHOTO --draw`` serves it."""
    with (
        Session(None if photo is None else str(photo), out, values, size) as session,
        Server(session, Access(), largest=largest) as server,
        at_work(session),
    ):
        yield session, server
