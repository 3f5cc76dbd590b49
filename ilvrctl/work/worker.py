"""A worker's bench: an engine that carries out orders. The same at home, in a process, and on a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ilvrctl.errors import UsageError
from ilvrctl.events import BatchShrunk, BatchStarted, ItemFailed, SampleDone, StepDone
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.plans.digest import sha256_hex
from ilvrctl.plans.grid import Variant, naming
from ilvrctl.work.batches import Made, Order, Piece

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.engine import Engine, Reference
    from ilvrctl.events import EngineEvent

GIF_FRAMES = 48
COPY = ""
"""The key of a reference that only fills a place in its batch."""


@dataclass(frozen=True)
class Facts:
    """What an engine turned out to be; ``run`` is for the records: device, precision, torch. ``multiple``: of
    :class:`ilvrctl.engine.Engine`.
    """

    image_size: int
    multiple: int
    batch_size: int
    device: str
    precision: str
    run: dict[str, str]


class Bench:
    """Carries out orders one by one. What out-of-memory taught about the size of batches is kept."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._method: tuple[str, Mapping[str, Any]] = "", {}

    def facts(self) -> Facts:
        """What the driver of the work must know."""
        import torch

        engine = self._engine
        run = {"device": engine.device.type, "precision": engine.precision, "torch": torch.__version__}
        return Facts(
            engine.image_size, engine.multiple, engine.batch_size, str(engine.device), engine.precision, run
        )

    def check(self, variants: Sequence[Variant]) -> None:
        """UsageError naming the variant when the network, now known, cannot do one of them."""
        for variant in variants:
            try:
                self._engine.check(variant.settings)
            except UsageError as error:
                raise naming(variant.label, error) from None

    def perform(self, order: Order) -> Iterator[BatchStarted | StepDone | ItemFailed | BatchShrunk | Made]:
        """What the engine tells, with the pictures of its parts in the place of every finished sample.

        Parts are made one layer after the other, each in batches of the order's size.
        """
        made = _Making(order)
        networks = self._networks(order)
        for layer, pieces in _layers(order):
            wanted = [piece for piece in pieces if piece.key not in made.lost]
            if not wanted:
                continue
            references = _references(wanted, layer, order.size)
            translate = self._engine.translate
            with closing(translate(references, order.settings, networks=networks)) as events:
                for event in events:
                    if isinstance(event, BatchShrunk):
                        self._engine = replace(self._engine, batch_size=event.now)
                    yield from made.after(event, layer)

    def _networks(self, order: Order) -> Mapping[str, Any]:
        """The networks of the method's energies, kept until another method is asked for."""
        method = order.settings.method
        if self._method[0] != repr(method):
            self._method = repr(method), method.load(self._engine.device)
        return self._method[1]


def _layers(order: Order) -> Iterator[tuple[int, list[Piece]]]:
    """The numbers of the parts, each with the pieces that have such a part; those of a kind together."""
    for layer in range(max(len(piece.parts) for piece in order.pieces)):
        groups: dict[tuple[object, ...], list[Piece]] = {}
        for piece in order.pieces:
            if layer < len(piece.parts):
                part = piece.parts[layer]
                groups.setdefault((part.picture.size, part.free is None), []).append(piece)
        for group in groups.values():
            yield layer, group


def _references(pieces: Sequence[Piece], layer: int, size: int) -> list[Reference]:
    """A part of each at its place in a batch of ``size``; copies of the first where nothing is wanted."""
    at = {piece.place: piece for piece in pieces}
    return [_reference(at.get(n, replace(pieces[0], key=COPY)), layer) for n in range(size)]


def _reference(piece: Piece, layer: int) -> Reference:
    from ilvrctl.engine import Reference

    part = piece.parts[layer]
    free = None if part.free is None else to_tensor(part.free)[:1] > 0
    digest = _part_digest(piece.digest, layer)
    return Reference(piece.key, to_tensor(part.picture), digest, (piece.sample,), piece.seed, free)


def _part_digest(digest: str, n: int) -> str:
    """What seeds the noise of part n: the first has that of the input, the others have noise of their own."""
    return digest if n == 0 else sha256_hex(f"{digest} {n}".encode())


class _Making:
    """The results of an order as their parts are made."""

    def __init__(self, order: Order) -> None:
        self._parts = {piece.key: len(piece.parts) for piece in order.pieces}
        self._filmed = {piece.key for piece in order.pieces if piece.filmed}
        self._images: dict[str, list[Image]] = {key: [] for key in self._parts}
        self._seconds = dict.fromkeys(self._parts, 0.0)
        self._frames: dict[str, list[Image]] = {}
        self._start, self._share = time.perf_counter(), 1
        self.lost: set[str] = set()

    def after(
        self, event: EngineEvent, layer: int
    ) -> Iterator[BatchStarted | StepDone | ItemFailed | BatchShrunk | Made]:
        """What to tell of an event of the engine; of a result that is lost with a part once."""
        if isinstance(event, BatchStarted):
            event = BatchStarted(tuple(s for s in event.samples if s.key != COPY), event.steps)
            self._start, self._share = time.perf_counter(), max(1, len(event.samples))
            if layer == 0:
                for sample in event.samples:
                    self._frames.pop(sample.key, None)
        elif isinstance(event, StepDone) and layer == 0:
            self._film(event)
        elif isinstance(event, ItemFailed):
            if event.key == COPY:
                return
            self.lost.add(event.key)
        elif isinstance(event, SampleDone):
            if event.sample.key != COPY:
                yield from self._take(event)
            return
        yield event

    def _take(self, event: SampleDone) -> Iterator[Made]:
        key = event.sample.key
        images = self._images[key]
        images.append(to_image(event.x))
        self._seconds[key] += (time.perf_counter() - self._start) / self._share
        if len(images) == self._parts[key]:
            frames = self._frames.pop(key, [])
            film = (*frames, _side_by_side(images[0], images[0])) if frames else ()
            yield Made(event.sample, tuple(images), self._seconds[key], film)

    def _film(self, event: StepDone) -> None:
        every = -(-event.n // GIF_FRAMES)
        if event.i % every and event.i != event.n - 1:
            return
        for b, name in enumerate(event.samples):
            if name.key in self._filmed:
                frame = _side_by_side(to_image(event.x[b]), to_image(event.x0[b]))
                self._frames.setdefault(name.key, []).append(frame)


def _side_by_side(left: Image, right: Image) -> Image:
    """The noisy sample and the clean estimate in one frame."""
    frame = left.resize((left.width * 2, left.height))
    frame.paste(left, (0, 0))
    frame.paste(right, (left.width, 0))
    return frame
