"""Carry out a plan: read, translate, write, one event after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
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
    Written,
)
from ilvrctl.images.io import encode_picture, save_gif, save_picture
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.jobs.digest import sha256_hex
from ilvrctl.jobs.grid import naming
from ilvrctl.jobs.outputs import make_folder
from ilvrctl.jobs.record import result_record, sheet_record
from ilvrctl.jobs.sheet import SHEET_ROWS, Cell, Shape, decode, draw_sheet, square

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

    ``pictures`` by the way of making them square: as they are at first, then square.
    """

    item: Item
    digest: str
    pictures: Mapping[Shape, Image]
    samples: Mapping[int, tuple[int, ...]]

    def squared(self, size: int) -> _Input:
        """With square pictures of ``size`` pixels."""
        return replace(self, pictures={shape: square(p, shape, size) for shape, p in self.pictures.items()})


@dataclass
class _Job:
    """What is known of a running job: digests of the inputs, pictures for the sheet, frames of animations."""

    plan: Plan
    digests: dict[str, str] = field(default_factory=dict)
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
        ready = _squared(chain([first], inputs), engine.image_size)
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
    shapes = {Shape.of(variant.settings) for variant in plan.variants}
    for item, samples in wanted.items():
        try:
            data = item.read()
            decoded = {ground: decode(item, data, ground) for ground in {s.background for s in shapes}}
        except InputError as error:
            yield ItemFailed(item.key, error, lost=sum(map(len, samples.values())))
        else:
            yield _Input(item, sha256_hex(data), {s: decoded[s.background] for s in shapes}, samples)


def _squared(inputs: Iterable[_Input | ItemFailed], size: int) -> Iterator[_Input | ItemFailed]:
    for found in inputs:
        yield found.squared(size) if isinstance(found, _Input) else found


def _translate(
    job: _Job, engine: Engine, variant: int, inputs: Iterable[_Input | ItemFailed]
) -> Iterator[JobEvent]:
    """Everything that the engine tells, with a file in the place of every finished sample."""
    outputs = {SampleId(o.item.key, o.sample): o for o in job.plan.pending if o.variant == variant}
    settings = job.plan.variants[variant].settings
    start, share = time.perf_counter(), 1
    references = _references(job, inputs, variant)
    with closing(engine.translate(references, settings)) as events:
        for event in events:
            if isinstance(event, SampleDone):
                seconds = (time.perf_counter() - start) / share
                yield from _write(job, engine, outputs[event.sample], event, seconds)
                continue
            if isinstance(event, BatchStarted):
                start, share = time.perf_counter(), len(event.samples)
                job.frames.clear()
            elif isinstance(event, StepDone):
                _keep_frames(job, outputs, event)
            if isinstance(event, ItemFailed):
                event = _named(job, event, variant)
            yield event


def _references(
    job: _Job, inputs: Iterable[_Input | ItemFailed], variant: int
) -> Iterator[Reference | ItemFailed]:
    from ilvrctl.engine import Reference

    shape = Shape.of(job.plan.variants[variant].settings)
    for found in inputs:
        if isinstance(found, ItemFailed):
            yield found
        elif variant in found.samples:
            key = found.item.key
            job.digests[key] = found.digest
            yield Reference(key, to_tensor(found.pictures[shape]), found.digest, found.samples[variant])


def _named(job: _Job, failed: ItemFailed, variant: int | None = None) -> ItemFailed:
    """The failure under the name that people know the input by; of one sample, with what it was made with."""
    name = next(o.item.name for o in job.plan.outputs if o.item.key == failed.key)
    changes = {} if variant is None or failed.sample is None else job.plan.variants[variant].changes
    return replace(failed, key=name, changes=changes)


def _write(
    job: _Job, engine: Engine, output: Output, event: SampleDone, seconds: float
) -> Iterator[JobEvent]:
    """The result, then its animation: so a result whose animation is missing is known to be made halfway."""
    image = to_image(event.x)
    changes = job.plan.changes(output)
    record = result_record(job.plan, output, job.digests[output.item.key], _run_facts(engine))
    if output.path is None:
        data = encode_picture(image, "png", record)
        yield Written(output.item.name, output.sample, None, seconds, data, changes)
    else:
        make_folder(output.path.parent)
        save_picture(image, output.path, record=record)
        yield Written(output.item.name, output.sample, output.path, seconds, changes=changes)
    if output.gif is not None:
        frames = job.frames.pop(event.sample, [])
        save_gif([*frames, _side_by_side(image, image)], output.gif)
        yield Extra("gif", output.gif)
    made = job.made
    if job.plan.sheet is not None and (output.item.key in made or len(made) < SHEET_ROWS):
        made.setdefault(output.item.key, {})[output.variant, output.sample] = image


def _run_facts(engine: Engine) -> dict[str, str]:
    import torch

    return {"device": engine.device.type, "precision": engine.precision, "torch": torch.__version__}


def _keep_frames(job: _Job, outputs: Mapping[SampleId, Output], event: StepDone) -> None:
    every = -(-event.n // GIF_FRAMES)
    if event.i % every and event.i != event.n - 1:
        return
    for b, name in enumerate(event.samples):
        if outputs[name].gif is not None:
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
