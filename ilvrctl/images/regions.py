"""Regions of a photo: boxes of the model's shape around what is edited, cut out for it and put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from PIL import Image

from ilvrctl.fields import Between
from ilvrctl.images.masks import Grid, feathered
from ilvrctl.sizes import AnySize, Size

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, the last two just outside. May reach beyond the picture, which is mirrored there."""
_LEAST_CONTEXT = 0.05
FARTHEST = 1000
"""Pixels by which a mask is grown or softened at most: what takes more is another mask."""


@dataclass(frozen=True)
class Edit:
    """What of a photo is edited, and in which boxes. Distances in pixels of the photo.

    ``mask`` off: all of it, in one box, which is what single pictures get anyhow. ``threshold``: pixels that
    differ by more, of 255, are scribbled on. ``grow``: how far the mask is grown around them; None is 1 % of the
    longer side, 2 at least, and 0 for a mask from a file. ``feather``: how far outside of it the result fades into
    the photo; None is 1 % of the longer side, 2 and a pixel of the model at least.
    ``context``: what is seen around a part that is edited, on each side, as a part of its own size. ``whole``: the
    box is laid over the whole picture.
    """

    mask: bool = True
    threshold: Annotated[int, Between(1)] = 20
    grow: Annotated[int, Between(0, FARTHEST)] | None = None
    feather: Annotated[int, Between(0, FARTHEST)] | None = None
    context: Annotated[float, Between(0, 100)] = 0.5
    whole: bool = False

    def growth(self, size: tuple[int, int], *, drawn: bool) -> int:
        """By how many pixels the mask of a photo of this size is grown; ``drawn``: it came from a file."""
        return (0 if drawn else _hundredth(size)) if self.grow is None else self.grow

    def softness(self, size: tuple[int, int], pixel: float) -> int:
        """Over how many pixels the edge fades where a pixel of the model covers ``pixel`` of the photo."""
        return max(_hundredth(size), -int(-pixel // 1)) if self.feather is None else self.feather


def _hundredth(size: tuple[int, int]) -> int:
    return max(2, round(max(size) / 100))


@dataclass(frozen=True)
class Region:
    """A part of the photo, ``box``, and in it the mask: 255 is edited, 0 kept, between them blended."""

    box: Box
    mask: Image.Image

    @property
    def size(self) -> Size:
        """Of the box, in pixels of the photo."""
        return Size(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def side(self) -> int:
        """The longer one of the box, in pixels of the photo."""
        return self.size.longest

    def cut(self, picture: Image.Image, size: AnySize) -> Image.Image:
        """The box of the picture at ``size`` pixels, by an antialiased filter; as it is at its own size."""
        return mirrored(picture, self.box).resize(Size.of(size), Image.Resampling.LANCZOS)

    def free(self, size: AnySize) -> Image.Image:
        """255 where the model may paint: its pixels that hold one that is edited alone; of 0 and 255."""
        core = self.mask.point(lambda v: 255 if v == 255 else 0)
        return core.resize(Size.of(size), Image.Resampling.BOX).point(lambda v: 255 if v else 0)

    def part(self, edited: Image.Image) -> tuple[Image.Image, tuple[int, int], Image.Image] | None:
        """What of ``edited``, of any size, comes into the photo, at which (left, top), and the mask of it."""
        inside = self.mask.getbbox()
        if inside is None:
            return None
        across, down = edited.width / self.size.width, edited.height / self.size.height
        seen = tuple(edge * scale for edge, scale in zip(inside, (across, down) * 2, strict=True))
        size = (inside[2] - inside[0], inside[3] - inside[1])
        part = edited.resize(size, Image.Resampling.BICUBIC, (seen[0], seen[1], seen[2], seen[3]))
        return part, (self.box[0] + inside[0], self.box[1] + inside[1]), self.mask.crop(inside)

    def put(self, photo: Image.Image, edited: Image.Image) -> None:
        """Blend ``edited``, of any size, into the RGB photo; where the mask is 0 no pixel changes."""
        if (found := self.part(edited)) is not None:
            photo.paste(*found)


def find_regions(mask: Image.Image, edit: Edit, size: AnySize) -> list[Region]:
    """The boxes for a model of ``size`` pixels around the connected parts of a mask of 0 and 255.

    Parts that are seen in one box anyway share it.
    """
    frame = _Frame(Size.of(size))
    if edit.whole or not edit.mask:
        box = _around((0, 0, *mask.size), frame.box(frame.over(*mask.size)), mask.size)
        return [_masked(box, mask, edit, frame)]
    grid = Grid.of(mask)
    parts = [_Part(frozenset({n}), _bounds(grid, mask, n)) for n in range(1, max(grid.labels) + 1)]
    return [
        _masked(
            part.seen(mask.size, edit, frame),
            grid.only(mask, set(part.labels), (0, 0, *mask.size)),
            edit,
            frame,
        )
        for part in _merged(parts, mask.size, edit, frame)
    ]


def mirrored(picture: Image.Image, box: Box) -> Image.Image:
    """The box of the picture, which goes on mirrored beyond its edges."""
    left, top, right, bottom = box
    width, height = picture.size
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return picture.crop(box)
    canvas = Image.new(picture.mode, (right - left, bottom - top))
    for column in range(left // width, -(-right // width)):
        for row in range(top // height, -(-bottom // height)):
            tile = picture
            if column % 2:
                tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if row % 2:
                tile = tile.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            canvas.paste(tile, (column * width - left, row * height - top))
    return canvas


@dataclass(frozen=True)
class _Frame:
    """Boxes of the shape of a ``model``, told by their longer side."""

    model: Size

    def box(self, side: int) -> tuple[int, int]:
        """Width and height."""
        width, height = (max(1, round(side * own / self.model.longest)) for own in self.model)
        return width, height

    def over(self, width: int, height: int) -> int:
        """The side of the smallest box that covers so much."""
        longest = self.model.longest
        return -int(-max(width * (longest / self.model.width), height * (longest / self.model.height)) // 1)

    def within(self, width: int, height: int) -> int:
        """The side of the largest box that fits into so much."""
        longest = self.model.longest
        return int(min(width * (longest / self.model.width), height * (longest / self.model.height)))

    def pixel(self, side: int) -> float:
        """How many pixels of the photo one of the model covers."""
        return side / self.model.longest


@dataclass(frozen=True)
class _Part:
    """Connected parts of the mask that share a box of the model's, and the one around them."""

    labels: frozenset[int]
    bounds: Box

    def seen(self, size: tuple[int, int], edit: Edit, frame: _Frame) -> Box:
        """With its context, not smaller than the model's; the whole picture where nothing less will do."""
        context = 1 + 2 * max(edit.context, _LEAST_CONTEXT)
        wanted = max(frame.model.longest, round(self.side(frame) * context))
        fits = max(1, frame.within(*size))
        side = min(wanted, fits)
        if self.side(frame, edit.softness(size, frame.pixel(side))) > side:
            side = wanted if wanted <= fits else frame.over(*size)
        return _around(self.bounds, frame.box(side), size)

    def side(self, frame: _Frame, around: int = 0) -> int:
        """Of the smallest box with so many pixels around the part."""
        left, top, right, bottom = self.bounds
        return frame.over(right - left + 2 * around, bottom - top + 2 * around)

    def joined(self, other: _Part) -> _Part:
        """Both in one."""
        a, b = self.bounds, other.bounds
        bounds = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
        return _Part(self.labels | other.labels, bounds)


def _merged(parts: list[_Part], size: tuple[int, int], edit: Edit, frame: _Frame) -> list[_Part]:
    """The parts, two in one as long as their common bounds fit into the box of one of them."""
    parts = sorted(parts, key=lambda part: part.bounds)
    for n, part in enumerate(parts):
        for other in parts[n + 1 :]:
            both = part.joined(other)
            boxes = (p.seen(size, edit, frame) for p in (part, other))
            side = max(max(box[2] - box[0], box[3] - box[1]) for box in boxes)
            if both.side(frame, edit.softness(size, frame.pixel(side))) <= side:
                rest = [p for p in parts if p not in (part, other)]
                return _merged([both, *rest], size, edit, frame)
    return parts


def _bounds(grid: Grid, mask: Image.Image, label: int) -> Box:
    """The box around one part: that of its cells, and in it that of its pixels."""
    cells = [divmod(cell, grid.width) for cell, found in enumerate(grid.labels) if found == label]
    ys, xs = ([cell[axis] for cell in cells] for axis in (0, 1))
    f = grid.factor
    left, top = min(xs) * f, min(ys) * f
    cover = (left, top, min(mask.width, (max(xs) + 1) * f), min(mask.height, (max(ys) + 1) * f))
    inner = grid.only(mask, {label}, cover).getbbox() or (0, 0, cover[2] - left, cover[3] - top)
    return (left + inner[0], top + inner[1], left + inner[2], top + inner[3])


def _around(bounds: Box, shape: tuple[int, int], size: tuple[int, int]) -> Box:
    """A box of this shape around the middle of the bounds, moved into the picture as far as it fits."""

    def start(low: int, high: int, side: int, length: int) -> int:
        if side >= length:
            return (length - side) // 2
        return max(0, min((low + high - side) // 2, length - side))

    left = start(bounds[0], bounds[2], shape[0], size[0])
    top = start(bounds[1], bounds[3], shape[1], size[1])
    return (left, top, left + shape[0], top + shape[1])


def _masked(box: Box, mask: Image.Image, edit: Edit, frame: _Frame) -> Region:
    """The region with the mask feathered in its box; beyond the picture nothing is edited."""
    width, height = box[2] - box[0], box[3] - box[1]
    soft = edit.softness(mask.size, frame.pixel(max(width, height))) if edit.mask else 0
    wide = (box[0] - soft, box[1] - soft, box[2] + soft, box[3] + soft)
    inner = (soft, soft, soft + width, soft + height)
    return Region(box, feathered(mask.crop(wide), soft).crop(inner))
