"""What one training is: its recipe, pictures, places and limits. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ilvrctl import paths
from ilvrctl.errors import UsageError
from ilvrctl.files import make_folder
from ilvrctl.training.pictures import Decoded, Pictures, load_pictures
from ilvrctl.training.publish import check_name
from ilvrctl.training.recipe import Recipe, check_size, record
from ilvrctl.training.state import Progress, check_same, read_progress

MOST_HELD_OUT = 64


@dataclass(frozen=True)
class Job:
    """A training as asked for.

    ``folder`` of pictures; ``held_out``: a folder of pictures for validation, else the recipe's share of the
    first. ``run``: where state, log and sheets go. ``seconds``: a limit besides the recipe's ``images``; None for none.
    ``save_every``: seconds between two states; ``sheet_every``: states between two sheets, 0 for none at all.
    ``references``: a folder of pictures that the sheets show translated.
    """

    name: str
    folder: Path
    recipe: Recipe
    run: Path
    held_out: Path | None = None
    references: Path | None = None
    seconds: float | None = None
    save_every: float = 300.0
    sheet_every: int = 6
    device: str = "auto"
    precision: str = "auto"
    compiled: bool = False


@dataclass(frozen=True)
class Data:
    """The pictures of a job: which rows of ``pictures`` to learn from, and what to validate with."""

    pictures: Pictures
    train: tuple[int, ...]
    held_out: tuple[int, ...]
    validation: Pictures


@dataclass(frozen=True)
class Outlook:
    """What would happen: ``progress`` of an earlier run, if any, and whether it is ``finished``."""

    progress: Progress | None
    finished: bool


def outlook(job: Job, *, overwrite: bool) -> Outlook:
    """Check what can be checked without reading pictures or weights, and look at what was done before.

    UsageError for a name that is taken, a size that the architecture cannot have, or a run of other settings.
    """
    if job.recipe.init is None:
        job.recipe.network.unet(job.recipe.size, 3)
    before = None if overwrite else read_progress(job.run)
    if before is None:
        check_name(job.name, overwrite=overwrite)
        return Outlook(None, False)
    images = before.step * job.recipe.batch_size
    finished = images >= job.recipe.images or (job.seconds is not None and before.seconds >= job.seconds)
    check_same(before, dataclasses.replace(before, recipe=asked(job.recipe)), job.name)
    return Outlook(before, finished)


def asked(recipe: Recipe) -> dict[str, Any]:
    """The recipe's record."""
    return record(recipe)


def forget(job: Job) -> None:
    """Remove the state of an earlier run, for ``--overwrite``."""
    for path in (job.run / "state.safetensors", job.run / "log.jsonl"):
        path.unlink(missing_ok=True)


def read_data(job: Job) -> Iterator[Decoded | Data]:
    """Decode the pictures; the last value is the :class:`Data`."""
    pictures = yield from _last(load_pictures(job.folder, job.recipe.square))
    if job.held_out is None:
        count = min(MOST_HELD_OUT, round(job.recipe.held_out * pictures.count))
        # pictures are in the order of their digests: the first ones are a random choice that a rename keeps
        aside, rest = tuple(range(count)), tuple(range(count, pictures.count))
        yield Data(pictures, rest, aside, pictures)
        return
    validation = yield from _last(load_pictures(job.held_out, job.recipe.square))
    known = set(validation.digests)
    rest = tuple(n for n, digest in enumerate(pictures.digests) if digest not in known)
    if not rest:
        raise UsageError(f"all pictures of {job.folder} are in {job.held_out} too", "give other pictures")
    yield Data(pictures, rest, tuple(range(validation.count)), validation)


def _last(values: Iterator[Decoded | Pictures]) -> Iterator[Decoded]:
    for value in values:
        if isinstance(value, Pictures):
            return value
        yield value
    raise AssertionError("pictures come last")
