"""Fit a picture of any shape to that which the model works on."""

from __future__ import annotations

from PIL import Image, ImageChops, ImageColor

from ilvrctl.errors import UsageError, did_you_mean
from ilvrctl.sizes import LARGEST, AnySize, Size

FITS = ("crop", "pad", "stretch")
"""How a picture gets the shape: the centre of it, the whole on a background, or out of shape."""


def fit_picture(image: Image.Image, size: AnySize, fit: str, background: tuple[int, int, int]) -> Image.Image:
    """The picture at ``size``, in RGB, RGBA or F (grey); one of that size already is returned as it is.

    ``fit``: "crop" keeps the largest part of that shape around the centre, "pad" the whole picture, centred on
    ``background`` (0 to 255 each; transparent in RGBA), "stretch" ignores the aspect ratio. Resampling is
    antialiased (Lanczos).
    Raises UsageError for an unknown ``fit`` or a ``size`` below 1.
    """
    if fit not in FITS:
        raise UsageError(f"unknown fit {fit!r}; known are {', '.join(FITS)}", did_you_mean(fit, FITS))
    if size in range(-LARGEST, 1):
        raise UsageError(f"the size of a picture must be at least 1 pixel, not {size}")
    wanted = Size.of(size)
    if image.mode not in ("RGB", "RGBA", "F"):
        image = image.convert("RGB")
    if image.size == wanted:
        return image
    if fit == "pad":
        return _padded(image, wanted, background)
    return _resized(_centre(image, wanted) if fit == "crop" else image, *wanted)


def on_white(image: Image.Image) -> bool:
    """Whether most of the picture's edge is white, as of a drawing on an empty page: the share of the pixels within a
    twentieth of the sides that have no channel below 240 is at least a half.
    """
    small = image.convert("RGB").resize((64, 64), Image.Resampling.BOX)
    inner = small.crop((3, 3, 61, 61))
    white = [_white(whole) for whole in (small, inner)]
    return white[0] - white[1] >= (64 * 64 - 58 * 58) / 2


def _white(image: Image.Image) -> int:
    """How many of its pixels are nearly white."""
    channels = [channel.point(lambda v: 255 * (v >= 240)) for channel in image.split()]
    return ImageChops.darker(ImageChops.darker(*channels[:2]), channels[2]).histogram()[255]


def resized_bicubic(image: Image.Image, size: int) -> Image.Image:
    """The square RGB picture at ``size`` x ``size``, by Pillow's antialiased bicubic; as it is if of that size."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)


def thumbnail(image: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side at most ``side`` pixels; never enlarged."""
    scale = min(1.0, side / max(image.size))
    return _resized(image, *(max(1, round(length * scale)) for length in image.size))


def parse_color(text: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour name ("white") or code ("#f2f2f2", "rgb(9,9,9)").

    Raises UsageError when ``text`` is no opaque colour.
    """
    hint = "a name such as white, or a code such as '#f2f2f2'"
    try:
        red, green, blue, *alpha = ImageColor.getrgb(text.strip())
    except ValueError as error:
        close = did_you_mean(text.lower(), ImageColor.colormap)
        raise UsageError(f"{text!r} is not a colour", close or hint) from error
    if max(red, green, blue) > 255:
        raise UsageError(f"{text!r} is not a colour: red, green and blue go from 0 to 255", hint)
    if alpha not in ([], [255]):
        raise UsageError(f"{text!r} is transparent, and the background must be opaque", hint)
    return red, green, blue


def _centre(image: Image.Image, shape: Size) -> Image.Image:
    """The largest part of that shape around the centre; pasting does what crop() does, without its own pixel limit."""
    scale = min(image.width / shape.width, image.height / shape.height)
    width, height = (max(1, round(side * scale)) for side in shape)
    part = Image.new(image.mode, (width, height))
    part.paste(image, (-((image.width - width) // 2), -((image.height - height) // 2)))
    return part


def _padded(image: Image.Image, size: Size, background: tuple[int, int, int]) -> Image.Image:
    """The whole picture in the middle of the colour ``background``."""
    scale = min(size.width / image.width, size.height / image.height)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new(image.mode, size, _ground(image.mode, background))
    canvas.paste(_resized(image, width, height), ((size.width - width) // 2, (size.height - height) // 2))
    return canvas


def _ground(mode: str, colour: tuple[int, int, int]) -> float | tuple[int, ...]:
    """The colour of a background in a mode: its luma where it is grey, and nothing of it is opaque."""
    if mode == "F":
        return float(Image.new("RGB", (1, 1), colour).convert("L").tobytes()[0])
    return (*colour, 0) if mode == "RGBA" else colour


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)
