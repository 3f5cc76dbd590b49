"""Carry out plans: read ahead, have a crew translate, write behind, one event after the other."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from ilvrctl.errors import IlvrctlError
from ilvrctl.events import Extra, ItemFailed, JobEvent, Loaded, Skipped, Stopped, Warned, Written
from ilvrctl.images.io import encode_picture, save_gif, save_picture
from ilvrctl.plans.outputs import Output, make_folder
from ilvrctl.plans.record import result_record
from ilvrctl.work.batches import HELD, Batch, Made, Order, Piece, Slot, batches, slot_of, token
from ilvrctl.work.ledger import Ledger, Seen
from ilvrctl.work.pieces import Canvas, Shape
from ilvrctl.work.read_ahead import Ahead, Behind
from ilvrctl.work.reading import Input, Unreadable, read_input
from ilvrctl.work.sheet import Gallery, small, write_sheet
from ilvrctl.work.workers import Crew

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.plans.inputs import Item
    from ilvrctl.plans.plan import Plan
    from ilvrctl.settings import Settings
    from ilvrctl.work.worker import Facts

Found = Input | Unreadable


@dataclass(frozen=True)
class Finished:
    """A result that was written, in a thread: its slot, its input, what to tell, a small copy for a sheet."""

    slot: Slot
    seen: Seen
    written: Written
    small: Image | None = None
    extras: tuple[Extra, ...] = ()


class _EnoughError(Exception):
    """So many failures that the rest is not begun."""


def run(
    plans: Sequence[Plan],
    crew: Crew,
    ledger: Ledger | None = None,
    *,
    max_failures: int | None = None,
    rescued: Callable[[JobEvent], None] = lambda event: None,
) -> Generator[JobEvent, None, None]:
    """Make what the plans still want, those with equal networks together.

    The crew loads networks when an input for them could be read. A bad input is an ItemFailed event and the others
    go on, up to ``max_failures`` of them; an output that cannot be written is raised as OutputError. Closing the
    iterator stops; what was written stays, and the same plans made again go on. ``rescued`` is told of results that
    were still being written then.
    """
    job = _Job(plans, crew, ledger, max_failures, rescued)
    try:
        yield from job.before()
        for numbers in _same_networks(plans):
            yield from _Round(job, numbers).make()
        for plan, gallery in zip(plans, job.galleries, strict=True):
            yield from write_sheet(plan, gallery)
    except _EnoughError:
        yield Stopped(job.failures)
    finally:
        crew.close()


def _same_networks(plans: Sequence[Plan]) -> list[dict[int, Plan]]:
    """Plans by their number, those together that share an engine; those that are done count for the batches too."""
    groups: dict[str, dict[int, Plan]] = {}
    for number, plan in enumerate(plans):
        groups.setdefault(repr(plan.networks), {})[number] = plan
    return [group for group in groups.values() if any(plan.pending for plan in group.values())]


class _Job:
    """What the whole run knows: its plans, its manifest if any, failures so far, pictures for the sheets."""

    def __init__(
        self,
        plans: Sequence[Plan],
        crew: Crew,
        ledger: Ledger | None,
        max_failures: int | None,
        rescued: Callable[[JobEvent], None],
    ) -> None:
        self.plans, self.crew, self.ledger, self.rescued = plans, crew, ledger, rescued
        self.failures, self._max_failures = 0, max_failures
        self.galleries = [Gallery(plan) for plan in plans]

    def output(self, slot: Slot) -> Output:
        """The output of a slot."""
        return self.plans[slot[0]].outputs[slot[1]]

    def before(self) -> Iterator[JobEvent]:
        """What was done or had failed before this run."""
        if self.ledger is not None:
            self.ledger.begin(self.plans)
        for plan in self.plans:
            for output in plan.outputs:
                name, changes = output.item.name, plan.changes(output)
                if output.status == "done" and output.path is not None:
                    yield Skipped(name, output.sample, output.path, changes, plan.name)
                elif output.status == "failed":
                    error = IlvrctlError(output.error, hint="--retry-failed tries it again")
                    yield ItemFailed(name, error, output.sample, changes=changes, job=plan.name)
            if stale := sum(output.stale for output in plan.outputs):
                what = "1 input has" if stale == 1 else f"{stale} inputs have"
                yield Warned(f"{plan.name}: {what} changed since; made again")

    def failed(self, event: ItemFailed, slots: Sequence[Slot], seen: Seen) -> Iterator[JobEvent]:
        """Tell of results of one plan that cannot be made, under the name that people know the input by."""
        plan, first = self.plans[slots[0][0]], self.output(slots[0])
        if self.ledger is not None:
            self.ledger.failed(plan, map(self.output, slots), seen, event.error)
        changes = {} if event.sample is None else plan.changes(first)
        self.failures += 1
        yield replace(event, key=first.item.name, lost=len(slots), changes=changes, job=plan.name)
        if self.failures == self._max_failures:
            raise _EnoughError

    def finished(self, result: Finished) -> Iterator[JobEvent]:
        """Tell of a result that is on disk."""
        if self.ledger is not None:
            plan = self.plans[result.slot[0]]
            self.ledger.done(plan, self.output(result.slot), result.seen, result.written.seconds)
        if result.small is not None:
            self.galleries[result.slot[0]].add(self.output(result.slot), result.small)
        yield result.written
        yield from result.extras


class _Round:
    """The plans of one engine."""

    def __init__(self, job: _Job, plans: Mapping[int, Plan]) -> None:
        self._job, self._plans = job, plans
        self._shapes = list(dict.fromkeys(Shape.of(v.settings) for p in plans.values() for v in p.variants))
        self._size = next(iter(plans.values())).model.image_size
        self._failed: set[tuple[int, str]] = set()
        self._news: deque[tuple[Unreadable, int]] = deque()
        self._seen: dict[str, Seen] = {}
        self._canvases: dict[Slot, Canvas] = {}
        self._remarks: deque[str] = deque()
        self._remarked: set[tuple[str, Shape]] = set()

    def make(self) -> Iterator[JobEvent]:
        """Read up to the first good input, have the networks loaded, and translate it with all that follow."""
        first = None
        for item in self._items():
            found = read_input(item, self._shapes, self._size)
            if isinstance(found, Input):
                first = found
                break
            for number in self._plans:
                self._note(found, number)
            yield from self._tell()
        if first is None:
            return
        start = time.perf_counter()
        networks = next(iter(self._plans.values())).networks
        variants = [variant for plan in self._plans.values() for variant in plan.variants]
        facts = self._job.crew.begin(networks, variants)
        seconds = time.perf_counter() - start
        yield Loaded(networks.model.name, facts.device, facts.precision, seconds)
        yield from self._translate(first, facts)

    def _items(self) -> dict[Item, None]:
        """The inputs that are wanted, in order."""
        return dict.fromkeys(output.item for plan in self._plans.values() for output in plan.pending)

    def _translate(self, first: Input, facts: Facts) -> Iterator[JobEvent]:
        wanted = batches(self._plans, lambda slot: self._job.output(slot).status == "to do", facts.batch_size)
        make = partial(_prepared, shapes=self._shapes, size=self._size, facts=facts)
        depth = max(2 * facts.batch_size, 8)
        photos = any(
            plan.edits for plan in self._plans.values()
        )  # of their own size: few at a time in memory
        ahead, kept = (1, 0) if photos else (depth, HELD)
        with ExitStack() as stack:
            reader = stack.enter_context(Ahead(make, lambda item: item.key, ahead, kept))
            reader.put(first.item, first.fitted(facts.image_size, facts.multiple))
            writer: Behind[Finished] = stack.enter_context(Behind(depth, self._rescue))
            orders = self._orders(wanted, reader)
            for event in stack.enter_context(closing(self._job.crew.carry_out(orders))):
                yield from self._tell()
                if isinstance(event, Made):
                    writer.submit(self._writing(event, facts))
                elif isinstance(event, ItemFailed):
                    slot = slot_of(event.key)
                    self._canvases.pop(slot, None)
                    yield from self._job.failed(event, [slot], self._seen[self._job.output(slot).item.key])
                else:
                    yield event
                for result in writer.results():
                    yield from self._job.finished(result)
            yield from self._tell()
            for result in writer.results(all_=True):
                yield from self._job.finished(result)

    def _rescue(self, result: Finished) -> None:
        """Keep account of a result that was still being written when the run was stopped."""
        for event in self._job.finished(result):
            self._job.rescued(event)

    def _orders(self, wanted: Sequence[Batch], reader: Ahead[Item, Found]) -> Iterator[Order]:
        """Orders of full size; where inputs fail, those that follow at the same place move up."""
        found = reader.each([self._job.output(slot).item for batch in wanted for slot in batch.slots])
        left = Counter((batch.kind, batch.size) for batch in wanted)
        rows = {kind: [deque[Piece]() for _ in range(kind[1])] for kind in left}
        for batch in wanted:
            kind = batch.kind, batch.size
            left[kind] -= 1
            values = islice(found, len(batch.slots))
            for slot, place, value in zip(batch.slots, batch.places, values, strict=True):
                if isinstance(value, Unreadable):
                    self._note(value, slot[0])
                else:
                    rows[kind][place].append(self._piece(slot, place, value))
            while _enough(rows[kind], last=not left[kind]):
                pieces = tuple(places.popleft() for places in rows[kind] if places)
                yield Order(self._settings(slot_of(pieces[0].key)), pieces, batch.size)

    def _settings(self, slot: Slot) -> Settings:
        return self._plans[slot[0]].variants[self._job.output(slot).variant].settings

    def _piece(self, slot: Slot, place: int, value: Input) -> Piece:
        output, settings = self._job.output(slot), self._settings(slot)
        self._seen[output.item.key] = value.seen
        shape = Shape.of(settings)
        canvas = self._canvases[slot] = value.canvases[shape]
        if (output.item.key, shape) not in self._remarked:
            self._remarked.add((output.item.key, shape))
            suffix = "" if output.path is None else output.path.suffix
            self._remarks.extend((*canvas.notes, *canvas.lost_in(suffix or ".png")))
        filmed = output.gif is not None
        return Piece(
            token(slot), canvas.pieces, value.seen.digest, output.sample, settings.seed, place, filmed
        )

    def _note(self, found: Unreadable, number: int) -> None:
        """Remember a failure, to be told once for every plan that wants the input."""
        if (number, found.item.key) not in self._failed:
            self._failed.add((number, found.item.key))
            self._news.append((found, number))

    def _tell(self) -> Iterator[JobEvent]:
        while self._remarks:
            yield Warned(self._remarks.popleft())
        while self._news:
            found, number = self._news.popleft()
            slots = [
                (number, place)
                for place, output in enumerate(self._plans[number].outputs)
                if output.item.key == found.item.key and output.status == "to do"
            ]
            if slots:
                yield from self._job.failed(ItemFailed(found.item.key, found.error), slots, found.seen)

    def _writing(self, made: Made, facts: Facts) -> Callable[[], Finished]:
        """What a thread does with a result."""
        slot = slot_of(made.sample.key)
        plan, output = self._plans[slot[0]], self._job.output(slot)
        canvas = self._canvases.pop(slot)
        return partial(_write, plan, output, slot, self._seen[output.item.key], canvas, made, facts)


def _enough(places: Sequence[deque[Piece]], *, last: bool) -> bool:
    """Whether a batch is made of what waits for its places: when it is full, when much waits, or at the end."""
    return all(places) or any(len(waiting) > 2 for waiting in places) or (last and any(places))


def _prepared(item: Item, shapes: Sequence[Shape], size: int | None, facts: Facts) -> Found:
    found = read_input(item, shapes, size)
    return found.fitted(facts.image_size, facts.multiple) if isinstance(found, Input) else found


def _write(
    plan: Plan, output: Output, slot: Slot, seen: Seen, canvas: Canvas, made: Made, facts: Facts
) -> Finished:
    """The result, then its animation: so a result whose animation is missing is known to be made halfway."""
    done = canvas.result(made.images)
    record = result_record(plan, output, seen.digest, facts.run, done.read)
    written = Written(output.item.name, output.sample, output.path, made.seconds, None, plan.changes(output))
    written = replace(written, job=plan.name)
    shown = None if plan.sheet is None else small(done.image)
    if output.path is None:
        data = encode_picture(done.image, "png", record, kept=done.kept)
        return Finished(slot, seen, replace(written, data=data), shown)
    make_folder(output.path.parent)
    save_picture(done.image, output.path, record=record, quality=plan.quality, kept=done.kept)
    if output.gif is None:
        return Finished(slot, seen, written, shown)
    save_gif(list(made.frames) or [made.images[0]], output.gif)
    return Finished(slot, seen, written, shown, (Extra("gif", output.gif),))
