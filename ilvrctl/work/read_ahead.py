"""Reading ahead of the network and writing behind it, in threads with bounded queues."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
THREADS = 2


class Ahead(Generic[T, R]):
    """Values that ``make`` makes of things, some things ahead of the one that is asked for; a context manager.

    ``key`` tells equal things; the values of the last ``kept`` are kept, so that none of these is made twice.
    """

    def __init__(self, make: Callable[[T], R], key: Callable[[T], Hashable], ahead: int, kept: int) -> None:
        self._make, self._key, self._ahead, self._kept = make, key, ahead, kept + ahead
        self._pool = ThreadPoolExecutor(THREADS, "read")
        self._known: OrderedDict[Hashable, Future[R]] = OrderedDict()

    def put(self, thing: T, value: R) -> None:
        """A value that is known already."""
        future: Future[R] = Future()
        future.set_result(value)
        self._known[self._key(thing)] = future

    def each(self, things: Sequence[T]) -> Iterator[R]:
        """The value of every one of ``things``, in their order."""
        upcoming = 0
        for n, thing in enumerate(things):
            while upcoming < len(things) and upcoming <= n + self._ahead:
                self._start(things[upcoming])
                upcoming += 1
            yield self._start(thing).result()

    def _start(self, thing: T) -> Future[R]:
        key = self._key(thing)
        if key not in self._known:
            self._known[key] = self._pool.submit(self._make, thing)
            while len(self._known) > self._kept:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def __enter__(self) -> Ahead[T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class Behind(Generic[T]):
    """Work done in threads, whose results come back in the order in which it was given; a context manager.

    At most ``most`` pieces wait. ``rescue`` gets what was finished, but not taken, when the block is left early.
    """

    def __init__(self, most: int, rescue: Callable[[T], None]) -> None:
        self._most, self._rescue = most, rescue
        self._pool = ThreadPoolExecutor(THREADS, "write")
        self._waiting: deque[Future[T]] = deque()

    def submit(self, function: Callable[[], T]) -> None:
        """Begin a piece of work."""
        self._waiting.append(self._pool.submit(function))

    def results(self, *, all_: bool = False) -> Iterator[T]:
        """Results of pieces that are finished; ``all_`` waits for every one. Raises what a piece has raised."""
        while self._waiting and (all_ or len(self._waiting) > self._most or self._waiting[0].done()):
            yield self._waiting.popleft().result()

    def __enter__(self) -> Behind[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)
        for future in self._waiting:
            with suppress(Exception):
                self._rescue(future.result())
