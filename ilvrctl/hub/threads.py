"""Work that blocks, in a thread, with what it tells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

E = TypeVar("E")
_BEAT = 0.1  # seconds after which silence is told too, so that who listens can stop it
_END = 1.0  # seconds to wait for a thread that was asked to end


class _StoppedError(Exception):
    """Nobody listens any more."""


def told(
    work: Callable[[Callable[[int], None]], Any], event: Callable[[int], E] | None = None
) -> Generator[E, None, Any]:
    """Do ``work`` in a thread; it is given a function to tell with how much more is done.

    Every now and then gives the ``event`` of how much is done in all. The generator's value is what ``work`` gives;
    what it raises is raised. Closing it stops the work the next time it tells something.
    """
    news: SimpleQueue[Any] = SimpleQueue()
    stopped = threading.Event()
    results: list[Any] = []
    errors: list[BaseException] = []

    def tell(more: int) -> None:
        if stopped.is_set():
            raise _StoppedError
        news.put(more)

    def run() -> None:
        try:
            results.append(work(tell))
        except BaseException as error:
            errors.append(error)
        news.put(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    done, more = 0, 0
    try:
        while more is not None:
            done += more
            if event is not None:
                yield event(done)
            more = 0
            with suppress(Empty):
                more = news.get(timeout=_BEAT)
    finally:
        stopped.set()
        thread.join(_END)
    if errors:
        raise errors[0]
    return results[0]
