"""Carry out a plan: read, translate, write, one event after the other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl import __version__
from ilvrctl.errors import IlvrctlError
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
from ilvrctl.images.geometry import fit_picture, parse_color
from ilvrctl.images.io import encode_picture, open_picture, save_gif, save_picture
from ilvrctl.images.sheets import SheetRow, contact_sheet
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.jobs.digest import sha256_hex
from ilvrctl.jobs.plan import Item, Output, Plan

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.engine import Engine, Reference

GIF_FRAMES = 48
SHEET_ROWS = 96


@dataclass(frozen=True)
class Extras:
    """What to make beside the results: a contact sheet, and an animation of every sample's denoising."""

    sheet: Path | None = None
    gif: bool = False


@dataclass
class _Job:
    """What is known of a running job: the inputs read so far, rows of the sheet, frames of the animations."""

    plan: Plan
    extras: Extras
    engine: Engine | None = None
    digests: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[str, Image]] = field(default_factory=dict)
    frames: dict[SampleId, list[Image]] = field(default_factory=dict)


def run(plan: Plan, load: Callable[[], Engine], extras: Extras | None = None) -> Iterator[JobEvent]:
    """Make what the plan still wants. ``load`` is called once, and only if there is something to make.

    A bad input is an ItemFailed event and the others go on; an output that cannot be written is raised as
    OutputError. Closing the iterator stops; what was written stays, and the same plan made again goes on.
    """
    job = _Job(plan, extras or Extras())
    for output in plan.outputs:
        if output.status == "done" and output.path is not None:
            yield Skipped(output.item.key, output.sample, output.path)
    if plan.todo:
        start = time.perf_counter()
        job.engine = load()
        yield Loaded(
            plan.weights.name, str(job.engine.device), job.engine.precision, time.perf_counter() - start
        )
        yield from _translate(job, job.engine)
    if job.extras.sheet is not None:
        yield from _sheet(job, job.extras.sheet)


def _translate(job: _Job, engine: Engine) -> Iterator[JobEvent]:
    outputs = {SampleId(o.item.key, o.sample): o for o in job.plan.todo}
    start, share = time.perf_counter(), 1
    for event in engine.translate(_references(job, engine.image_size), job.plan.settings):
        if isinstance(event, SampleDone):
            seconds = (time.perf_counter() - start) / share
            yield from _write(job, outputs[event.sample], event, seconds)
            continue
        if isinstance(event, BatchStarted):
            start, share = time.perf_counter(), len(event.samples)
            job.frames.clear()
        elif isinstance(event, StepDone) and job.extras.gif:
            _keep_frames(job, event)
        yield event


def _references(job: _Job, size: int) -> Iterator[Reference | ItemFailed]:
    from ilvrctl.engine import Reference

    samples: dict[str, list[int]] = {}
    items: dict[str, Item] = {}
    for output in job.plan.todo:
        items[output.item.key] = output.item
        samples.setdefault(output.item.key, []).append(output.sample)
    for key, item in items.items():
        try:
            data = item.read()
            picture = _square(item, data, job.plan, size)
        except IlvrctlError as error:
            yield ItemFailed(key, error)
            continue
        job.digests[key] = sha256_hex(data)
        yield Reference(key, to_tensor(picture), job.digests[key], tuple(samples[key]))


def _square(item: Item, data: bytes, plan: Plan, size: int) -> Image:
    background = parse_color(plan.settings.background)
    picture = open_picture(data, item.key, background=background)
    return fit_picture(picture, size, plan.settings.fit, background)


def _write(job: _Job, output: Output, event: SampleDone, seconds: float) -> Iterator[JobEvent]:
    image = to_image(event.x)
    record = json.dumps(_record(job, output), ensure_ascii=False, sort_keys=True)
    if output.path is None:
        yield Written(output.item.key, output.sample, None, seconds, encode_picture(image, "png", record))
    else:
        output.path.parent.mkdir(parents=True, exist_ok=True)
        save_picture(image, output.path, record=record)
        yield Written(output.item.key, output.sample, output.path, seconds)
        if frames := job.frames.pop(event.sample, None):
            animation = output.path.with_suffix(".gif")
            save_gif([*frames, _side_by_side(image, image)], animation)
            yield Extra("gif", animation)
    if job.extras.sheet is not None:
        _keep_row(job, output, image)


def _record(job: _Job, output: Output) -> dict[str, Any]:
    """What stands in the picture: enough to make it again, and no path or host name."""
    import torch

    plan, engine = job.plan, job.engine
    return {
        "ilvrctl": __version__,
        "target": plan.target,
        "settings": plan.settings.record(),
        "weights": {"name": plan.weights.name, "sha256": plan.weights.sha256},
        "identity": plan.identity,
        "input": {"name": Path(output.item.key).name, "sha256": job.digests[output.item.key]},
        "sample": output.sample,
        "run": {
            "device": engine.device.type if engine else "",
            "precision": engine.precision if engine else "",
            "torch": torch.__version__,
        },
    }


def _keep_frames(job: _Job, event: StepDone) -> None:
    every = -(-event.n // GIF_FRAMES)
    if event.i % every and event.i != event.n - 1:
        return
    for b, name in enumerate(event.samples):
        frame = _side_by_side(to_image(event.x[b]), to_image(event.x0[b]))
        job.frames.setdefault(name, []).append(frame)


def _side_by_side(left: Image, right: Image) -> Image:
    """The noisy sample and the clean estimate in one frame."""
    frame = left.resize((left.width * 2, left.height))
    frame.paste(left, (0, 0))
    frame.paste(right, (left.width, 0))
    return frame


def _keep_row(job: _Job, output: Output, image: Image) -> None:
    if output.item.key in job.rows or len(job.rows) < SHEET_ROWS:
        job.rows.setdefault(output.item.key, {})[f"sample {output.sample}"] = image


def _sheet(job: _Job, path: Path) -> Iterator[JobEvent]:
    """Input, what the method takes from it, and the samples: a row an input, done now or before."""
    plan = job.plan
    samples = sorted({output.sample for output in plan.outputs})
    rows = []
    items = list(dict.fromkeys(output.item for output in plan.outputs))
    for item in items[:SHEET_ROWS]:
        made = job.rows.get(item.key, {})
        for output in plan.outputs:
            if output.item is item and output.status == "done" and output.path is not None:
                made[f"sample {output.sample}"] = open_picture(output.path.read_bytes(), output.path.name)
        if not made:
            continue
        size = next(iter(made.values())).width
        picture = _square(item, item.read(), plan, size)
        preview = plan.settings.method.preview(to_tensor(picture))
        low = [] if preview is None else [to_image(preview)]
        pictures = (picture, *low, *(made.get(f"sample {n}") for n in samples))
        rows.append(SheetRow(Path(item.stem).name, pictures))
    if not rows:
        return
    columns = ["input", *([] if not low else [plan.settings.method.preview_title()]), *_sample_titles(samples)]
    save_picture(contact_sheet(rows, columns, _caption(plan, len(rows), len(items))), path)
    yield Extra("sheet", path)


def _sample_titles(samples: list[int]) -> list[str]:
    return ["translated"] if len(samples) == 1 else [f"sample {n}" for n in samples]


def _caption(plan: Plan, shown: int, inputs: int) -> str:
    settings = plan.settings
    steps = settings.timestep_respacing or settings.steps
    some = "" if shown == inputs else f" · {shown} of {inputs} inputs"
    return (
        f"ilvrctl {__version__} · to {plan.target or plan.weights.name} · {settings.method.describe()} · "
        f"{settings.sampler.name}, {steps} steps · seed {settings.seed}{some}"
    )
