"""Answers that are wanted again and again while a run is planned, and do not change meanwhile."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_ANSWERS: ContextVar[dict[Hashable, Any] | None] = ContextVar("answers", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Within the block (or the function that it decorates) what is :func:`recalled` is made once."""
    if _ANSWERS.get() is not None:
        yield
        return
    token = _ANSWERS.set({})
    try:
        yield
    finally:
        _ANSWERS.reset(token)


def recalled(key: Hashable, make: Callable[[], R]) -> R:
    """What ``make`` gives, made once for a ``key`` while we are :func:`remembering`; nobody may change it.

    Errors are not kept.
    """
    known = _ANSWERS.get()
    if known is None:
        return make()
    if key not in known:
        known[key] = make()
    found: R = known[key]
    return found


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose answers for the same arguments, which are hashable, are :func:`recalled`."""

    @functools.wraps(function)
    def answer(*args: P.args, **named: P.kwargs) -> R:
        return recalled((function, args, *named.items()), lambda: function(*args, **named))

    return answer
