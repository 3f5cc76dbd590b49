"""Edits: what of a photo is edited, what the model sees of it, and the photo with the results put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ilvrctl.errors import InputError, UsageError
from ilvrctl.images.channels import is_grey, with_opacity
from ilvrctl.images.decode import without_pillow_limit
from ilvrctl.images.flatten import to_rgb
from ilvrctl.images.geometry import parse_color
from ilvrctl.images.io import PICTURE_SUFFIXES, what_is_lost
from ilvrctl.images.masks import binary, difference, grown, looks_inverted, scribbled, share
from ilvrctl.images.photo import Photo, open_photo
from ilvrctl.images.regions import Edit, Region, find_regions
from ilvrctl.sizes import AnySize, Size
from ilvrctl.work.pieces import Composed, Piece, Shape

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.plans.inputs import Contents, Item

EVERYWHERE = 0.9
"""Two pictures that differ over more than this part are not one picture with scribbles."""
BLACK = (0, 0, 0)


@dataclass(frozen=True)
class Selection:
    """What is edited of a photo: the ``mask`` (255, else 0) and the ``regions`` around its parts.

    ``seen``: the photo, upright and on the background, with the scribbled copy where the mask is. ``free``: nothing
    is kept. ``notes``: what people should know.
    """

    photo: Photo
    seen: Image
    mask: Image
    regions: tuple[Region, ...]
    free: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edited:
    """Regions of a photo, which is decoded again for every result: no large one is held while others are made."""

    name: str
    photo: bytes
    regions: tuple[Region, ...]
    parts: tuple[Piece, ...]
    notes: tuple[str, ...] = ()
    window: str | None = None
    background: str = "white"
    lost: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        return tuple(region.box for region in self.regions)

    def lost_in(self, suffix: str) -> tuple[str, ...]:
        """What a result with this extension will not hold of the photo."""
        return self.lost.get(suffix.lower(), ())

    @without_pillow_limit()
    def result(self, samples: Sequence[Image]) -> Composed:
        """The photo with the samples put back into their regions, its transparency as it was."""
        photo = open_photo(self.photo, self.name, window=self.window)
        for region, sample in zip(self.regions, samples, strict=True):
            photo.put(region, to_rgb(sample, parse_color(self.background)))
        image = photo.rgb
        if photo.alpha is not None:
            image.putalpha(photo.alpha)
        return Composed(image, photo.kept, photo.read)


@without_pillow_limit()
def edit_pieces(
    item: Item, contents: Contents, shape: Shape, edit: Edit, size: Size, channels: int = 3
) -> Edited:
    """The regions of the item for a model of ``size`` pixels, and what it gets of each. Errors as for
    :func:`select`, and InputError for colours that a model of grey pictures does not know.
    """
    found = select(item, contents, edit, shape.background, size, shape.window)
    seen = _in_channels(found, item, channels, grey=shape.grey)
    parts = (Piece(r.cut(seen, size), None if found.free else r.free(size)) for r in found.regions)
    lost = {suffix: what_is_lost(found.photo.kept, suffix, item.name) for suffix in PICTURE_SUFFIXES}
    return Edited(
        item.name,
        contents.picture,
        found.regions,
        tuple(parts),
        found.notes,
        shape.window,
        shape.background,
        lost,
    )


def _in_channels(found: Selection, item: Item, channels: int, *, grey: bool) -> Image:
    """What the model is shown of: in mode F for grey ones, in RGBA for those with an opacity."""
    if channels == 1:
        if not (grey or is_grey(found.seen)):
            raise InputError(
                f"{item.name}, or what was drawn on it, has colours, and the network makes grey pictures",
                "--set grey=true shows it the luma",
            )
        return found.seen.convert("L").convert("F")
    if channels == 4:
        seen = with_opacity(found.photo.rgb, found.photo.alpha)
        if item.guide is not None:  # what is drawn is opaque
            seen.paste(with_opacity(found.seen, None), mask=found.mask)
        return seen
    return found.seen


@without_pillow_limit()
def select(
    item: Item, contents: Contents, edit: Edit, background: str, size: AnySize, window: str | None = None
) -> Selection:
    """What of the item is edited, with a model of ``size`` pixels; ``window`` as in the settings.

    The mask comes from a file, else from what differs in the scribbled copy; without either it is everything.
    InputError for a picture that cannot be read; UsageError for pictures of different sizes and for a mask that
    cannot be meant.
    """
    ground = parse_color(background)
    photo = open_photo(contents.picture, item.name, window=window)
    seen = photo.flat(ground)
    guide = None
    if item.guide is not None and contents.guide is not None:
        guide = open_photo(contents.guide, item.guide.name, window=window).flat(ground)
        _same_size(item.guide, guide, item, photo)
    free = not edit.mask or (item.guide is None and item.mask is None)
    if free:
        edit = replace(edit, mask=False)
    mask, notes = _mask(item, contents, photo, seen, guide, edit)
    if guide is not None:
        seen = seen.copy() if seen is photo.rgb else seen
        seen.paste(guide, mask=mask)
    return Selection(photo, seen, mask, tuple(find_regions(mask, edit, size)), free, photo.notes + notes)


def _same_size(other: Item, picture: Image, item: Item, photo: Photo) -> None:
    if picture.size != photo.size:
        sizes = ("{} x {}".format(*size) for size in (picture.size, photo.size))
        raise UsageError(
            f"{other.name} has {next(sizes)} pixels and {item.name} {next(sizes)}",
            hint="both must have one size: save the copy, or the mask, without scaling it",
        )


def _mask(
    item: Item, contents: Contents, photo: Photo, seen: Image, guide: Image | None, edit: Edit
) -> tuple[Image, tuple[str, ...]]:
    """The mask, grown, of 0 and 255, and remarks about it."""
    if not edit.mask:
        return seen.getchannel(0).point(lambda _: 255), ()
    growth = edit.growth(photo.size, drawn=item.mask is not None)
    if item.mask is None or contents.mask is None:
        assert guide is not None
        return grown(_scribble(item, seen, guide, edit.threshold), growth), ()
    drawn = open_photo(contents.mask, item.mask.name).flat(BLACK).convert("L")
    _same_size(item.mask, drawn, item, photo)
    drawn = binary(drawn)
    notes = _check_drawn(item.mask.name, drawn, seen, guide, edit.threshold)
    return grown(drawn, growth), notes


def _scribble(item: Item, seen: Image, guide: Image, threshold: int) -> Image:
    """Where the copy was drawn on; UsageError where that cannot be told."""
    mask = scribbled(seen, guide, threshold)
    part = share(mask)
    name = item.guide.name if item.guide is not None else ""
    if part == 0:
        most = difference(seen, guide).getextrema()[1]
        raise UsageError(
            f"{name} differs from {item.name} by {most} of 255 at most: there is no scribble in it",
            hint=f"--threshold {max(1, int(float(str(most)) / 4))} for faint ones, or --mask FILE, or --no-mask",
        )
    if part > EVERYWHERE:
        raise UsageError(
            f"{name} differs from {item.name} over {part:.0%} of the picture: it is not a scribbled copy of it",
            hint="--mask FILE says what is edited, --no-mask edits all of it",
        )
    return mask


def _check_drawn(name: str, mask: Image, seen: Image, guide: Image | None, threshold: int) -> tuple[str, ...]:
    """Remarks about a mask from a file; UsageError for one that cannot be meant."""
    part = share(mask)
    meaning = "white is edited, black is kept"
    if part == 0:
        raise UsageError(f"the mask {name} is black everywhere: nothing is edited", hint=meaning)
    if part == 1:
        raise UsageError(
            f"the mask {name} is white everywhere: nothing is kept",
            hint=f"{meaning}; --no-mask edits all of it",
        )
    if guide is not None:
        drawn_on = scribbled(seen, guide, threshold)
        inside = _overlap(drawn_on, mask)
        if share(drawn_on) > 0 and inside == 0:
            raise UsageError(
                f"no scribble lies where the mask {name} is white: it looks inverted", hint=meaning
            )
        lost = 1 - inside / share(drawn_on) if share(drawn_on) else 0.0
        return (f"{lost:.0%} of the scribbles lie where the mask {name} is black: they are left out",) * (
            lost > 0.01
        )
    if looks_inverted(mask):
        return (f"the mask {name} looks inverted: {part:.0%} of it is white, its edge too; {meaning}",)
    return ()


def _overlap(a: Image, b: Image) -> float:
    """The part of the picture where both masks are on."""
    both = a.copy()
    both.paste(0, mask=b.point(lambda v: 255 - v))
    return share(both)
