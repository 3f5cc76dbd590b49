"""Opening an input: its pictures decoded, and brought to what the network gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ilvrctl.errors import InputError, UsageError
from ilvrctl.images.geometry import fit_picture, parse_color
from ilvrctl.images.io import Picture, read_picture
from ilvrctl.images.regions import mirrored
from ilvrctl.work.edit import edit_canvas
from ilvrctl.work.pieces import Canvas, Shape, Whole

if TYPE_CHECKING:
    from ilvrctl.plans.inputs import Contents, Item

NATIVE_PIXELS = 1 << 20
"""The largest picture that a network is run on at the picture's own size: attention grows with its square."""

Opened = Callable[[int, int], Canvas]
"""An input that was read, to be brought to the network's size; the second number is what it asks sides of other
sizes to be multiples of. InputError when it does not fit.
"""


def open_input(
    item: Item, contents: Contents, shapes: Sequence[Shape], size: int | None
) -> Mapping[Shape, Opened]:
    """The input in every shape, decoded once; ``size``: the network's, as far as it is known, for edits.

    InputError when one of its pictures cannot be read, UsageError when they do not go together.
    """
    ways = {(shape.background, shape.window) for shape in shapes if shape.edit is None}
    pictures = {way: decode(item, contents.picture, *way) for way in ways}
    return {shape: _opened(item, contents, shape, pictures, size) for shape in shapes}


def decode(item: Item, data: bytes, background: str, window: str | None) -> Picture:
    """The input as a picture of its own size; InputError when it is none."""
    return read_picture(data, item.name, background=parse_color(background), window=window)


def _opened(
    item: Item,
    contents: Contents,
    shape: Shape,
    pictures: Mapping[tuple[str, str | None], Picture],
    size: int | None,
) -> Opened:
    if shape.edit is not None:
        if size is None:
            raise UsageError("an edit needs the model's picture size", hint="--set model.image_size=256")
        canvas = edit_canvas(item, contents, shape.edit, shape.background, size, shape.window)
        return lambda *_: canvas
    picture = pictures[shape.background, shape.window]
    return lambda size, multiple: _fitted(item.name, picture, shape, size, multiple)


def _fitted(name: str, found: Picture, shape: Shape, size: int, multiple: int) -> Canvas:
    picture = found.image
    if shape.fit != "native":
        fitted = fit_picture(picture, size, shape.fit, parse_color(shape.background))
        return Whole(fitted, None, found.notes, found.read)
    if picture.width * picture.height > NATIVE_PIXELS:
        raise InputError(
            f"{name} has {picture.width} x {picture.height} pixels, too many for --fit native",
            hint=f"scale it down to {NATIVE_PIXELS:,} pixels, or --fit crop",
        )
    step = math.lcm(multiple, shape.multiple)
    width, height = (-(-side // step) * step for side in picture.size)
    whole = mirrored(picture, (0, 0, width, height))
    return Whole(whole, picture.size, found.notes, found.read)
