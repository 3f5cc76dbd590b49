"""Inputs as the network wants them: read, hashed, decoded, cut up. Done in threads, ahead of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ilvrctl.errors import IlvrctlError, InputError, UsageError
from ilvrctl.work.ledger import Seen
from ilvrctl.work.opening import Opened, open_input
from ilvrctl.work.pieces import Canvas, Shape

if TYPE_CHECKING:
    from ilvrctl.plans.inputs import Item


@dataclass(frozen=True)
class Input:
    """An input that was read: ``opened``, and once the network is known ``canvases``, by the way of fitting it."""

    item: Item
    seen: Seen
    opened: Mapping[Shape, Opened]
    canvases: Mapping[Shape, Canvas] = field(default_factory=dict)

    def fitted(self, size: int, multiple: int) -> Input | Unreadable:
        """With canvases for a network of ``size`` pixels, the pictures as they were let go of.

        ``multiple``: what the network asks the sides of pictures of other sizes to be multiples of.
        """
        try:
            canvases = {shape: fit(size, multiple) for shape, fit in self.opened.items()}
        except (InputError, UsageError) as error:
            return Unreadable(self.item, self.seen, error)
        return replace(self, opened={}, canvases=canvases)


@dataclass(frozen=True)
class Unreadable:
    """An input that nothing can be made of, and why; what is known of it."""

    item: Item
    seen: Seen
    error: IlvrctlError


def read_input(item: Item, shapes: Sequence[Shape], size: int | None) -> Input | Unreadable:
    """The input, decoded once for every background; ``size``: the network's, as far as it is known, for edits."""
    seen = Seen(state=item.state())
    try:
        contents = item.contents()
        seen = replace(seen, digest=contents.digest)
        opened = open_input(item, contents, shapes, size)
    except (InputError, UsageError) as error:
        return Unreadable(item, seen, error)
    return Input(item, seen, opened)
