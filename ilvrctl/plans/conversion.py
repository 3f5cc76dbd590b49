"""A checkpoint written anew: the network that is named, with all that is known of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ilvrctl.events import Note
from ilvrctl.models.files.convert import convert
from ilvrctl.plans.find_networks import NetworksAsked, find_networks


def convert_asked(
    asked: NetworksAsked,
    out: Path,
    tell: Callable[[Note], object],
    to: str = "safetensors",
    half: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write the network that is ``asked`` for to ``out`` (:func:`~ilvrctl.models.files.convert.convert`).

    ``tell`` gets what people should know of its facts, before anything is written.
    """
    found = find_networks(asked).target
    for note in found.notes:
        tell(note)
    return convert(
        found.weights, found.model, out, to=to, half=half, overwrite=overwrite, origins=found.origins
    )
