"""What kind of picture a file is: told from its bytes, cheaply, and without a wrong word."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from ilvrctl import paths
from ilvrctl.errors import InputError
from ilvrctl.images import kinds
from ilvrctl.images.io import open_picture, read_picture
from ilvrctl.images.kinds import HEAD, TAIL, Kind, kind_of, recognise

SHADES = Image.merge(
    "RGB",
    [Image.linear_gradient("L").resize((40, 30)).transpose(turn) for turn in (0, 1, 3)],  # type: ignore[arg-type]
)


def encoded(format_name: str, image: Image.Image = SHADES, **options: object) -> bytes:
    content = BytesIO()
    image.save(content, format_name, **options)
    return content.getvalue()


def several(format_name: str, **options: object) -> bytes:
    return encoded(format_name, save_all=True, append_images=[SHADES.rotate(180)], **options)


def dib() -> bytes:
    return encoded("DIB")


WRITTEN = {
    "JPEG": [encoded("JPEG")],
    "MPO": [several("MPO")],
    "PNG": [encoded("PNG"), encoded("PNG", SHADES.convert("1"))],
    "APNG": [several("PNG")],
    "GIF": [encoded("GIF"), several("GIF")],
    "WebP": [encoded("WEBP"), several("WEBP")],
    "BMP": [encoded("BMP"), encoded("BMP", SHADES.convert("1")), encoded("BMP", SHADES.convert("RGBA"))],
    "DIB": [dib()],
    "TIFF": [encoded("TIFF"), several("TIFF")],
    "BigTIFF": [encoded("TIFF", big_tiff=True)],
    "PPM": [encoded("PPM"), b"P3 2 1 255\n255 0 0  0 0 255\n", b"P6\n# by hand\n1 1\n255\nabc"],
    "PGM": [encoded("PPM", SHADES.convert("L")), b"P5 2 1 4095\n\0\0\x0f\xff", b"P2\n1 1\n255\n7\n"],
    "PBM": [encoded("PPM", SHADES.convert("1")), b"P1\n2 2\n1 0 0 1\n"],
    "PFM": [encoded("PPM", SHADES.convert("F")), b"PF\n1 1\n-1.0\n" + struct.pack("<3f", 1, 0, 0.5)],
    "AVIF": [encoded("AVIF"), several("AVIF")],
    "JPEG 2000": [encoded("JPEG2000"), encoded("JPEG2000", no_jp2=True)],
    "ICO": [encoded("ICO")],
    "TGA": [encoded("TGA"), encoded("TGA", SHADES.convert("L")), encoded("TGA", compression="tga_rle")],
}
SINGLES = [(name, data) for name, every in WRITTEN.items() for data in every]


@pytest.mark.parametrize(("name", "data"), SINGLES, ids=[f"{n}-{k}" for k, (n, _) in enumerate(SINGLES)])
def test_every_kind_is_recognised_by_a_few_bytes_and_then_read(name: str, data: bytes) -> None:
    kind = recognise(data[:HEAD], data[-TAIL:])
    assert kind is not None
    assert (kind.name, kind.readable, kind.extra) == (name, True, None)
    picture = read_picture(data, "a")
    assert picture.image.mode == "RGB"
    if picture.image.size == SHADES.size:
        small, truth = (image.convert("L").reduce(10) for image in (picture.image, SHADES))
        assert max(ImageChops.difference(small, truth).getextrema()) < 25  # some have two colours


def test_the_examples_of_the_package_are_recognised() -> None:
    files = [file for folder in (paths.PHOTOS, paths.EXAMPLES) for file in folder.rglob("*.jpg")]
    assert files
    assert {str(kind_of(file)) for file in files} == {"a JPEG picture"}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0", "JPEG XL"),
        (b"\xff\x0a\xfa\x1f\x01", "JPEG XL"),
    ],
)
def test_modern_kinds_are_told_with_the_extra_that_reads_them(
    data: bytes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds._works.cache_clear()
    monkeypatch.setattr(kinds, "find_spec", lambda _: None)
    try:
        kind = recognise(data)
        assert kind is not None
        assert kind.name == name
        if name == "AVIF":
            return
        extra = "jxl" if name == "JPEG XL" else "heic"
        assert (kind.readable, kind.extra) == (False, extra)
        with pytest.raises(
            InputError, match=f"is a {name} picture, which needs the extra '{extra}'"
        ) as caught:
            open_picture(data, "a.png")
        assert caught.value.hint == f"pip install 'ilvrctl[{extra}]'"
    finally:
        kinds._works.cache_clear()


@pytest.mark.parametrize(("plugin", "package"), [("HEIF", "pillow_heif"), ("JXL", "pillow_jxl")])
def test_pictures_of_the_extras_are_read(plugin: str, package: str) -> None:
    pytest.importorskip(package)
    kind = Kind("any", plugins=(plugin,))
    kinds.enable(kind)
    data = encoded(plugin)
    assert recognise(data[:HEAD]) is not None
    picture = read_picture(data, "a.png")
    assert picture.image.size == SHADES.size
    assert picture.frames == 1


NOT_PICTURES = [
    b"",
    b"\xff\xd8",
    b"BM",
    b"BMW is a car and this is a text about it, long enough to have a header",
    b"P5 and P6 are formats",
    b"P6",
    b"GIF8",
    b"RIFF\0\0\0\0WAVEfmt ",
    b"\0\0\0\x20ftypisom\0\0\2\0isomiso2",
    b"\0\0\1\xba\x44" + bytes(30),  # a video
    b"\0\0\2\0\1\0" + bytes(30),  # a cursor
    b"%PDF-1.7\n",
    b"PK\x03\x04" + bytes(30),
    bytes(1000),
    b"<svg xmlns=''>",
    b"\x7fELF\2\1\1\0" + bytes(100),
    b"SQLite format 3\0",
    b"P7 is no format that follows",
]


@pytest.mark.parametrize("data", NOT_PICTURES)
def test_what_is_no_picture_is_none(data: bytes) -> None:
    assert recognise(data[:HEAD], data[-TAIL:]) is None


@given(st.binary(max_size=HEAD), st.binary(max_size=TAIL))
@settings(max_examples=300, deadline=None)
def test_any_bytes_have_a_kind_or_none(head: bytes, tail: bytes) -> None:
    kind = recognise(head, tail)
    assert kind is None or isinstance(kind, Kind)


def test_programs_and_texts_of_this_machine_are_no_pictures() -> None:
    wrong = []
    for folder in (Path(sys.prefix), Path("/usr/bin"), Path("/usr/lib"), Path(os.__file__).parent):
        for count, file in enumerate(folder.rglob("*")):
            if count > 3000:
                break
            suffixes = (".py", ".pyc", ".so", ".txt", ".md", ".c", ".h", ".json", ".a", "")
            if file.suffix in suffixes and file.is_file() and os.access(file, os.R_OK):
                try:
                    kind = kind_of(file)
                except OSError:
                    continue
                if kind is not None and kind.name not in ("PNG", "JPEG", "GIF", "TIFF"):
                    wrong.append((file, kind))
    assert not wrong


def test_fifos_devices_and_folders_are_not_opened_for_reading(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    found: list[Kind | None] = []
    thread = threading.Thread(target=lambda: found.append(kind_of(fifo)), daemon=True)
    thread.start()
    thread.join(5)
    assert found == [None]
    assert kind_of(Path("/dev/zero")) is None
    with pytest.raises(OSError, match=r"."):
        kind_of(tmp_path / "none.png")


def test_recognising_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, ilvrctl.images.kinds as k; k.recognise(b'RIFF0000WEBP'); "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'tifffile')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
