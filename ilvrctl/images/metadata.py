"""The record of how a picture was made, kept inside the picture.

PNG: an iTXt chunk with the key ``ilvrctl``. JPEG, WebP, TIFF: the EXIF UserComment. GIF: the comment.
BMP has no place for it. In comments the text begins with ``ilvrctl:``, to tell it from those of others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from PIL import Image, PngImagePlugin, TiffImagePlugin

from ilvrctl.errors import InputError
from ilvrctl.images.decode import decoding, open_header

RECORD_KEY = "ilvrctl"

_MARK = f"{RECORD_KEY}:"
_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_BYTES = 1
_ASCII = b"ASCII\x00\x00\x00"
_UNICODE = b"UNICODE\x00"


@dataclass(frozen=True)
class Kept:
    """What a result takes over from the photo that it was made of: an ``exif`` block and an ICC ``profile``."""

    exif: bytes = b""
    profile: bytes = b""

    def options(self, format_name: str) -> dict[str, Any]:
        """Arguments for Pillow's ``save``; what the format cannot hold is left out."""
        profiled = format_name in ("PNG", "JPEG", "WEBP", "TIFF") and self.profile
        tagged = format_name in ("PNG", "JPEG", "WEBP") and self.exif
        return {
            **({"icc_profile": self.profile} if profiled else {}),
            **({"exif": self._exif()} if tagged else {}),
        }

    def _exif(self) -> Image.Exif:
        exif = Image.Exif()
        exif.load(self.exif)
        return exif


def read_record(data: bytes, name: str) -> str:
    """The JSON text that ilvrctl stored in the picture ``data``; ``name`` is for messages.

    Raises InputError when ``data`` is no picture or holds no record.
    """
    with decoding(data, name):
        image = open_header(data, name)
        record = _find_record(image)
        if record is None and image.format == "PNG":
            image.load()  # other programs move the chunk behind the pixels
            record = _find_record(image)
    if record is None:
        raise InputError(
            f"{name} holds no ilvrctl record",
            "only pictures saved by ilvrctl have one, and uploading or editing them often removes it",
        )
    return record


def record_options(format_name: str, record: str, kept: Kept | None = None) -> dict[str, Any]:
    """Arguments for Pillow's ``save`` that store the JSON text ``record``, beside what is ``kept``.

    ``format_name`` is Pillow's name ("PNG", "JPEG"); empty for formats that cannot hold a record.
    """
    options = kept.options(format_name) if kept is not None else {}
    # A lone surrogate (from a file name that is not UTF-8) fits no encoding, but JSON has an escape for it.
    record = re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", record)
    if format_name == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt(RECORD_KEY, record)
        return {**options, "pnginfo": chunks}
    if format_name in ("JPEG", "WEBP"):
        exif = options.get("exif") or Image.Exif()
        exif[_EXIF_IFD] = {**exif.get_ifd(_EXIF_IFD), _USER_COMMENT: _to_comment(record)}
        return {**options, "exif": exif}
    if format_name == "TIFF":
        # Pillow cannot write the EXIF folder of a compressed TIFF, so the tag stands in the main one.
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags.tagtype[_USER_COMMENT] = _BYTES  # the standard says UNDEFINED, which Pillow 10 cuts off
        tags[_USER_COMMENT] = _to_comment(record)
        return {**options, "tiffinfo": tags}
    if format_name == "GIF":
        return {**options, "comment": (_MARK + record).encode()}
    return options


def _to_comment(record: str) -> bytes:
    """``record`` as the EXIF standard writes a UserComment: eight bytes name the encoding."""
    text = _MARK + record
    return _ASCII + text.encode("ascii") if text.isascii() else _UNICODE + text.encode("utf-16-be")


def _from_comment(comment: bytes) -> str:
    """The text of an EXIF UserComment."""
    encoding = "utf-16-be" if comment.startswith(_UNICODE) else "utf-8"
    return comment[8:].decode(encoding, errors="replace")


def _find_record(image: Image.Image) -> str | None:
    """The record among what has been read of ``image``, or None."""
    chunk = image.info.get(RECORD_KEY)
    if image.format == "PNG":
        return str(chunk) if isinstance(chunk, str) else None
    if image.format == "GIF":
        comment = image.info.get("comment", b"")
        text = comment.decode("utf-8", errors="replace") if isinstance(comment, bytes) else ""
    else:
        exif = image.getexif()
        comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT) or exif.get(_USER_COMMENT)
        text = _from_comment(comment) if isinstance(comment, bytes) else ""
    return text.removeprefix(_MARK) if text.startswith(_MARK) else None
