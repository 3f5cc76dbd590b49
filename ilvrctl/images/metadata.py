"""What goes along with the pixels: what a result takes over from its photo, and the record of how it was made.

The record: in PNG an iTXt chunk with the key ``ilvrctl``; in JPEG, WebP, TIFF the EXIF UserComment; in GIF the
comment; in BMP it stands behind the picture. In comments and there the text begins with ``ilvrctl:``, to tell it
from those of others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image, PngImagePlugin, TiffImagePlugin

from ilvrctl.errors import InputError
from ilvrctl.images import icc, tiff
from ilvrctl.images.decode import decoding, kind_in, open_header
from ilvrctl.images.load import Loaded
from ilvrctl.images.own import Own

RECORD_KEY = "ilvrctl"

_MARK = f"{RECORD_KEY}:"
_EXIF_IFD, _GPS_IFD, _USER_COMMENT, _MAKER_NOTE, _ORIENTATION, _XMP = 0x8769, 0x8825, 0x9286, 0x927C, 274, 700
_WIDTH, _HEIGHT = 0xA002, 0xA003
_ABOUT = (270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096))
"""Tags about a picture, not about how its file is laid out: those alone go into another file."""
_LINKS = (0xA005,)
_BYTES = 1
_ASCII = b"ASCII\x00\x00\x00"
_UNICODE = b"UNICODE\x00"
_XMP_KEY = "XML:com.adobe.xmp"
_COMMENT = "Comment"
_NO_TEXTS = {RECORD_KEY, _XMP_KEY}
_LARGEST_IN_JPEG = 56_000
"""Bytes of EXIF, and of XMP, that a JPEG holds beside a record; a segment of it has 64 KB."""
_TAGGED = ("PNG", "JPEG", "WEBP", "TIFF")
_RESOLVED = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")


@dataclass(frozen=True)
class Kept:
    """What a result takes over from the photo that it was made of.

    An ``exif`` block, the ICC ``profile`` of its RGB pixels, an ``xmp`` packet, ``texts`` by their names, the
    resolution ``dpi``. ``own``: the result at the depth and in the colours of the photo, where these are
    others than 8 bits of sRGB; it is written in the place of the picture where the format holds it.
    """

    exif: bytes = b""
    profile: bytes = b""
    xmp: bytes = b""
    texts: tuple[tuple[str, str], ...] = ()
    dpi: tuple[float, float] | None = None
    own: Own | None = None

    def exif_for(self, format_name: str) -> Image.Exif:
        """The tags, as far as the format holds them: of more than a JPEG can take, all but the maker's notes."""
        exif = Image.Exif()
        if self.exif:
            exif.load(self.exif)
            exif.get_ifd(_EXIF_IFD)
            exif.get_ifd(_GPS_IFD)
        if format_name == "JPEG" and len(self.exif) > _LARGEST_IN_JPEG:
            exif.get_ifd(_EXIF_IFD).pop(_MAKER_NOTE, None)
            if len(exif.tobytes()) > _LARGEST_IN_JPEG:
                return Image.Exif()
        return exif

    def lost(self, format_name: str) -> list[str]:
        """What a format, as Pillow names it, does not hold."""
        lost = []
        if self.exif and format_name not in _TAGGED:
            lost.append("EXIF")
        elif format_name == "JPEG" and len(self.exif) > _LARGEST_IN_JPEG:
            lost.append("EXIF maker's notes" if self.exif_for("JPEG") else "EXIF of more than 64 KB")
        if self.xmp and not self._holds_xmp(format_name):
            lost.append("XMP")
        if any(not _holds_text(format_name, key) for key, _ in self.texts):
            lost.append("text")
        if self.dpi and format_name not in _RESOLVED:
            lost.append("resolution")
        if self.own is not None and not self.own.fits(format_name):
            lost.append(str(self.own))
        return lost

    def _holds_xmp(self, format_name: str) -> bool:
        return format_name in _TAGGED and (format_name != "JPEG" or len(self.xmp) <= _LARGEST_IN_JPEG)


def _holds_text(format_name: str, key: str) -> bool:
    return format_name == "PNG" or (key == _COMMENT and format_name == "JPEG")


def keep(loaded: Loaded, data: bytes) -> Kept:
    """What goes along with the pixels of a photo. What cannot be read is left out: its pixels are what counts."""
    size, info = loaded.pixels.size, loaded.info
    if loaded.tags is not None:
        tags = loaded.tags

        def folder(tag: int) -> Mapping[int, Any]:
            return tiff.directory(data, tags[tag]) if tag in tags else {}

        exif, xmp, dpi = _exif(tags, folder, size), tags.get(_XMP, b""), _dpi_of(tags)
    else:
        found = _attempt(lambda: loaded.image.getexif() if loaded.image is not None else Image.Exif())
        exif = _exif(found or {}, found.get_ifd if found is not None else lambda _: {}, size)
        xmp, dpi = info.get("xmp") or info.get(_XMP_KEY) or b"", info.get("dpi")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else b""
    xmp = re.sub(rb'(tiff:Orientation\s*(?:=\s*["\']|>)\s*)[2-8]', rb"\g<1>1", xmp)
    return Kept(exif, b"", xmp, _texts(loaded), _attempt(lambda: _sound_dpi(dpi)))


