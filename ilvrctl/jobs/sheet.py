"""The contact sheet of a job: a row an input, with what the method took from it and its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ilvrctl import __version__
from ilvrctl.errors import InputError
from ilvrctl.images.geometry import fit_picture, parse_color
from ilvrctl.images.io import open_picture, read_bytes
from ilvrctl.images.sheets import SheetRow, contact_sheet
from ilvrctl.images.tensors import to_image, to_tensor

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.jobs.inputs import Item
    from ilvrctl.jobs.outputs import Output
    from ilvrctl.jobs.plan import Plan

SHEET_ROWS = 96
"""Inputs on a sheet: more would make a picture that nobody can open."""

Samples = Mapping[int, "Image"]


def draw_sheet(plan: Plan, made: Mapping[str, Samples]) -> Image | None:
    """The sheet of the first inputs with results, ``made`` now (by key and sample number) or done before.

    None when there is no result at all.
    """
    outputs: dict[Item, list[Output]] = {}
    for output in plan.outputs:
        outputs.setdefault(output.item, []).append(output)
    samples = sorted({output.sample for output in plan.outputs})
    rows: list[SheetRow] = []
    for item, wanted in outputs.items():
        pictures = {**_done(wanted), **made.get(item.key, {})}
        if pictures and (row := _row(plan, item, pictures, samples)):
            rows.append(row)
        if len(rows) == SHEET_ROWS:
            break
    if not rows:
        return None
    titles = ["translated"] if len(samples) == 1 else [f"sample {n}" for n in samples]
    extra = [plan.settings.method.preview_title()] if len(rows[0].pictures) > len(samples) + 1 else []
    return contact_sheet(rows, ["input", *extra, *titles], _caption(plan, len(rows), len(outputs)))


def decode(item: Item, data: bytes, plan: Plan) -> Image:
    """The input as a picture of its own size; InputError when it is none."""
    return open_picture(data, item.name, background=parse_color(plan.settings.background))


def square(picture: Image, plan: Plan, size: int) -> Image:
    """The picture as the network gets it."""
    return fit_picture(picture, size, plan.settings.fit, parse_color(plan.settings.background))


def _done(outputs: Sequence[Output]) -> dict[int, Image]:
    """The results that were there already; one that has gone since is left out."""
    found = {}
    for output in outputs:
        if output.status == "done" and output.path is not None:
            try:
                found[output.sample] = open_picture(read_bytes(output.path), output.path.name)
            except InputError:
                continue
    return found


def _row(plan: Plan, item: Item, pictures: Samples, samples: Sequence[int]) -> SheetRow | None:
    """Input, preview and samples; None when the input has gone since."""
    size = next(iter(pictures.values())).width
    try:
        picture = square(decode(item, item.read(), plan), plan, size)
    except InputError:
        return None
    preview = plan.settings.method.preview(to_tensor(picture))
    low = [] if preview is None else [to_image(preview)]
    return SheetRow(item.stem.rpartition("/")[2], (picture, *low, *(pictures.get(n) for n in samples)))


def _caption(plan: Plan, shown: int, inputs: int) -> str:
    settings = plan.settings
    steps = settings.timestep_respacing or settings.steps
    some = "" if shown == inputs else f" · {shown} of {inputs} inputs"
    return (
        f"ilvrctl {__version__} · to {plan.target or plan.model.name} · {settings.method.describe()} · "
        f"{settings.sampler.name}, {steps} steps · seed {settings.seed}{some}"
    )
