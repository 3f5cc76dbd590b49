"""Translate what comes into folders as it comes, with the networks kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ilvrctl.errors import MissingExtraError
from ilvrctl.events import Arrived, ItemFailed, JobEvent, Loaded, Noted
from ilvrctl.work.machine import Machine, Tell
from ilvrctl.work.pace import Paces
from ilvrctl.work.run import run
from ilvrctl.work.workers import Alone

if TYPE_CHECKING:
    from ilvrctl.plans.inbox import Inbox, Watched
    from ilvrctl.plans.plan import Plan

LOOK = 500
"""Milliseconds between two looks at folders where nothing is heard of."""


def carry_out_watch(
    asked: Watched,
    machine: Machine,
    *,
    stop: Callable[[], bool] = lambda: False,
    aside: Tell = lambda event: None,
) -> Generator[JobEvent, None, None]:
    """Make the results of what is in the folders, and of what comes, until ``stop`` says so or the iterator is closed.

    What fails is told, and the next ones go on. Raises what would meet all of them, as :func:`ilvrctl.work.run.run`
    does, and MissingExtraError without ``watchfiles``.
    """
    kept, keeper = machine.keeping(), _Once()
    team = Alone(lambda networks: kept.load(networks, aside))
    try:
        for _ in _looks(asked.inbox, stop):
            items, passed = asked.inbox.ready()
            yield from passed
            for plan in asked.plans(items) if items else ():
                if isinstance(plan, tuple):
                    item, error = plan
                    yield Arrived(1)
                    yield ItemFailed(item.name, error)
                    continue
                yield Arrived(len(plan.outputs))
                events = run([keeper.quieter(plan)], team, rescued=aside, paces=Paces(machine))
                yield from keeper.new(events)
    finally:
        for one in asked.inbox.unfinished():
            aside(one)


class _Once:
    """Tells once what every run would tell: that the network is there, and what the target expects."""

    def __init__(self) -> None:
        self._loaded: set[tuple[str, str]] = set()
        self._noted = False

    def quieter(self, plan: Plan) -> Plan:
        return replace(plan, expects="") if self._noted else plan

    def new(self, events: Generator[JobEvent, None, None]) -> Iterator[JobEvent]:
        try:
            for event in events:
                self._noted = self._noted or isinstance(event, Noted)
                if isinstance(event, Loaded):
                    if (key := (event.model, event.precision)) in self._loaded:
                        continue
                    self._loaded.add(key)
                yield event
        finally:
            events.close()


class _Stop:
    """An event that is set when somebody says so."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.is_set = stop


def _looks(inbox: Inbox, stop: Callable[[], bool]) -> Iterator[None]:
    """Now, whenever something has changed in the folders, and now and then."""
    try:
        from watchfiles import watch
    except ImportError as error:
        raise MissingExtraError("--watch needs watchfiles", hint="pip install 'ilvrctl[watch]'") from error
    if stop():
        return
    yield
    changes = watch(
        *inbox.folders,
        watch_filter=None,
        debounce=LOOK,
        rust_timeout=LOOK,
        yield_on_timeout=True,
        recursive=inbox.recursive,
        stop_event=_Stop(stop),
        ignore_permission_denied=True,
    )
    for _ in changes:
        yield