def _attempt(make: Callable[[], Any]) -> Any:
    """What ``make`` gives; None where that fails: a picture that shows well must not fail over a bad tag."""
    try:
        return make()
    except Exception:
        return None


def _sound_dpi(dpi: Any) -> tuple[float, float] | None:
    x, y = (float(value) for value in dpi)
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def _dpi_of(tags: Mapping[int, Any]) -> Any:
    factor = {2: 1.0, 3: 2.54}.get(tags.get(296, 2))
    x, y = (tags.get(tag) for tag in (282, 283))
    return None if factor is None or x is None or y is None else (x * factor, y * factor)


def _texts(loaded: Loaded) -> tuple[tuple[str, str], ...]:
    if loaded.image is None:
        return ()
    texts = _attempt(lambda: dict(getattr(loaded.image, "text", None) or {})) or {}
    comment = loaded.info.get("comment")
    if isinstance(comment, bytes):
        texts[_COMMENT] = comment.decode("utf-8", errors="replace").rstrip("\0")
    return tuple(
        (str(key), str(text))
        for key, text in texts.items()
        if key not in _NO_TEXTS and not key.startswith("Raw profile type") and not text.startswith(_MARK)
    )


def _exif(
    tags: Mapping[int, Any], folder: Callable[[int], Mapping[int, Any]], size: tuple[int, int]
) -> bytes:
    """The tags about the picture as an EXIF block for its upright pixels; those that cannot be written are
    left out.
    """
    found: dict[int, dict[int, Any]] = {0: {tag: tags[tag] for tag in _ABOUT if tag in tags}}
    if _ORIENTATION in tags:
        found[0][_ORIENTATION] = 1
    for pointer in (_EXIF_IFD, _GPS_IFD):
        inner = _attempt(partial(folder, pointer)) or {}
        found[pointer] = _attempt(partial(_without, inner, _LINKS)) or {}
    for tag, length in ((_WIDTH, size[0]), (_HEIGHT, size[1])):
        if tag in found[_EXIF_IFD]:
            found[_EXIF_IFD][tag] = length
    if not any(found.values()):
        return b""
    return _attempt(partial(_block, found)) or _attempt(lambda: _block(_writable(found))) or b""


def _without(tags: Mapping[int, Any], left_out: Sequence[int]) -> dict[int, Any]:
    return {tag: tags[tag] for tag in tags if tag not in left_out}


def _block(found: Mapping[int, Mapping[int, Any]]) -> bytes:
    exif = Image.Exif()
    for tag, value in found[0].items():
        exif[tag] = value
    for pointer, inner in found.items():
        if pointer and inner:
            exif[pointer] = dict(inner)
    return exif.tobytes()


def _writable(found: Mapping[int, Mapping[int, Any]]) -> dict[int, dict[int, Any]]:
    """Those tags that can be written."""
    return {
        pointer: {
            tag: value
            for tag, value in inner.items()
            if _attempt(partial(_block, {0: {}, pointer: {tag: value}}))
        }
        for pointer, inner in found.items()
    }


def read_record(data: bytes, name: str) -> str:
    """The JSON text that ilvrctl stored in the picture ``data``; ``name`` is for messages.

    Raises InputError when ``data`` is no picture or holds no record.
    """
    with decoding(data, name):
        if kind_in(data, name).plugins == ("TIFF",):
            record = _record_in_tiff(data)
        else:
            image = open_header(data, name)
            record = _behind(data) if image.format == "BMP" else _find_record(image)
            if record is None and image.format == "PNG":
                image.load()  # other programs move the chunk behind the pixels
                record = _find_record(image)
    if record is None:
        raise InputError(
            f"{name} holds no ilvrctl record",
            "only pictures saved by ilvrctl have one, and uploading or editing them often removes it",
        )
    return record


def with_record(bitmap: bytes, record: str) -> bytes:
    """A BMP with the record behind it: its header tells where it ends, and what follows is read by nobody else."""
    return bitmap + (_MARK + _encodable(record)).encode()


def _behind(bitmap: bytes) -> str | None:
    text = bitmap[int.from_bytes(bitmap[2:6], "little") :]
    return text.decode("utf-8", "replace").removeprefix(_MARK) if text.startswith(_MARK.encode()) else None


def _encodable(record: str) -> str:
    """A lone surrogate (from a file name that is not UTF-8) fits no encoding, but JSON has an escape for it."""
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", record)


