"""Names and shapes of a checkpoint's tensors, asked with errors that name the tensor. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from ilvrctl.errors import WeightsError
from ilvrctl.models.architecture.blocks import Shape


@dataclass(frozen=True)
class Shapes:
    """The tensors of a checkpoint of the kind ``kind``: name -> shape.

    ``kind`` completes the sentence "not a ...", as in "guided-diffusion network". ``called``: what the file calls
    a tensor, where that is another name.
    """

    of: Mapping[str, Shape]
    kind: str
    called: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.of

    def shape(self, name: str, dimensions: int) -> Shape:
        """The shape of tensor ``name``. WeightsError if it is not there, or has other ``dimensions``."""
        if name not in self.of:
            self.missing(name)
        found = self.of[name]
        if len(found) != dimensions or min(found) < 1:
            self.misfit(name, f"its shape is {_times(found)}, expected {dimensions} dimensions")
        return found

    def indices(self, prefix: str) -> Iterator[int]:
        """The number after ``prefix`` in every name that begins so. WeightsError where there is none."""
        for name in self.of:
            if name.startswith(prefix):
                number = name[len(prefix) :].partition(".")[0]
                if not (number.isascii() and number.isdigit() and len(number) < 5):
                    self.misfit(name, "a block has a number there")
                yield int(number)

    def compare(self, expected: Mapping[str, Shape]) -> None:
        """WeightsError with the first tensor that is not as ``expected``, or has no place there."""
        for name, shape in expected.items():
            if name not in self.of:
                self.missing(name)
            if self.of[name] != shape:
                self.misfit(name, f"its shape is {_times(self.of[name])}, expected {_times(shape)}")
        for name in self.of:
            if name not in expected:
                self.misfit(name, "the rest of the network has no place for it")

    def check_groups(self, widths: Iterator[int], groups: int) -> None:
        """WeightsError unless GroupNorm can divide each of these channel counts into ``groups``."""
        for width in widths:
            if width % groups:
                raise WeightsError(
                    f"this network has a layer of {width} channels; a {self.kind} "
                    f"normalises in {groups} groups, which do not divide it",
                    _HINT,
                )

    def missing(self, name: str) -> NoReturn:
        """Raise: tensor ``name`` is not there."""
        raise WeightsError(f"not a whole {self.kind}: tensor {self.called.get(name, name)} is missing", _HINT)

    def misfit(self, name: str, why: str) -> NoReturn:
        """Raise: tensor ``name`` is not what such a network has."""
        shown = self.called.get(name, name)
        raise WeightsError(f"not a {self.kind}: tensor {shown} does not fit ({why})", _HINT)


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


_HINT = "only whole networks can be read; `ilvrctl inspect FILE` tells what the file holds"
