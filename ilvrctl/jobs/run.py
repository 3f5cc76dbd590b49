"""Carry out a plan: read, translate, write, one event after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

from ilvrctl.errors import InputError
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
from ilvrctl.jobs.outputs import make_folder
from ilvrctl.jobs.record import result_record, sheet_record
from ilvrctl.jobs.sheet import SHEET_ROWS, decode, draw_sheet, square

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from ilvrctl.engine import Engine, Reference
    from ilvrctl.jobs.inputs import Item
    from ilvrctl.jobs.outputs import Output
    from ilvrctl.jobs.plan import Plan

GIF_FRAMES = 48


@dataclass(frozen=True)
class _Input:
    """An input that was read: the picture as it is, not yet square, and the samples that are wanted of it."""

    item: Item
    digest: str
    picture: Image
    samples: tuple[int, ...]


@dataclass
class _Job:
    """What is known of a running job: digests of the inputs, pictures for the sheet, frames of animations."""

    plan: Plan
    digests: dict[str, str] = field(default_factory=dict)
    made: dict[str, dict[int, Image]] = field(default_factory=dict)
    frames: dict[SampleId, list[Image]] = field(default_factory=dict)


def run(plan: Plan, load: Callable[[], Engine]) -> Generator[JobEvent, None, None]:
    """Make what the plan still wants. ``load`` is called once, and only when an input could be read.

    A bad input is an ItemFailed event and the others go on; an output that cannot be written is raised as
    OutputError. Closing the iterator stops; what was written stays, and the same plan made again goes on.
    """
    job = _Job(plan)
    for output in plan.outputs:
        if output.status == "done" and output.path is not None:
            yield Skipped(output.item.name, output.sample, output.path)
    yield from _make(job, load)
    if plan.sheet is not None:
        yield from _write_sheet(job, plan.sheet)


def _make(job: _Job, load: Callable[[], Engine]) -> Iterator[JobEvent]:
    """Read the inputs up to the first good one, load, and translate it with all that follow."""
    inputs = _read(job.plan)
    for first in inputs:
        if isinstance(first, ItemFailed):
            yield _named(job, first)
            continue
        start = time.perf_counter()
        engine = load()
        seconds = time.perf_counter() - start
        yield Loaded(job.plan.model.name, str(engine.device), engine.precision, seconds)
        yield from _translate(job, engine, chain([first], inputs))


def _read(plan: Plan) -> Iterator[_Input | ItemFailed]:
    """The inputs that have results to make, one at a time, in order."""
    wanted: dict[Item, list[int]] = {}
    for output in plan.pending:
        wanted.setdefault(output.item, []).append(output.sample)
    for item, samples in wanted.items():
        try:
            data = item.read()
            picture = decode(item, data, plan)
        except InputError as error:
            yield ItemFailed(item.key, error, lost=len(samples))
        else:
            yield _Input(item, sha256_hex(data), picture, tuple(samples))


def _translate(job: _Job, engine: Engine, inputs: Iterable[_Input | ItemFailed]) -> Iterator[JobEvent]:
    """Everything that the engine tells, with a file in the place of every finished sample."""
    outputs = {SampleId(o.item.key, o.sample): o for o in job.plan.pending}
    start, share = time.perf_counter(), 1
    references = _references(job, inputs, engine.image_size)
    with closing(engine.translate(references, job.plan.settings)) as events:
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
            yield _named(job, event) if isinstance(event, ItemFailed) else event


def _references(
    job: _Job, inputs: Iterable[_Input | ItemFailed], size: int
) -> Iterator[Reference | ItemFailed]:
    from ilvrctl.engine import Reference

    for found in inputs:
        if isinstance(found, ItemFailed):
            yield found
        else:
            key = found.item.key
            job.digests[key] = found.digest
            picture = square(found.picture, job.plan, size)
            yield Reference(key, to_tensor(picture), found.digest, found.samples)


def _named(job: _Job, failed: ItemFailed) -> ItemFailed:
    """The failure under the name that people know the input by."""
    return replace(failed, key=next(o.item.name for o in job.plan.outputs if o.item.key == failed.key))


def _write(
    job: _Job, engine: Engine, output: Output, event: SampleDone, seconds: float
) -> Iterator[JobEvent]:
    """The result, then its animation: so a result whose animation is missing is known to be made halfway."""
    image = to_image(event.x)
    record = result_record(job.plan, output, job.digests[output.item.key], _run_facts(engine))
    if output.path is None:
        data = encode_picture(image, "png", record)
        yield Written(output.item.name, output.sample, None, seconds, data)
    else:
        make_folder(output.path.parent)
        save_picture(image, output.path, record=record)
        yield Written(output.item.name, output.sample, output.path, seconds)
    if output.gif is not None:
        frames = job.frames.pop(event.sample, [])
        save_gif([*frames, _side_by_side(image, image)], output.gif)
        yield Extra("gif", output.gif)
    made = job.made
    if job.plan.sheet is not None and (output.item.key in made or len(made) < SHEET_ROWS):
        made.setdefault(output.item.key, {})[output.sample] = image


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
