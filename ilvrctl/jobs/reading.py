"""Inputs as the network wants them: read, hashed, decoded, made square. Done in threads, ahead of the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ilvrctl.errors import InputError
from ilvrctl.jobs.digest import sha256_hex
from ilvrctl.jobs.ledger import Seen
from ilvrctl.jobs.sheet import Shape, decode, square

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.jobs.inputs import Item


@dataclass(frozen=True)
class Input:
    """An input that was read. ``pictures`` by the way of making them square: as they are at first, then square."""

    item: Item
    seen: Seen
    pictures: Mapping[Shape, Image]

    def squared(self, size: int) -> Input:
        """With square pictures of ``size`` pixels."""
        return replace(self, pictures={shape: square(p, shape, size) for shape, p in self.pictures.items()})


@dataclass(frozen=True)
class Unreadable:
    """An input that is no picture, and why; what is known of it."""

    item: Item
    seen: Seen
    error: InputError


def read_input(item: Item, shapes: Iterable[Shape]) -> Input | Unreadable:
    """The input, decoded once for every background."""
    seen = Seen(state=item.state())
    try:
        data = item.read()
        seen = replace(seen, digest=sha256_hex(data))
        shapes = set(shapes)
        decoded = {ground: decode(item, data, ground) for ground in {s.background for s in shapes}}
    except InputError as error:
        return Unreadable(item, seen, error)
    return Input(item, seen, {s: decoded[s.background] for s in shapes})
