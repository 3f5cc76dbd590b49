"""Open picture bytes with Pillow, and say in plain words why they cannot be opened."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError

from ilvrctl.errors import IlvrctlError, InputError
from ilvrctl.images import libtiff

MAX_PIXELS = 200_000_000
"""Pictures with more pixels than this are refused before they are decoded (decompression bombs)."""

READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Pillow's names of the formats that are read; its other decoders (some start programs) stay closed."""

_READ_HINT = "ilvrctl reads PNG, JPEG, WebP, GIF, BMP and TIFF"
_CONVERT_HINT = "convert it to PNG or JPEG first"
_DAMAGED_HINT = "copy or download it again"

_OTHER_PICTURES = (
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyphe", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIF picture"),
    (4, b"ftypmsf1", "a HEIF picture"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\x00\x00\x01\x00", "an icon (ICO)"),
    (0, b"P5", "a PGM picture"),
    (0, b"P6", "a PPM picture"),
    (0, b"II+\x00", "a BigTIFF picture"),
    (0, b"MM\x00+", "a BigTIFF picture"),
)
_NOT_PICTURES = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
)
_OWN_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"BM", "BMP"),
)

_limit_lock = threading.Lock()
_limit_users = 0
_limit_saved: int | None = None


@contextmanager
def decoding(data: bytes, name: str) -> Iterator[None]:
    """Turn whatever Pillow raises about ``data`` into an InputError that names ``name`` and says why."""
    libtiff.silence()
    try:
        with without_pillow_limit():
            yield
    except IlvrctlError:
        raise
    except Exception as error:  # decoders fed with hostile bytes raise nearly anything
        raise _explained(error, data, name) from error


def open_header(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Read only the header of ``data``; call it inside :func:`decoding`.

    Raises InputError when ``data`` is empty, and when the picture has more than ``max_pixels`` pixels or
    is in Lab colours, which Pillow cannot bring to RGB without a profile.
    """
    if not data:
        raise InputError(f"{name} is empty (0 bytes)", _DAMAGED_HINT)
    image = Image.open(BytesIO(data), formats=READABLE_FORMATS)
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height} pixels"
        raise InputError(
            f"{name} is too large: {size}; the limit is {max_pixels:,} pixels", "scale it down first"
        )
    if image.mode == "LAB":
        raise InputError(f"{name} is a picture in Lab colours, which ilvrctl does not read", _CONVERT_HINT)
    return image


@contextmanager
def without_pillow_limit() -> Iterator[None]:
    """Lift Pillow's process-wide pixel limit while pictures are decoded; the last one out puts it back."""
    global _limit_users, _limit_saved
    with _limit_lock:
        if _limit_users == 0:
            _limit_saved = Image.MAX_IMAGE_PIXELS
            Image.MAX_IMAGE_PIXELS = None
        _limit_users += 1
    try:
        yield
    finally:
        with _limit_lock:
            _limit_users -= 1
            if _limit_users == 0:
                Image.MAX_IMAGE_PIXELS = _limit_saved


def _explained(error: Exception, data: bytes, name: str) -> InputError:
    """The InputError that tells a person what ``error`` means for the file ``name``."""
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(data, name)
    if isinstance(error, MemoryError):
        return InputError(f"{name} does not fit into memory when decoded", "scale it down first")
    if isinstance(error, Image.DecompressionBombError):
        return InputError(f"{name} is too large: {error}", "scale it down first")
    if "truncated" in str(error).lower() or _ends_early(data):
        return _truncated(name)
    return InputError(f"{name} is damaged: {error or type(error).__name__}", _DAMAGED_HINT)


def _truncated(name: str) -> InputError:
    return InputError(f"{name} is truncated: its data ends before the picture does", _DAMAGED_HINT)


def _unidentified(data: bytes, name: str) -> InputError:
    """Why no decoder wanted ``data``."""
    if what := _match(data, _OTHER_PICTURES):
        return InputError(f"{name} is {what}, which ilvrctl does not read", _CONVERT_HINT)
    if what := _match(data, _NOT_PICTURES):
        return InputError(f"{name} is not a picture (it is {what})", _READ_HINT)
    text = _as_text(data)
    if text is not None and not data.startswith(b"GIF8"):
        return _written_text(text, name)
    if own := _match(data, _OWN_SIGNATURES):
        if _ends_early(data):
            return _truncated(name)
        return InputError(
            f"{name} is damaged: it begins like a {own} but its header is broken", _DAMAGED_HINT
        )
    return InputError(f"{name} is not a picture that ilvrctl knows", _READ_HINT)


def _written_text(text: str, name: str) -> InputError:
    """What kind of text pretends to be the picture ``name``."""
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith("version https://git-lfs"):
        return InputError(f"{name} is not a picture (it is a Git LFS pointer to one)", "git lfs pull")
    if "<svg" in start:
        return InputError(f"{name} is an SVG drawing, which ilvrctl does not read", _CONVERT_HINT)
    if start.startswith(("<!doctype html", "<html")):
        hint = "a download may have saved an error page in its place: open it in a browser"
        return InputError(f"{name} is not a picture (it is a web page)", hint)
    return InputError(f"{name} is not a picture (it is a text file)", _READ_HINT)


def _match(data: bytes, signatures: tuple[tuple[int, bytes, str], ...]) -> str | None:
    """The label of the first signature found in ``data``."""
    return next((label for at, magic, label in signatures if data[at : at + len(magic)] == magic), None)


def _as_text(data: bytes) -> str | None:
    """The beginning of ``data`` when it reads as text, else None."""
    start = data[:1024]
    if any(byte < 32 and byte not in b"\t\n\f\r\x1b" for byte in start):
        return None
    text = start.decode("utf-8", errors="ignore")
    # The cut may fall inside one character; more loss than that means that this is no text.
    return text if len(start) - len(text.encode()) < 4 else None


def _ends_early(data: bytes) -> bool:
    """Whether ``data`` lacks the mark with which files of its format end."""
    format_name = _match(data, _OWN_SIGNATURES)
    if format_name == "JPEG":
        return b"\xff\xd9" not in data
    if format_name == "PNG":
        return b"IEND" not in data
    if format_name == "WebP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return format_name == "GIF" and not data.endswith(b";")
