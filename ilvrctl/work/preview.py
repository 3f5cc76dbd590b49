"""The preview of an edit: mask, regions and what is kept of the picture. No network, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilvrctl import __version__
from ilvrctl.diffusion.lowpass import filtered_plainly
from ilvrctl.images.decode import without_pillow_limit
from ilvrctl.images.overlay import filtered, overlay
from ilvrctl.images.sheets import SheetRow, contact_sheet
from ilvrctl.sizes import AnySize

if TYPE_CHECKING:
    from PIL.Image import Image

    from ilvrctl.settings import Settings
    from ilvrctl.work.edit import Selection

MOST = 8
"""Regions that are shown by themselves."""
CELL = 256


@without_pillow_limit()
def draw_preview(found: Selection, settings: Settings, size: AnySize) -> Image:
    """A sheet: the picture, its mask and its regions, then each region as a model of ``size`` pixels sees it, with
    its low frequencies, or whatever the method takes from it.
    """
    rows = [SheetRow("picture", (found.seen, overlay(found.seen, found.regions)))]
    phi = settings.method.seen(size)
    for n, region in enumerate(found.regions[:MOST], start=1):
        piece = region.cut(found.seen, size)
        kept = None if phi is None else filtered(piece, lambda c: filtered_plainly(c, *phi))
        rows.append(SheetRow(f"region {n}, {region.size} px", (piece, kept)))
    more = len(found.regions) - MOST
    notes = [f"ilvrctl {__version__}", settings.method.describe(), describe(found)]
    notes += [f"{more} more regions are not shown"] * (more > 0)
    return contact_sheet(rows, ["given", "edited; what is taken over"], " · ".join(notes), cell=CELL)


def describe(found: Selection) -> str:
    """In words: how much is edited, in how many regions of which sizes."""
    edited = sum(sum(r.mask.histogram()[1:]) for r in found.regions)
    part = min(1.0, edited / (found.photo.size[0] * found.photo.size[1]))
    sides = ", ".join(f"{region.size} px" for region in found.regions)
    count = "1 region" if len(found.regions) == 1 else f"{len(found.regions)} regions"
    return f"{count} of {sides}; {part:.1%} of the picture is edited"
