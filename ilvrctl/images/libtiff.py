"""libtiff, which Pillow uses, writes remarks about damaged files to the process's stderr: it is asked not to."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache

from PIL import _imaging


@cache
def silence() -> None:
    """Have libtiff report to Pillow alone, which raises an error anyway. Where libtiff is out of reach, nothing.

    The library is found among those that Pillow's own is linked with, so that it is the same one.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(library, name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)
