"""Pictures of all formats and sizes, and files that are broken in every way, for the soak beside this file."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, features


@dataclass(frozen=True)
class Format:
    """How files are called, Pillow's name of the format, the modes of pictures in it, options for ``save``, how many
    pictures are in one file, and how long their sides are at least.
    """

    suffix: str
    name: str
    modes: tuple[str, ...] = ("RGB",)
    options: Mapping[str, Any] = field(default_factory=dict)
    pictures: int = 1
    least: int = 1


def _exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "a camera", 6  # who made it; turned by 90 degrees
    return tags


FORMATS = (
    Format(".png", "PNG", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    Format("", "PNG", ("RGB", "RGBA")),
    Format(".apng", "PNG", ("RGB", "RGBA"), {"duration": 40}, 3),
    Format(".jpg", "JPEG", ("L", "RGB", "CMYK")),
    Format(".JPG", "JPEG", ("RGB",), {"exif": _exif()}),
    Format(".jfif", "JPEG", ("RGB",), {"progressive": True}),
    Format(".jpe", "JPEG", ("RGB",), {"quality": 30}),
    Format(".mpo", "MPO", ("RGB",), {}, 2),
    Format(".webp", "WEBP", ("RGB", "RGBA")),
    Format(".webp", "WEBP", ("RGB",), {"duration": 40}, 3),
    Format(".gif", "GIF", ("L", "P")),
    Format(".GIF", "GIF", ("P",), {"duration": 40, "loop": 0}, 4),
    Format(".bmp", "BMP", ("1", "L", "RGB")),
    Format(".dib", "DIB", ("L", "RGB")),
    Format(".ico", "ICO", ("RGBA",), {"sizes": [(16, 16)]}, least=16),
    Format(".tga", "TGA", ("L", "RGB", "RGBA")),
    Format(".tif", "TIFF", ("1", "L", "RGB", "RGBA", "CMYK", "I;16")),
    Format(".tif", "TIFF", ("L", "RGB", "CMYK"), {"big_tiff": True, "exif": _exif()}),
    Format(".tiff", "TIFF", ("L", "RGB"), {}, 3),
    Format(".ppm", "PPM", ("1", "L", "RGB")),
    *([Format(".avif", "AVIF", ("RGB", "RGBA"))] if features.check("avif") else []),
    *([Format(".jp2", "JPEG2000", ("RGB",))] if features.check("jpg_2000") else []),
    *([Format(".heic", "HEIF", ("RGB", "RGBA"))] if find_spec("pillow_heif") else []),
)


def picture(chance: random.Random, format_: Format) -> bytes:
    """The bytes of a sound file of that format, of some mode and size."""
    mode, longest = chance.choice(format_.modes), chance.choice((8, 64, 200, 200, 900))
    size = _side(chance, format_, longest), _side(chance, format_, longest)
    if chance.random() < 0.01:
        size = 13_400, size[1] % 40 + format_.least
    first, *rest = (_image(chance, mode, size) for _ in range(format_.pictures))
    more = {"save_all": True, "append_images": rest} if rest else {}
    if format_.name == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    stream = BytesIO()
    first.save(stream, format_.name, **format_.options, **more)
    return stream.getvalue()


def _side(chance: random.Random, format_: Format, longest: int) -> int:
    return chance.randint(format_.least, max(format_.least, longest))


def _image(chance: random.Random, mode: str, size: tuple[int, int]) -> Image.Image:
    small = Image.frombytes("RGB", (4, 4), chance.randbytes(48)).resize(size)
    if mode != "I;16":
        return small.convert(mode)
    values = small.convert("L").tobytes()
    return Image.frombytes("I;16", size, b"".join(value.to_bytes(2, "little") for value in values))


def bomb() -> bytes:
    """A few bytes that claim to be 3.6 gigapixels."""
    stream = BytesIO()
    Image.new("L", (1, 1)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def not_a_number() -> bytes:
    """A TIFF of floats that are none."""
    stream = BytesIO()
    Image.frombytes("F", (16, 16), b"\0\0\xc0\x7f" * 256).save(stream, "TIFF")
    return stream.getvalue()


def _cut(path: Path, chance: random.Random) -> None:
    stream = BytesIO()
    image = Image.frombytes("RGB", (80, 80), chance.randbytes(19_200))
    image.save(stream, chance.choice(("PNG", "JPEG", "BMP", "WEBP")), quality=95)
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) // 3])


def _damaged(path: Path, chance: random.Random) -> None:
    """A PNG with one bit of its pixels turned, which its check sums tell."""
    stream = BytesIO()
    Image.frombytes("RGB", (40, 40), chance.randbytes(4800)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def _unreadable(path: Path, chance: random.Random) -> None:
    Image.new("RGB", (9, 9)).save(path, "PNG")
    path.chmod(0)


def _huge(path: Path, chance: random.Random) -> None:
    """20 GB, of which the disk holds nothing."""
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(20_000_000_000)


def _locked(path: Path, chance: random.Random) -> None:
    path.mkdir()
    Image.new("RGB", (9, 9)).save(path / "inner.png")
    path.chmod(0)


Make = Callable[[Path, random.Random], object]
BROKEN: dict[str, Make] = {
    "cut": _cut,
    "damaged": _damaged,
    "bomb": lambda path, _: path.write_bytes(bomb()),
    "text": lambda path, _: path.write_text("this is no picture\n"),
    "noise": lambda path, chance: path.write_bytes(chance.randbytes(5000)),
    "empty": lambda path, _: path.write_bytes(b""),
    "unreadable": _unreadable,
    "not a number": lambda path, _: path.write_bytes(not_a_number()),
    "huge": _huge,
    "long name": lambda path, _: Image.new("RGB", (9, 9)).save(path, "PNG"),
}
"""Files called as pictures that fail, each with its reason."""
NO_FILES: dict[str, Make] = {
    "pipe": lambda path, _: os.mkfifo(path),
    "dangling link": lambda path, _: path.symlink_to("nowhere.png"),
    "link in a circle": lambda path, _: path.symlink_to(path.name),
    "folder": lambda path, _: path.mkdir(),
    "locked folder": _locked,
    "no picture": lambda path, _: path.write_text("this is no picture\n"),
    "hidden": lambda path, _: Image.new("RGB", (9, 9)).save(path, "PNG"),
    "unknown picture": lambda path, _: path.write_bytes(b"\x76\x2f\x31\x01" + bytes(100)),
    "unfinished": lambda path, _: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
}
"""What is called as a picture and is no file, or is none that is taken: passed by."""
CALLED = {
    "long name": "{n}" + "x" * 251,
    "no picture": "notes{n}.txt",
    "hidden": ".hidden{n}.png",
    "unknown picture": "bad{n}.exr",
    "unfinished": "bad{n}.png.part",
}
"""What files of :data:`BROKEN` and :data:`NO_FILES` are called, where that is not ``bad{n}.png``."""
NAMES = (
    "good{n}",
    "with space {n}",
    "\x1b[31mred{n}",
    "-dash{n}",
    "ümlaut{n} 🦊",
    "{n}" + "x" * 200,
    "good{n}.tar",
    "new\nline{n}",
    "no text\udcff{n}",
)
"""What files are called, before the suffix."""
