"""Reading: whatever a file holds, what comes out is an upright 8-bit RGB picture."""

from __future__ import annotations

import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from PIL import Image, ImageChops

from ilvrctl.images.io import PICTURE_SUFFIXES, open_picture

WHITE = (255, 255, 255)


def encoded(image: Image.Image, format_name: str, **options: object) -> bytes:
    content = BytesIO()
    image.save(content, format_name, **options)
    return content.getvalue()


def colours() -> Image.Image:
    """Four coloured quarters: red, green / blue, white."""
    image = Image.new("RGB", (32, 24), "white")
    image.paste((200, 30, 30), (0, 0, 16, 12))
    image.paste((30, 160, 40), (16, 0, 32, 12))
    image.paste((30, 40, 190), (0, 12, 16, 24))
    return image


def worst_difference(a: Image.Image, b: Image.Image) -> int:
    return max(high for _, high in ImageChops.difference(a, b).getextrema())


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = (
        png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


def grey_tiff(values: tuple[float, ...], kind: str, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A one-row little-endian TIFF of grey ``values``, packed as the struct format ``kind``."""
    pixels = struct.pack(f"<{len(values)}{kind}", *values)
    bits = 8 * struct.calcsize(kind)
    short, long = 3, 4
    tags = [(256, short, len(values)), (257, short, 1), (258, short, bits), (259, short, 1)]
    tags += [(262, short, photometric), (273, long, 134), (277, short, 1), (278, short, 1)]
    tags += [(279, long, len(pixels)), (339, short, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, type_, 1, value) for tag, type_, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + pixels


def levels(data: bytes) -> list[int]:
    """The red channel of the picture, which for grey pictures is the grey."""
    image = open_picture(data, "grey")
    assert image.getchannel("R").tobytes() == image.getchannel("B").tobytes()
    return list(image.getchannel("R").tobytes())


@pytest.mark.parametrize("format_name", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_lossless_formats_give_exactly_the_rgb_of_every_mode(format_name: str, mode: str) -> None:
    source = colours().convert(mode)
    image = open_picture(encoded(source, format_name), "a")
    assert image.mode == "RGB"
    assert image.tobytes() == source.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("format_name", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, 12),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 12),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 100),
        ("GIF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_deflate"}, 0),
    ],
)
def test_compressed_formats_are_read(format_name: str, options: dict[str, object], tolerance: int) -> None:
    image = open_picture(encoded(colours(), format_name, **options), "a")
    assert worst_difference(image, colours()) <= tolerance


def test_the_suffixes_are_lower_case_and_cover_the_usual_pictures() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"} == PICTURE_SUFFIXES


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format_name: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = colours().transpose(undo[orientation]) if orientation in undo else colours()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format_name, {})
    image = open_picture(encoded(stored, format_name, exif=exif, **options), "a")
    assert image.size == (32, 24)
    assert worst_difference(image, colours()) <= (12 if format_name == "JPEG" else 0)


def test_a_broken_exif_block_does_not_spoil_the_picture() -> None:
    data = encoded(colours(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert open_picture(data, "a").size == (32, 24)


def test_nothing_of_the_metadata_is_kept() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    image = open_picture(encoded(colours(), "JPEG", exif=exif, dpi=(300, 300), icc_profile=b"profile"), "a")
    assert image.info == {}
    assert not dict(image.getexif())


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("background", [WHITE, (10, 200, 30)])
def test_transparency_is_composed_on_the_background(
    format_name: str, background: tuple[int, int, int]
) -> None:
    source = Image.new("RGBA", (3, 1), (250, 0, 100, 255))
    source.putpixel((1, 0), (250, 0, 100, 0))
    source.putpixel((2, 0), (250, 0, 100, 51))
    options = {"lossless": True, "exact": True} if format_name == "WEBP" else {}
    image = open_picture(encoded(source, format_name, **options), "a", background=background)
    assert image.getpixel((0, 0)) == (250, 0, 100)
    assert image.getpixel((1, 0)) == background
    for got, ink, paper in zip(image.getpixel((2, 0)), (250, 0, 100), background, strict=True):
        assert abs(got - (0.2 * ink + 0.8 * paper)) <= 1


def test_grey_with_alpha_is_composed_too() -> None:
    source = Image.new("LA", (2, 1), (80, 255))
    source.putpixel((1, 0), (80, 0))
    image = open_picture(encoded(source, "PNG"), "a", background=(1, 2, 3))
    assert image.tobytes() == bytes([80, 80, 80, 1, 2, 3])


def test_a_transparent_palette_entry_shows_the_background() -> None:
    source = Image.new("P", (2, 1))
    source.putpalette([9, 8, 7, 250, 250, 0])
    source.putpixel((1, 0), 1)
    for format_name in ("PNG", "GIF"):
        data = encoded(source, format_name, transparency=1)
        assert open_picture(data, "a", background=(0, 0, 255)).tobytes() == bytes([9, 8, 7, 0, 0, 255])


def test_palette_entries_may_be_half_transparent() -> None:
    palette = png_chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0])) + png_chunk(b"tRNS", bytes([0, 255]))
    data = png(2, 1, 8, 3, b"\0\0\1", palette)
    assert open_picture(data, "a").tobytes() == bytes([255, 255, 255, 0, 255, 0])


@pytest.mark.parametrize(
    ("depth", "colour_type", "row", "key"),
    [
        (8, 0, struct.pack(">2B", 16, 200), struct.pack(">H", 200)),
        (16, 0, struct.pack(">2H", 16 * 257, 51400), struct.pack(">H", 51400)),
        (8, 2, bytes([16, 16, 16, 1, 2, 3]), struct.pack(">3H", 1, 2, 3)),
    ],
)
def test_a_transparent_colour_shows_the_background(
    depth: int, colour_type: int, row: bytes, key: bytes
) -> None:
    data = png(2, 1, depth, colour_type, b"\0" + row, png_chunk(b"tRNS", key))
    assert open_picture(data, "a", background=(255, 0, 9)).tobytes() == bytes([16, 16, 16, 255, 0, 9])


def test_16_bit_grey_png_is_scaled_and_not_clipped() -> None:
    values = range(0, 65536, 13)
    data = png(len(values), 1, 16, 0, b"\0" + struct.pack(f">{len(values)}H", *values))
    assert levels(data) == [round(value / 257) for value in values]


def test_16_bit_colour_png_is_read() -> None:
    row = struct.pack(">3H", 0, 128 * 257, 65535)
    assert open_picture(png(1, 1, 16, 2, b"\0" + row), "a").getpixel((0, 0)) == (0, 128, 255)
    row = struct.pack(">4H", 0, 128 * 257, 65535, 65535)
    assert open_picture(png(1, 1, 16, 6, b"\0" + row), "a").getpixel((0, 0)) == (0, 128, 255)


def test_deep_grey_tiff_is_scaled_by_what_its_values_reach() -> None:
    assert levels(grey_tiff((0, 257, 32896, 65535), "H")) == [0, 1, 128, 255]
    assert levels(grey_tiff((0, 100, 255), "I")) == [0, 100, 255]
    assert levels(grey_tiff((0, 32896, 65535), "I")) == [0, 128, 255]
    assert levels(grey_tiff((0, 2**31, 2**32 - 1), "I")) == [0, 128, 255]
    assert levels(grey_tiff((0, 2**30, 2**31 - 1), "i", sample_format=2)) == [0, 128, 255]
    assert levels(grey_tiff((-(2**31), 0, 2**31 - 1), "i", sample_format=2)) == [0, 128, 255]


def test_float_grey_tiff_is_scaled_by_what_its_values_reach() -> None:
    assert levels(grey_tiff((-0.5, 0.0, 0.25, 1.0, 1.25), "f", sample_format=3)) == [0, 0, 64, 255, 255]
    assert levels(grey_tiff((0.0, 99.6, 255.0), "f", sample_format=3)) == [0, 100, 255]
    assert levels(grey_tiff((0.0, 32896.0, 65535.0), "f", sample_format=3)) == [0, 128, 255]


def test_deep_grey_tiff_in_which_zero_is_white() -> None:
    assert levels(grey_tiff((0, 257, 65535), "H", photometric=0)) == [255, 254, 0]


def test_cmyk_jpeg_keeps_its_colours() -> None:
    source = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for data in (encoded(source, "JPEG", quality=95), encoded(source, "TIFF")):
        red, green, blue = open_picture(data, "a").getpixel((8, 8))
        assert red > 240
        assert max(green, blue) < 15


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(format_name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = encoded(frames[0], format_name, save_all=True, append_images=frames[1:], duration=50, **options)
    assert Image.open(BytesIO(data)).n_frames == 3
    assert open_picture(data, "a").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_pillows_own_pixel_limit_neither_warns_nor_stops_and_stays_in_place(
    format_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(colours(), format_name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # warns above 500, stops above 1000; this has 768
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_picture(data, "a").size == (32, 24)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert open_picture(data, "a").size == (32, 24)
    assert Image.MAX_IMAGE_PIXELS == 50


def test_reading_in_threads_gives_the_same_and_restores_pillows_limit() -> None:
    before = Image.MAX_IMAGE_PIXELS
    pictures = [encoded(Image.new("RGB", (64, 64), (i, 0, 0)), "PNG") for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        reds = list(pool.map(lambda data: open_picture(data, "a").getpixel((0, 0))[0], pictures))
    assert reds == list(range(40))
    assert before == Image.MAX_IMAGE_PIXELS


def test_reading_and_writing_pictures_does_not_import_torch() -> None:
    modules = ", ".join(
        f"ilvrctl.images.{name}" for name in ("io", "metadata", "geometry", "sheets", "tensors")
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
