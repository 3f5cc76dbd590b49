"""What will be edited, drawn over a photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from ilvrctl.images.regions import Region

_INK = (255, 0, 128)
_STRENGTH = 150
_WIDEST = 768

Filter = Callable[[Sequence[Sequence[float]]], list[list[float]]]
"""A filter of one channel, rows of numbers."""


def overlay(picture: Image.Image, regions: Sequence[Region]) -> Image.Image:
    """A small copy of the picture with the masks coloured and the squares of the regions outlined."""
    shown = picture.convert("RGB")
    scale = min(1.0, _WIDEST / max(shown.size))
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    shown = shown.resize(size, Image.Resampling.BOX)
    for region in regions:
        left, top, right, bottom = (round(edge * scale) for edge in region.box)
        mask = region.mask.resize((right - left, bottom - top), Image.Resampling.BOX)
        shown.paste(_INK, (left, top, right, bottom), mask.point(lambda v: v * _STRENGTH // 255))
    draw = ImageDraw.Draw(shown)
    for region in regions:
        left, top, right, bottom = (round(edge * scale) for edge in region.box)
        draw.rectangle((left, top, right - 1, bottom - 1), outline=_INK, width=max(1, max(size) // 256))
    return shown


def filtered(picture: Image.Image, phi: Filter) -> Image.Image:
    """The picture with every channel filtered."""

    def channel(band: Image.Image) -> Image.Image:
        values, width = band.tobytes(), band.width
        rows = phi([values[start : start + width] for start in range(0, len(values), width)])
        flat = bytes(min(255, max(0, round(value))) for row in rows for value in row)
        return Image.frombytes("L", band.size, flat)

    return Image.merge("RGB", [channel(band) for band in picture.convert("RGB").split()])
