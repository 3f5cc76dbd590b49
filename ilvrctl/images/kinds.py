"""What kind of picture a file is, told from its first bytes and never from its name."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

HEAD = 512
"""First bytes of a file that are enough for :func:`recognise`."""
TAIL = 26
"""Last bytes of a file that tell a TGA, which has no mark at its beginning."""


@dataclass(frozen=True)
class Kind:
    """A kind of picture: what people call it, and whether this installation reads it.

    ``extra``: the extra of ilvrctl that reads it, where it is not ``readable`` without one; None when nothing does.
    ``plugins``: Pillow's names of the decoders for it.
    """

    name: str
    readable: bool = True
    extra: str | None = None
    plugins: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'an' if self.name[0] in 'AEIOU' else 'a'} {self.name} picture"

    @property
    def hint(self) -> str:
        """What makes it readable."""
        if self.plugins and not self.extra:
            return "pip install --upgrade pillow, or convert it to PNG or JPEG first"
        return install(self.extra) if self.extra else "convert it to PNG or JPEG first"


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'ilvrctl[{extra}]'"


@dataclass(frozen=True)
class _Row:
    """A kind, the bytes that tell it and where they stand, the decoder's name, and the extra that brings it."""

    name: str
    at: int
    marks: tuple[bytes, ...]
    plugin: str | None = None
    extra: str | None = None


