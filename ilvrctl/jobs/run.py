"""Carry out a plan: read, translate, write, one event after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from ilvrctl.errors import InputError, UsageError
from ilvrctl.events import (
    BatchStarted,
    Extra,
    ItemFailed,
    JobEvent,
    Loaded,
    SampleDone,
    SampleId,
    Skipped,
    StepDone,
    Warned,
    Written,
)
from ilvrctl.images.io import encode_picture, save_gif, save_picture
from ilvrctl.images.tensors import to_image
from ilvrctl.jobs.canvas import Canvas, Shape
from ilvrctl.jobs.grid import naming
from ilvrctl.jobs.making import Making, piece_of, result_of
from ilvrctl.jobs.opening import Opened, open_input
from ilvrctl.jobs.outputs import make_folder
from ilvrctl.jobs.record import result_record, sheet_record
from ilvrctl.jobs.sheet import SHEET_ROWS, Cell, draw_sheet, small

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from ilvrctl.engine import Engine, Reference
    from ilvrctl.jobs.inputs import Item
    from ilvrctl.jobs.outputs import Output
    from ilvrctl.jobs.plan import Plan

GIF_FRAMES = 48
HELD = 64
"""Inputs of a grid that are kept in memory while all its variants translate them."""


@dataclass(frozen=True)
class _Input:
    """An input that was read, and the samples that each variant (by its number) wants of it.

    ``opened``, and once the network is known ``canvases``, by the way of fitting it to the network.
    """

    item: Item
    digest: str
    opened: Mapping[Shape, Opened]
    samples: Mapping[int, tuple[int, ...]]
    canvases: Mapping[Shape, Canvas] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """How many results there will not be if it fails."""
        return sum(map(len, self.samples.values()))

    def fitted(self, engine: Engine) -> _Input | ItemFailed:
        """With canvases for the engine's network, the pictures as they were let go of."""
        try:
            canvases = {shape: fit(engine.image_size, engine.multiple) for shape, fit in self.opened.items()}
        except (InputError, UsageError) as error:
            return ItemFailed(self.item.key, error, lost=self.lost)
        return replace(self, opened={}, canvases=canvases)


@dataclass
class _Job:
    """What is known of a running job: results in the making, by the input's key, pictures for the sheet, frames of
    animations.
    """

    plan: Plan
    making: dict[str, Making] = field(default_factory=dict)
    made: dict[str, dict[Cell, Image]] = field(default_factory=dict)
    frames: dict[SampleId, list[Image]] = field(default_factory=dict)


def run(plan: Plan, load: Callable[[], Engine]) -> Generator[JobEvent, None, None]:
    """Make what the plan still wants. ``load`` is called once, and only when an input could be read.

    A bad input is an ItemFailed event and the others go on; an output that cannot be written is raised as
    OutputError. Closing the iterator stops; what was written stays, and the same plan made again goes on.
    """
    job = _Job(plan)
    for output in plan.outputs:
        if output.status == "done" and output.path is not None:
            yield Skipped(output.item.name, output.sample, output.path, plan.changes(output))
    yield from _make(job, load)
    if plan.sheet is not None:
        yield from _write_sheet(job, plan.sheet)


def _make(job: _Job, load: Callable[[], Engine]) -> Iterator[JobEvent]:
    """Read the inputs up to the first good one, load, and translate it with all that follow.

    A grid takes some inputs at a time through all its variants, so that each is read once.
    """
    inputs = _read(job.plan)
    for first in inputs:
        if isinstance(first, ItemFailed):
            yield _named(job, first)
            continue
        start = time.perf_counter()
        engine = load()
        seconds = time.perf_counter() - start
        yield Loaded(job.plan.model.name, str(engine.device), engine.precision, seconds)
        _check(job.plan, engine)
        ready = _fitted(chain([first], inputs), engine)
        if not job.plan.grid:
            yield from _translate(job, engine, 0, ready)
        while job.plan.grid and (held := list(islice(ready, HELD))):
            yield from (_named(job, found) for found in held if isinstance(found, ItemFailed))
            good = [found for found in held if isinstance(found, _Input)]
            wanted = sorted({variant for found in good for variant in found.samples})
            for variant in wanted:
                yield from _translate(job, engine, variant, good)


def _check(plan: Plan, engine: Engine) -> None:
    """UsageError naming the variant when the network, now known, cannot do one of them: before any is begun."""
    for variant in plan.variants:
        try:
            engine.check(variant.settings)
        except UsageError as error:
            raise naming(variant.label, error) from None


def _read(plan: Plan) -> Iterator[_Input | ItemFailed]:
    """The inputs that have results to make, one at a time, in order."""
    wanted: dict[Item, dict[int, tuple[int, ...]]] = {}
    for output in plan.pending:
        samples = wanted.setdefault(output.item, {})
        samples[output.variant] = (*samples.get(output.variant, ()), output.sample)
    shapes = list(dict.fromkeys(Shape.of(variant.settings) for variant in plan.variants))
    for item, samples in wanted.items():
        try:
            contents = item.contents()
            opened = open_input(item, contents, shapes, plan.model.image_size)
        except (InputError, UsageError) as error:
            yield ItemFailed(item.key, error, lost=sum(map(len, samples.values())))
        else:
            yield _Input(item, contents.digest, opened, samples)


def _fitted(inputs: Iterable[_Input | ItemFailed], engine: Engine) -> Iterator[_Input | ItemFailed]:
    for found in inputs:
        yield found.fitted(engine) if isinstance(found, _Input) else found


