"""Between an input and the network: the pieces of a picture that are translated, and the result made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from ilvrctl.images.metadata import Kept
from ilvrctl.images.regions import Edit

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.settings import Settings


@dataclass(frozen=True)
class Shape:
    """How an input becomes what the network gets: the settings that decide it.

    ``multiple``: what the sides must be multiples of for the method.
    """

    fit: str
    background: str
    edit: Edit | None = None
    multiple: int = 1

    @classmethod
    def of(cls, settings: Settings) -> Shape:
        """What the settings say."""
        return cls(settings.fit, settings.background, settings.edit, settings.method.multiple)


@dataclass(frozen=True)
class Piece:
    """What the network gets: an RGB picture, and what of it is free to change (mode L, 255); None is all."""

    picture: Image
    free: Image | None = None


@dataclass(frozen=True)
class Composed:
    """A result, and what its file takes over from the photo."""

    image: Image
    kept: Kept | None = None


class Pieces(Protocol):
    """An input in the size of the network."""

    @property
    def parts(self) -> tuple[Piece, ...]:
        """What is translated, each by itself."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know about it."""

    def result(self, samples: Sequence[Image]) -> Composed:
        """The result of one sample of every part."""


@dataclass(frozen=True)
class Whole:
    """A picture that is translated as a whole; the result is cut to ``size`` where it was filled up."""

    picture: Image
    size: tuple[int, int] | None = None
    notes: ClassVar[tuple[str, ...]] = ()

    @property
    def parts(self) -> tuple[Piece, ...]:
        return (Piece(self.picture),)

    def result(self, samples: Sequence[Image]) -> Composed:
        return Composed(samples[0] if self.size is None else samples[0].crop((0, 0, *self.size)))
