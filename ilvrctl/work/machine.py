"""On what plans are carried out: a device, several, or a cluster; and carrying them out there."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from ilvrctl.errors import UsageError
from ilvrctl.events import JobEvent, Noted

if TYPE_CHECKING:
    from ilvrctl.engine import Engine
    from ilvrctl.plans.pace import How
    from ilvrctl.plans.past import Past
    from ilvrctl.plans.plan import Networks, Plan, Where
    from ilvrctl.work.workers import Workers

Tell = Callable[[JobEvent], object]
_LARGEST_BATCH = 65_536


@dataclass(frozen=True)
class Machine:
    """As ``--device``, ``--batch-size``, ``--compile`` and those of ``batch`` say.

    ``batch_size``: a number, ``auto``, or None for the usual one. ``devices``: a list, or a number of GPUs, each with
    a process of its own. ``engine``: ``local``, or ``ray`` with the cluster's ``address`` and a number of ``workers``.
    """

    device: str = "auto"
    batch_size: int | str | None = None
    compile: bool | None = None
    devices: str | None = None
    engine: str = "local"
    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        text = str(self.batch_size)
        if self.batch_size not in (None, "auto") and (not text.isdigit() or int(text) < 1):
            given = os.environ.get("ILVRCTL_BATCH_SIZE") == text
            flag = "ILVRCTL_BATCH_SIZE" if given else "--batch-size"
            raise UsageError(f"{flag} takes a number or auto, not {text!r}")
        if text.isdigit() and int(text) > _LARGEST_BATCH:
            raise UsageError(
                f"--batch-size {text} is beyond any device: {_LARGEST_BATCH:,} at most",
                hint="--batch-size auto finds the fastest",
            )
        if self.engine not in ("local", "ray"):
            raise UsageError(f"unknown engine {self.engine!r}; known: local, ray")
        if self.batch_size == "auto" and self.spread:
            raise UsageError("--batch-size auto measures on this machine alone", hint="give a number")

    def of_job(self, where: Where) -> Machine:
        """With what a job asks for where the command says nothing. UsageError where that makes no sense."""
        named = self.device != "auto" or self.devices is not None
        return replace(
            self,
            device=self.device if named or where.device is None else where.device,
            batch_size=where.batch_size if self.batch_size is None else self.batch_size,
            compile=where.compiled if self.compile is None else self.compile,
        )

    def check(self, plans: Sequence[Plan] = ()) -> None:
        """See that the devices are there, also those that plans ask for. UsageError or DeviceError; torch is asked only
        where one is named.
        """
        asked = [self.of_job(where) for where in dict.fromkeys(plan.where for plan in plans)]
        for name in dict.fromkeys(name for one in asked or [self] for name in one.names):
            if name not in ("auto", "cpu"):
                from ilvrctl.devices import choose_device

                choose_device(name)

    @property
    def spread(self) -> bool:
        """Whether others than this process do the work."""
        return self.engine == "ray" or self.devices is not None

    @property
    def names(self) -> list[str]:
        """The devices that are listed."""
        text = self.device if self.devices is None else self.devices
        if text.isdigit():
            return [f"cuda:{n}" for n in range(int(text))]
        return [name.strip() for name in text.split(",")]

    @property
    def how(self) -> How:
        """What the pace of the work depends on, as it was asked for."""
        return self.device, None if self.batch_size is None else str(self.batch_size), self.compile

    def load(self, networks: Networks, tell: Tell) -> Engine:
        """The engine of networks; compiled where that is asked for."""
        mine = self.of_job(networks.where)
        auto = mine.batch_size == "auto"
        size = None if auto or mine.batch_size is None else int(mine.batch_size)
        engine = networks.load(device=mine.device, batch_size=size, compiled=bool(mine.compile))
        if not auto:
            return engine
        from ilvrctl.timing import best_batch_size

        best, seconds = best_batch_size(engine)
        tell(Noted(f"batch size {best}: {seconds * 1000:.1f} ms a picture and call"))
        return replace(engine, batch_size=best)

    def keeping(self) -> Keeping:
        """The same machine, which keeps the networks of its last run in memory."""
        return Keeping(**{one.name: getattr(self, one.name) for one in fields(Machine)})

    def team(self, tell: Tell) -> Workers:
        """Who does the work."""
        from ilvrctl.work.workers import Alone, Spread

        if not self.spread:
            return Alone(lambda networks: self.load(networks, tell))
        import torch

        from ilvrctl.work.processes import Place, Processes

        size = None if self.batch_size is None else int(self.batch_size)
        threads = torch.get_num_threads()
        place = Place(self.device, size, bool(self.compile), threads, self.compile is not None)
        if self.engine == "ray":
            from ilvrctl.work.cluster import Cluster

            return Spread(Cluster(place, self.address, self.workers))
        return Spread(Processes([replace(place, device=name) for name in self.names]))


@dataclass(frozen=True)
class Keeping(Machine):
    """One that keeps the networks of its last run in memory, for runs with the same."""

    last: dict[Networks, Engine] = field(default_factory=dict, compare=False, repr=False)

    def load(self, networks: Networks, tell: Tell) -> Engine:
        """The engine of the last run, where it had these networks, else a new one in its place."""
        if networks not in self.last:
            self.last.clear()  # before others are loaded: both may not fit
            self.last[networks] = super().load(networks, tell)
        return self.last[networks]


def share_of(
    plans: Sequence[Plan], shard: tuple[int, int] = (1, 1)
) -> tuple[tuple[Plan, ...], tuple[int, int]]:
    """The plans with what others make marked: other shards, and other processes that ``torchrun`` has started; and
    which part of how many this is.
    """
    from ilvrctl.work.batches import divide, launched_share

    rank, count = launched_share(os.environ)
    whole = (shard[0] - 1) * count + rank, shard[1] * count
    return divide(plans, whole), whole


def told_before(plans: Sequence[Plan], *, passed_by: bool = True) -> Iterator[JobEvent]:
    """What people should know before plans are carried out, and what was passed by, each once."""
    for plan in plans:
        yield from plan.notes
    if passed_by:
        yield from dict.fromkeys(one for plan in plans for one in plan.passed_by)


def carry_out(
    plans: Sequence[Plan],
    machine: Machine,
    *,
    past: Past | None = None,
    shard: tuple[int, int] = (1, 1),
    max_failures: int | None = None,
    aside: Tell = lambda event: None,
) -> Generator[JobEvent, None, None]:
    """Make what checked plans still want, as :func:`ilvrctl.work.run.run` does, kept account of where ``past`` is.

    ``aside`` is told of what happens while nobody waits for an event.
    """
    from ilvrctl.plans.manifest import ManifestWriter
    from ilvrctl.work.ledger import Ledger
    from ilvrctl.work.pace import Paces
    from ilvrctl.work.run import run

    yield from told_before(plans, passed_by=shard[0] == 1)
    for plan in plans:
        machine.of_job(plan.where)
    team = machine.team(aside)  # before anything is written: a cluster may not answer
    with ExitStack() as stack:
        ledger = None
        if past is not None:
            try:
                ledger = Ledger(stack.enter_context(ManifestWriter(past.root, shard)), past)
            except BaseException:
                team.close()
                raise
        paces = None if machine.spread else Paces(machine)
        yield from run(plans, team, ledger, max_failures=max_failures, rescued=aside, paces=paces)
