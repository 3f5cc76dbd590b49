"""What was drawn over a picture, as layers of it: painted in, made a mask, and shown on a screen."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from ilvrctl.errors import InputError
from ilvrctl.files import replacing
from ilvrctl.images.masks import binary, grown
from ilvrctl.images.photo import open_photo

LOSSLESS_PIXELS = 4_000_000
"""Larger pictures go to a screen as JPEG: as PNG they take seconds to encode."""
THUMBNAIL = 160
EDGE = 2
"""Pixels around paint where a scribble is still found (:func:`~ilvrctl.images.masks.difference`)."""


@dataclass(frozen=True)
class Layer:
    """A part of a drawing: its colours, and where it covers the picture (``cover``, mode L), from ``corner`` on."""

    colours: Image.Image
    cover: Image.Image
    corner: tuple[int, int]


def open_layer(data: bytes, corner: tuple[int, int], size: tuple[int, int]) -> Layer:
    """The layer in a picture file, within a picture of ``size`` pixels.

    InputError where it cannot be read, or does not lie within.
    """
    found = open_photo(data, "the drawing", max_pixels=size[0] * size[1])
    ends = (corner[0] + found.size[0], corner[1] + found.size[1])
    if min(corner) < 0 or ends[0] > size[0] or ends[1] > size[1]:
        raise InputError(
            f"the drawing reaches to {ends[0]} x {ends[1]}, and the picture has {size[0]} x {size[1]}"
        )
    return Layer(found.rgb, found.alpha or Image.new("L", found.size, 255), corner)


def blank(size: tuple[int, int]) -> Image.Image:
    """White paper."""
    return Image.new("RGB", size, (255, 255, 255))


def painted(picture: Image.Image, layer: Layer) -> Image.Image:
    """A copy of the picture with the layer over it."""
    copy = picture.copy()
    copy.paste(layer.colours, layer.corner, layer.cover)
    return copy


def marked(size: tuple[int, int], marks: Layer, paint: Layer | None) -> Image.Image:
    """A mask of ``size`` pixels: 255 where the marks cover more than half, or paint is near enough to be seen."""
    mask = Image.new("L", size, 0)
    if paint is not None:
        mask.paste(255, paint.corner, binary(paint.cover))
        mask = grown(mask, EDGE)
    mask.paste(255, marks.corner, binary(marks.cover))
    return mask


def save_quickly(picture: Image.Image, path: Path) -> None:
    """Write a PNG with little compression, all or nothing. OutputError when it cannot be written."""
    with replacing(path) as part:
        picture.save(part, "PNG", compress_level=1)


def for_screen(picture: Image.Image) -> tuple[bytes, str]:
    """The picture as a browser shows it, and its media type: without a loss unless it is large."""
    content = BytesIO()
    if picture.width * picture.height <= LOSSLESS_PIXELS:
        picture.save(content, "PNG", compress_level=1)
        return content.getvalue(), "image/png"
    picture.convert("RGB").save(content, "JPEG", quality=92, subsampling=0)
    return content.getvalue(), "image/jpeg"


def thumbnail(picture: Image.Image) -> bytes:
    """A small copy as PNG."""
    small, content = picture.copy(), BytesIO()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(content, "PNG")
    return content.getvalue()
