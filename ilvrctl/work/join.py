"""The results of all frames or pages of a file in one: an animation, or pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ilvrctl.errors import IlvrctlError, InputError, is_shared, stage
from ilvrctl.events import Extra, Warned
from ilvrctl.files import make_folder
from ilvrctl.images.io import open_picture, read_bytes, save_pages
from ilvrctl.images.load import Timing, timing_of
from ilvrctl.plans.record import joined_of, joined_record

if TYPE_CHECKING:
    from ilvrctl.plans.outputs import Output
    from ilvrctl.plans.plan import Plan


def write_joined(plan: Plan) -> Iterator[Extra | Warned]:
    """Write the files in which the results of all frames of an input are together, those that are not there already.

    One of which a result is missing is told, and left out; a shard leaves it to the last.
    """
    groups: dict[Path, list[Output]] = {}
    for output in plan.outputs:
        if output.joined is not None:
            groups.setdefault(output.joined, []).append(output)
    for path, outputs in groups.items():
        try:
            with stage("joining", str(path)):
                yield from _joined(plan, path, outputs)
        except IlvrctlError as error:
            if is_shared(error):
                raise
            yield Warned(f"{path} cannot be written: {error.message}")


def _joined(plan: Plan, path: Path, outputs: Sequence[Output]) -> Iterator[Extra | Warned]:
    found = [_result(output) for output in outputs]
    frames = [data for data in found if data is not None]
    if any(
        data is None and output.status == "elsewhere" for data, output in zip(found, outputs, strict=True)
    ):
        return  # other shards are at work
    if len(frames) < len(found):
        yield Warned(
            f"{path} is not written: {len(found) - len(frames)} of its {len(found)} results are missing"
        )
        return
    digest = sha256(b"".join(sha256(data).digest() for data in frames)).hexdigest()
    if joined_of(path) == digest:
        return
    pictures = [open_picture(data, str(path)) for data in frames]
    timing = _timing(outputs[0])
    record = joined_record(plan, outputs[0].variant, digest)
    make_folder(path.parent)
    save_pages(
        pictures,
        path,
        record=record,
        durations_ms=timing.durations_ms,
        plays=timing.plays,
        quality=plan.quality,
    )
    yield Extra("pages" if path.suffix == ".tiff" else "animation", path)


def _result(output: Output) -> bytes | None:
    """The bytes of a result; None where it is not there."""
    try:
        return None if output.path is None else read_bytes(output.path)
    except InputError:
        return None


def _timing(output: Output) -> Timing:
    """How the input's own frames follow each other; nothing of it where the input has gone since."""
    try:
        return timing_of(output.item.read(), output.item.name)
    except InputError:
        return Timing()
