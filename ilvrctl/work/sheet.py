"""The contact sheet of a job: a row an input, with what the method took from it and its samples.

That of a grid has a row for every sample of an input, and a column for every variant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ilvrctl import __version__
from ilvrctl.errors import InputError
from ilvrctl.events import Extra
from ilvrctl.files import make_folder
from ilvrctl.images.channels import eight_bits, in_channels
from ilvrctl.images.flatten import to_rgb
from ilvrctl.images.geometry import fit_picture, parse_color
from ilvrctl.images.io import open_picture, read_bytes, save_picture
from ilvrctl.images.sheets import SheetRow, contact_sheet
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.plans.places import exists
from ilvrctl.plans.record import sheet_record
from ilvrctl.sizes import Size
from ilvrctl.work.opening import decode

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.plans.inputs import Item
    from ilvrctl.plans.outputs import Output
    from ilvrctl.plans.plan import Plan
    from ilvrctl.settings import Settings

SHEET_ROWS = 96
"""Inputs on a sheet: more would make a picture that nobody can open."""

WHITE = (255, 255, 255)
SHOWN = 512
"""Pixels of the longer side of what waits for the sheet."""
Cell = tuple[int, int]
"""Where a result stands: the number of its variant, and of its sample."""
Cells = Mapping[Cell, "Image"]


class Gallery:
    """Results of a plan as they are made, for its sheet, if it has one: those of the first inputs that get any."""

    def __init__(self, plan: Plan) -> None:
        self._kept = plan.sheet is not None
        self.made: dict[str, dict[Cell, Image]] = {}

    def add(self, output: Output, image: Image) -> None:
        """Remember a result, when it can get onto the sheet."""
        key = output.item.key
        if self._kept and (key in self.made or len(self.made) < SHEET_ROWS):
            self.made.setdefault(key, {})[output.variant, output.sample] = image


def write_sheet(plan: Plan, gallery: Gallery) -> Iterator[Extra]:
    """Write the plan's sheet, if it has one and a result. A shard leaves it to the last when others are at work."""
    path = plan.sheet
    elsewhere = (output.path for output in plan.outputs if output.status == "elsewhere")
    if path is None or not all(place is not None and exists(place) for place in elsewhere):
        return
    sheet = draw_sheet(plan, gallery.made)
    if sheet is not None:
        make_folder(path.parent)
        save_picture(sheet, path, record=sheet_record(plan))
        yield Extra("sheet", path)


def draw_sheet(plan: Plan, made: Mapping[str, Cells]) -> Image | None:
    """The sheet of the first inputs with results, ``made`` now (by the input's key) or done before.

    None when there is no result at all.
    """
    outputs: dict[Item, list[Output]] = {}
    for output in plan.outputs:
        outputs.setdefault(output.item, []).append(output)
    draw = _grid_rows if plan.grid else _rows
    rows: list[SheetRow] = []
    titles: tuple[str, ...] = ()
    shown = 0
    for item, wanted in outputs.items():
        pictures = {**_done(wanted), **made.get(item.key, {})}
        if pictures and (lead := _lead(plan, item, pictures)):
            titles = tuple(lead)
            rows.extend(draw(plan, item, tuple(lead.values()), pictures))
            shown += 1
        if len(rows) >= SHEET_ROWS:
            break
    if not rows:
        return None
    some = "" if shown == len(outputs) else f"{shown} of {len(outputs)} inputs"
    return contact_sheet(rows, [*titles, *_titles(plan)], _caption(plan, some))


def small(picture: Image) -> Image:
    """A copy that is large enough for a sheet, so that no large one waits in memory for it."""
    copy = to_rgb(eight_bits(picture), WHITE)
    copy.thumbnail((SHOWN, SHOWN))
    return copy


def _samples(plan: Plan) -> list[int]:
    return sorted({output.sample for output in plan.outputs})


def _titles(plan: Plan) -> list[str]:
    """Of the columns with results."""
    if plan.grid:
        return [variant.label for variant in plan.variants]
    samples = _samples(plan)
    one = "edited" if plan.variants[0].settings.edit else "translated"
    return [one] if len(samples) == 1 else [f"sample {n}" for n in samples]


def _done(outputs: Sequence[Output]) -> dict[Cell, Image]:
    """The results that were there already; one that has gone since is left out."""
    found = {}
    for output in outputs:
        if output.status in ("done", "elsewhere") and output.path is not None:
            try:
                picture = small(open_picture(read_bytes(output.path), output.path.name))
            except InputError:
                continue
            found[output.variant, output.sample] = picture
    return found


def _lead(plan: Plan, item: Item, pictures: Cells) -> dict[str, Image]:
    """What stands before the results, by title: the input as the first variant's network gets it, and outside of a
    grid what the method takes from it; of an edit the photo and its scribbled copy. None when the input has gone.
    """
    settings = plan.variants[0].settings
    try:
        if settings.edit is not None:
            return {
                title: small(decode(one, one.read(), settings.background, settings.window).image)
                for title, one in (
                    ("given" if item.guide is None else "photo", item),
                    ("scribbled", item.guide),
                )
                if one is not None
            }
        found = decode(item, item.read(), settings.background, settings.window)
        ground, channels = parse_color(settings.background), plan.model.channels
        picture, _ = in_channels(found, item.name, channels, ground, grey=settings.grey)
    except InputError:
        return {}
    if settings.fit == "native":
        return {"input": small(picture)}
    trained = plan.model.picture_size or Size(*next(iter(pictures.values())).size)
    picture = fit_picture(picture, settings.size_for(trained), settings.fit, ground)
    preview = None if plan.grid else settings.method.preview(to_tensor(picture))
    shown = {"input": picture}
    if preview is not None:
        shown[settings.method.preview_title()] = to_image(preview, channels)
    return {title: small(one) for title, one in shown.items()}


def _rows(plan: Plan, item: Item, lead: tuple[Image, ...], pictures: Cells) -> list[SheetRow]:
    """Input, preview and samples in one row."""
    return [SheetRow(_label(item), (*lead, *(pictures.get((0, n)) for n in _samples(plan))))]


def _grid_rows(plan: Plan, item: Item, lead: tuple[Image, ...], pictures: Cells) -> list[SheetRow]:
    """Input and variants, a row a sample."""
    samples = _samples(plan)
    variants = range(len(plan.variants))
    return [
        SheetRow(
            _label(item) if len(samples) == 1 else f"{_label(item)}, sample {n}",
            (*lead, *(pictures.get((variant, n)) for variant in variants)),
        )
        for n in samples
    ]


def _label(item: Item) -> str:
    return item.stem.rpartition("/")[2]


def _caption(plan: Plan, some: str) -> str:
    """Release, target, and what all variants have in common."""
    shared = common([variant.settings for variant in plan.variants])
    parts = [f"ilvrctl {__version__}", plan.direction, *shared, some]
    return " · ".join(part for part in parts if part)


def common(every: Sequence[Settings]) -> list[str]:
    """Method, sampler with steps, and seed in words, as far as all settings agree on them."""

    def agreed(*facts: str) -> str:
        return facts[0] if len(set(facts)) == 1 else ""

    sampling = (
        agreed(*(s.sampler.name for s in every)),
        agreed(*(f"{s.timestep_respacing or s.steps} steps" for s in every)),
    )
    return [
        agreed(*(s.method.describe() for s in every)),
        ", ".join(fact for fact in sampling if fact),
        agreed(*(f"seed {s.seed}" for s in every)),
    ]
