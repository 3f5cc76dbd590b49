"""A worker: an engine that makes batches. The same at home, in a process, and on a cluster."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ilvrctl.arithmetic import EXACT, Arithmetic
from ilvrctl.devices import out_of_memory, raise_if_lost
from ilvrctl.errors import DeviceMemoryError, IlvrctlError, UsageError, item_error
from ilvrctl.events import BatchShrunk, BatchStarted, SampleDone, SampleFailed, SampleId, StepDone
from ilvrctl.images.channels import eight_bits
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.plans.digest import sha256_hex
from ilvrctl.plans.grid import Variant, naming
from ilvrctl.work.batches import Batch, Made, Slot, Wanted
from ilvrctl.work.noises import packed, unpacked

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.engine import Asked, Engine
    from ilvrctl.events import EngineEvent
    from ilvrctl.methods import Method
    from ilvrctl.settings import Settings
    from ilvrctl.work.pieces import Piece

GIF_FRAMES = 48
WorkerEvent = BatchStarted | StepDone | SampleFailed | BatchShrunk | Made
"""What a worker tells; samples have slots for keys."""


@dataclass(frozen=True)
class Facts:
    """What an engine turned out to be; ``run`` is for the records: device, precision, torch. ``image_size``
    and ``multiple``: of :class:`ilvrctl.engine.Engine`.
    """

    image_size: int | str
    multiple: int
    batch_size: int
    device: str
    precision: str
    run: dict[str, str]
    class_count: int | None = None
    arithmetic: Arithmetic = EXACT

    def run_with(self, settings: Settings) -> dict[str, str]:
        """``run`` with how networks are computed for these settings."""
        return self.run | self.arithmetic.fitting(settings.fit).record(self.run["device"])


class Worker:
    """Makes batches one by one. What out-of-memory taught about their size is kept."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._method: Method | None = None
        self._networks: Mapping[str, Any] = {}
        self._fits: bool | None = None

    def facts(self) -> Facts:
        """What the driver of the work must know."""
        import torch

        engine = self._engine
        run = {"device": engine.device.type, "precision": engine.precision, "torch": torch.__version__}
        return Facts(
            engine.image_size,
            engine.multiple,
            engine.batch_size,
            str(engine.device),
            engine.precision,
            run,
            engine.class_count,
            engine.denoiser.arithmetic,
        )

    def check(self, variants: Sequence[Variant]) -> None:
        """UsageError naming the variant when the network, now known, cannot do one of them."""
        for variant in variants:
            try:
                self._engine.check(variant.settings)
            except UsageError as error:
                raise naming(variant.label, error) from None

    def perform(self, batch: Batch) -> Iterator[WorkerEvent]:
        """What the engine tells, with the pictures of its parts in the place of every finished sample.

        Parts are made one layer after the other, each in batches of the planned size. One that makes a batch fail
        fails by itself: the batch is tried again in halves. Errors that would meet every batch are raised.
        """
        work = _BatchInWork(batch, self._engine.channels)
        method = batch.settings.method
        if self._method != method:
            self._method, self._networks = method, method.load(self._engine.device)
        for layer, group in _layers(batch):
            yield from self._in_halves(
                [one for one in group if one.slot not in work.lost], layer, batch, work
            )

    def _in_halves(
        self, group: Sequence[Wanted], layer: int, batch: Batch, work: _BatchInWork
    ) -> Iterator[WorkerEvent]:
        if not group:
            return
        try:
            yield from self._together(group, layer, batch, work)
        except Exception as error:
            self._raise_shared(error)
            if len(group) == 1:
                yield work.failed(group[0], error)
                return
            left = [one for one in group if work.lacks(one.slot, layer)]
            middle = (len(left) + 1) // 2
            for half in (left[:middle], left[middle:]):
                yield from self._in_halves(half, layer, batch, work)

    def _together(
        self, group: Sequence[Wanted], layer: int, batch: Batch, work: _BatchInWork
    ) -> Iterator[WorkerEvent]:
        """A part of each, at its place in a batch of the planned size as long as memory has room for that."""
        full = batch.size if batch.size <= self._engine.batch_size else None
        asked = _asked(group, layer, full)
        with closing(self._engine.make(asked, batch.settings, self._networks)) as events:
            for event in events:
                if isinstance(event, BatchShrunk):
                    self._engine = replace(self._engine, batch_size=event.now)
                yield from work.after(event, layer)

    def _raise_shared(self, error: Exception) -> None:
        """Raise an error that the next batches would meet too."""
        if isinstance(error, DeviceMemoryError):
            if not self._network_fits():
                raise error
        elif isinstance(error, IlvrctlError):
            raise error
        else:
            raise_if_lost(error, self._engine.device)

    def _network_fits(self) -> bool:
        """Whether there is memory for a single call of the network: then it is the sample that is too large."""
        from ilvrctl.timing import call_seconds

        if self._fits is None:
            try:
                call_seconds(self._engine, 1, rounds=1)
                self._fits = True
            except (RuntimeError, MemoryError) as error:
                self._fits = not out_of_memory(error)
        return self._fits


def _layers(batch: Batch) -> Iterator[tuple[int, list[Wanted]]]:
    """The numbers of the parts, each with the results that have such a part; those of a kind together."""
    for layer in range(max(len(wanted.parts) for wanted in batch.wanted)):
        groups: dict[tuple[object, ...], list[Wanted]] = {}
        for wanted in batch.wanted:
            if layer < len(wanted.parts):
                part = wanted.parts[layer]
                groups.setdefault((part.picture.size, part.free is None), []).append(wanted)
        for group in groups.values():
            yield layer, group


