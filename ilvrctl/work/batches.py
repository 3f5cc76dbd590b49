"""Which results are made together: batches filled across inputs and jobs, always of their planned size.

A network rounds differently in batches of other sizes and, where threads share them, at other places in the batch,
but not by what else is in it. So every result has a planned size, that of the batches of its kind or what is left
of them in the last, and a place. Whatever of a plan is made, after a crash, by one of many shards or workers, is
made in a batch of that size and at that place, with copies where nothing is wanted. The bytes are then those of one
quiet run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.events import SampleId
    from ilvrctl.plans.plan import Plan
    from ilvrctl.settings import Settings
    from ilvrctl.work import pieces as canvas

HELD = 64
"""Inputs that all settings of a sweep are made of before the next ones are read."""

Slot = tuple[int, int]
"""A result: the number of its plan, and its place among the outputs of that."""


@dataclass(frozen=True)
class Batch:
    """Results to make together, in a batch of ``size``, each at one of ``places``.

    ``kind``: the number of those with equal settings but for the seed.
    """

    kind: int
    slots: tuple[Slot, ...]
    places: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Piece:
    """One result to make: its token, its ``parts`` as the network gets them, what seeds its noise, its ``place`` in
    the batch. An edit with several regions has several parts.
    """

    key: str
    parts: tuple[canvas.Piece, ...]
    digest: str
    sample: int
    seed: int
    place: int = 0
    filmed: bool = False


@dataclass(frozen=True)
class Order:
    """A batch for a worker, to be made as one of ``size``. It can be sent to another process."""

    settings: Settings
    pieces: tuple[Piece, ...]
    size: int


@dataclass(frozen=True)
class Made:
    """What a worker made: a picture a part, frames of its animation, and its share of the batch's seconds."""

    sample: SampleId
    images: tuple[Image, ...]
    seconds: float
    frames: tuple[Image, ...] = ()


def token(slot: Slot) -> str:
    """The slot as the key of a reference."""
    return f"{slot[0]}:{slot[1]}"


def slot_of(key: str) -> Slot:
    """The slot that :func:`token` was made of."""
    plan, _, place = key.partition(":")
    return int(plan), int(place)


def batches(plans: Mapping[int, Plan], wanted: Callable[[Slot], bool], size: int) -> list[Batch]:
    """The ``wanted`` results of plans with one engine, in batches of at most ``size``.

    ``plans`` by their number. ``HELD`` inputs at a time go through all their settings, so that each is read once.
    """
    ranks = _ranks(plans)
    found: list[tuple[tuple[int, int, int], Batch]] = []
    for kind, slots in enumerate(kinds(plans)):
        slots = sorted(slots, key=lambda slot: (ranks[slot] // HELD, slot))
        most = 1 if _of_many_sizes(plans, slots) else size
        whole = len(slots) - len(slots) % most
        for part, planned in ((slots[:whole], most), (slots[whole:], len(slots) % most)):
            columns = [[s for s in part[place::planned] if wanted(s)] for place in range(planned)]
            for row in zip_longest(*columns):
                there = [(slot, place) for place, slot in enumerate(row) if slot is not None]
                batch = Batch(kind, tuple(s for s, _ in there), tuple(p for _, p in there), planned)
                found.append(((ranks[batch.slots[0]] // HELD, kind, len(found)), batch))
    return [batch for _, batch in sorted(found, key=lambda pair: pair[0])]


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
            kind = numbers.setdefault(repr(replace(variant.settings, seed=0)), len(numbers))
            mine.append(kind)
            found.extend([] for _ in range(len(numbers) - len(found)))
        for o, output in enumerate(plan.outputs):
            found[mine[output.variant]].append((p, o))
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


def _ranks(plans: Mapping[int, Plan]) -> dict[Slot, int]:
    """For each result the number of its input, in the order in which inputs are named."""
    numbers: dict[str, int] = {}
    return {
        (p, o): numbers.setdefault(output.item.key, len(numbers))
        for p, plan in plans.items()
        for o, output in enumerate(plan.outputs)
    }
