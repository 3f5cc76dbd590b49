"""Who does the work: this process alone, or a team of workers that hold the networks.

The driver reads inputs, writes results and keeps the manifest; workers get prepared pictures and give pictures
back, and need no files but the weights.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ilvrctl.errors import DeviceError
from ilvrctl.events import BatchShrunk, BatchStarted, ItemFailed, StepDone, Warned
from ilvrctl.work.batches import Made, Order
from ilvrctl.work.worker import Bench, Facts

if TYPE_CHECKING:
    from ilvrctl.engine import Engine
    from ilvrctl.plans.grid import Variant
    from ilvrctl.plans.plan import Networks

IN_FLIGHT = 2
"""Orders that a worker has at a time: one in work, and one so that it need not wait for the next."""
TRIES = 3
"""Workers that an order may lose before its items count as failed."""

CrewEvent = BatchStarted | StepDone | ItemFailed | BatchShrunk | Made | Warned


class Crew(Protocol):
    """Carries out orders."""

    def begin(self, networks: Networks, variants: Sequence[Variant]) -> Facts:
        """Load the networks and see that they can do all variants."""

    def carry_out(self, orders: Iterator[Order]) -> Generator[CrewEvent, None, None]:
        """Take orders as they can be used, and tell what becomes of them."""

    def close(self) -> None:
        """Let go of the networks."""


class Alone:
    """This process does the work; ``load`` makes the engine of networks."""

    def __init__(self, load: Callable[[Networks], Engine]) -> None:
        self._load = load
        self._bench: Bench | None = None

    def begin(self, networks: Networks, variants: Sequence[Variant]) -> Facts:
        """Load the networks, the earlier ones being let go, and see that they can do all variants."""
        self._bench = None
        self._bench = Bench(self._load(networks))
        self._bench.check(variants)
        return self._bench.facts()

    def carry_out(self, orders: Iterator[Order]) -> Generator[CrewEvent, None, None]:
        """One order after the other."""
        for order in orders:
            if self._bench is not None:
                yield from self._bench.perform(order)

    def close(self) -> None:
        """Let go of the networks."""
        self._bench = None


Message = tuple[Any, str, Any]
"""From a worker: who, what, and the rest: ``ready`` with facts, ``done`` with the events of its oldest order,
``error`` with an exception, ``lost`` with the reason."""


class Team(Protocol):
    """Workers somewhere else, each known by something that can be a key."""

    def start(self, networks: Networks, variants: Sequence[Variant]) -> None:
        """Have workers load networks; each tells when it is ready."""

    def send(self, worker: Any, order: Order) -> None:
        """Give a worker another order."""

    def receive(self) -> list[Message]:
        """Wait until some worker tells something."""

    def stop(self) -> None:
        """End all workers."""


class Spread:
    """A crew that spreads orders over a team, and gives those of a lost worker to others."""

    def __init__(self, team: Team) -> None:
        self._team = team
        self._busy: dict[Any, deque[Order]] = {}

    def begin(self, networks: Networks, variants: Sequence[Variant]) -> Facts:
        """Wait for the first worker that is ready; the others join when they are."""
        self._busy = {}
        self._team.start(networks, variants)
        while True:
            for worker, what, rest in self._team.receive():
                if what == "error":
                    raise rest
                if what == "ready":
                    self._busy[worker] = deque()
                    facts: Facts = rest
                    return facts

    def carry_out(self, orders: Iterator[Order]) -> Generator[CrewEvent, None, None]:
        """Every worker has ``IN_FLIGHT`` orders; no more are taken than can be given out."""
        again: deque[Order] = deque()
        losses: Counter[int] = Counter()
        self._feed(again, orders)
        while again or any(self._busy.values()):
            for worker, what, rest in self._team.receive():
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
            self._feed(again, orders)

    def _feed(self, again: deque[Order], orders: Iterator[Order]) -> None:
        for room in range(IN_FLIGHT):
            for worker, busy in self._busy.items():
                if len(busy) > room:
                    continue
                order = again.popleft() if again else next(orders, None)
                if order is None:
                    return
                busy.append(order)
                self._team.send(worker, order)

    def close(self) -> None:
        """End all workers."""
        self._team.stop()


def _take_back(lost: deque[Order], again: deque[Order], losses: Counter[int]) -> Iterator[CrewEvent]:
    """Orders of a lost worker are given out again; one that loses a worker time after time has failed."""
    for place, order in enumerate(lost):
        losses[id(order)] += place == 0
        if losses[id(order)] < TRIES:
            again.append(order)
            continue
        for piece in order.pieces:
            error = DeviceError(f"{TRIES} workers were lost at it", hint="a smaller --batch-size")
            yield ItemFailed(piece.key, error, piece.sample)


def _count(lost: deque[Order]) -> str:
    results = sum(len(order.pieces) for order in lost)
    return "1 result is made" if results == 1 else f"{results} results are made"
