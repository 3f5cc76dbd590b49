"""Pictures in as many channels as a network has: grey, colours, or colours and their opacity.

Grey pictures are in Pillow's mode F, from 0 to 255, so that those of 16 bits keep them; the others in RGB and RGBA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from ilvrctl.errors import InputError
from ilvrctl.images.flatten import Seen
from ilvrctl.images.tiff import can_read_all

if TYPE_CHECKING:
    from ilvrctl.images.io import Picture

_SAME = 1
"""Colours whose red, green and blue differ by no more are grey: so much do profiles round."""
LUMA = "luma of Rec. 601"
"""How colours become grey, for the record."""


def in_channels(
    found: Picture, name: str, channels: int, background: tuple[int, int, int], *, grey: bool
) -> tuple[Image.Image, Mapping[str, str]]:
    """What was read for a network of so many channels, and how, for the record.

    Transparency is composed on ``background`` where there is no channel for it. ``grey``: a coloured picture is
    taken by its luma, where grey is wanted; else it is an InputError.
    """
    if channels == 3 or found.seen is None:
        return found.image, found.read
    if channels == 4:
        return with_opacity(found.seen.rgb, found.seen.alpha), found.read
    if (fine := _fine(found.seen)) is not None:
        return fine, found.read
    if is_grey(found.image):
        return found.image.getchannel(1).convert("F"), found.read
    if not grey:
        raise InputError(
            f"{name} is a coloured picture, and the network makes grey ones",
            "--fit grey takes its luma (pad+grey, stretch+grey and native+grey too)",
        )
    return found.image.convert("L").convert("F"), {**found.read, "grey": LUMA}


def with_opacity(rgb: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """An RGB picture in RGBA; ``alpha`` None: all of it is opaque."""
    image = rgb.copy()
    image.putalpha(alpha if alpha is not None else 255)
    return image


def is_grey(image: Image.Image) -> bool:
    """Whether an RGB picture has no colours."""
    red, green, blue = image.split()
    apart = ImageChops.lighter(*(ImageChops.difference(green, other) for other in (red, blue)))
    return apart.point(lambda v: 255 if v > _SAME else 0).getbbox() is None


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits, or of mode F, in 8; others as they are."""
    if image.mode == "I;16":
        image = in_floats(image)
    return image.point(lambda v: v * 1 + 0.5).convert("L") if image.mode == "F" else image


def in_floats(image: Image.Image) -> Image.Image:
    """A grey picture of 8 or 16 bits in mode F, 0 to 255."""
    if image.mode == "I;16":
        return image.convert("I").convert("F").point(lambda v: v * (1 / 257) + 0.0)
    return image.convert("L").convert("F")


def as_stored(found: Picture, channels: int) -> Image.Image:
    """What was read in the mode that results of so many channels have: L or I;16, RGB, or RGBA."""
    image, _ = in_channels(found, "", channels, (255, 255, 255), grey=True)
    if channels == 1 and found.seen is not None and found.seen.deep is not None:
        return image.point(lambda v: v * 257 + 0.5).convert("I").convert("I;16")
    return eight_bits(image)


def _fine(seen: Seen) -> Image.Image | None:
    """A deep grey picture with all its bits; None for others, and for those with an opacity."""
    deep, levels = seen.deep, seen.levels
    if deep is None or levels is None or deep.model != "grey" or seen.alpha is not None:
        return None
    if seen.profile is None:
        return deep.grey(levels)
    if not can_read_all():
        return None
    array = seen.profile.deep_to_srgb(deep.paintable().sixteen(levels))
    return Image.fromarray(array[..., 1].astype("float32") / 257)
