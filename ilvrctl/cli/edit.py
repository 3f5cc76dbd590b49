"""``ilvrctl edit``: a photo and a scribbled copy in, the photo edited at its own size out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ilvrctl.cli import edit_options as own
from ilvrctl.cli import options as opt
from ilvrctl.cli.display import Display
from ilvrctl.cli.making import check_stdout, given, loading, plan_for, settings_of, way_of
from ilvrctl.cli.output import command, data, data_json, say, use_color
from ilvrctl.cli.request import only_one, picture_on_stdin
from ilvrctl.cli.several import flag_choices, preset_choices, set_choices
from ilvrctl.cli.source import Asked, find_source
from ilvrctl.errors import UsageError
from ilvrctl.plans.grid import expand

if TYPE_CHECKING:
    from ilvrctl.plans.inputs import Item
    from ilvrctl.plans.outputs import Destination
    from ilvrctl.plans.plan import Plan
    from ilvrctl.work.edit import Selection

PAINTINGS = 4
"""Samples of a painting, where nobody says how many."""

EPILOG = """Examples:

  ilvrctl edit photo.jpg scribbled.png --to face -o out.png

  ilvrctl edit photo.jpg scribbled.png --to face --preview preview.png

  ilvrctl edit photo.jpg --mask mask.png --to face --resample 10x3 -o out.jpg --quality 92

  ilvrctl edit photo.jpg scribbled.png --to face --whole -n 4 -o results/ --sheet sheet.png

  ilvrctl edit painting.png --mode paint --to face -o paintings/

  cat scribbled.png | ilvrctl edit photo.png - --to emoji3d -o - > out.png
