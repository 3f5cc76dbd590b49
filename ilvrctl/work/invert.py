"""Pictures inverted in memory: noise and no results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ilvrctl.images.io import encode_picture
from ilvrctl.models.files.noise_file import Noise
from ilvrctl.work.noises import facts_for, packed
from ilvrctl.work.opening import Unreadable, read_input
from ilvrctl.work.pieces import Shape
from ilvrctl.work.worker import reference_of

if TYPE_CHECKING:
    from ilvrctl.engine import Engine
    from ilvrctl.plans.plan import Plan


def inverted(plan: Plan, engine: Engine) -> Iterator[Noise]:
    """The pictures of a plan as noise, with one ``engine`` on both sides; nothing is decoded."""
    engine = engine.with_source(engine)
    for output in plan.outputs:
        settings = plan.variants[output.variant].settings
        shape = Shape.of(settings)
        found = read_input(output.item, [shape], engine.image_size)
        if not isinstance(found, Unreadable):
            found = found.fitted(engine.image_size, engine.multiple)
        if isinstance(found, Unreadable):
            raise found.error
        [piece] = found.pieces[shape].parts
        asked = reference_of(None, piece, found.seen.digest, output.sample, settings.seed)
        [inversion] = engine.invert([asked], settings)
        arrays = packed(inversion)
        yield Noise(facts_for(plan, output, found.seen.digest, arrays), encode_picture(piece.picture), arrays)
