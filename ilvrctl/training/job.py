"""What one training is: its recipe, pictures, places and limits. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from ilvrctl.errors import UsageError
from ilvrctl.events import Warned
from ilvrctl.training.events import TrainingEvent
from ilvrctl.training.pictures import SENSIBLE, Pictures, load_pictures
from ilvrctl.training.publish import check_name
from ilvrctl.training.recipe import Recipe, record
from ilvrctl.training.state import Progress, check_same, read_progress

MOST_HELD_OUT = 64


@dataclass(frozen=True)
class Job:
    """A training as asked for.

    ``folder`` of pictures; ``held_out``: a folder of pictures for validation, else the recipe's share of the
    first. ``run``: where state, log and sheets go. ``seconds``: a limit besides the recipe's ``images``.
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
    check_same(before, dataclasses.replace(before, recipe=record(job.recipe)), job.name)
    return Outlook(before, finished)


def forget(job: Job) -> None:
    """Remove the state of an earlier run, for ``--overwrite``."""
    for path in (job.run / "state.safetensors", job.run / "log.jsonl"):
        path.unlink(missing_ok=True)


def read_data(job: Job) -> Generator[TrainingEvent, None, Data]:
    """Decode the pictures and tell what is remarkable about them; returns the :class:`Data`."""
    pictures = yield from load_pictures(job.folder, job.recipe.square)
    yield from remarks(pictures, init=job.recipe.init is not None)
    if job.held_out is None:
        count = min(MOST_HELD_OUT, round(job.recipe.held_out * pictures.count))
        # pictures are in the order of their digests: the first ones are a random choice that a rename keeps
        aside, rest = tuple(range(count)), tuple(range(count, pictures.count))
        return Data(pictures, rest, aside, pictures)
    validation = yield from load_pictures(job.held_out, job.recipe.square, fewest=1)
    known = set(validation.digests)
    rest = tuple(n for n, digest in enumerate(pictures.digests) if digest not in known)
    if not rest:
        raise UsageError(f"all pictures of {job.folder} are in {job.held_out} too", "give other pictures")
    return Data(pictures, rest, tuple(range(validation.count)), validation)


def remarks(pictures: Pictures, *, init: bool) -> Iterator[Warned]:
    """What people should know about the pictures."""
    shown = pictures.failed[:20]
    for name, why in shown:
        yield Warned(f"left out: {why if name in why else f'{name}: {why}'}")
    if len(pictures.failed) > len(shown):
        yield Warned(f"left out: {len(pictures.failed) - len(shown)} more that cannot be read")
    if pictures.enlarged:
        yield Warned(
            f"{pictures.enlarged} of {pictures.count} pictures are below {pictures.size} px: enlarged"
        )
    if pictures.count < SENSIBLE:
        better = "more are better" if init else "--init NAME starts from a model and needs fewer"
        yield Warned(f"{pictures.count} pictures are few: the model will repeat them; {better}")
