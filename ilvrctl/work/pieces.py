"""Between an input and the network: the pieces of a picture that are translated, and the result made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ilvrctl.images.io import OPAQUE_SUFFIXES
from ilvrctl.images.metadata import Kept
from ilvrctl.images.regions import Edit

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.models.files.noise_file import Noise
    from ilvrctl.settings import Settings


@dataclass(frozen=True)
class Shape:
    """How an input becomes what the network gets: the settings that decide it.

    ``multiple``: what the sides must be multiples of for the method. ``size``: where the settings give one;
    ``grey``: the luma of colours is taken where grey is wanted.
    """

    fit: str
    background: str
    edit: Edit | None = None
    multiple: int = 1
    window: str | None = None
    size: int | str | None = None
    grey: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Shape:
        """What the settings say."""
        return cls(
            settings.fit,
            settings.background,
            settings.edit,
            settings.method.multiple,
            settings.window,
            settings.picture_size,
            settings.grey,
        )


@dataclass(frozen=True)
class Piece:
    """What the network gets: a picture in RGB, RGBA or F (grey), what of it is free to change (mode L, 255; None is
    all), and the noise that the sampling starts from, where it is given.
    """

    picture: Image
    free: Image | None = None
    noise: Noise | None = None


@dataclass(frozen=True)
class Composed:
    """A result, what its file takes over from the photo, and how that was read where it is not plain."""

    image: Image
    kept: Kept | None = None
    read: Mapping[str, str] = field(default_factory=dict)


class Pieces(Protocol):
    """An input in the size of the network."""

    @property
    def parts(self) -> tuple[Piece, ...]:
        """What is translated, each by itself."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know about it."""

    @property
    def boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Where the parts lie (left, top, right, bottom); none of a picture that is translated as a whole."""

    def lost_in(self, suffix: str) -> tuple[str, ...]:
        """What people should know about results with this extension, before they are made."""

    def result(self, samples: Sequence[Image]) -> Composed:
        """The result of one sample of every part."""


@dataclass(frozen=True)
class Whole:
    """A picture that is translated as a whole; the result is cut to ``size`` where it was filled up."""

    picture: Image
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    read: Mapping[str, str] = field(default_factory=dict)
    noise: Noise | None = None

    @property
    def parts(self) -> tuple[Piece, ...]:
        return (Piece(self.picture, noise=self.noise),)

    @property
    def boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        return ()

    def lost_in(self, suffix: str) -> tuple[str, ...]:
        if self.picture.mode != "RGBA" or suffix.lower() not in OPAQUE_SUFFIXES:
            return ()
        ends = suffix.lower().lstrip(".")
        return (f"{ends} files do not hold the opacity of results: they are put on white",)

    def result(self, samples: Sequence[Image]) -> Composed:
        image = samples[0] if self.size is None else samples[0].crop((0, 0, *self.size))
        return Composed(image, read=self.read)
