"""Which results are made together: batches filled across inputs and jobs, always of their planned size.

A network rounds differently in batches of other sizes and, where threads share them, at other places in the batch,
but not by what else is in it. So every result has a planned size, that of the batches of its kind or what is left
of them in the last, and a place. Whatever of a plan is made, after a crash, by one of many shards or workers, is
made in a batch of that size and at that place, with copies where nothing is wanted. The bytes are then those of one
quiet run.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from ilvrctl.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.models.files.noise_file import Arrays
    from ilvrctl.plans.plan import Plan
    from ilvrctl.settings import Settings
    from ilvrctl.work.pieces import Piece

HELD = 64
"""Inputs that all settings of a sweep are made of before the next ones are read."""


class Slot(NamedTuple):
    """A result: the number of its plan, and its place among the outputs of that."""

    plan: int
    place: int


@dataclass(frozen=True)
class PlannedBatch:
    """Results to make together, in a batch of ``size``, each at one of ``places``.

    ``kind``: the number of those with equal settings but for the seed.
    """

    kind: int
    slots: tuple[Slot, ...]
    places: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Wanted:
    """One result to make: the ``name`` of its input, its ``parts`` as the network gets them, what seeds its noise,
    its ``place`` in the batch. An edit with several regions has several parts. ``kept``: the noise that is found of
    it is wanted too.
    """

    slot: Slot
    name: str
    parts: tuple[Piece, ...]
    digest: str
    sample: int
    seed: int
    place: int = 0
    filmed: bool = False
    kept: bool = False


@dataclass(frozen=True)
class Batch:
    """Results for a worker to make, as a batch of ``size``. It can be sent to another process."""

    settings: Settings
    wanted: tuple[Wanted, ...]
    size: int


@dataclass(frozen=True)
class Made:
    """What a worker made: a picture a part, frames of its animation, its share of the batch's seconds, and the noise
    that it found of the input, where that was to be kept.
    """

    slot: Slot
    images: tuple[Image, ...]
    seconds: float
    frames: tuple[Image, ...] = ()
    noise: Arrays | None = None


def batches(plans: Mapping[int, Plan], wanted: Callable[[Slot], bool], size: int) -> list[PlannedBatch]:
    """The ``wanted`` results of plans with one engine, in batches of at most ``size``.

    ``plans`` by their number. ``HELD`` inputs at a time go through all their settings, so that each is read once.
    """
    ranks = _ranks(plans)
    found: list[tuple[tuple[int, int, int], PlannedBatch]] = []
    for kind, slots in enumerate(kinds(plans)):
        slots = sorted(slots, key=lambda slot: (ranks[slot] // HELD, slot))
        most = 1 if _of_many_sizes(plans, slots) else size
        whole = len(slots) - len(slots) % most
        for part, planned in ((slots[:whole], most), (slots[whole:], len(slots) % most)):
            columns = [[s for s in part[place::planned] if wanted(s)] for place in range(planned)]
            for row in zip_longest(*columns):
                there = [(slot, place) for place, slot in enumerate(row) if slot is not None]
                batch = PlannedBatch(kind, tuple(s for s, _ in there), tuple(p for _, p in there), planned)
                found.append(((ranks[batch.slots[0]] // HELD, kind, len(found)), batch))
    return [batch for _, batch in sorted(found, key=lambda pair: pair[0])]


def filled(
    planned: Sequence[PlannedBatch], found: Iterator[Wanted | None], settings: Callable[[Slot], Settings]
) -> Iterator[Batch]:
    """Batches of what was ``found`` for the slots of those ``planned``, one after the other.

    Where that is None (the input cannot be read), those that follow at the same place move up, so that batches stay
    full. ``found`` is taken from as it is needed.
    """
    left = Counter((batch.kind, batch.size) for batch in planned)
    waiting = {kind: [deque[Wanted]() for _ in range(kind[1])] for kind in left}
    for batch in planned:
        kind = batch.kind, batch.size
        left[kind] -= 1
        places = waiting[kind]
        for place, wanted in zip(batch.places, islice(found, len(batch.places)), strict=True):
            if wanted is not None:
                places[place].append(replace(wanted, place=place))
        while _enough(places, last=not left[kind]):
            together = tuple(place.popleft() for place in places if place)
            yield Batch(settings(together[0].slot), together, batch.size)


def _enough(places: Sequence[deque[Wanted]], *, last: bool) -> bool:
    """Whether a batch is made of what waits for its places: when it is full, when much waits, or at the end."""
    return all(places) or any(len(waiting) > 2 for waiting in places) or (last and any(places))


def _of_many_sizes(plans: Mapping[int, Plan], slots: Sequence[Slot]) -> bool:
    """Whether the network gets pictures of their own sizes, which fill no batch together."""
    plan, place = slots[0]
    return plans[plan].variants[plans[plan].outputs[place].variant].settings.fit == "native"


def kinds(plans: Mapping[int, Plan]) -> list[list[Slot]]:
    """All results of the plans, those together whose settings differ in the seed alone."""
    numbers: dict[str, int] = {}
    found: list[list[Slot]] = []
    for p, plan in plans.items():
        mine = []
        for variant in plan.variants:
            kind = numbers.setdefault(replace(variant.settings, seed=0).identity({}), len(numbers))
            mine.append(kind)
            found.extend([] for _ in range(len(numbers) - len(found)))
        for o, output in enumerate(plan.outputs):
            found[mine[output.variant]].append(Slot(p, o))
    return found


def divide(plans: Sequence[Plan], shard: tuple[int, int]) -> tuple[Plan, ...]:
    """The plans with what other shards make marked; ``shard`` (3, 16) is the third of sixteen.

    The shares follow from the whole plan, done or not, and take about as many calls of the network each.
    """
    number, count = shard
    if count == 1:
        return tuple(plans)
    slots = [slot for kind in kinds(dict(enumerate(plans))) for slot in kind]
    costs = [[v.settings.network_calls(plan.schedule()) for v in plan.variants] for plan in plans]
    ends = list(accumulate(costs[p][plans[p].outputs[o].variant] for p, o in slots))
    mine = {
        slot
        for slot, end in zip(slots, ends, strict=True)
        if (end - 1) * count // ends[-1] == number - 1  # by where its last call falls
    }
    return tuple(
        replace(
            plan,
            outputs=tuple(
                output if (p, o) in mine else replace(output, status="elsewhere")
                for o, output in enumerate(plan.outputs)
            ),
        )
        for p, plan in enumerate(plans)
    )


def launched_share(environment: Mapping[str, str]) -> tuple[int, int]:
    """The share of this process among those that ``torchrun`` has started, as for :func:`divide`; else (1, 1).

    UsageError where RANK and WORLD_SIZE, which it sets, make no sense.
    """
    rank, count = (environment.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    if not (rank and count):
        return 1, 1
    if not (rank.isdecimal() and count.isdecimal() and int(rank) < int(count)):
        raise UsageError(
            f"RANK={rank} and WORLD_SIZE={count} in the environment are no part of a whole",
            hint="unset both, or start with torchrun",
        )
    return int(rank) + 1, int(count)


def _ranks(plans: Mapping[int, Plan]) -> dict[Slot, int]:
    """For each result the number of its input, in the order in which inputs are named."""
    numbers: dict[str, int] = {}
    return {
        Slot(p, o): numbers.setdefault(output.item.key, len(numbers))
        for p, plan in plans.items()
        for o, output in enumerate(plan.outputs)
    }
