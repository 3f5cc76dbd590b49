"""Bring a decoded picture of any mode to upright 8-bit RGB."""

from __future__ import annotations

import math

from PIL import Image, ImageOps

_DEEP_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0


def upright(image: Image.Image) -> Image.Image:
    """``image`` turned the way its EXIF orientation asks; a broken EXIF block is ignored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a picture that shows well must not fail over a bad tag
        return image


def is_negative(image: Image.Image) -> bool:
    """Whether ``image`` is a deep grey TIFF in which 0 is white; Pillow inverts only the 8-bit ones."""
    tags = getattr(image, "tag_v2", None) or {}
    return image.mode in _DEEP_MODES and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def to_rgb(image: Image.Image, background: tuple[int, int, int], *, negative: bool = False) -> Image.Image:
    """8-bit RGB of ``image``: deep grey scaled, transparency composed on ``background``, no metadata.

    ``negative`` says that 0 is white in a deep grey picture.
    Raises ValueError for values that are not finite and for modes without a way to RGB.
    """
    if image.mode in _DEEP_MODES:
        image = _deep_to_grey(image, negative)
    elif image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", image.size, background)
        flat.paste(rgba, mask=rgba.getchannel("A"))
    else:
        flat = image.convert("RGB")
    flat.info = {}
    return flat


def _deep_to_grey(image: Image.Image, negative: bool) -> Image.Image:
    """Mode L, or LA when a transparent level is named, of a 16-bit, 32-bit or float grey picture."""
    deep = image if image.mode == "F" else image.convert("I").convert("F")
    scale = 255.0 / _white_level(image)
    # Conversion of F to L clips and rounds down, hence the half.
    if negative:
        grey = deep.point(lambda value: value * -scale + 255.5).convert("L")
    else:
        grey = deep.point(lambda value: value * scale + 0.5).convert("L")
    key = image.info.get("transparency")
    if not isinstance(key, int) or image.mode == "F":
        return grey
    opacity = [255] * 65536
    opacity[min(max(key, 0), 65535)] = 0
    return Image.merge("LA", (grey, image.convert("I").point(opacity, "L")))


def _white_level(image: Image.Image) -> float:
    """The value that means white. Files of mode I and F do not say it, so it is guessed from the brightest.

    Integers: the maximum of 8, 16 or 31 bits. Floats: 1 (up to 2, for overshoot), else as for integers.
    """
    if image.mode not in ("I", "F") or image.format == "PNG":
        return 65535.0
    low, high = (float(value) for value in _extrema(image))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("it holds values that are not numbers")
    if image.mode == "F" and high <= 2.0:
        return 1.0
    return next((white for white in (255.0, 65535.0) if high <= white), 2.0**31 - 1)


def _extrema(image: Image.Image) -> tuple[float, float]:
    low, high = image.getextrema()
    if isinstance(low, tuple) or isinstance(
        high, tuple
    ):  # only pictures of several bands, which come not here
        raise ValueError(f"a picture of mode {image.mode} has one band")
    return low, high
