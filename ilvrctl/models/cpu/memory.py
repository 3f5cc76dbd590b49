"""Giving freed memory back to the system, where the C library would keep it."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # of glibc's mallopt
LARGE_BLOCK = 8 << 20  # bytes


def release_freed() -> None:
    """Return the free pages of the heap to the system; does nothing where the C library is not glibc.

    glibc keeps freed blocks below :data:`LARGE_BLOCK` just when the largest tensors of the finest level are made.
    Costs a few milliseconds.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def keep_little() -> None:
    """Let the C library give blocks from 8 MB on back as soon as they are freed, and keep one heap for all threads;
    does nothing where it is not glibc.

    By itself it comes to keep blocks up to 32 MB, for each thread: 100 MB in two threads that convolve.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_MMAP_THRESHOLD, LARGE_BLOCK)
        library.mallopt(_ARENA_MAX, 1)


@cache
def _glibc() -> Any:
    """None where there is none: musl and macOS have no such functions, Windows no CDLL(None)."""
    try:
        library = ctypes.CDLL(None)
        library.malloc_trim.argtypes, library.malloc_trim.restype = [ctypes.c_size_t], ctypes.c_int
        library.mallopt.argtypes, library.mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    except (AttributeError, OSError, TypeError):
        return None
    return library
