"""``ilvrctl edit``: a photo and a scribbled copy in, the photo edited at its own size out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ilvrctl.cli.display import Display
from ilvrctl.cli.options import display_of, given_of, takes
from ilvrctl.cli.output import check_stdout, command, data, data_json, picture_on_stdin, say
from ilvrctl.errors import UsageError
from ilvrctl.plans.asked import asked_by_flags
from ilvrctl.sizes import Size

if TYPE_CHECKING:
    from ilvrctl.plans.plan import Plan
    from ilvrctl.work.edit import Selection

EPILOG = """Examples:

  ilvrctl edit photo.jpg scribbled.png --to face -o out.png

  ilvrctl edit photo.jpg --draw --to face         # in the browser

  ilvrctl edit photo.jpg scribbled.png --to face --preview preview.png

  ilvrctl edit photo.jpg --mask mask.png --to face --resample 10x3 -o out.jpg --quality 92

  ilvrctl edit photo.jpg scribbled.png --to face --whole -n 4 -o results/ --sheet sheet.png

  ilvrctl edit painting.png --mode paint --to face -o paintings/

  cat scribbled.png | ilvrctl edit photo.png - --to emoji3d -o - > out.png
"""


@command
@takes("edit")
def edit(
    options: Mapping[str, Any],
    photo: Annotated[str, typer.Argument(metavar="PHOTO|-", help="The picture to edit.")],
    scribbled: Annotated[
        str | None, typer.Argument(metavar="[SCRIBBLED|-]", help="A copy of it that was drawn on.")
    ] = None,
) -> None:
    """Edit a photo at its own size: scribble on a copy of it, and get it back clean.

    What differs is edited, in a square around each scribble; nothing else changes by a bit.

    A single picture is edited as a whole.
    """
    from ilvrctl.cli.fetching import fetching_shown
    from ilvrctl.cli.show import show_or_carry_out
    from ilvrctl.plans.inputs import STDIN
    from ilvrctl.plans.outputs import Destination
    from ilvrctl.plans.request import edit as editing

    if options["draw"]:
        _draw(photo, scribbled, options)
        return
    display = display_of(options)
    asked = asked_by_flags("edit", given_of(options))
    destination = Destination.asked(options["out"])
    if options["preview"] is None and not options["dry_run"]:
        check_stdout(destination.stdout, options["json"])
    pictures = photo, scribbled, options["mask"]
    if pictures.count(STDIN) > 1:
        raise UsageError("- can be read once", hint="give the other picture as a file")
    with fetching_shown(display, wanted=not options["dry_run"] and options["preview"] is None):
        plan = editing(asked, pictures, destination, stdin=picture_on_stdin([p for p in pictures if p]))
    if options["preview"] is not None:
        _preview(plan, options["preview"], display, overwrite=options["overwrite"])
        return
    show_or_carry_out(plan, options, display, before=_tell_selection)


def _draw(photo: str, scribbled: str | None, options: Mapping[str, Any]) -> None:
    from ilvrctl.cli.draw import serve

    if scribbled is not None:
        raise UsageError("--draw makes the scribbled copy itself", hint=f"ilvrctl edit {photo} --draw")
    serve(photo, options)


def _select(plan: Plan) -> Selection:
    from ilvrctl.images.regions import Edit
    from ilvrctl.work.edit import select

    item, settings, size = plan.outputs[0].item, plan.variants[0].settings, _size(plan)
    return select(item, item.contents(), settings.edit or Edit(), settings.background, size, settings.window)


def _size(plan: Plan) -> Size:
    """Of what the model sees of each region."""
    size = plan.variants[0].settings.picture_size or plan.model.image_size
    assert size is not None  # as the way of editing has asked
    return Size.of(size)


def _preview(plan: Plan, file: Path, display: Display, *, overwrite: bool) -> None:
    """Draw what would be edited."""
    from ilvrctl.files import make_folder
    from ilvrctl.images.io import save_picture
    from ilvrctl.plans.outputs import check_places
    from ilvrctl.plans.places import exists
    from ilvrctl.work.preview import describe, draw_preview

    check_places([file], plan.outputs[0].item.files)
    if exists(file) and not overwrite:
        raise UsageError(f"{file} is there already", hint="--overwrite, or another name")
    found = _select(plan)
    make_folder(file.parent)
    save_picture(draw_preview(found, plan.variants[0].settings, _size(plan)), file)
    _warn(found, display)
    if display.as_json:
        data_json({"event": "preview", "output": str(file), **_facts(found)})
        return
    data(str(file))
    if not display.quiet:
        say(describe(found))


def _tell_selection(plan: Plan, display: Display) -> int:
    """What of the photo would be edited; in how many parts."""
    from ilvrctl.work.preview import describe

    found = _select(plan)
    _warn(found, display)
    if display.as_json:
        data_json({"event": "selected", "input": plan.outputs[0].item.name, **_facts(found)})
    elif not display.quiet:
        say(describe(found))
    return len(found.regions)


def _warn(found: Selection, display: Display) -> None:
    for note in found.notes:
        say(note, label="warning", color=display.color)


def _facts(found: Selection) -> dict[str, object]:
    return {"size": list(found.photo.size), "regions": [list(region.box) for region in found.regions]}
