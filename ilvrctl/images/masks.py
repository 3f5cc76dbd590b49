"""Masks: which pixels of a photo are edited, as 8-bit grey pictures. 255 is edited, 0 is kept. Pillow alone.

Distances are in pixels of the photo, along its axes: what is grown by r takes in a square of 2 r + 1 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from PIL import Image, ImageChops, ImageFilter

_CELLS = 256
"""Cells on the longer side of the grid on which connected parts are looked for."""
_BAND = 256
"""Rows that are compared at a time, so that two large photos need no third in memory."""
_MOST = 250
"""The largest radius at which one pixel of 255 still rounds to 1 in the mean of 2 r + 1."""
_STRONG = 2.5
"""Noise of compression is told from a scribble by its part that differs this many times the threshold."""


def difference(photo: Image.Image, guide: Image.Image) -> Image.Image:
    """How much two RGB pictures of one size differ: the largest of the channels, each the mean of 3 x 3 pixels.

    The mean is taken before the difference: noise of compression, which has a mean of about 0, mostly cancels.
    """
    found = Image.new("L", photo.size)
    for top in range(0, photo.height, _BAND):
        box = (0, max(0, top - 1), photo.width, min(photo.height, top + _BAND + 1))
        a, b = (picture.crop(box).filter(ImageFilter.BoxBlur(1)) for picture in (photo, guide))
        red, green, blue = ImageChops.difference(a, b).split()
        band = ImageChops.lighter(ImageChops.lighter(red, green), blue)
        found.paste(
            band.crop((0, top - box[1], band.width, min(band.height, top - box[1] + _BAND))), (0, top)
        )
    return found


def scribbled(photo: Image.Image, guide: Image.Image, threshold: int) -> Image.Image:
    """Where ``guide`` was drawn on: what differs by more than ``threshold`` and hangs together with what differs
    by 2.5 times as much. So the noise of a JPEG is no scribble, and the faint edge of a stroke belongs to it.
    """
    much = difference(photo, guide)
    weak = much.point(_above(threshold))
    grid = Grid.of(weak)
    strong = Grid.of(much.point(_above(int(_STRONG * threshold))))
    kept = {label for label, on in zip(grid.labels, strong.on, strict=True) if label and on}
    return grid.only(weak, kept, (0, 0, *weak.size))


def binary(mask: Image.Image) -> Image.Image:
    """A mask that somebody drew: 255 where it is light."""
    return mask.point(_above(127))


def grown(mask: Image.Image, r: int) -> Image.Image:
    """A mask of 0 and 255 with every pixel that is at most ``r`` from one of 255."""
    while r > 0:
        step = min(r, _MOST)
        for radii in ((step, 0), (0, step)):
            mask = mask.filter(ImageFilter.BoxBlur(radii)).point(_above(0))
        r -= step
    return mask


def feathered(mask: Image.Image, width: int) -> Image.Image:
    """A mask of 0 and 255 that falls from 255 to 0 within ``width`` pixels outside of its edge."""
    if width < 1:
        return mask
    soft = grown(mask, width // 2)
    for radius in _halves(width - width // 2):
        soft = soft.filter(ImageFilter.BoxBlur(radius))
    return ImageChops.lighter(soft, mask)


def share(mask: Image.Image) -> float:
    """The part of a mask that is edited, 0 to 1."""
    kept = mask.histogram()[0]
    return 1 - kept / (mask.width * mask.height)


def looks_inverted(mask: Image.Image) -> bool:
    """Whether most of the mask is to be edited, its whole edge with it: then black was probably meant."""
    edge = Image.new("L", mask.size, 255)
    edge.paste(0, (1, 1, mask.width - 1, mask.height - 1))
    around = ImageChops.multiply(edge, mask.point(lambda v: 255 - v))
    return 0.5 < share(mask) < 1 and around.getbbox() is None


@dataclass(frozen=True)
class Grid:
    """A mask seen in cells of ``factor`` x ``factor`` pixels, ``width`` x ``height`` of them.

    ``on``, row by row: cells of which any pixel is.
    """

    factor: int
    width: int
    height: int
    on: bytes

    @classmethod
    def of(cls, mask: Image.Image) -> Grid:
        """That of a mask; its longer side has at most 256 cells."""
        factor, cells = 1, mask.point(_above(0))
        while max(cells.size) > _CELLS:
            step = min(16, -(-max(cells.size) // _CELLS))  # above 22 a single pixel would round to nothing
            cells = cells.reduce(step).point(_above(0))
            factor *= step
        return cls(factor, *cells.size, cells.tobytes())

    @cached_property
    def labels(self) -> list[int]:
        """For each cell, row by row, the number of its connected part, from 1; 0 where it is off."""
        labels, count = [0] * len(self.on), 0
        for start in range(len(self.on)):
            if self.on[start] and not labels[start]:
                count += 1
                labels[start], waiting = count, [start]
                while waiting:
                    for other in self._around(waiting.pop()):
                        if self.on[other] and not labels[other]:
                            labels[other] = count
                            waiting.append(other)
        return labels

    def _around(self, cell: int) -> Iterator[int]:
        y, x = divmod(cell, self.width)
        for row in range(max(0, y - 1), min(self.height, y + 2)):
            for column in range(max(0, x - 1), min(self.width, x + 2)):
                yield row * self.width + column

    def only(self, mask: Image.Image, labels: set[int], box: tuple[int, int, int, int]) -> Image.Image:
        """The ``box`` of the mask, 0 outside of the parts with these labels."""
        chosen = Image.frombytes(
            "L", (self.width, self.height), bytes(255 * (label in labels) for label in self.labels)
        )
        left, top, right, bottom = (edge / self.factor for edge in box)
        cells = (int(left), int(top), -int(-right // 1), -int(-bottom // 1))
        large = chosen.crop(cells)
        large = large.resize(
            (large.width * self.factor, large.height * self.factor), Image.Resampling.NEAREST
        )
        at = (box[0] - cells[0] * self.factor, box[1] - cells[1] * self.factor)
        part = large.crop((*at, at[0] + box[2] - box[0], at[1] + box[3] - box[1]))
        return ImageChops.multiply(part, mask.crop(box))


def _above(threshold: int) -> Callable[[int], int]:
    return lambda value: 255 if value > threshold else 0


def _halves(width: int) -> tuple[int, ...]:
    """Two radii that make up ``width``: two means are a triangle, whose slope has no corner at its ends."""
    return tuple(part for part in (width // 2, width - width // 2) if part)
