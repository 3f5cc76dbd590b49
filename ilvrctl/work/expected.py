"""Whether inputs are of the kind that the target expects, as far as that can be seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ilvrctl.errors import IlvrctlError
from ilvrctl.events import Noted
from ilvrctl.images.geometry import on_white
from ilvrctl.work.opening import Input, read_input
from ilvrctl.work.pieces import Shape

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.plans.inputs import Item
    from ilvrctl.plans.plan import Plan

LOOKED_AT = 16
"""Inputs of a target that a dry run looks at."""


def expecting(plan: Plan) -> str | None:
    """The target of a plan that expects a kind of pictures; None where it takes all."""
    return (plan.target or plan.model.name) if plan.expects and not plan.edits else None


def unexpected(plan: Plan, name: str, picture: Image) -> Noted | None:
    """What to tell of an input, as the network gets it, that is not as the plan's target expects; once is enough."""
    to = expecting(plan)
    if to is None or on_white(picture):
        return None
    return Noted(f"{name} is not on white: {to} expects {plan.expects}, and makes little of photos")


def first_unexpected(plans: Sequence[Plan]) -> Iterator[Noted]:
    """The same of the first such input of each target, among some that are read."""
    by_target: dict[str, list[Plan]] = {}
    for plan in plans:
        if (to := expecting(plan)) is not None:
            by_target.setdefault(to, []).append(plan)
    for mine in by_target.values():
        notes = (_looked_at(item, plan) for item, plan in islice(_inputs(mine), LOOKED_AT))
        yield from islice(filter(None, notes), 1)


def _inputs(plans: Sequence[Plan]) -> Iterator[tuple[Item, Plan]]:
    """What is still to be read, each once, with the first plan that wants it."""
    seen: set[Item] = set()
    for plan in plans:
        for output in plan.pending:
            if output.item not in seen:
                seen.add(output.item)
                yield output.item, plan


def _looked_at(item: Item, plan: Plan) -> Noted | None:
    shape, size = Shape.of(plan.variants[0].settings), plan.model.image_size
    try:
        found = read_input(item, [shape], None)
        if isinstance(found, Input) and size is not None:
            found = found.fitted(size, 1)
    except IlvrctlError:
        return None
    if isinstance(found, Input) and found.pieces:
        return unexpected(plan, item.name, found.pieces[shape].parts[0].picture)
    return None
