"""How long a training goes on and how fast it learns: limits, warm-up, and the decay at the end. No torch here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ilvrctl.errors import UsageError

if TYPE_CHECKING:
    from ilvrctl.training.recipe import AnyRecipe

FOR_EVER = 1 << 40
"""Pictures, where only the time limits."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Span:
    """A length of training: ``seconds`` of it, or ``images`` seen; the other is infinite."""

    seconds: float = math.inf
    images: float = math.inf


def read_seconds(text: str, flag: str) -> float:
    """``8h``, ``90m``, ``45s``, ``2d`` or ``1h30m`` in seconds. UsageError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total <= 0:
        raise UsageError(f"{flag} {text!r} is no time", "for example 8h, 90m, 45s, 2d or 1h30m")
    return total


def read_span(text: str, flag: str) -> Span:
    """A number of minutes, a time as :func:`read_seconds` takes it, or ``5000 pictures``. UsageError else."""
    if pictures := re.fullmatch(r"([1-9]\d*) ?pictures", text):
        return Span(images=int(pictures[1]))
    return Span(seconds=read_seconds(f"{text}m" if re.fullmatch(r"\d+(\.\d+)?", text) else text, flag))


@dataclass(frozen=True)
class Leg:
    """A decay that has begun after ``images`` seen and ``seconds``, and ends where the first of its ends is
    reached.

    It is part of a training's state, so that one that was stopped goes on with just the rates it would have had.
    """

    images: int
    seconds: float
    end_images: float
    end_seconds: float

    def share(self, images: int, seconds: float) -> float:
        """How much of the leg is done, from 0 to 1."""
        return max(
            _share(images - self.images, self.end_images - self.images),
            _share(seconds - self.seconds, self.end_seconds - self.seconds),
        )


def _share(done: float, whole: float) -> float:
    return min(1.0, done / whole) if whole > 0 else 1.0


@dataclass(frozen=True)
class Course:
    """The limits of a training, ``images`` seen and ``seconds``, and its ``decay``, the last part of it, if any.

    A decay ends at the limits where they are still ahead. Where there are none, or they are reached already, it
    is a leg of its own that begins at once: so a training that is running or done is finished by one command.
    """

    recipe: AnyRecipe
    seconds: float = math.inf
    decay: Span | None = None

    def share(self, images: int, seconds: float, leg: Leg | None) -> float:
        """How much of the whole is done, by pictures or time, whichever is nearer its end."""
        ends = (leg.end_images, leg.end_seconds) if leg else (self.recipe.images, self.seconds)
        return max(images / ends[0], seconds / ends[1])

    def leg(self, images: int, seconds: float, before: Leg | None) -> Leg | None:
        """The decay at this point: the one that began ``before``, a new one, or None as long as it is not its turn.

        A leg that ended before the limits that are asked for now is dropped: training goes on, and decays at its
        end.
        """
        if self.decay is None:
            return None
        reached = self.share(images, seconds, None) >= 1
        endless = self.recipe.images >= FOR_EVER and math.isinf(self.seconds)
        if before and (reached or endless or (before.end_images, before.end_seconds) == self._ends):
            return before
        if reached or endless:
            return Leg(images, seconds, images + self.decay.images, seconds + self.decay.seconds)
        pace = images / seconds if seconds else 0.0  # pictures a second, over the whole training
        left_images, left_seconds = float(self.recipe.images - images), self.seconds - seconds
        if math.isfinite(self.decay.images):
            due = min(left_images, left_seconds * pace if pace else math.inf) <= self.decay.images
        else:
            due = min(left_seconds, left_images / pace if pace else math.inf) <= self.decay.seconds
        return Leg(images, seconds, *self._ends) if due else None

    @property
    def _ends(self) -> tuple[float, float]:
        return (math.inf if self.recipe.images >= FOR_EVER else self.recipe.images), self.seconds

    def rate(self, images: int, seconds: float, leg: Leg | None) -> float:
        """The learning rate; with a decay it is constant up to the leg, which takes it along a cosine to 0."""
        if self.decay is None:
            return rate_at(self.recipe, images, self.share(images, seconds, leg))
        rate = warm(self.recipe, images) * self.recipe.learning_rate
        return rate * cosine(leg.share(images, seconds)) if leg else rate


def rate_at(recipe: AnyRecipe, images: int, share: float) -> float:
    """The learning rate after ``images`` pictures, ``share`` (0 to 1) of the whole: warm-up, then the decay."""
    rate = warm(recipe, images) * recipe.learning_rate
    if recipe.decay == "constant":
        return rate
    return rate * (recipe.final_rate + (1 - recipe.final_rate) * cosine(min(1.0, share)))


def warm(recipe: AnyRecipe, images: int) -> float:
    """The part of the learning rate that the warm-up has reached."""
    return min(1.0, (images + recipe.batch_size) / recipe.warmup) if recipe.warmup else 1.0


def cosine(share: float) -> float:
    """From 1 down to 0."""
    return 0.5 * (1 + math.cos(math.pi * share))


def average_decay(recipe: AnyRecipe, step: int) -> float:
    """The decay of the averaged weights at ``step``: small while the weights still move far."""
    return min(recipe.ema, (1 + step) / (10 + step))