_ISO = 4
_ROWS = (
    _Row("JPEG", 0, (b"\xff\xd8\xff",), "JPEG"),
    _Row("PNG", 0, (b"\x89PNG\r\n\x1a\n",), "PNG"),
    _Row("GIF", 0, (b"GIF87a", b"GIF89a"), "GIF"),
    _Row("WebP", 8, (b"WEBP",), "WEBP"),
    _Row("raw camera", 0, (b"II*\0\x10\0\0\0CR", b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR")),
    _Row("TIFF", 0, (b"II*\0", b"MM\0*"), "TIFF"),
    _Row("BigTIFF", 0, (b"II+\0", b"MM\0+"), "TIFF"),
    _Row("AVIF", _ISO, (b"ftypavif", b"ftypavis"), "AVIF"),
    _Row("HEIC", _ISO, (b"ftyphei", b"ftyphev"), "HEIF", "heic"),
    _Row("HEIF", _ISO, (b"ftypmif1", b"ftypmsf1"), "HEIF", "heic"),
    _Row("raw camera", _ISO, (b"ftypcrx",)),
    _Row("JPEG 2000", 0, (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), "JPEG2000"),
    _Row("JPEG XL", 0, (b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"), "JXL", "jxl"),
    _Row("ICO", 0, (b"\0\0\1\0",), "ICO"),
    _Row("OpenEXR", 0, (b"\x76\x2f\x31\x01",)),
    _Row("Radiance HDR", 0, (b"#?RADIANCE", b"#?RGBE")),
)
_BROUGHT_BY = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}
_FEATURES = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000", "JPEG": "jpg"}
_NETPBM = {
    b"P1": "PBM",
    b"P4": "PBM",
    b"P2": "PGM",
    b"P5": "PGM",
    b"P3": "PPM",
    b"P6": "PPM",
    b"Pf": "PFM",
    b"PF": "PFM",
    b"P7": "PAM",
}


def kind_of(path: Path) -> Kind | None:
    """What kind of picture the file is; None for what is no picture, or no file (FIFOs and devices stay closed).

    Reads at most :data:`HEAD` and :data:`TAIL` bytes. Raises OSError for a file that cannot be opened.
    """
    # A FIFO that takes the file's place after a look at it must not block, hence the flag and the second look.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return None
        head = file.read(HEAD)
        if (kind := recognise(head)) is not None:
            return kind
        file.seek(max(0, found.st_size - TAIL))
        return recognise(head, file.read(TAIL))


def recognise(head: bytes, tail: bytes = b"") -> Kind | None:
    """What kind of picture begins with ``head`` (:data:`HEAD` bytes) and ends with ``tail``; None for no
    picture.
    """
    for row in _ROWS:
        if head[row.at :].startswith(row.marks) and _sound(row, head):
            return _kind(_refined(row, head), row.plugin, row.extra)
    for found in (_bitmap(head), _netpbm(head), _targa(head, tail)):
        if found is not None:
            return found
    return None


def _sound(row: _Row, head: bytes) -> bool:
    """Whether short marks are followed by what must follow them."""
    if row.name == "ICO":
        return head[4:6] != b"\0\0" and len(head) >= 22 and head[9] == 0
    if row.plugin == "WEBP":
        return head.startswith(b"RIFF")
    return True


def _refined(row: _Row, head: bytes) -> str:
    """The name for people, where the mark is that of a family."""
    if row.name == "PNG" and b"acTL" in head:
        return "APNG"
    if row.name == "JPEG" and b"MPF\0" in head:
        return "MPO"
    if row.name == "HEIF" and b"avif" in head[16:64]:
        return "AVIF"
    return row.name


def _kind(name: str, plugin: str | None, extra: str | None = None) -> Kind:
    if name == "AVIF":
        plugin, extra = "AVIF", None
    if plugin is None:
        return Kind(name, readable=False)
    return Kind(name, _works(plugin), extra, (plugin,))


@cache
def _works(plugin: str) -> bool:
    """Whether the decoder is there."""
    if plugin in _BROUGHT_BY:
        return find_spec(_BROUGHT_BY[plugin]) is not None
    from PIL import features

    return plugin not in _FEATURES or bool(features.check(_FEATURES[plugin]))


def _bitmap(head: bytes) -> Kind | None:
    """BMP by its mark and the size of its header; DIB, the same without the mark, by that size and its one
    plane.
    """
    sizes = (12, 16, 40, 52, 56, 64, 108, 124)
    if head.startswith(b"BM") and len(head) >= 18:
        return _kind("BMP", "BMP") if int.from_bytes(head[14:18], "little") in sizes else None
    size = int.from_bytes(head[:4], "little")
    at = 8 if size == 12 else 12
    planes, bits = (int.from_bytes(head[n : n + 2], "little") for n in (at, at + 2))
    plain = size in sizes and planes == 1 and bits in (1, 4, 8, 16, 24, 32)
    return _kind("DIB", "DIB") if plain and any(head[4:8]) else None


def _netpbm(head: bytes) -> Kind | None:
    name = _NETPBM.get(head[:2])
    if name is None or not head[2:3].isspace():
        return None
    rest = head[3:].lstrip()
    if name == "PAM":
        return _kind(name, None) if rest[:1] in b"WHDMTE#" else None
    return _kind(name, "PPM") if rest[:1].isdigit() or rest[:1] == b"#" else None


def _targa(head: bytes, tail: bytes) -> Kind | None:
    """TGA by the mark at its end, or by a header in which every field is one that is written."""
    if len(head) < 18:
        return None
    colours, type_ = head[1], head[2]
    width, height = (int.from_bytes(head[n : n + 2], "little") for n in (12, 14))
    depths = {1: (8,), 2: (16, 24, 32), 3: (8, 16), 9: (8,), 10: (16, 24, 32), 11: (8, 16)}.get(type_, ())
    fits = colours == (type_ in (1, 9)) and head[16] in depths and width > 0 and height > 0
    if fits and tail.startswith(b"TRUEVISION-XFILE.", TAIL - 18):
        return _kind("TGA", "TGA")
    table = head[3:8] if colours == 0 else b""
    alpha = head[17] & 15
    plain = not any(table) and not any(head[8:12]) and not head[17] & 0xC0 and alpha in (0, 8)
    return _kind("TGA", "TGA") if fits and plain and head[0] == 0 and type_ not in (1, 9) else None


def enable(kind: Kind) -> None:
    """Make Pillow know the decoder of a kind that a package beside it brings."""
    load: dict[str, Callable[[], None]] = {"HEIF": _enable_heif, "JXL": _enable_jxl}
    for plugin in kind.plugins:
        load.get(plugin, lambda: None)()


@cache
def _enable_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


@cache
def _enable_jxl() -> None:
    import pillow_jxl  # noqa: F401  (registers itself)
