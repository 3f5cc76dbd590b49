"""Carry out plans: read ahead, have workers translate, write behind, one event after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from ilvrctl.errors import IlvrctlError, is_shared, stage
from ilvrctl.events import (
    Extra,
    ItemFailed,
    JobEvent,
    Loaded,
    Note,
    SampleFailed,
    Selected,
    Skipped,
    Stopped,
    Warned,
    Written,
)
from ilvrctl.files import make_folder, sweep
from ilvrctl.images.channels import eight_bits
from ilvrctl.images.io import encode_picture, save_gif, save_picture
from ilvrctl.models.files.noise_file import Noise
from ilvrctl.plans.outputs import Output
from ilvrctl.plans.record import result_record
from ilvrctl.work.batches import HELD, Made, PlannedBatch, Slot, Wanted, batches, filled
from ilvrctl.work.expected import expecting, unexpected
from ilvrctl.work.join import write_joined
from ilvrctl.work.ledger import Ledger, Seen
from ilvrctl.work.noises import facts_for
from ilvrctl.work.opening import Input, Unreadable, read_input
from ilvrctl.work.pieces import Pieces, Shape
from ilvrctl.work.read_ahead import Ahead, Behind
from ilvrctl.work.sheet import Gallery, small, write_sheet
from ilvrctl.work.workers import Workers

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.plans.inputs import Item
    from ilvrctl.plans.plan import Networks, Plan
    from ilvrctl.settings import Settings
    from ilvrctl.work.pace import Paces
    from ilvrctl.work.worker import Facts

Found = Input | Unreadable
Way = tuple[int, int]
"""The number of a plan, and that of one of its variants."""


@dataclass(frozen=True)
class Saved:
    """A result that was written, in a thread: its slot, its input, what to tell, a small copy for a sheet."""

    slot: Slot
    seen: Seen
    written: Written
    small: Image | None = None
    extras: tuple[Extra, ...] = ()


@dataclass(frozen=True)
class Unsaved:
    """A result that could not be written, for a reason of its own."""

    slot: Slot
    seen: Seen
    error: IlvrctlError


class _EnoughError(Exception):
    """So many failures that the rest is not begun."""


def run(
    plans: Sequence[Plan],
    workers: Workers,
    ledger: Ledger | None = None,
    *,
    max_failures: int | None = None,
    rescued: Callable[[JobEvent], object] = lambda event: None,
    paces: Paces | None = None,
) -> Generator[JobEvent, None, None]:
    """Make what the plans still want, those with equal networks together.

    The workers load networks when an input for them could be read. Whatever goes wrong with one input or result is
    an ItemFailed event and the others go on, up to ``max_failures`` of them. What would meet all of them is raised
    once: OutputError for a full disk, WeightsError, DeviceError. Closing the iterator stops; what was written
    stays, and the same plans made again go on. ``rescued`` is told of results that were still being written then.
    ``paces`` notes how long the results take.
    """
    job = _Job(plans, workers, ledger, max_failures, rescued, paces)
    try:
        yield from job.before()
        for networks, ways in _same_networks(plans).items():
            yield from _Round(job, networks, ways).make()
        for plan in plans:
            yield from write_joined(plan)
        for plan, gallery in zip(plans, job.galleries, strict=True):
            with stage("drawing", f"the sheet {plan.sheet}"):
                yield from write_sheet(plan, gallery)
    except _EnoughError:
        yield Stopped(job.failures, job.left)
    finally:
        workers.close()
        if paces is not None:
            paces.keep()


def _same_networks(plans: Sequence[Plan]) -> dict[Networks, list[Way]]:
    """The ways of translating that share an engine, in the order of the plans."""
    groups: dict[Networks, list[Way]] = {}
    for number, plan in enumerate(plans):
        for v, variant in enumerate(plan.variants):
            groups.setdefault(plan.networks_of(variant), []).append((number, v))
    return groups


class _Job:
    """What the whole run knows: its plans, its manifest if any, failures so far, pictures for the sheets."""

    def __init__(
        self,
        plans: Sequence[Plan],
        workers: Workers,
        ledger: Ledger | None,
        max_failures: int | None,
        rescued: Callable[[JobEvent], object],
        paces: Paces | None,
    ) -> None:
        self.plans, self.workers, self.ledger, self.rescued = plans, workers, ledger, rescued
        self.paces = paces
        self.failures, self._max_failures = 0, max_failures
        self.left = sum(len(plan.pending) for plan in plans)
        self.galleries = [Gallery(plan) for plan in plans]

    def output(self, slot: Slot) -> Output:
        """The output of a slot."""
        return self.plans[slot.plan].outputs[slot.place]

    def before(self) -> Iterator[JobEvent]:
        """What was done or had failed before this run. What a run that was killed left half-written is removed."""
        if self.ledger is not None:
            self.ledger.begin(self.plans)
        for plan in self.plans:
            for output in plan.outputs:
                name, changes = output.item.name, plan.changes(output)
                for file in output.files if output.status != "elsewhere" else ():
                    sweep(file)
                if output.status == "done" and output.path is not None:
                    yield Skipped(name, output.sample, output.path, changes, plan.name)
                elif output.status == "failed":
                    error = IlvrctlError(output.error, output.hint)
                    yield ItemFailed(name, error, output.sample, changes=changes, job=plan.name)
            if stale := sum(output.stale for output in plan.outputs):
                what = "1 input has" if stale == 1 else f"{stale} inputs have"
                yield Warned(f"{plan.name}: {what} changed since; made again")

    def failed(
        self, slots: Sequence[Slot], seen: Seen, error: IlvrctlError, sample: int | None = None
    ) -> Iterator[JobEvent]:
        """Tell of results of one plan that cannot be made; one ``sample`` of an input, or all of them."""
        plan, first = self.plans[slots[0].plan], self.output(slots[0])
        if self.ledger is not None:
            self.ledger.failed(plan, map(self.output, slots), seen, error)
        changes = {} if sample is None else plan.changes(first)
        self.failures += 1
        self.left -= len(slots)
        yield ItemFailed(first.item.name, error, sample, len(slots), changes, plan.name)
        if self.failures == self._max_failures:
            raise _EnoughError

    def finished(self, result: Saved | Unsaved) -> Iterator[JobEvent]:
        """Tell of a result that is on disk, or could not be written."""
        output = self.output(result.slot)
        if isinstance(result, Unsaved):
            yield from self.failed([result.slot], result.seen, result.error, output.sample)
            return
        if self.ledger is not None:
            plan = self.plans[result.slot.plan]
            self.ledger.done(plan, output, result.seen, result.written.seconds)
        if result.small is not None:
            self.galleries[result.slot.plan].add(output, result.small)
        self.left -= 1
        yield result.written
        yield from result.extras


class _Round:
    """What is made with one engine; plans of which all is done count for the batches too."""

    def __init__(self, job: _Job, networks: Networks, ways: Sequence[Way]) -> None:
        self._job, self._networks = job, networks
        self._plans = {number: job.plans[number] for number, _ in ways}
        self._variants = [job.plans[number].variants[v] for number, v in ways]
        self._shapes = list(dict.fromkeys(Shape.of(variant.settings) for variant in self._variants))
        self._items: dict[Item, None] = {}
        self._slots: dict[tuple[int, str], list[Slot]] = {}
        for number, plan in self._plans.items():
            mine = {v for n, v in ways if n == number}
            for place, output in enumerate(plan.outputs):
                if output.status == "to do" and output.variant in mine:
                    self._items.setdefault(output.item)
                    self._slots.setdefault((number, output.item.key), []).append(Slot(number, place))
        self._news: deque[tuple[Unreadable, int]] = deque()
        self._at_work: dict[Slot, tuple[Seen, Pieces]] = {}
        self._remarks: deque[Note | Selected] = deque()
        self._looked: set[str | None] = set()
        self._remarked: set[tuple[str, Shape]] = set()
        self._told: set[str] = set()

    def make(self) -> Iterator[JobEvent]:
        """Read up to the first good input, have the networks loaded, and translate it with all that follow."""
        first = None
        for item in self._items:
            found = read_input(item, self._shapes, *_pictures_of(self._networks))
            if isinstance(found, Input):
                first = found
                break
            self._news.extend((found, number) for number in self._plans)
            yield from self._tell()
        if first is None:
            return
        start = time.perf_counter()
        facts = yield from self._job.workers.begin(self._networks, self._variants)
        seconds = time.perf_counter() - start
        yield Loaded(self._networks.model.name, facts.device, facts.precision, seconds)
        yield from self._translate(first, facts)

    def _translate(self, first: Input, facts: Facts) -> Iterator[JobEvent]:
        waiting = {slot for slots in self._slots.values() for slot in slots}
        planned = batches(self._plans, waiting.__contains__, facts.batch_size)
        make = partial(_prepared, shapes=self._shapes, networks=self._networks, facts=facts)
        depth = max(2 * facts.batch_size, 8)
        photos = any(shape.edit is not None for shape in self._shapes)  # of their own size: few in memory
        ahead, kept = (1, 0) if photos else (depth, HELD)
        with ExitStack() as stack:
            reader = stack.enter_context(Ahead(make, lambda item: item.key, ahead, kept))
            reader.put(first.item, first.fitted(facts.image_size, facts.multiple))
            writer: Behind[Saved | Unsaved] = stack.enter_context(Behind(depth, self._rescue))
            ready = filled(planned, self._wanted(planned, reader), self._settings)
            for event in stack.enter_context(closing(self._job.workers.carry_out(ready))):
                yield from self._tell()
                if isinstance(event, Made):
                    self._note_pace(event, facts)
                    writer.submit(self._writing(event, facts))
                elif isinstance(event, SampleFailed):
                    yield from self._sample_failed(event)
                else:
                    yield event
                for result in writer.results():
                    yield from self._job.finished(result)
            yield from self._tell()
            for result in writer.results(all_=True):
                yield from self._job.finished(result)

    def _note_pace(self, made: Made, facts: Facts) -> None:
        plan = self._plans[made.slot.plan]
        if self._job.paces is not None:
            self._job.paces.add(plan, plan.variants[self._job.output(made.slot).variant], made, facts)

    def _sample_failed(self, event: SampleFailed) -> Iterator[JobEvent]:
        slot = event.sample.key
        assert isinstance(slot, Slot)
        seen, _ = self._at_work.pop(slot)
        yield from self._job.failed([slot], seen, event.error, event.sample.sample)

    def _rescue(self, result: Saved | Unsaved) -> None:
        """Keep account of a result that was still being written when the run was stopped."""
        for event in self._job.finished(result):
            self._job.rescued(event)

    def _wanted(self, planned: Sequence[PlannedBatch], reader: Ahead[Item, Found]) -> Iterator[Wanted | None]:
        """What is made of the input of every slot; None where it cannot be read."""
        slots = [slot for batch in planned for slot in batch.slots]
        found = reader.each([self._job.output(slot).item for slot in slots])
        for slot, value in zip(slots, found, strict=True):
            if isinstance(value, Unreadable):
                self._news.append((value, slot.plan))
                yield None
            else:
                yield self._one(slot, value)

    def _settings(self, slot: Slot) -> Settings:
        return self._plans[slot.plan].variants[self._job.output(slot).variant].settings

    def _one(self, slot: Slot, value: Input) -> Wanted:
        output, settings = self._job.output(slot), self._settings(slot)
        shape = Shape.of(settings)
        pieces = value.pieces[shape]
        self._at_work[slot] = value.seen, pieces
        if (output.item.key, shape) not in self._remarked:
            self._remarked.add((output.item.key, shape))
            suffix = "" if output.path is None else output.path.suffix
            remarks = (*pieces.notes, *pieces.lost_in(suffix or ".png"))
            self._remarks.extend(Warned(text) for text in remarks if text not in self._told)
            self._told.update(remarks)
            if pieces.boxes:
                self._remarks.append(Selected(output.item.name, pieces.boxes))
            self._look(slot.plan, output.item.name, pieces)
        filmed, kept = output.gif is not None, output.noise is not None
        name, digest = output.item.name, value.seen.digest
        return Wanted(
            slot, name, pieces.parts, digest, output.sample, settings.seed, filmed=filmed, kept=kept
        )

    def _look(self, number: int, name: str, pieces: Pieces) -> None:
        """Remark, once for every target, that an input is not what it expects."""
        plan = self._plans[number]
        to = expecting(plan)
        if to not in self._looked and (note := unexpected(plan, name, pieces.parts[0].picture)):
            self._looked.add(to)
            self._remarks.append(note)

    def _tell(self) -> Iterator[JobEvent]:
        """Remarks, and failures, each once for every plan that wants the input."""
        while self._remarks:
            yield self._remarks.popleft()
        while self._news:
            found, number = self._news.popleft()
            if slots := self._slots.pop((number, found.item.key), None):
                yield from self._job.failed(slots, found.seen, found.error)

    def _writing(self, made: Made, facts: Facts) -> Callable[[], Saved | Unsaved]:
        """What a thread does with a result."""
        plan, output = self._plans[made.slot.plan], self._job.output(made.slot)
        seen, pieces = self._at_work.pop(made.slot)
        return partial(_write, plan, output, seen, pieces, made, facts)


def _pictures_of(networks: Networks) -> tuple[int | str | None, int]:
    """Size and channels of the pictures that they were trained on."""
    return networks.model.image_size, networks.model.channels


def _prepared(item: Item, shapes: Sequence[Shape], networks: Networks, facts: Facts) -> Found:
    found = read_input(item, shapes, *_pictures_of(networks))
    return found.fitted(facts.image_size, facts.multiple) if isinstance(found, Input) else found


def _write(
    plan: Plan, output: Output, seen: Seen, pieces: Pieces, made: Made, facts: Facts
) -> Saved | Unsaved:
    try:
        with stage("writing", output.item.name):
            return _saved(plan, output, seen, pieces, made, facts)
    except IlvrctlError as error:
        if is_shared(error):
            raise
        return Unsaved(made.slot, seen, error)


def _saved(plan: Plan, output: Output, seen: Seen, pieces: Pieces, made: Made, facts: Facts) -> Saved:
    """The result, then what stands beside it: so a result without that is known to be made halfway."""
    done = pieces.result(made.images)
    run = facts.run_with(plan.variants[output.variant].settings)
    record = result_record(plan, output, seen.digest, run, done.read, facts.class_count)
    written = Written(
        output.item.name,
        output.sample,
        output.path,
        made.seconds,
        image=done.image,
        record=record,
        changes=plan.changes(output),
        job=plan.name,
    )
    shown = None if plan.sheet is None else small(done.image)
    if output.path is None:
        data = encode_picture(done.image, "png", record, kept=done.kept)
        return Saved(made.slot, seen, replace(written, data=data), shown)
    make_folder(output.path.parent)
    save_picture(done.image, output.path, record=record, quality=plan.quality, kept=done.kept)
    extras = []
    if output.gif is not None:
        save_gif(list(made.frames) or [eight_bits(made.images[0])], output.gif)
        extras.append(Extra("gif", output.gif))
    if output.noise is not None and made.noise is not None:
        told = facts_for(plan, output, seen.digest, made.noise)
        Noise(told, encode_picture(pieces.parts[0].picture), made.noise).save(output.noise)
        extras.append(Extra("noise", output.noise))
    return Saved(made.slot, seen, written, shown, tuple(extras))
