"""Read pictures into upright 8-bit RGB, and write them so that no half-written file is ever seen."""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from ilvrctl.errors import InputError, OutputError, UsageError, did_you_mean
from ilvrctl.files import replacing
from ilvrctl.images.decode import MAX_PIXELS, decoding
from ilvrctl.images.deep import Deep
from ilvrctl.images.flatten import Seen, see, to_rgb
from ilvrctl.images.kinds import kind_of
from ilvrctl.images.load import load
from ilvrctl.images.metadata import Kept, save_options, with_record
from ilvrctl.images.own import deep_png, deep_tiff

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
    "PNG": ("L", "LA", "RGB", "RGBA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB"),
    "BMP": ("L", "RGB"),
    "GIF": ("L",),
}

DEEP_SUFFIXES = tuple(suffix for suffix, name in _FORMATS.items() if "I;16" in _KEPT_MODES[name])
"""Extensions of the pictures that can have 16 bits."""
OPAQUE_SUFFIXES = tuple(suffix for suffix, name in _FORMATS.items() if "RGBA" not in _KEPT_MODES[name])
"""Extensions of those without a place for an opacity."""
PICTURE_SUFFIXES: frozenset[str] = frozenset(_FORMATS)
"""Extensions of the pictures that are written: lower case, with the dot. What is read is told by its content."""

MAX_BYTES = 2_000_000_000
"""Larger files are refused before they are read: no picture of :data:`MAX_PIXELS` pixels needs more."""

PAGED_SUFFIXES = (".tif", ".tiff", ".gif", ".webp", ".png")
"""Extensions of the files that hold several pictures."""


def read_bytes(path: Path) -> bytes:
    """The bytes of the file ``path``.

    Raises InputError when it is missing, a folder, a device, unreadable, or of more than :data:`MAX_BYTES`,
    which is known before it is read.
    """
    try:
        found = path.stat()
        if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            raise InputError(f"{path} is a device, not a picture", "give a file, or - for standard input")
        if stat.S_ISREG(found.st_mode) and found.st_size > MAX_BYTES:
            raise _too_large(path, found.st_size)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", "check the path; relative ones start here") from error
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory", "scale it down first") from error
    except (OSError, ValueError) as error:
        if isinstance(error, IsADirectoryError) or _is_folder(path):
            raise InputError(f"{path} is a folder, not a picture", "give the pictures inside it") from error
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}", "check the path and its permissions") from error


def _too_large(path: Path, size: int) -> InputError:
    """Why a file of so many bytes is not read: it is no picture, or too large a one."""
    try:
        kind = kind_of(path)
    except OSError:
        kind = None
    what = "is too large" if kind is not None else "is not a picture, or one that is too large"
    return InputError(
        f"{path} {what}: {size:,} bytes; the limit is {MAX_BYTES:,}", "scale it down or cut it up first"
    )


def _is_folder(path: Path) -> bool:
    """Also where opening a folder is told as a missing permission; False for names that nothing can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class Picture:
    """A picture that was read: upright 8-bit sRGB without metadata.

    ``notes``: what people should know about it. ``read``: how it was read where that is not plain, for the record,
    see :class:`~ilvrctl.images.flatten.Seen`. ``frames``: how many frames or pages its file has. ``seen``: the picture
    before its transparency was composed, at its depth.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()
    read: Mapping[str, str] = field(default_factory=dict)
    frames: int = 1
    seen: Seen | None = field(default=None, repr=False)


def read_picture(
    data: bytes,
    name: str,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    window: str | None = None,
    frame: int | None = None,
) -> Picture:
    """Decode ``data`` to upright 8-bit sRGB; ``name`` is for messages.

    EXIF orientation applied; colour profiles and the colour chunks of PNG converted; transparency composed on
    ``background`` (0 to 255 each). ``window``: the numbers of pictures of more than 8 bits that mean black
    and white, "LO:HI" or "auto"; without it the range of their type, see
    :meth:`~ilvrctl.images.deep.Deep.levels`. ``frame``: that frame or page, from 0; without it the first,
    with a note where there are more. Raises InputError as :func:`~ilvrctl.images.load.load` does, UsageError
    for a window that is none.
    """
    with decoding(data, name):
        loaded = load(data, name, max_pixels=max_pixels, frame=frame)
        seen = see(loaded, window)
        return Picture(seen.flat(background), seen.notes, seen.read, loaded.frames, seen)


