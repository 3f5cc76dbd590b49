"""JPEG of more than 8 bits, which Pillow does not read."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ilvrctl.errors import InputError
from ilvrctl.images import tiff
from ilvrctl.images.deep import Deep, full_range
from ilvrctl.images.kinds import install

_NO_FRAMES = (0xC4, 0xC8, 0xCC)
LOSSLESS_LS = 0xF7
_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"


@dataclass(frozen=True)
class Header:
    """What stands before the pixels: ``precision`` in bits, ``size``, ``channels``, EXIF and colour profile."""

    process: int
    precision: int
    size: tuple[int, int]
    channels: int
    exif: bytes
    icc: bytes

    @classmethod
    def read(cls, data: bytes) -> Header | None:
        """That of a JPEG; None where no frame is found."""
        at, exif, icc = 2, b"", b""
        while data[at : at + 1] == b"\xff" and at + 10 < len(data):
            marker, content = (
                data[at + 1],
                data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")],
            )
            if content.startswith(_EXIF):
                exif = content
            elif content.startswith(_ICC):
                icc += content[len(_ICC) + 2 :]
            elif (0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES) or marker == LOSSLESS_LS:
                height, width = (int.from_bytes(content[n : n + 2], "big") for n in (1, 3))
                return cls(marker, content[0], (width, height), content[5], exif, icc)
            at += 2 + len(content) + 2
        return None

    @property
    def orientation(self) -> int:
        """As EXIF tells it; 1 where it does not."""
        exif = Image.Exif()
        exif.load(self.exif)
        found = exif.get(0x0112, 1)
        return found if isinstance(found, int) else 1


def read(data: bytes, header: Header, name: str) -> Deep:
    """All its bits. InputError for kinds that are not read, and where the extra for it is not installed."""
    if header.process == LOSSLESS_LS or header.channels not in (1, 3):
        what = "a JPEG-LS" if header.process == LOSSLESS_LS else f"a JPEG of {header.precision} bits in CMYK"
        raise InputError(f"{name} is {what}, which ilvrctl does not read", "convert it to PNG or TIFF first")
    if not tiff.can_read_all():
        what = f"{name} is a JPEG of {header.precision} bits, which needs the extra 'tiff'"
        raise InputError(what, install("tiff"))
    import imagecodecs

    array = imagecodecs.jpeg_decode(data)
    array = array[..., None] if array.ndim == 2 else array
    full = full_range(header.precision, signed=False)
    deep = Deep("grey" if array.shape[2] == 1 else "rgb", full, array, bits=header.precision)
    return deep.turned(header.orientation)
