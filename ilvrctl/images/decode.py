"""Open picture bytes with Pillow, and say in plain words why they cannot be opened."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError

from ilvrctl.errors import IlvrctlError, InputError
from ilvrctl.images import libtiff
from ilvrctl.images.kinds import HEAD, TAIL, Kind, enable, recognise

MAX_PIXELS = 200_000_000
"""Pictures with more pixels than this are refused before they are decoded (decompression bombs)."""

_READ_HINT = "ilvrctl reads PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000, PPM, ICO and TGA"
_CONVERT_HINT = "convert it to PNG or JPEG first"
_DAMAGED_HINT = "copy or download it again"

_OTHER_PICTURES = (
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%!PS", "a PostScript document"),
)
_NOT_PICTURES = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
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


def kind_in(data: bytes, name: str) -> Kind:
    """What kind of picture ``data`` is. InputError where it is empty, none, or of a kind that is not read here."""
    if not data:
        raise InputError(f"{name} is empty (0 bytes)", _DAMAGED_HINT)
    kind = recognise(data[:HEAD], data[-TAIL:])
    if kind is None:
        raise _unidentified(data, name)
    if not kind.readable:
        needs = f"needs the extra {kind.extra!r}" if kind.extra else "ilvrctl does not read"
        raise InputError(f"{name} is {kind}, which {needs}", kind.hint)
    return kind


def open_header(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Read only the header of ``data``; call it inside :func:`decoding`.

    Raises InputError as :func:`kind_in` does, and when the picture has more than ``max_pixels`` pixels.
    """
    kind = kind_in(data, name)
    enable(kind)
    image = Image.open(BytesIO(data), formats=kind.plugins)
    check_size(image.size, name, max_pixels)
    return image


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Width and height as the header of ``data`` tells them. InputError when it is no picture."""
    with decoding(data, name):
        return open_header(data, name).size


def check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    """InputError for a picture of more than ``max_pixels`` pixels, or of none."""
    if size[0] * size[1] > max_pixels:
        raise InputError(
            f"{name} is too large: {size[0]} x {size[1]} pixels; the limit is {max_pixels:,} pixels",
            "scale it down first",
        )
    if min(size) < 1:
        raise InputError(f"{name} is damaged: it has {size[0]} x {size[1]} pixels", _DAMAGED_HINT)


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
        if ends_early(data):
            return _truncated(name)
        kind = recognise(data[:HEAD], data[-TAIL:])
        begins = f"it begins like {kind} but " if kind is not None else ""
        return InputError(f"{name} is damaged: {begins}its header is broken", _DAMAGED_HINT)
    if isinstance(error, MemoryError):
        return InputError(f"{name} does not fit into memory when decoded", "scale it down first")
    if isinstance(error, Image.DecompressionBombError):
        return InputError(f"{name} is too large: {error}", "scale it down first")
    if "truncated" in str(error).lower() or ends_early(data):
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
    if text is not None:
        return _written_text(text, name)
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


def ends_early(data: bytes) -> bool:
    """Whether ``data`` lacks the mark with which files of its format end."""
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data[8:12] == b"WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return data.startswith(b"GIF8") and not data.endswith(b";")
