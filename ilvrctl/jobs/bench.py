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
from ilvrctl.jobs.grid import Variant, naming
from ilvrctl.jobs.orders import Made, Order

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.engine import Engine, Reference

GIF_FRAMES = 48
COPY = ""
"""The key of a reference that only fills a place in its batch."""


@dataclass(frozen=True)
class Facts:
    """What an engine turned out to be; ``run`` is for the records: device, precision, torch."""

    image_size: int
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
        return Facts(engine.image_size, engine.batch_size, str(engine.device), engine.precision, run)

    def check(self, variants: Sequence[Variant]) -> None:
        """UsageError naming the variant when the network, now known, cannot do one of them."""
        for variant in variants:
            try:
                self._engine.check(variant.settings)
            except UsageError as error:
                raise naming(variant.label, error) from None

    def perform(self, order: Order) -> Iterator[BatchStarted | StepDone | ItemFailed | BatchShrunk | Made]:
        """What the engine tells, with a picture in the place of every finished sample."""
        start, share = time.perf_counter(), 1
        frames: dict[str, list[Image]] = {}
        references, networks = _references(order), self._networks(order)
        translate = self._engine.translate
        with closing(translate(references, order.settings, networks=networks)) as events:
            for event in events:
                if isinstance(event, (SampleDone, ItemFailed)) and _key(event) == COPY:
                    continue
                if isinstance(event, SampleDone):
                    seconds = (time.perf_counter() - start) / share
                    yield _made(event, frames.pop(event.sample.key, []), seconds)
                    continue
                if isinstance(event, BatchStarted):
                    start = time.perf_counter()
                    event = BatchStarted(tuple(s for s in event.samples if s.key != COPY), event.steps)
                    share = max(1, len(event.samples))
                    frames.clear()
                elif isinstance(event, StepDone):
                    _keep_frames(frames, order, event)
                elif isinstance(event, BatchShrunk):
                    self._engine = replace(self._engine, batch_size=event.now)
                yield event

    def _networks(self, order: Order) -> Mapping[str, Any]:
        """The networks of the method's energies, kept until another method is asked for."""
        method = order.settings.method
        if self._method[0] != repr(method):
            self._method = repr(method), method.load(self._engine.device)
        return self._method[1]


def _references(order: Order) -> list[Reference]:
    """One for every place of the batch; copies of the first where nothing is wanted."""
    from ilvrctl.engine import Reference

    at = {piece.place: piece for piece in order.pieces}
    whole = [at.get(place, replace(order.pieces[0], key=COPY)) for place in range(order.size)]
    return [Reference(p.key, to_tensor(p.picture), p.digest, (p.sample,), p.seed) for p in whole]


def _key(event: SampleDone | ItemFailed) -> str:
    return event.sample.key if isinstance(event, SampleDone) else event.key


def _made(event: SampleDone, frames: list[Image], seconds: float) -> Made:
    image = to_image(event.x)
    film = (*frames, _side_by_side(image, image)) if frames else ()
    return Made(event.sample, image, seconds, film)


def _keep_frames(frames: dict[str, list[Image]], order: Order, event: StepDone) -> None:
    every = -(-event.n // GIF_FRAMES)
    if event.i % every and event.i != event.n - 1:
        return
    filmed = {piece.key for piece in order.pieces if piece.filmed}
    for b, name in enumerate(event.samples):
        if name.key in filmed:
            frame = _side_by_side(to_image(event.x[b]), to_image(event.x0[b]))
            frames.setdefault(name.key, []).append(frame)


def _side_by_side(left: Image, right: Image) -> Image:
    """The noisy sample and the clean estimate in one frame."""
    frame = left.resize((left.width * 2, left.height))
    frame.paste(left, (0, 0))
    frame.paste(right, (left.width, 0))
    return frame
