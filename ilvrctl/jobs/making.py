"""Results in the making: which samples of which pieces of an input are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ilvrctl.events import SampleId
from ilvrctl.images.tensors import to_tensor
from ilvrctl.jobs.canvas import Canvas
from ilvrctl.jobs.digest import sha256_hex

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.engine import Reference

_MARK = "\0"
"""Between the key of an input and the number of a piece; no file's name has a zero byte."""


def result_of(piece: SampleId) -> SampleId:
    """The result that a sample of a piece belongs to."""
    return SampleId(piece.key.partition(_MARK)[0], piece.sample)


def piece_of(sample: SampleId) -> int:
    """The number of the piece that it is a sample of."""
    return int(sample.key.partition(_MARK)[2])


def _piece_digest(digest: str, n: int) -> str:
    """What seeds the noise of piece n: the first has that of the input, the others have noise of their own."""
    return digest if n == 0 else sha256_hex(f"{digest} {n}".encode())


@dataclass
class Making:
    """The results of one input: ``digest`` of its bytes, its canvas, the numbers of those that are not done."""

    digest: str
    canvas: Canvas
    waiting: set[int]
    there: dict[int, dict[int, Tensor]] = field(default_factory=dict)

    def references(self, key: str, samples: Sequence[int]) -> Iterator[Reference]:
        """The pieces for the engine."""
        from ilvrctl.engine import Reference

        for n, piece in enumerate(self.canvas.pieces):
            free = None if piece.free is None else to_tensor(piece.free)[:1] > 0
            digest = _piece_digest(self.digest, n)
            yield Reference(f"{key}{_MARK}{n}", to_tensor(piece.picture), digest, tuple(samples), free)

    def take(self, sample: SampleId, x: Tensor) -> list[Tensor] | None:
        """Keep the sample of a piece; once those of all pieces are there, they are given, in order."""
        if sample.sample not in self.waiting:
            return None
        pieces = self.there.setdefault(sample.sample, {})
        pieces[piece_of(sample)] = x
        if len(pieces) < len(self.canvas.pieces):
            return None
        self.give_up(sample.sample)
        return [pieces[n] for n in sorted(pieces)]

    def give_up(self, sample: int) -> bool:
        """Wait for a result no longer; whether it was waited for."""
        was = sample in self.waiting
        self.waiting.discard(sample)
        self.there.pop(sample, None)
        return was