def save_options(format_name: str, record: str | None, kept: Kept | None, *, colour: bool) -> dict[str, Any]:
    """Arguments for Pillow's ``save``: the JSON text ``record`` and what is ``kept``, as far as the format
    holds them.

    ``format_name`` is Pillow's name ("PNG", "JPEG"). ``colour``: the pixels are RGB, so that without a profile that
    is kept they are marked as sRGB.
    """
    kept = kept or Kept()
    record = None if record is None else _encodable(record)
    options: dict[str, Any] = {}
    if kept.dpi and format_name in _RESOLVED:
        options["dpi"] = kept.dpi
    profile = kept.profile or (icc.srgb() if colour and format_name != "PNG" else b"")
    if profile and format_name in _TAGGED:
        options["icc_profile"] = profile
    if format_name == "PNG":
        return {**options, **_png_options(record, kept, marked=not profile)}
    if format_name in ("JPEG", "WEBP"):
        return {**options, **_jpeg_options(format_name, record, kept)}
    if format_name == "TIFF":
        return {**options, **_tiff_options(record, kept)}
    if format_name == "GIF" and record is not None:
        return {**options, "comment": (_MARK + record).encode()}
    return options


def _png_options(record: str | None, kept: Kept, *, marked: bool) -> dict[str, Any]:
    chunks = PngImagePlugin.PngInfo()
    if marked:
        chunks.add(b"sRGB", b"\0")  # perceptual
    if record is not None:
        chunks.add_itxt(RECORD_KEY, record)
    if kept.xmp:
        chunks.add_itxt(_XMP_KEY, kept.xmp.decode("utf-8", errors="replace"))
    for key, text in kept.texts:
        chunks.add_itxt(key, text)
    exif = kept.exif_for("PNG")
    return {"pnginfo": chunks, **({"exif": exif} if exif else {})}


def _jpeg_options(format_name: str, record: str | None, kept: Kept) -> dict[str, Any]:
    exif = kept.exif_for(format_name)
    if record is not None:
        exif[_EXIF_IFD] = {**exif.get_ifd(_EXIF_IFD), _USER_COMMENT: _to_comment(record)}
    if kept.dpi and format_name == "WEBP":
        exif[282], exif[283], exif[296] = *kept.dpi, 2  # inches
    options: dict[str, Any] = {"exif": exif} if exif or record is not None else {}
    if kept.xmp and kept._holds_xmp(format_name):
        options["xmp"] = kept.xmp
    comment = dict(kept.texts).get(_COMMENT)
    if comment and format_name == "JPEG":
        options["comment"] = comment.encode()[:65_000]
    return options


def _tiff_options(record: str | None, kept: Kept) -> dict[str, Any]:
    """Pillow cannot write the EXIF folder of a compressed TIFF: with one the TIFF is not compressed, and
    without one the record stands among the main tags.
    """
    exif = kept.exif_for("TIFF")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in set(exif) & set(_ABOUT):
        tags[tag] = exif[tag]
    folder = {**exif.get_ifd(_EXIF_IFD)}
    place = folder if folder else tags
    if kept.xmp:
        tags.tagtype[_XMP] = _BYTES
        tags[_XMP] = kept.xmp
    if record is not None:
        tags.tagtype[_USER_COMMENT] = _BYTES  # the standard says UNDEFINED, which Pillow 10 cuts off
        place[_USER_COMMENT] = _to_comment(record)
    if folder:
        tags[_EXIF_IFD] = folder
    return {"tiffinfo": tags, **({} if folder else {"compression": "tiff_deflate"})}


def _to_comment(record: str) -> bytes:
    """``record`` as the EXIF standard writes a UserComment: eight bytes name the encoding."""
    text = _MARK + record
    return _ASCII + text.encode("ascii") if text.isascii() else _UNICODE + text.encode("utf-16-be")


def _from_comment(comment: Any) -> str | None:
    """The record in an EXIF UserComment, or None."""
    if not isinstance(comment, bytes):
        return None
    encoding = "utf-16-be" if comment.startswith(_UNICODE) else "utf-8"
    return _marked(comment[8:].decode(encoding, errors="replace"))


def _marked(text: str) -> str | None:
    return text.removeprefix(_MARK) if text.startswith(_MARK) else None


def _record_in_tiff(data: bytes) -> str | None:
    """The record in the first page of a TIFF of any kind."""
    tags = tiff.directory(data)
    folder = tiff.directory(data, tags[_EXIF_IFD]) if _EXIF_IFD in tags else {}
    return _from_comment(folder.get(_USER_COMMENT)) or _from_comment(tags.get(_USER_COMMENT))


def _find_record(image: Image.Image) -> str | None:
    """The record among what has been read of ``image``, or None."""
    chunk = image.info.get(RECORD_KEY)
    if image.format == "PNG":
        return str(chunk) if isinstance(chunk, str) else None
    if image.format == "GIF":
        comment = image.info.get("comment", b"")
        return _marked(comment.decode("utf-8", errors="replace")) if isinstance(comment, bytes) else None
    exif = image.getexif()
    return _from_comment(exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT) or exif.get(_USER_COMMENT))
