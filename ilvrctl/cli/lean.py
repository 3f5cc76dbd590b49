"""Help without what it loads for nothing: half of its time went into Markdown and tracebacks, which are never shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

_NEVER_SHOWN = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}
"""What typer's help imports for what is switched off: other markup modes, and exceptions that are made pretty."""


def prepare_help(words: Sequence[str]) -> None:
    """Load what shows help, where a command line of these ``words`` asks for it."""
    if not words or {"-h", "--help"} & set(words):
        with _standing_in():
            import_module("typer.rich_utils")


@contextmanager
def _standing_in() -> Iterator[None]:
    """Something in the place of what is never shown, for the block; who imports it later gets the real thing."""
    added = {name: ModuleType(name) for name in _NEVER_SHOWN if name not in sys.modules}
    for name, module in added.items():
        setattr(module, _NEVER_SHOWN[name], type(_NEVER_SHOWN[name], (), {}))
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]
