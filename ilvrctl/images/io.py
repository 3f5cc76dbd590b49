"""Read pictures into upright 8-bit RGB, and write them so that no half-written file is ever seen."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ilvrctl.errors import InputError, OutputError, UsageError, did_you_mean
from ilvrctl.files import replacing
from ilvrctl.images.decode import MAX_PIXELS, decoding, open_header
from ilvrctl.images.flatten import is_negative, to_rgb, upright
from ilvrctl.images.metadata import Kept, record_options

__all__ = [
    "MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "encode_picture",
    "open_picture",
    "read_bytes",
    "save_gif",
    "save_picture",
]

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_KEPT_MODES = {
    "PNG": ("L", "LA", "RGB", "RGBA"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("L", "LA", "RGB", "RGBA"),
    "JPEG": ("L", "RGB"),
    "BMP": ("L", "RGB"),
    "GIF": ("L",),
}

PICTURE_SUFFIXES: frozenset[str] = frozenset(_FORMATS)
"""Extensions of the pictures that are read and written: lower case, with the dot."""


def read_bytes(path: Path) -> bytes:
    """The bytes of the file ``path``. Raises InputError when it is missing, a folder or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", "check the path; relative ones start here") from error
    except (OSError, ValueError) as error:
        if isinstance(error, IsADirectoryError) or _is_folder(path):
            raise InputError(f"{path} is a folder, not a picture", "give the pictures inside it") from error
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}", "check the path and its permissions") from error


def _is_folder(path: Path) -> bool:
    """Also where opening a folder is told as a missing permission; False for names that nothing can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def open_picture(
    data: bytes,
    name: str,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Decode ``data`` to an upright 8-bit RGB picture without metadata; ``name`` is for messages.

    The first frame of animations; EXIF orientation applied; transparency composed on ``background``
    (0 to 255 each); 16-bit grey scaled, not clipped. Colour profiles are ignored.
    Raises InputError, before decoding when there are more than ``max_pixels`` pixels, and when ``data`` is
    empty, truncated, damaged or something other than a PNG, JPEG, WebP, GIF, BMP or TIFF picture.
    """
    with decoding(data, name):
        image = open_header(data, name, max_pixels)
        image.load()
        return to_rgb(upright(image), background, negative=is_negative(image))


def encode_picture(
    image: Image.Image,
    format: str = "png",  # noqa: A002  (as in Pillow's save)
    record: str | None = None,
    quality: int = 95,
    kept: Kept | None = None,
) -> bytes:
    """The bytes of ``image`` as a file of ``format``, an extension with or without its dot.

    ``record`` is a JSON text that :func:`~ilvrctl.images.metadata.read_record` finds again (BMP drops it);
    ``quality``, 1 to 100, is that of JPEG and WebP; ``kept`` is stored beside it as far as the format allows, and
    nothing else. Transparency comes on white where the format has none.
    Raises UsageError for an unknown format or quality, OutputError when the format cannot hold the picture.
    """
    return _encode(image, _format_of("." + format.lower().removeprefix(".")), record, quality, kept)


def save_picture(
    image: Image.Image,
    path: Path,
    *,
    record: str | None = None,
    quality: int = 95,
    kept: Kept | None = None,
) -> None:
    """Write ``image`` to ``path`` in the format of its extension, all or nothing.

    The bytes go to ``<name>.part`` beside it, which is then renamed; on failure the part is removed and an
    older file at ``path`` stays as it was. ``record``, ``quality`` and ``kept`` as in :func:`encode_picture`.
    Raises UsageError for an unknown extension or quality, OutputError when it cannot be written.
    """
    _write(path, _encode(image, _format_of(path.suffix), record, quality, kept))


def save_gif(
    frames: Sequence[Image.Image], path: Path, *, duration_ms: int = 60, hold_ms: int = 1500
) -> None:
    """Write ``frames``, of one size, as an animation that loops for ever, all or nothing.

    Each frame shows for ``duration_ms`` milliseconds and the last for ``hold_ms``; GIF counts in steps of 10.
    Raises UsageError when ``path`` does not end in .gif, OutputError when it cannot be written, ValueError
    for no frames or frames of different sizes.
    """
    if path.suffix.lower() != ".gif":
        raise UsageError(f"{path} must end in .gif: animations are written as GIF")
    if len({frame.size for frame in frames}) != 1:
        raise ValueError("an animation needs frames, all of one size")
    pictures = [_with_palette(frame) for frame in frames]
    durations = [duration_ms] * (len(pictures) - 1) + [hold_ms]
    content = BytesIO()
    pictures[0].save(
        content, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, disposal=1
    )
    _write(path, content.getvalue())


def _format_of(suffix: str) -> str:
    """Pillow's name of the format with the extension ``suffix``; UsageError when there is none."""
    known = _FORMATS.get(suffix.lower())
    if known is None:
        what = f"{suffix} is not a picture format" if suffix.strip(".") else "a picture needs an extension"
        supported = ", ".join(_FORMATS)
        raise UsageError(f"{what}; supported are {supported}", did_you_mean(suffix.lower(), _FORMATS))
    return known


def _encode(
    image: Image.Image, format_name: str, record: str | None, quality: int, kept: Kept | None
) -> bytes:
    """The file as bytes; ``format_name`` as Pillow names it."""
    plain = kept.options(format_name) if kept is not None else {}
    options: dict[str, Any] = plain if record is None else record_options(format_name, record, kept)
    if format_name in ("JPEG", "WEBP"):
        if not 1 <= quality <= 100:
            raise UsageError(f"the quality must be from 1 to 100, not {quality}")
        options["quality"] = quality
    if format_name == "JPEG":
        options["subsampling"] = 0  # full-resolution colour: halving it shows on the edges of drawings
    elif format_name == "TIFF":
        options["compression"] = "tiff_deflate"
    content = BytesIO()
    try:
        _as_stored(image, format_name).save(content, format_name, **options)
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        size = f"{image.width} x {image.height}"
        raise OutputError(
            f"a picture of {size} cannot be written as {format_name}: {error}", "use PNG"
        ) from error
    return content.getvalue()


def _as_stored(image: Image.Image, format_name: str) -> Image.Image:
    """``image`` in a mode that the format holds, without the metadata that Pillow would pass on; a copy if need be.

    ``image`` itself where it brings none: a large photo needs no second one in memory.
    """
    if image.mode in _KEPT_MODES[format_name]:
        stored = image.copy() if image.info else image
    elif image.has_transparency_data:
        stored = _as_stored(to_rgb(image, (255, 255, 255)), format_name)
    elif format_name == "GIF":
        stored = _with_palette(image)
    else:
        stored = image.convert("RGB")
    stored.info = {}
    return stored


def _with_palette(image: Image.Image) -> Image.Image:
    """``image`` in its best 256 colours, dithered, since smooth shades would show bands."""
    rgb = image.convert("RGB")
    # Maximum coverage keeps the extreme colours, so white stays white and dithering can reach every shade.
    palette = rgb.quantize(256, method=Image.Quantize.MAXCOVERAGE)
    if rgb.getcolors(256) is not None:
        return palette
    return rgb.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(content)
