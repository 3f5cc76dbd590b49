"""Who does the work: this process alone, or a team of workers that hold the networks.

The driver reads inputs, writes results and keeps the manifest; workers get prepared pictures and give pictures
back, and need no files but the weights.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ilvrctl.errors import DeviceError
from ilvrctl.events import SampleFailed, SampleId, Warned
from ilvrctl.work.batches import Batch
from ilvrctl.work.worker import Facts, Worker, WorkerEvent

if TYPE_CHECKING:
    from ilvrctl.engine import Engine
    from ilvrctl.plans.grid import Variant
    from ilvrctl.plans.plan import Networks

IN_FLIGHT = 2
"""Batches that a worker has at a time: one in work, and one so that it need not wait for the next."""
TRIES = 3
"""Workers that a batch may lose before its items count as failed."""
TOLD_AFTER = 60.0
"""Seconds of waiting for any worker at all after which it is told, and again after as many."""
PATIENCE = 600.0
"""Seconds that are waited for any worker at all: the first loads networks, and may have to compile them."""

WorkEvent = WorkerEvent | Warned


class Workers(Protocol):
    """They make batches."""

    def begin(self, networks: Networks, variants: Sequence[Variant]) -> Generator[Warned, None, Facts]:
        """Have the networks loaded, the earlier ones being let go, and see that they can do all variants."""

    def carry_out(self, batches: Iterator[Batch]) -> Generator[WorkEvent, None, None]:
        """Take batches as they can be used, and tell what becomes of them."""

    def close(self) -> None:
        """Let go of the networks."""


class Alone:
    """This process does the work; ``load`` makes the engine of networks."""

    def __init__(self, load: Callable[[Networks], Engine]) -> None:
        self._load = load
        self._worker: Worker | None = None

    def begin(self, networks: Networks, variants: Sequence[Variant]) -> Generator[Warned, None, Facts]:
        yield from ()
        self._worker = None
        self._worker = Worker(self._load(networks))
        self._worker.check(variants)
        return self._worker.facts()

    def carry_out(self, batches: Iterator[Batch]) -> Generator[WorkEvent, None, None]:
        for batch in batches:
            if self._worker is not None:
                yield from self._worker.perform(batch)

    def close(self) -> None:
        self._worker = None


Message = tuple[Any, str, Any]
"""From a worker: who, what, and the rest: ``ready`` with facts, ``done`` with the events of its oldest batch,
``error`` with an exception, ``lost`` with the reason."""


class Fleet(Protocol):
    """Workers somewhere else, each known by something that can be a key."""

    def start(self, networks: Networks, variants: Sequence[Variant]) -> None:
        """Have workers load networks; each tells when it is ready."""

    def send(self, worker: Any, batch: Batch) -> None:
        """Give a worker another batch."""

    def receive(self, seconds: float) -> list[Message]:
        """Wait until some worker tells something, for so long."""

    def stop(self) -> None:
        """End all workers."""


class Spread:
    """Spreads batches over a fleet, and gives those of a lost worker to others."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._busy: dict[Any, deque[tuple[int, Batch]]] = {}

    def begin(self, networks: Networks, variants: Sequence[Variant]) -> Generator[Warned, None, Facts]:
        """The first worker that is ready is enough; the others join when they are."""
        self._busy = {}
        self._fleet.start(networks, variants)
        while True:
            for worker, what, rest in (yield from self._receive()):
                if what == "error":
                    raise rest
                if what == "lost":
                    yield Warned(f"a worker was lost ({rest})")
                if what == "ready":
                    self._busy[worker] = deque()
                    facts: Facts = rest
                    return facts

    def carry_out(self, batches: Iterator[Batch]) -> Generator[WorkEvent, None, None]:
        """Every worker has ``IN_FLIGHT`` batches; no more are taken than can be given out."""
        numbered = enumerate(batches)
        again: deque[tuple[int, Batch]] = deque()
        losses: Counter[int] = Counter()
        self._feed(again, numbered)
        while again or any(self._busy.values()):
            for worker, what, rest in (yield from self._receive()):
                if what == "ready":
                    self._busy[worker] = deque()
                elif what == "done" and worker in self._busy:
                    self._busy[worker].popleft()
                    yield from rest
                elif what == "error":
                    raise rest
                elif what == "lost":
                    lost = self._busy.pop(worker, deque())
                    yield Warned(f"a worker was lost ({rest}); {_count(lost)} again elsewhere")
                    yield from _take_back(lost, again, losses)
            self._feed(again, numbered)

    def _receive(self) -> Generator[Warned, None, list[Message]]:
        """The next messages. Where there is no worker at all that could send one, the wait is told, and ends."""
        waited = 0.0
        while not (told := self._fleet.receive(TOLD_AFTER)):
            waited = 0.0 if self._busy else waited + TOLD_AFTER
            if waited >= PATIENCE:
                raise DeviceError(
                    f"no worker has come in {waited / 60:.0f} minutes",
                    hint="are the nodes up, and free? The same command goes on from here",
                )
            if waited:
                yield Warned(f"no worker is ready; waited {waited / 60:.0f} of {PATIENCE / 60:.0f} minutes")
        return told

    def _feed(self, again: deque[tuple[int, Batch]], numbered: Iterator[tuple[int, Batch]]) -> None:
        for room in range(IN_FLIGHT):
            for worker, busy in self._busy.items():
                if len(busy) > room:
                    continue
                numbered_batch = again.popleft() if again else next(numbered, None)
                if numbered_batch is None:
                    return
                busy.append(numbered_batch)
                self._fleet.send(worker, numbered_batch[1])

    def close(self) -> None:
        self._fleet.stop()


def _take_back(
    lost: deque[tuple[int, Batch]], again: deque[tuple[int, Batch]], losses: Counter[int]
) -> Iterator[WorkEvent]:
    """Batches of a lost worker are given out again; one that loses a worker time after time has failed."""
    for place, (number, batch) in enumerate(lost):
        losses[number] += place == 0
        if losses[number] < TRIES:
            again.append((number, batch))
            continue
        for wanted in batch.wanted:
            error = DeviceError(f"{TRIES} workers were lost at it", hint="a smaller --batch-size")
            yield SampleFailed(SampleId(wanted.slot, wanted.sample), error)


def _count(lost: deque[tuple[int, Batch]]) -> str:
    results = sum(len(batch.wanted) for _, batch in lost)
    return "1 result is made" if results == 1 else f"{results} results are made"
