"""Whether inputs are of the kind that the target expects, as far as that can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilvrctl.errors import IlvrctlError
from ilvrctl.events import Noted
from ilvrctl.images.geometry import on_white
from ilvrctl.work.opening import Input, read_input
from ilvrctl.work.pieces import Shape

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.plans.plan import Plan

LOOKED_AT = 16
"""Inputs that a dry run looks at."""


def unexpected(plan: Plan, name: str, picture: Image) -> Noted | None:
    """What to tell of an input, as the network gets it, that is not as the plan's target expects; once is enough."""
    if not plan.expects or plan.edits or on_white(picture):
        return None
    to = plan.target or plan.model.name
    return Noted(f"{name} is not on white: {to} expects {plan.expects}, and makes little of photos")


def first_unexpected(plan: Plan) -> Noted | None:
    """The same of the first such input among some of the plan, which are read."""
    if not plan.expects or plan.edits or plan.model.image_size is None:
        return None
    shape = Shape.of(plan.variants[0].settings)
    for item in list(dict.fromkeys(output.item for output in plan.pending))[:LOOKED_AT]:
        try:
            found = read_input(item, [shape], None)
            if isinstance(found, Input):
                found = found.fitted(plan.model.image_size, 1)
        except IlvrctlError:
            continue
        if isinstance(found, Input):
            picture = found.pieces[shape].parts[0].picture
            if (note := unexpected(plan, item.name, picture)) is not None:
                return note
    return None
