"""The state of a run on disk: one safetensors file, whose header says what run it is and how far. No torch here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ilvrctl.errors import UsageError, WeightsError

STATE = "state.safetensors"
_FREE = frozenset({"name", "title", "notes", "images", "store"})
"""Parts of a recipe that may change between the runs of one training."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, and what it is: ``step`` updates in ``seconds``; the recipe's record, and its data.

    ``held_out`` and ``pictures`` are digests of the pictures, ``init`` that of the weights it began with.
    """

    step: int = 0
    seconds: float = 0.0
    recipe: dict[str, Any] = field(default_factory=dict)
    pictures: str = ""
    held_out: str = ""
    init: str = ""

    def notes(self) -> dict[str, str]:
        """For the header of the state's file."""
        return {"progress": json.dumps(asdict(self))}


def read_progress(folder: Path) -> Progress | None:
    """What the state in ``folder`` says; None where there is none. WeightsError for a damaged one."""
    path = folder / STATE
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < 1 << 27 else {}
        return Progress(**json.loads(header["__metadata__"]["progress"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path}: the state of this training is damaged ({error})", "--overwrite begins again"
        ) from error


def check_same(before: Progress, now: Progress, name: str) -> None:
    """UsageError that names what differs when ``now`` cannot go on from ``before``."""
    changed = [
        f"{key} was {before.recipe.get(key)!r} and is now {now.recipe.get(key)!r}"
        for key in now.recipe
        if key not in _FREE and before.recipe.get(key) != now.recipe.get(key)
    ]
    for what, key in (
        ("the pictures", "pictures"),
        ("the held-out pictures", "held_out"),
        ("the start", "init"),
    ):
        if getattr(before, key) != getattr(now, key):
            changed.append(f"{what} changed")
    if changed:
        raise UsageError(
            f"{name} was begun otherwise: {'; '.join(changed)}",
            f"the same command goes on; --overwrite begins again; --init {name} with another --name goes on "
            "from its weights",
        )
