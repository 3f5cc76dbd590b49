"""Tensors as files describe them: shapes, and where the numbers lie. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16, "complex32": 4, "qint8": 1, "quint8": 1, "qint32": 4,
    "uint16": 2, "uint32": 4, "uint64": 8,
}  # fmt: skip
"""Bytes of a number, by torch's name of its kind."""


@dataclass(frozen=True)
class Storage:
    """A block of ``numel`` numbers of ``dtype`` in the file, called ``key``."""

    key: str
    dtype: str
    numel: int

    @property
    def nbytes(self) -> int:
        """Its bytes in the file."""
        return self.numel * item_size(self.dtype)


@dataclass(frozen=True)
class Stored:
    """A tensor as a file describes it: its shape, and where its numbers are in a storage, in numbers.

    ``odd``: why its numbers cannot be used, as in "tensor x is ..."; "" for a plain one.
    """

    shape: tuple[int, ...]
    dtype: str
    storage: Storage
    offset: int = 0
    stride: tuple[int, ...] = ()
    odd: str = ""

    @property
    def numel(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return self.numel * item_size(self.dtype)


@dataclass
class Inert:
    """What stands in the place of an object of the class ``name``: its arguments, attributes and items."""

    name: str
    arguments: tuple[object, ...] = ()
    state: object = None
    items: dict[object, object] = field(default_factory=dict)
    elements: list[object] = field(default_factory=list)


def item_size(dtype: str) -> int:
    """Bytes of a number; those of an unknown kind count one."""
    return SIZES.get(dtype, 1)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor of ``shape`` without holes, in numbers."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def inside(thing: Any) -> list[Any]:
    """What a container holds; nothing for what is none."""
    if isinstance(thing, dict):
        return list(thing.values())
    if isinstance(thing, (list, tuple)):
        return list(thing)
    if isinstance(thing, Inert):
        return [thing.state, *thing.arguments, *thing.items.values(), *thing.elements]
    return []
