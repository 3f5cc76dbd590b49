"""From what is asked for to a plan: a translation, or an edit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ilvrctl import paths
from ilvrctl.errors import UsageError
from ilvrctl.events import Note, Noted
from ilvrctl.images.io import PICTURE_SUFFIXES
from ilvrctl.memory import remembering
from ilvrctl.plans.asked import Asked
from ilvrctl.plans.check import draft_plan
from ilvrctl.plans.edit_modes import PAINTINGS, way_of
from ilvrctl.plans.find_networks import FoundNetworks, NetworksAsked, find_networks
from ilvrctl.plans.grid import Variant
from ilvrctl.plans.inputs import FRAMES, STDIN, Item, collect, one_picture
from ilvrctl.plans.names import name_results
from ilvrctl.plans.noises import FROM_NOISE, items_in
from ilvrctl.plans.outputs import FORMATS, Destination, Output, numbers_to, outputs_of, suffix_of
from ilvrctl.plans.plan import Plan
from ilvrctl.plans.record import made_from

LOOKED_AT = 64
"""Results whose targets are looked at."""


@remembering()
def translation(
    asked: Asked,
    inputs: Sequence[str | Item],
    destination: Destination,
    *,
    stdin: bytes | None = None,
    networks: FoundNetworks | None = None,
) -> Plan:
    """The plan of a translation of pictures and folders, nothing checked yet; ``stdin``: the input ``-``.
    ``networks``: where they are known already.

    UsageError for what cannot be meant, WeightsError for weights that are not here.
    """
    value, examples = asked.values.get, bool(asked.values.get("examples"))
    named = value("to") or value("weights") or value("from_image")
    networks = networks or _networks(asked, "emoji3d" if examples and not named else value("to"))
    if networks.samples and networks.settings.values.get("edit"):
        raise UsageError(
            f"{value('from_image')} was made by ilvrctl edit", hint="ilvrctl edit ... --from-image FILE"
        )
    noise = _noise(asked, inputs, examples=examples)
    variants = asked.variants(networks, None if noise is None else FROM_NOISE)
    destination, notes = apart(destination, networks)
    sheet = _sheet(asked, destination, any(variant.folder for variant in variants))
    own = (destination.folder, destination.file, sheet)
    found = collect(
        noise or [*inputs, *([str(paths.EXAMPLES)] if examples else [])],
        recursive=bool(value("recursive")),
        stdin=stdin,
        outputs=[path for path in own if path is not None],
        frames=value("frames") or FRAMES[0],
    )
    numbers = networks.samples or numbers_to(value("samples") or 1)
    outputs = _outputs(asked, found.items, numbers, destination, variants)
    quality = value("quality") or 95
    return draft_plan(
        networks, variants, outputs, sheet=sheet, quality=quality, passed_by=found.passed_by, notes=notes
    )


def translator(asked: Asked, destination: Destination) -> Callable[[Sequence[Item]], Plan]:
    """What makes plans, nothing checked yet, of inputs that are not known yet: without a contact sheet."""
    value = asked.values.get
    networks = _networks(asked, value("to"))
    variants = asked.variants(networks)
    destination, notes = apart(destination, networks)
    numbers = networks.samples or numbers_to(value("samples") or 1)

    def plan_of(items: Sequence[Item]) -> Plan:
        outputs = _outputs(asked, items, numbers, destination, variants)
        return draft_plan(networks, variants, outputs, quality=value("quality") or 95, notes=notes)

    return plan_of


@remembering()
def edit(
    asked: Asked,
    pictures: tuple[str | Item, str | Item | None, str | Item | None],
    destination: Destination,
    *,
    stdin: bytes | None = None,
    networks: FoundNetworks | None = None,
) -> Plan:
    """The plan of an edit, nothing checked yet. ``pictures``: the photo, its scribbled copy, and a mask.
    ``networks``: where they are known already.

    UsageError for what cannot be meant, WeightsError for weights that are not here.
    """
    value, mode = asked.values.get, asked.values.get("mode") or "scribble"
    networks = networks or _networks(asked, value("to"))
    if networks.samples and not networks.settings.values.get("edit"):
        raise UsageError(
            "the picture was not made by ilvrctl edit", hint="ilvrctl translate --from-image FILE"
        )
    everything = any(choice.key == "edit.mask" for choice in asked.choices)
    masked = not everything and any(picture is not None for picture in pictures[1:])
    way = None if networks.samples else way_of(networks.target, mode, asked.choices, masked=masked)
    variants = asked.variants(networks, way)
    destination, notes = apart(destination, networks)
    photo, guide, mask = (None if one is None else _item(one, stdin) for one in pictures)
    assert photo is not None
    item = replace(photo, guide=guide, mask=mask)
    usual = PAINTINGS if mode == "paint" and not destination.stdout else 1
    numbers = networks.samples or numbers_to(value("samples") or usual)
    outputs = _outputs(asked, [item], numbers, destination, variants)
    sheet = _sheet(asked, destination, mode != "scribble" or any(variant.folder for variant in variants))
    return draft_plan(networks, variants, outputs, sheet=sheet, quality=value("quality") or 95, notes=notes)


def apart(destination: Destination, networks: FoundNetworks) -> tuple[Destination, tuple[Note, ...]]:
    """The destination; where it is the usual folder, and that holds results of other targets but none of this one, a
    folder of the target below it, which is told.

    So results of two targets do not mix, and what was made before is known where it is.
    """
    folder, to = destination.folder, networks.target.domain or networks.target.model.name
    if not destination.usual or folder is None or not folder.is_dir():
        return destination, ()
    with os.scandir(folder) as listing:
        names = sorted(entry.name for entry in listing if entry.name.lower().endswith((*PICTURE_SUFFIXES,)))
    found = {made.to for name in names[:LOOKED_AT] if (made := made_from(folder / name)) is not None}
    if not found or to in found:
        return destination, ()
    others = ", ".join(sorted(found))
    note = Noted(f"{folder} holds results of {others}: those of {to} go to {folder / to}; -o chooses another")
    return replace(destination, folder=folder / to), (note,)


def _networks(asked: Asked, to: str | None) -> FoundNetworks:
    value: Any = asked.values.get
    weights, from_image, encoder = (_path(value(name)) for name in ("weights", "from_image", "from_weights"))
    return find_networks(NetworksAsked(to, weights, from_image, value("from"), encoder, asked.facts))


def _noise(asked: Asked, inputs: Sequence[str | Item], *, examples: bool) -> tuple[Item, ...] | None:
    """The noises to start from, in the place of inputs; None where none are meant. UsageError for both."""
    if (place := _path(asked.values.get("from_noise"))) is not None:
        if inputs or examples:
            raise UsageError("--from-noise brings its own pictures", hint="leave out the inputs")
        return items_in(place, recursive=bool(asked.values.get("recursive")))
    items = [item for item in inputs if isinstance(item, Item) and item.noise]
    return tuple(items) or None


def _sheet(asked: Asked, destination: Destination, wanted: bool) -> Path | None:
    """The contact sheet that is asked for, or stands beside the results where one is ``wanted`` anyhow."""
    given = _path(asked.values.get("sheet"))
    return destination.beside("sheet") if given is None and wanted else given


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)


def _outputs(
    asked: Asked,
    items: Sequence[Item],
    numbers: Sequence[int],
    destination: Destination,
    variants: Sequence[Variant],
) -> list[Output]:
    """The results, in the format and with the names that they have in a folder."""
    folders = [variant.folder for variant in variants]
    destination = replace(destination, suffix=suffix_of(asked.values.get("ext") or FORMATS[0]))
    named = name_results(items, destination, numbers, folders)
    beside = {"gif": bool(asked.values.get("gif")), "noise": bool(asked.values.get("save_noise"))}
    join = asked.values.get("join")
    return outputs_of(named, numbers, destination, folders=folders, join=join, **beside)


def _item(picture: str | Item, stdin: bytes | None) -> Item:
    return picture if isinstance(picture, Item) else one_picture(picture, stdin if picture == STDIN else None)
