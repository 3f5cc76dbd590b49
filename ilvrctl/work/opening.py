"""Inputs as the network wants them: read, hashed, decoded, cut up. Done in threads, ahead of the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from ilvrctl.errors import IlvrctlError, InputError, UsageError, is_shared, stage
from ilvrctl.images.channels import in_channels
from ilvrctl.images.geometry import fit_picture, parse_color
from ilvrctl.images.io import Picture, read_picture
from ilvrctl.images.regions import mirrored
from ilvrctl.sizes import AnySize, Size
from ilvrctl.work.edit import edit_pieces
from ilvrctl.work.ledger import Seen
from ilvrctl.work.noises import pieces_of
from ilvrctl.work.pieces import Pieces, Shape, Whole

if TYPE_CHECKING:
    from ilvrctl.plans.inputs import Contents, Item

NATIVE_PIXELS = 1 << 20
"""The largest picture that a network is run on at the picture's own size: attention grows with its square."""

Opened = Callable[[AnySize, int], Pieces]
"""An input that was read, to be brought to the network's size; the number is what it asks sides of other sizes to be
multiples of. InputError when it does not fit.
"""


@dataclass(frozen=True)
class Input:
    """An input that was read: ``opened``, and once the network is known ``pieces``, by the way of fitting it."""

    item: Item
    seen: Seen
    opened: Mapping[Shape, Opened]
    pieces: Mapping[Shape, Pieces] = field(default_factory=dict)

    def fitted(self, size: AnySize, multiple: int) -> Input | Unreadable:
        """With the pieces for a network of ``size`` pixels, the pictures as they were let go of.

        ``multiple``: what the network asks the sides of pictures of other sizes to be multiples of.
        """
        try:
            with stage("fitting", self.item.name):
                pieces = {shape: fit(size, multiple) for shape, fit in self.opened.items()}
        except IlvrctlError as error:
            return Unreadable.of(self.item, self.seen, error)
        return replace(self, opened={}, pieces=pieces)


@dataclass(frozen=True)
class Unreadable:
    """An input that nothing can be made of, and why; what is known of it."""

    item: Item
    seen: Seen
    error: IlvrctlError

    @classmethod
    def of(cls, item: Item, seen: Seen, error: IlvrctlError) -> Unreadable:
        """Raises the error where it would meet the other inputs too."""
        if is_shared(error):
            raise error
        return cls(item, seen, error)


def read_input(
    item: Item, shapes: Sequence[Shape], size: AnySize | None, channels: int = 3
) -> Input | Unreadable:
    """The input, decoded once for every background, in the network's ``channels``; ``size``: its own, as far as it is
    known, for edits.
    """
    seen = Seen()
    try:
        with stage("reading", item.name):
            seen = Seen(state=item.state())
            contents = item.contents()
            seen = replace(seen, digest=contents.digest)
        with stage("decoding", item.name):
            opened = open_input(item, contents, shapes, size, channels)
    except IlvrctlError as error:
        return Unreadable.of(item, seen, error)
    return Input(item, seen, opened)


def open_input(
    item: Item, contents: Contents, shapes: Sequence[Shape], size: AnySize | None, channels: int = 3
) -> Mapping[Shape, Opened]:
    """The input in every shape, decoded once; ``size`` and ``channels`` as for :func:`read_input`.

    InputError when one of its pictures cannot be read, or has colours where the network has none; UsageError when
    they do not go together.
    """
    if item.noise:
        return {shape: partial(pieces_of, contents.picture, item.name, shape.fit) for shape in shapes}
    ways = {(shape.background, shape.window) for shape in shapes if shape.edit is None}
    pictures = {way: decode(item, contents.picture, *way) for way in ways}
    return {shape: _opened(item, contents, shape, pictures, size, channels) for shape in shapes}


def decode(item: Item, data: bytes, background: str, window: str | None) -> Picture:
    """The input as a picture of its own size; InputError when it is none."""
    color = parse_color(background)
    return read_picture(data, item.name, background=color, window=window, frame=item.frame)


def _opened(
    item: Item,
    contents: Contents,
    shape: Shape,
    pictures: Mapping[tuple[str, str | None], Picture],
    size: AnySize | None,
    channels: int,
) -> Opened:
    if shape.edit is not None:
        if (size := shape.size or size) is None:
            raise UsageError("an edit needs the model's picture size", hint="--set model.image_size=256")
        pieces = edit_pieces(item, contents, shape, shape.edit, Size.of(size), channels)
        return lambda *_: pieces
    found = pictures[shape.background, shape.window]
    picture, read = in_channels(found, item.name, channels, parse_color(shape.background), grey=shape.grey)
    found = replace(found, image=picture, read=read, seen=None)
    return lambda size, multiple: _fitted(item.name, found, shape, shape.size or size, multiple)


def _fitted(name: str, found: Picture, shape: Shape, size: AnySize, multiple: int) -> Pieces:
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
