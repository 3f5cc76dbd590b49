"""A photo's own pixels, at their depth and in their colours: painted into, and written as they are."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image, TiffImagePlugin

from ilvrctl.images import png
from ilvrctl.images.colour import Profile
from ilvrctl.images.deep import Deep, Range
from ilvrctl.images.tiff import can_read_all

_HOLD = {
    "PNG": ("L", "LA", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK"),
}
"""Formats with a place for a profile, and the modes in which they hold pixels as they are."""
_EXIF_IFD = 34665


@dataclass(frozen=True)
class Own:
    """Pixels of 8 bits in mode L, RGB or CMYK with their opacity ``alpha``, or deep ones, whose black and white
    ``levels`` tell. ``profile`` None: sRGB.
    """

    pixels: Image.Image | Deep
    profile: Profile | None
    alpha: Image.Image | None = None
    levels: Range = (0.0, 255.0)

    @property
    def is_deep(self) -> bool:
        """Whether they have more than 8 bits."""
        return isinstance(self.pixels, Deep)

    def paste(self, part: Image.Image, at: tuple[int, int], mask: Image.Image) -> None:
        """Blend ``part``, in sRGB, into them at (left, top); where ``mask`` is 0 nothing changes.

        UnusableProfileError when the profile has no way back from sRGB.
        """
        part = part if self.profile is None else self.profile.from_srgb(part)
        part = part.convert(self.pixels.mode)
        if isinstance(self.pixels, Deep):
            self.pixels.paste(part, at, mask, self.levels)
        else:
            self.pixels.paste(part, at, mask)

    def fits(self, format_name: str) -> bool:
        """Whether a format, as Pillow names it, holds them as they are."""
        if format_name not in _HOLD:
            return False
        pixels = self.pixels
        if not isinstance(pixels, Deep):
            alpha = "" if self.alpha is None else "A"
            return pixels.mode + alpha in _HOLD[format_name]
        if format_name == "PNG":
            whole = pixels.full is not None and pixels.full[0] == 0 and pixels.bits <= 16
            return whole and pixels.model != "cmyk"
        return format_name == "TIFF" and can_read_all()

    def __str__(self) -> str:
        depth = f"depth ({self.pixels})" if isinstance(self.pixels, Deep) else ""
        colours = f"colour profile ({self.profile.name})" if self.profile is not None else ""
        return " and ".join(part for part in (depth, colours) if part)

    def as_image(self) -> Image.Image:
        """Those of 8 bits, with their opacity."""
        assert isinstance(self.pixels, Image.Image)
        image = self.pixels.copy()
        image.info = {}
        if self.alpha is not None:
            image.putalpha(self.alpha)
        return image


def deep_png(deep: Deep, options: dict[str, Any]) -> bytes:
    """A PNG of 16 bits; ``options`` as for Pillow's ``save``, which makes all of it but the pixels.

    Numbers of fewer bits are scaled up to 16, which loses none of them. Where 0 is white they are turned round, and
    colours that are multiplied by the opacity are divided by it: PNG has no other.
    """
    import numpy as np

    assert deep.full is not None
    height, width, channels = deep.array.shape
    bands = [deep.plain(k) for k in range(len(deep.mode))]
    bands = [deep.full[1] - band if deep.negative else band for band in bands]
    array = np.stack([*bands, deep.array[..., -1]] if deep.alpha else bands, axis=-1)
    array = _scaled(array, deep.full[1]).astype(">u2")
    frame = BytesIO()
    Image.new("RGB", (1, 1)).save(frame, "PNG", **options)
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = np.frombuffer(array.tobytes(), np.uint8).reshape(height, -1)
    differences = rows.copy()
    differences[:, 2 * channels :] -= rows[:, : -2 * channels]  # to the left, which packs well
    packed = zlib.compress(np.insert(differences, 0, 1, axis=1).tobytes(), 6)
    content = [png.MARK]
    for kind, data in png.chunks(frame.getvalue()):
        if kind == b"IHDR":
            data = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
        content.append(png.chunk(kind, packed if kind == b"IDAT" else data))
    return b"".join(content)


def _scaled(array: Any, white: float) -> Any:
    """Whole numbers up to ``white`` as such of 16 bits."""
    import numpy as np

    return np.clip(np.round(array.astype(np.float64) * (65535 / white)), 0, 65535).astype(np.uint16)


def deep_tiff(deep: Deep, options: dict[str, Any]) -> bytes:
    """A TIFF of any depth; of ``options`` for Pillow's ``save`` it takes ``tiffinfo``, ``icc_profile`` and
    ``dpi``.
    """
    import tifffile

    info = options.get("tiffinfo", {})
    folder = info.get(_EXIF_IFD)
    tags = [_tag(info, tag) for tag in info if tag != _EXIF_IFD]
    colours = {"grey": "miniswhite" if deep.negative else "minisblack", "rgb": "rgb", "cmyk": "separated"}
    dpi = options.get("dpi")
    packed = deep.bits if deep.bits not in (8, 16, 32, 64) else None
    array = deep.array if deep.array.shape[2] > 1 else deep.array[..., 0]
    if packed and deep.full is not None and not _packs():
        array, packed = _scaled(array, deep.full[1]), None
    content = BytesIO()
    tifffile.imwrite(
        content,
        array,
        byteorder="<",
        photometric=colours[deep.model],
        planarconfig="contig" if deep.array.shape[2] > 1 else None,
        extrasamples=[1 if deep.premultiplied else 2] if deep.alpha else None,
        bitspersample=packed,
        compression=None if packed else "zlib",
        iccprofile=options.get("icc_profile"),
        resolution=dpi,
        resolutionunit=2 if dpi else None,
        metadata=None,
        software=False,
        extratags=tags,
    )
    return _with_folder(content.getvalue(), folder)


def _packs() -> bool:
    """Whether imagecodecs packs numbers of odd bits; for Python 3.10 there is no release that does."""
    import imagecodecs
    import numpy as np

    try:
        imagecodecs.packints_encode(np.zeros(8, np.uint16), 12)
    except NotImplementedError:
        return False
    return True


def _tag(info: Any, tag: int) -> tuple[int, int, int, Any, bool]:
    """A tag of text, bytes or whole numbers for tifffile."""
    value = info[tag]
    if isinstance(value, str):
        return tag, 2, 0, value, True
    if isinstance(value, bytes):
        return tag, 1, len(value), value, True
    values = value if isinstance(value, tuple) else (value,)
    return tag, 4, len(values), value, True


def _with_folder(data: bytes, folder: Any) -> bytes:
    """A little-endian TIFF of one page with a folder of EXIF tags, which tifffile does not write."""
    if not folder or not data.startswith(b"II*\0"):
        return data
    [at] = struct.unpack_from("<I", data, 4)
    [count] = struct.unpack_from("<H", data, at)
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    tags.update(folder)
    place = len(data) + len(data) % 2
    inner = tags.tobytes(place)
    inner += bytes(len(inner) % 2)
    entries = [data[at + 2 + 12 * k : at + 14 + 12 * k] for k in range(count)]
    entries.append(struct.pack("<HHII", _EXIF_IFD, 4, 1, place))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    header = b"II*\0" + struct.pack("<I", place + len(inner))
    main = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return header + data[8:].ljust(place - 8, b"\0") + inner + main
