"""What a format of checkpoints is: how to know it, and which file reads it. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias, cast

from ilvrctl.models.architecture.blocks import Shape

if TYPE_CHECKING:
    from ilvrctl.models.files.readers.base import File, Reader

Recognise: TypeAlias = Callable[[Mapping[str, Shape]], bool]


@dataclass(frozen=True)
class Format:
    """A kind of network and how to know it.

    ``what`` completes the sentence "this is ...". ``reads``: the module whose ``READER`` reads it, imported when it
    is needed; "" for a format that cannot be read, and then ``instead``: what people can use. ``denoises``: whether
    pictures can be made with it. ``states``: its files tell facts beside the tensors. ``release``: of the program
    that wrote a file, where its files tell.
    """

    name: str
    what: str
    recognise: Recognise
    reads: str = ""
    denoises: bool = True
    instead: str = ""
    states: bool = False
    release: Callable[[File], str] | None = None

    @property
    def readable(self) -> bool:
        """Whether it can be read."""
        return bool(self.reads)

    @property
    def reader(self) -> Reader:
        """What reads it."""
        return cast("Reader", import_module(self.reads).READER)


def has(*starts: str, lacks: tuple[str, ...] = ()) -> Recognise:
    """Known by names: one begins with each of ``starts``, and none with one of ``lacks``."""

    def recognise(tensors: Mapping[str, Shape]) -> bool:
        return all(any(name.startswith(start) for name in tensors) for start in starts) and not any(
            name.startswith(lacks) for name in tensors
        )

    return recognise
