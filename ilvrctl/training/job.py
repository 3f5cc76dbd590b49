"""What one training is: its recipe, pictures, places and limits. No torch here."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ilvrctl.errors import UsageError
from ilvrctl.events import Warned
from ilvrctl.images.folders import counted
from ilvrctl.training.course import Course, Span
from ilvrctl.training.events import TrainingEvent
from ilvrctl.training.pictures import SENSIBLE, Pictures, load_pictures
from ilvrctl.training.publish import check_name
from ilvrctl.training.recipe import AnyRecipe, DomainRecipe, Recipe, record
from ilvrctl.training.state import AVERAGE, STATE, Progress, check_same, read_progress

MOST_HELD_OUT = 64


@dataclass(frozen=True)
class Job:
    """A training as asked for.

    ``folders`` of pictures: one for a denoiser, one for each domain of a classifier; ``held_out``: as many folders
    of pictures for validation, or none, then the recipe's share of the first is kept aside. ``run``: where state,
    averaged weights, log and sheets go. ``seconds``: a limit besides the recipe's ``images``; ``decay``: see
    :class:`Course`. ``save_every``: seconds between two states; ``sheet_every``: states between two sheets, 0 for
    none at all. ``references``: a folder of pictures that the sheets show translated.
    """

    name: str
    folders: tuple[Path, ...]
    recipe: Recipe | DomainRecipe
    run: Path
    held_out: tuple[Path, ...] = ()
    references: Path | None = None
    seconds: float | None = None
    decay: Span | None = None
    save_every: float = 300.0
    sheet_every: int = 6
    device: str = "auto"
    precision: str = "auto"
    compiled: bool = False

    def __post_init__(self) -> None:
        what = "a classifier of two domains" if isinstance(self.recipe, DomainRecipe) else "a target's model"
        count = 2 if isinstance(self.recipe, DomainRecipe) else 1
        if len(self.folders) != count:
            raise UsageError(f"{what} learns from {count} folders, not {len(self.folders)}")
        if len(self.held_out) not in (0, count):
            raise UsageError(
                f"{what} is validated with {count} held-out folders, not {len(self.held_out)}",
                "--held-out once" if count == 1 else "--held-out A/ --held-out B/, in the order of --dse",
            )
        if count == 2 and self.references is not None:
            raise UsageError(
                "a domain classifier makes no pictures, so --references has nothing to translate",
                "leave it out; --held-out A/ --held-out B/ shows how good the classifier is",
            )

    @property
    def course(self) -> Course:
        """Its limits and learning rate."""
        return Course(self.recipe, float("inf") if self.seconds is None else self.seconds, self.decay)


@dataclass(frozen=True)
class Data:
    """The pictures of one folder: which rows of ``pictures`` to learn from, and what to validate with."""

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
    recipe = job.recipe
    if recipe.init is None:
        recipe.network.classifier(recipe.size, 2, recipe.channels) if isinstance(
            recipe, DomainRecipe
        ) else recipe.network.unet(recipe.size, recipe.channels, recipe.channels)
    before = None if overwrite else read_progress(job.run)
    if before is None:
        check_name(job.name, overwrite=overwrite)
        return Outlook(None, False)
    images = before.step * recipe.batch_size
    leg = job.course.leg(images, before.seconds, before.leg)
    check_same(before, dataclasses.replace(before, recipe=record(recipe)), record(type(recipe)()), job.name)
    return Outlook(before, job.course.share(images, before.seconds, leg) >= 1)


def forget(job: Job) -> None:
    """Remove the state of an earlier run, for ``--overwrite``."""
    for name in (STATE, AVERAGE, "log.jsonl"):
        (job.run / name).unlink(missing_ok=True)


Reading = Generator[TrainingEvent, None, tuple[Data, ...]]


def read_data(job: Job) -> Reading:
    """Decode the pictures and tell what is remarkable about them; returns the :class:`Data` of each folder."""
    found = []
    for n, folder in enumerate(job.folders):
        pictures = yield from load_pictures(folder, job.recipe.square)
        yield from remarks(pictures, init=job.recipe.init is not None)
        if not job.held_out:
            aside = _kept_aside(pictures, job.recipe)
            rest = tuple(sorted({*range(pictures.count)} - {*aside}))
            found.append(Data(pictures, rest, aside, pictures))
            continue
        validation = yield from load_pictures(job.held_out[n], job.recipe.square, fewest=1)
        yield from remarks(validation, init=True, few=0)
        known = set(validation.digests)
        rest = tuple(i for i, digest in enumerate(pictures.digests) if digest not in known)
        if not rest:
            raise UsageError(f"all pictures of {folder} are in {job.held_out[n]} too", "give other pictures")
        found.append(Data(pictures, rest, tuple(range(validation.count)), validation))
    return tuple(found)


def _kept_aside(pictures: Pictures, recipe: AnyRecipe) -> tuple[int, ...]:
    """The rows that are kept aside.

    Of a denoiser the first ones: they are in the order of their digests, a random choice that a rename keeps. Of
    two domains about a share by the files' names, so that what both call the same is on one side in both.
    """
    if not isinstance(recipe, DomainRecipe):
        return tuple(range(min(MOST_HELD_OUT, round(recipe.held_out * pictures.count))))
    aside = tuple(n for n, stem in enumerate(pictures.stems) if _fraction(stem) < recipe.held_out)
    if not 0 < len(aside) < pictures.count:
        raise UsageError(
            f"{pictures.count} pictures are too few to keep a share of {recipe.held_out} aside",
            "give more pictures, or --held-out A/ --held-out B/",
        )
    return aside


def _fraction(stem: str) -> float:
    return int.from_bytes(sha256(stem.encode("utf-8", "surrogateescape")).digest()[:4], "big") / 2**32


def remarks(pictures: Pictures, *, init: bool, few: int = SENSIBLE) -> Iterator[Warned]:
    """What people should know about the pictures: every file that is not learned from is in it, or counted."""
    shown = pictures.failed[:20]
    for name, why in shown:
        yield Warned(f"left out: {why if name in why else f'{name}: {why}'}")
    if len(pictures.failed) > 1:
        total = pictures.count + len(pictures.failed)
        yield Warned(f"left out: {len(pictures.failed)} of {total} pictures: {_counted(pictures.failed)}")
    for one in [one for one in pictures.passed_by if one.reason.startswith("unreadable")][:20]:
        yield Warned(f"passed by: {one.name} ({one.reason})")
    if pictures.passed_by:
        yield Warned(counted(pictures.passed_by))
    if pictures.copies:
        yield Warned(f"{pictures.copies} files are copies of others and count once")
    if pictures.enlarged:
        yield Warned(
            f"{pictures.enlarged} of {pictures.count} pictures are below {pictures.size} px: enlarged"
        )
    if pictures.count < few:
        better = "more are better" if init else "--init NAME starts from a model and needs fewer"
        yield Warned(f"{pictures.count} pictures are few: the model will repeat them; {better}")


def _counted(failed: tuple[tuple[str, str], ...]) -> str:
    """The reasons with how often each is one."""
    reasons = Counter(re.sub(r"\d+", "N", why.replace(name, "").strip(" :")) for name, why in failed)
    return "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
