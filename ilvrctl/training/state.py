"""The state of a run on disk: one safetensors file, whose header says what run it is and how far. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ilvrctl.errors import UsageError, WeightsError
from ilvrctl.models.files.facts_header import read_notes
from ilvrctl.training.course import Leg

STATE = "state.safetensors"
AVERAGE = "average.safetensors"
_FREE = frozenset({"name", "title", "notes", "images", "store"})
"""Parts of a recipe that may change between the runs of one training."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, and what it is: ``step`` updates in ``seconds``; the recipe's record, and its data.

    ``held_out`` and ``pictures`` are digests of the pictures, ``init`` and ``teacher`` of the weights that it began
    with and learns from. ``leg``: the decay at its end, once that has begun.
    """

    step: int = 0
    seconds: float = 0.0
    recipe: dict[str, Any] = field(default_factory=dict)
    pictures: str = ""
    held_out: str = ""
    init: str = ""
    teacher: str = ""
    leg: Leg | None = None

    def notes(self) -> dict[str, str]:
        """For the header of the state's file."""
        return {"progress": json.dumps(asdict(self))}


def read_progress(folder: Path) -> Progress | None:
    """What the state in ``folder`` says; None where there is none. WeightsError for a damaged one."""
    path = folder / STATE
    try:
        values = json.loads(read_notes(path)["progress"])
        leg = values.pop("leg", None)
        return Progress(**values, leg=None if leg is None else Leg(**leg))
    except FileNotFoundError:
        return None
    except (WeightsError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path}: the state of this training is damaged ({error})", "--overwrite begins again"
        ) from error


def check_same(before: Progress, now: Progress, defaults: Mapping[str, Any], name: str) -> None:
    """UsageError that names what differs when ``now`` cannot go on from ``before``.

    A part of the recipe that is younger than the state had its value in ``defaults``.
    """
    was = {**defaults, **before.recipe}
    changed = [
        f"{key} was {was.get(key)!r} and is now {value!r}"
        for key, value in now.recipe.items()
        if key not in _FREE and was.get(key) != value
    ]
    for what, key in (
        ("the pictures", "pictures"),
        ("the held-out pictures", "held_out"),
        ("the start", "init"),
        ("the teacher", "teacher"),
    ):
        if getattr(before, key) != getattr(now, key):
            changed.append(f"{what} changed")
    if changed:
        raise UsageError(
            f"{name} was begun otherwise: {'; '.join(changed)}",
            f"the same command goes on; --overwrite begins again; --init {name} with another --name goes on "
            "from its weights",
        )
