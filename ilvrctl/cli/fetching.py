"""Weights on Hugging Face that a run names and that are not here: fetched on the way, and shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ilvrctl.cli import signals
from ilvrctl.cli.display import Display

if TYPE_CHECKING:
    from ilvrctl.hub.events import HubEvent


@contextmanager
def fetching_shown(display: Display, *, wanted: bool = True) -> Iterator[None]:
    """Within the block (of planning) they are fetched if that is ``wanted``; standard output stays that of the run."""
    from ilvrctl.cli.screen import Screen
    from ilvrctl.cli.transfer_views import Transfers
    from ilvrctl.hub.events import Failed
    from ilvrctl.plans.named_weights import fetching

    if not wanted:
        yield
        return
    transfers, screens = Transfers(), list[Screen]()
    with ExitStack() as stack:

        def tell(event: HubEvent) -> None:
            if isinstance(event, Failed):
                return  # the error is raised, and told as that of the run
            if not screens:
                screens.append(stack.enter_context(Screen(display)))
            screens[0].show(replace(transfers.view(event), path=None, record=None))
            signals.check()

        stack.enter_context(fetching(tell))
        yield