def open_picture(
    data: bytes,
    name: str,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """The picture of :func:`read_picture` alone, for those who tell nobody about it."""
    return read_picture(data, name, background=background, max_pixels=max_pixels).image


def encode_picture(
    image: Image.Image,
    format: str = "png",  # noqa: A002  (as in Pillow's save)
    record: str | None = None,
    quality: int = 95,
    kept: Kept | None = None,
) -> bytes:
    """The bytes of ``image`` as a file of ``format``, an extension with or without its dot.

    ``record`` is a JSON text that :func:`~ilvrctl.images.metadata.read_record` finds again;
    ``quality``, 1 to 100, is that of JPEG and WebP; ``kept`` is stored beside it as far as the format allows,
    see :func:`what_is_lost`, and nothing else but that the colours are sRGB. Transparency comes on white
    where the format has none. Raises UsageError for an unknown format or quality, OutputError when the format
    cannot hold the picture.
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
    save_pages(frames, path, durations_ms=[duration_ms] * (len(frames) - 1) + [hold_ms])


def save_pages(
    pictures: Sequence[Image.Image],
    path: Path,
    *,
    record: str | None = None,
    durations_ms: Sequence[int] | None = None,
    plays: int = 0,
    quality: int = 95,
) -> None:
    """Write several RGB pictures into one file, all or nothing: the pages of a TIFF, or an animation as GIF, WebP or
    PNG.

    ``durations_ms``: how long each frame is shown, 100 ms where it is not said; GIF counts in steps of 10. ``plays``:
    how often all of them are shown; 0 is for ever.
    ``record`` and ``quality`` as in :func:`encode_picture`. Raises UsageError when the extension is none of
    :data:`PAGED_SUFFIXES`, OutputError when it cannot be written, ValueError for no pictures or frames of
    different sizes.
    """
    if path.suffix.lower() not in PAGED_SUFFIXES:
        raise UsageError(
            f"{path} cannot hold several pictures: those that can end in {', '.join(PAGED_SUFFIXES)}"
        )
    format_name = _format_of(path.suffix)
    if not pictures or (format_name != "TIFF" and len({picture.size for picture in pictures}) != 1):
        raise ValueError("an animation needs frames, all of one size")
    options = save_options(format_name, record, None, colour=format_name != "GIF")
    if format_name == "GIF":
        options["disposal"] = 1
        pictures = [_with_palette(picture) for picture in pictures]
    elif format_name == "WEBP":
        options["quality"] = quality
    if format_name != "TIFF":
        options["duration"] = list(durations_ms or [100] * len(pictures))
        if format_name != "GIF" or plays != 1:
            options["loop"] = plays - 1 if format_name == "GIF" and plays else plays
    first, *rest = (
        picture.copy() for picture in pictures
    )  # Pillow leaves on them how they were saved before
    try:
        content = BytesIO()
        first.save(content, format_name, save_all=True, append_images=rest, **options)
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        raise OutputError(f"{len(pictures)} pictures cannot be written as {format_name}: {error}") from error
    _write(path, content.getvalue())


def _format_of(suffix: str) -> str:
    """Pillow's name of the format with the extension ``suffix``; UsageError when there is none."""
    known = _FORMATS.get(suffix.lower())
    if known is None:
        what = f"{suffix} is not a picture format" if suffix.strip(".") else "a picture needs an extension"
        supported = ", ".join(_FORMATS)
        raise UsageError(f"{what}; supported are {supported}", did_you_mean(suffix.lower(), _FORMATS))
    return known


def what_is_lost(kept: Kept, suffix: str, name: str) -> tuple[str, ...]:
    """What people should know, before a result with the extension ``suffix`` is made, about what it will not
    hold.
    """
    lost = kept.lost(_format_of(suffix))
    return (f"{name}: {suffix.lower().lstrip('.')} files do not hold its {', '.join(lost)}",) if lost else ()


def _encode(
    image: Image.Image, format_name: str, record: str | None, quality: int, kept: Kept | None
) -> bytes:
    """The file as bytes; ``format_name`` as Pillow names it."""
    own = kept.own if kept is not None and kept.own is not None and kept.own.fits(format_name) else None
    if own is not None and kept is not None:
        kept = replace(kept, profile=own.profile.data if own.profile is not None else b"")
    stored = _as_stored(image, format_name) if own is None or own.is_deep else own.as_image()
    colour = stored.mode in ("RGB", "RGBA") and (own is None or own.pixels.mode == "RGB")
    options = save_options(format_name, record, kept, colour=colour)
    if format_name in ("JPEG", "WEBP"):
        if not 1 <= quality <= 100:
            raise UsageError(f"the quality must be from 1 to 100, not {quality}")
        options["quality"] = quality
    if format_name == "JPEG":
        options["subsampling"] = 0  # full-resolution colour: halving it shows on the edges of drawings
    try:
        if own is not None and isinstance(own.pixels, Deep):
            return (deep_png if format_name == "PNG" else deep_tiff)(own.pixels, options)
        content = BytesIO()
        stored.save(content, format_name, **options)
        data = content.getvalue()
        return with_record(data, record) if format_name == "BMP" and record is not None else data
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        size = f"{image.width} x {image.height}"
        raise OutputError(
            f"a picture of {size} cannot be written as {format_name}: {error}", "use PNG"
        ) from error


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