def _translate(
    job: _Job, engine: Engine, variant: int, inputs: Iterable[_Input | ItemFailed]
) -> Iterator[JobEvent]:
    """Everything that the engine tells, with a file in the place of the samples of all pieces of a result."""
    outputs = {SampleId(o.item.key, o.sample): o for o in job.plan.pending if o.variant == variant}
    settings = job.plan.variants[variant].settings
    start, share, notes = time.perf_counter(), 1, deque[str]()
    references = _references(job, inputs, variant, notes)
    with closing(engine.translate(references, settings)) as events:
        for event in events:
            while notes:
                yield Warned(notes.popleft())
            if isinstance(event, SampleDone):
                seconds = (time.perf_counter() - start) / share
                yield from _gather(job, engine, outputs, event, seconds)
            elif isinstance(event, ItemFailed):
                yield from _failed(job, event, variant)
            elif isinstance(event, StepDone):
                _keep_frames(job, outputs, event)
                yield replace(event, samples=_results(event.samples))
            elif isinstance(event, BatchStarted):
                event = replace(event, samples=_results(event.samples))
                start, share = time.perf_counter(), len(event.samples)
                job.frames.clear()
                yield event
            else:
                yield event


def _references(
    job: _Job, inputs: Iterable[_Input | ItemFailed], variant: int, notes: deque[str]
) -> Iterator[Reference | ItemFailed]:
    """The pieces of every input; remarks about it go to ``notes``."""
    shape = Shape.of(job.plan.variants[variant].settings)
    for found in inputs:
        if isinstance(found, ItemFailed):
            yield found
        elif variant in found.samples:
            samples, key = found.samples[variant], found.item.key
            making = job.making[key] = Making(found.digest, found.canvases[shape], set(samples))
            notes.extend(making.canvas.notes)
            yield from making.references(key, samples)


def _results(samples: tuple[SampleId, ...]) -> tuple[SampleId, ...]:
    """The results that samples of pieces belong to, each once."""
    return tuple(dict.fromkeys(map(result_of, samples)))


def _failed(job: _Job, event: ItemFailed, variant: int) -> Iterator[ItemFailed]:
    """The failure, once for all pieces of a result."""
    if event.sample is None:
        yield _named(job, event, variant)
        return
    key = result_of(SampleId(event.key, event.sample)).key
    if job.making[key].give_up(event.sample):
        yield _named(job, replace(event, key=key), variant)


def _gather(
    job: _Job, engine: Engine, outputs: Mapping[SampleId, Output], event: SampleDone, seconds: float
) -> Iterator[JobEvent]:
    """Keep the sample of a piece; once all of them are there, the result is written."""
    name = result_of(event.sample)
    making = job.making[name.key]
    pieces = making.take(event.sample, event.x)
    if pieces is not None:
        yield from _write(job, engine, outputs[name], making, [to_image(x) for x in pieces], seconds)
    if not making.waiting:
        del job.making[name.key]


def _named(job: _Job, failed: ItemFailed, variant: int | None = None) -> ItemFailed:
    """The failure under the name that people know the input by; of one sample, with what it was made with."""
    name = next(o.item.name for o in job.plan.outputs if o.item.key == failed.key)
    changes = {} if variant is None or failed.sample is None else job.plan.variants[variant].changes
    return replace(failed, key=name, changes=changes)


def _write(
    job: _Job, engine: Engine, output: Output, making: Making, samples: Sequence[Image], seconds: float
) -> Iterator[JobEvent]:
    """The result, then its animation: so a result whose animation is missing is known to be made halfway."""
    done = making.canvas.result(samples)
    changes = job.plan.changes(output)
    record = result_record(job.plan, output, making.digest, _run_facts(engine))
    if output.path is None:
        data = encode_picture(done.image, "png", record, kept=done.kept)
        yield Written(output.item.name, output.sample, None, seconds, data, changes)
    else:
        make_folder(output.path.parent)
        save_picture(done.image, output.path, record=record, quality=job.plan.quality, kept=done.kept)
        yield Written(output.item.name, output.sample, output.path, seconds, changes=changes)
    if output.gif is not None:
        frames = job.frames.pop(SampleId(output.item.key, output.sample), [])
        save_gif([*frames, _side_by_side(samples[0], samples[0])], output.gif)
        yield Extra("gif", output.gif)
    made = job.made
    if job.plan.sheet is not None and (output.item.key in made or len(made) < SHEET_ROWS):
        made.setdefault(output.item.key, {})[output.variant, output.sample] = small(done.image)


def _run_facts(engine: Engine) -> dict[str, str]:
    import torch

    return {"device": engine.device.type, "precision": engine.precision, "torch": torch.__version__}


def _keep_frames(job: _Job, outputs: Mapping[SampleId, Output], event: StepDone) -> None:
    """Of results with several pieces the first shows."""
    every = -(-event.n // GIF_FRAMES)
    if event.i % every and event.i != event.n - 1:
        return
    for b, sample in enumerate(event.samples):
        name = result_of(sample)
        if outputs[name].gif is not None and piece_of(sample) == 0:
            frame = _side_by_side(to_image(event.x[b]), to_image(event.x0[b]))
            job.frames.setdefault(name, []).append(frame)


def _side_by_side(left: Image, right: Image) -> Image:
    """The noisy sample and the clean estimate in one frame."""
    frame = left.resize((left.width * 2, left.height))
    frame.paste(left, (0, 0))
    frame.paste(right, (left.width, 0))
    return frame


def _write_sheet(job: _Job, path: Path) -> Iterator[JobEvent]:
    sheet = draw_sheet(job.plan, job.made)
    if sheet is not None:
        make_folder(path.parent)
        save_picture(sheet, path, record=sheet_record(job.plan))
        yield Extra("sheet", path)
