"""Sizes of pictures: a number for a square, ``WIDTHxHEIGHT`` for others, as people write them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from ilvrctl.errors import UsageError

LARGEST = 1 << 14
"""Pixels of the longest side that a network is run at."""
MOST_PIXELS = 1 << 22
"""Pixels of the largest picture that a network is run at: one of its maps of numbers takes some GB then."""
FAR = 1.5
"""A side that is more than so many times longer, or shorter, than in training is far from it."""


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @classmethod
    def of(cls, size: AnySize) -> Size:
        """Of a number, for a square, or a text such as ``384x256``, width first. UsageError for anything else."""
        if isinstance(size, Size):
            return size
        found = re.fullmatch(r"([1-9]\d{0,8})(?:x([1-9]\d{0,8}))?", str(size).strip().lower(), re.ASCII)
        if found is None:
            raise UsageError(
                f"{size!r} is no size: WIDTHxHEIGHT in pixels, or one number for a square",
                hint="384x256 is 384 wide and 256 high",
            )
        return cls(int(found[1]), int(found[2] or found[1]))

    @property
    def plain(self) -> int | str:
        """As settings and files have it: a number for a square, else a text."""
        return self.width if self.width == self.height else str(self)

    @property
    def longest(self) -> int:
        """The longer side."""
        return max(self)

    @property
    def too_large(self) -> str | None:
        """Up to what a network is run, in words, where this is more; else None."""
        if self.longest > LARGEST:
            return f"{LARGEST:,} px a side"
        return f"{MOST_PIXELS:,} pixels" if self.width * self.height > MOST_PIXELS else None

    def within(self, multiple: int) -> Size:
        """The largest size of about this shape that is not too large, its sides multiples of a number."""
        scale = min(1.0, LARGEST / self.longest, math.sqrt(MOST_PIXELS / (self.width * self.height)))
        return Size(*(max(multiple, int(scale * side) // multiple * multiple) for side in self))

    @property
    def common(self) -> int:
        """The largest number that divides both sides."""
        return math.gcd(*self)

    def __str__(self) -> str:
        return f"{self.width}" if self.width == self.height else f"{self.width}x{self.height}"

    def fits(self, multiple: int) -> bool:
        """Whether both sides are multiples of a number."""
        return not any(side % multiple for side in self)

    def nearest(self, multiple: int) -> tuple[Size, ...]:
        """The sizes whose sides are multiples of a number: the next smaller one, and the next larger one."""
        below, above = (
            Size(*(max(multiple, turned * (turned * side // multiple) * multiple) for side in self))
            for turned in (1, -1)
        )
        return tuple(dict.fromkeys((below, above)))

    def far_from(self, trained: Size) -> bool:
        """Whether a side is much longer or shorter than that of the pictures in training."""
        ratios = (own / other for own, other in zip(self, trained, strict=True))
        return any(max(ratio, 1 / ratio) > FAR for ratio in ratios)


AnySize = int | str | Size
"""A size as settings have it, or as it is."""


@dataclass(frozen=True)
class SizeText:
    """For a field: ``Annotated[str, SizeText()]`` is a text that :meth:`Size.of` reads."""

    def mistake(self, value: str) -> str | None:
        """What is wrong with a value, in words that follow its name; None when nothing is."""
        try:
            most = Size.of(value).too_large
        except UsageError as error:
            return f"is {error.message.removeprefix(repr(value) + ' is ')}, not {value!r}"
        return None if most is None else f"goes up to {most}, not {value}"
