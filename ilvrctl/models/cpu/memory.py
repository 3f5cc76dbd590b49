"""Giving freed memory back to the system, where the C library would keep it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def release_freed() -> None:
    """Return the free pages of the heap to the system; does nothing where the C library is not glibc.

    glibc keeps freed blocks below 32 MB, up to 90 MB of them after the deep levels of a 256 px network,
    just when the largest tensors of the finest level are made. Costs a few milliseconds.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        function = ctypes.CDLL(None).malloc_trim
    except (
        AttributeError,
        OSError,
        TypeError,
    ):  # musl and macOS have no such function, Windows no CDLL(None)
        return None
    function.argtypes, function.restype = [ctypes.c_size_t], ctypes.c_int
    trim: Callable[[int], int] = function
    return trim