def _asked(group: Sequence[Wanted], layer: int, size: int | None) -> list[Asked]:
    """A part of each at its place in a batch of ``size``, with copies of the first, without a slot, where nothing
    is wanted; None: those that are wanted alone.
    """
    if size is None:
        return [_reference(wanted, wanted.slot, layer) for wanted in group]
    at = {wanted.place: wanted for wanted in group}
    places = (at.get(n) for n in range(size))
    return [
        _reference(group[0] if wanted is None else wanted, None if wanted is None else wanted.slot, layer)
        for wanted in places
    ]


def _reference(wanted: Wanted, slot: Slot | None, layer: int) -> Asked:
    digest = _part_digest(wanted.digest, layer)
    return reference_of(
        slot,
        wanted.parts[layer],
        digest,
        wanted.sample,
        wanted.seed,
        keep=wanted.kept and slot is not None,
        whole=wanted.digest,
    )


def reference_of(
    key: Hashable,
    piece: Piece,
    digest: str,
    sample: int,
    seed: int,
    *,
    keep: bool = False,
    whole: str = "",
) -> Asked:
    """What the engine is asked for a piece of an input; ``keep``: the noise that is found of it, too. ``whole``: the
    digest of the input, where this is not all of it.
    """
    from ilvrctl.engine import Reference

    free = None if piece.free is None else to_tensor(piece.free)[:1] > 0
    given = None if piece.noise is None else unpacked(piece.noise)
    reference = Reference(
        key, to_tensor(piece.picture), digest, (sample,), seed, free, given, keep, whole or digest
    )
    return SampleId(key, sample), reference


def _part_digest(digest: str, n: int) -> str:
    """What seeds the noise of part n: the first has that of the input, the others have noise of their own."""
    return digest if n == 0 else sha256_hex(f"{digest} {n}".encode())


class _BatchInWork:
    """The results of a batch as their parts are made."""

    def __init__(self, batch: Batch, channels: int) -> None:
        self._picture = partial(to_image, channels=channels)
        self._bits = batch.settings.bits
        self._parts = {wanted.slot: len(wanted.parts) for wanted in batch.wanted}
        self._filmed = {wanted.slot for wanted in batch.wanted if wanted.filmed}
        self._images: dict[Slot, list[Image]] = {slot: [] for slot in self._parts}
        self._seconds = dict.fromkeys(self._parts, 0.0)
        self._frames: dict[Slot, list[Image]] = {}
        self._start, self._share = time.perf_counter(), 1
        self.lost: set[Slot] = set()

    def lacks(self, slot: Slot, layer: int) -> bool:
        """Whether that part of the result is still to be made."""
        return slot not in self.lost and len(self._images[slot]) <= layer

    def failed(self, wanted: Wanted, error: Exception) -> SampleFailed:
        """A result that cannot be made, for a reason of its own."""
        self.lost.add(wanted.slot)
        if not isinstance(error, IlvrctlError):
            error = item_error(error, "sampling", wanted.name)
        return SampleFailed(SampleId(wanted.slot, wanted.sample), error)

    def after(self, event: EngineEvent, layer: int) -> Iterator[WorkerEvent]:
        """What to tell of an event of the engine; of a result that is lost with a part once."""
        if isinstance(event, BatchStarted):
            event = BatchStarted(tuple(s for s in event.samples if s.key is not None), event.steps)
            self._start, self._share = time.perf_counter(), max(1, len(event.samples))
            if layer == 0:
                for sample in event.samples:
                    self._frames.pop(_slot(sample), None)
        elif isinstance(event, StepDone) and layer == 0:
            self._film(event)
        elif isinstance(event, SampleFailed):
            if event.sample.key is None:
                return
            self.lost.add(_slot(event.sample))
        elif isinstance(event, SampleDone):
            if event.sample.key is not None:
                yield from self._take(event)
            return
        yield event

    def _take(self, event: SampleDone) -> Iterator[Made]:
        slot = _slot(event.sample)
        images = self._images[slot]
        images.append(self._picture(event.x, bits=self._bits))
        self._seconds[slot] += (time.perf_counter() - self._start) / self._share
        if len(images) == self._parts[slot]:
            frames = self._frames.pop(slot, [])
            last = eight_bits(images[0])
            film = (*frames, _side_by_side(last, last)) if frames else ()
            noise = None if event.noise is None else packed(event.noise)
            yield Made(slot, tuple(images), self._seconds[slot], film, noise)

    def _film(self, event: StepDone) -> None:
        every = -(-event.n // GIF_FRAMES)
        if event.i % every and event.i != event.n - 1:
            return
        for b, sample in enumerate(event.samples):
            if sample.key in self._filmed:
                frame = _side_by_side(self._picture(event.x[b]), self._picture(event.x0[b]))
                self._frames.setdefault(_slot(sample), []).append(frame)


def _slot(sample: SampleId) -> Slot:
    """The slot that was given to the engine as a key."""
    assert isinstance(sample.key, Slot)
    return sample.key


def _side_by_side(left: Image, right: Image) -> Image:
    """The noisy sample and the clean estimate in one frame."""
    frame = left.resize((left.width * 2, left.height))
    frame.paste(left, (0, 0))
    frame.paste(right, (left.width, 0))
    return frame
