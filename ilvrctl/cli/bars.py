"""The bars of the commands for programs that ask for them: ``progress=True``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ilvrctl.cli.display import Display, Tally
from ilvrctl.cli.job_views import first_view, job_view
from ilvrctl.cli.screen import Screen

if TYPE_CHECKING:
    from ilvrctl.events import JobEvent


@contextmanager
def bars(count: int) -> Iterator[Callable[[JobEvent], None]]:
    """Whom to tell of a run of ``count`` results: bars on stderr where that is a terminal, else lines."""
    tally, screen = Tally(count), Screen(Display.of(), bars=True)

    def tell(event: JobEvent) -> None:
        tally.add(event)
        screen.show(replace(job_view(event, tally), record=None, path=None, content=None))

    with screen:
        screen.show(first_view(tally))
        yield tell
