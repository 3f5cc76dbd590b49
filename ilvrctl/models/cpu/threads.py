"""Work shared among threads of Python that each compute with one thread of torch.

What one thread works on then stays in the cache of its own core from the first operation to the last, and nobody
waits at the end of every operation, as torch's own threads do.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

from ilvrctl.models.cpu.memory import keep_little

T = TypeVar("T")
Work = Callable[[Iterator[T]], None]

_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def in_this_thread() -> Iterator[None]:
    """Within it nothing is shared: for what looks at the operations of one thread, as a counter of them does."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def share(work: Work[T], items: Iterable[T]) -> None:
    """Call ``work`` in as many threads as torch has here; all draw from the same ``items`` until none is left.

    Without gradients. The first error of a thread is raised here, once all threads have stopped.
    """
    left = iter(list(items))  # a list's iterator gives each item to one thread
    if _alone.get():
        work(left)
        return
    pool = _POOL.of(torch.get_num_threads())
    running = [pool.submit(_run, work, left) for _ in range(torch.get_num_threads())]
    try:
        wait(running)
    except BaseException:  # Ctrl-C: no thread may write on when the caller is gone
        deque(left, 0)
        wait(running)
        raise
    for done in running:
        done.result()


def release_threads() -> None:
    """End the threads, with the memory that libraries keep for each; the next work starts new ones."""
    _POOL.end()


def _run(work: Work[T], left: Iterator[T]) -> None:
    try:
        with torch.inference_mode():
            work(left)
    except BaseException:
        deque(left, 0)  # for the others too
        raise


class _Pool:
    """The threads, made when they are first needed and anew for another number of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._size = 0

    def of(self, size: int) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None or self._size != size:
                if self._threads is not None:
                    self._threads.shutdown()
                self._threads, self._size = _started(size), size
            return self._threads

    def end(self) -> None:
        with self._lock:
            if self._threads is not None:
                self._threads.shutdown()
            self._threads = None

    def forget(self) -> None:
        """In the child of a fork, which has no threads."""
        self._lock, self._threads = threading.Lock(), None


def _started(size: int) -> ThreadPoolExecutor:
    """``size`` threads that run; torch takes the number of its threads for each thread, but also for new ones."""
    keep_little()
    pool = ThreadPoolExecutor(size, "ilvrctl-strips")
    together = threading.Barrier(size)

    def begin() -> None:
        torch.get_num_threads()  # which a thread takes over from the process when it first asks
        torch.set_num_threads(1)
        together.wait()

    starting: list[Future[None]] = [pool.submit(begin) for _ in range(size)]
    for one in starting:
        one.result()
    torch.set_num_threads(size)
    return pool


_POOL = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.forget)