"""


@command
def edit(
    ctx: typer.Context,
    photo: Annotated[str, typer.Argument(metavar="PHOTO|-", help="The picture to edit.")],
    scribbled: Annotated[
        str | None, typer.Argument(metavar="[SCRIBBLED|-]", help="A copy of it that was drawn on.")
    ] = None,
    to: opt.To = None,
    out: opt.Out = "out",
    mode: own.Mode = "scribble",
    N: opt.Factor = None,
    samples: opt.Samples = None,
    steps: opt.Steps = None,
    speed: opt.Speed = None,
    seed: opt.Seed = None,
    sheet: opt.Sheet = None,
    preview: own.PreviewFile = None,
    mask: own.Mask = None,
    no_mask: own.NoMask = False,
    threshold: own.Threshold = None,
    grow: own.Grow = None,
    feather: own.Feather = None,
    context: own.ContextSize = None,
    whole: own.WholePicture = None,
    method: opt.MethodName = None,
    resample: opt.Resample = None,
    range_t: opt.RangeT = None,
    range_: opt.Range = None,
    kernel: opt.Kernel = None,
    blocks: opt.Blocks = None,
    start: opt.Start = None,
    repeats: opt.Repeats = None,
    preset: opt.Preset = None,
    set_: opt.Set = None,
    timestep_respacing: opt.Respacing = None,
    sampler: opt.SamplerName = None,
    eta: opt.Eta = None,
    variance: opt.VarianceName = None,
    clip: opt.Clip = None,
    class_label: opt.ClassLabel = None,
    background: opt.Background = None,
    device: opt.Device = "auto",
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = None,
    compile_: opt.Compile = None,
    weights: opt.WeightsFile = None,
    quality: opt.Quality = 95,
    gif: opt.Gif = False,
    overwrite: opt.Overwrite = False,
    from_image: opt.FromImage = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    color: opt.Color = "auto",
) -> None:
    """Edit a photo at its own size: scribble on a copy of it, and get it back clean.

    What differs is edited, in a square around each scribble; nothing else changes by a bit.

    A single picture is edited as a whole.
    """
    from ilvrctl.cli.carry_out import carry_out
    from ilvrctl.plans.outputs import Destination, outputs_of
    from ilvrctl.plans.plan import make_plan

    display = Display(as_json, quiet, verbose, use_color(color))
    only_one("--steps", steps, "--timestep-respacing", timestep_respacing, "how many steps there are")
    only_one("--range", range_, "--range-t", range_t, "what is conditioned")
    only_one("--samples", samples, "--from-image", from_image, "which samples are made")
    only_one("--mask", mask, "--no-mask", no_mask or None, "what is edited")
    flags = [
        *given(ctx.params),
        *flag_choices({"--no-mask": ("edit.mask", False if no_mask else None, None)}),
    ]
    assigned, facts = set_choices(set_ or ())
    destination = Destination.parse(out)
    if preview is None and not dry_run:
        check_stdout(destination, as_json)
    source = find_source(Asked(to, weights, from_image, facts=facts))
    masked = not no_mask and (scribbled is not None or mask is not None)
    if source.samples and not source.settings.values.get("edit"):
        raise UsageError(
            "the picture was not made by ilvrctl edit", hint="ilvrctl translate --from-image FILE"
        )
    way = None if source.samples else way_of(source, mode, masked=masked)
    variants = expand(
        [*preset_choices(preset), *flags, *assigned], lambda picked: settings_of(source, picked, way)
    )
    item = _item(photo, scribbled, mask)
    numbers = source.samples or _numbers(samples, mode, destination)
    outputs = outputs_of([item], numbers, destination, gif=gif, folders=[v.folder for v in variants])
    sheet = sheet or _sheet(destination, mode, grid=len(variants) > 1)
    plan = plan_for(source, variants, outputs, display, sheet=sheet, quality=quality)
    if preview is not None:
        _preview(plan, item, preview, display, overwrite=overwrite)
        return
    plan = make_plan(plan, overwrite=overwrite)
    if dry_run:
        _dry_run(plan, item, display)
        return

    carry_out(plan, loading(plan, device, batch_size, compile_, display), display)


def _item(photo: str, scribbled: str | None, mask: str | None) -> Item:
    """The photo with its companions, of which one may come from standard input."""
    from ilvrctl.plans.inputs import STDIN, Item, one_picture

    names = [name for name in (photo, scribbled, mask) if name is not None]
    if names.count(STDIN) > 1:
        raise UsageError("- can be read once", hint="give the other picture as a file")
    stdin = picture_on_stdin(names)
    first, *others = (None if name is None else one_picture(name, stdin) for name in (photo, scribbled, mask))
    assert isinstance(first, Item)
    return replace(first, guide=others[0], mask=others[1])


def _numbers(samples: int | None, mode: str, destination: Destination) -> tuple[int, ...]:
    """The numbers of the samples: of a painting several, where they have room."""
    usual = PAINTINGS if mode == "paint" and not destination.stdout else 1
    return tuple(range(1, (samples or usual) + 1))


def _sheet(destination: Destination, mode: str, *, grid: bool) -> Path | None:
    """Where the sheet goes that nobody asked for: one of paintings, or of a grid."""
    if mode == "scribble" and not grid:
        return None
    if destination.folder is not None:
        return destination.folder / "sheet.png"
    file = destination.file
    return None if file is None else file.with_name(f"{file.stem}_sheet.png")


def _select(plan: Plan, item: Item) -> Selection:
    from ilvrctl.images.regions import Edit
    from ilvrctl.work.edit import select

    settings = plan.variants[0].settings
    size = plan.model.image_size
    assert size is not None
    return select(item, item.contents(), settings.edit or Edit(), settings.background, size, settings.window)


def _preview(plan: Plan, item: Item, file: Path, display: Display, *, overwrite: bool) -> None:
    """Draw what would be edited."""
    from ilvrctl.images.io import save_picture
    from ilvrctl.plans.outputs import check_places, make_folder
    from ilvrctl.plans.places import exists
    from ilvrctl.work.preview import describe, draw_preview

    check_places([file], item.files)
    if exists(file) and not overwrite:
        raise UsageError(f"{file} is there already", hint="--overwrite, or another name")
    found = _select(plan, item)
    make_folder(file.parent)
    save_picture(draw_preview(found, plan.variants[0].settings, plan.model.image_size or 0), file)
    _tell_selection(found, display)
    if display.as_json:
        data_json({"event": "preview", "output": str(file), **_facts(found)})
        return
    data(str(file))
    if not display.quiet:
        say(describe(found))


def _dry_run(plan: Plan, item: Item, display: Display) -> None:
    """The plan, and what of the photo would be edited."""
    from ilvrctl.cli.carry_out import show_plan
    from ilvrctl.work.preview import describe

    found = _select(plan, item)
    _tell_selection(found, display)
    if display.as_json:
        data_json({"event": "selected", "input": item.name, **_facts(found)})
    elif not display.quiet:
        say(describe(found))
    show_plan(plan, display)


def _tell_selection(found: Selection, display: Display) -> None:
    for note in found.notes:
        say(note, label="warning", color=display.color)


def _facts(found: Selection) -> dict[str, object]:
    return {"size": list(found.photo.size), "regions": [list(region.box) for region in found.regions]}
