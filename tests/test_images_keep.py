"""What survives an edit: depth, colours, every pixel that is not painted, and what is told about the picture."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from test_images_colour import SPACES, cmyk_profile
from test_images_deep import packed

from ilvrctl.images import icc, own, tiff
from ilvrctl.images.io import PICTURE_SUFFIXES, encode_picture, read_picture, save_pages, what_is_lost
from ilvrctl.images.metadata import read_record
from ilvrctl.images.photo import Photo, open_photo
from ilvrctl.images.regions import Edit, find_regions

WIDTH, HEIGHT = 80, 60
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([[[HEIGHT - 1]], [[WIDTH - 1]]])
RGB = np.stack([X, Y, (X + Y) / 2], -1)
DEEP = np.round(RGB * 65535).astype(np.uint16)
BYTES = np.round(RGB * 255).astype(np.uint8)
ALPHA = np.concatenate([DEEP, np.full((HEIGHT, WIDTH, 1), 40000, np.uint16)], axis=-1)
PAINT = (250, 40, 90)
RECORD = '{"a": 1}'


def encoded(image: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    content = BytesIO()
    image.save(content, format_name, **options)
    return content.getvalue()


def written(array: np.ndarray, **options: object) -> bytes:
    content = BytesIO()
    tifffile.imwrite(content, array, metadata=None, **options)
    return content.getvalue()


def raw(data: bytes) -> np.ndarray:
    """The numbers in the file, (H, W, channels)."""
    if data[:2] in (b"II", b"MM"):
        with tifffile.TiffFile(BytesIO(data)) as file:
            array = file.pages[0].asarray()
            array = np.moveaxis(array, 0, -1) if file.pages[0].axes == "SYX" else array
    elif data[24] == 16:
        array = imagecodecs.png_decode(data)
    else:
        array = np.asarray(Image.open(BytesIO(data)))
    return array if array.ndim == 3 else array[..., None]


def painted(data: bytes, window: str | None = None) -> Photo:
    """The photo with a square in the middle painted over."""
    mask = Image.new("L", (WIDTH, HEIGHT))
    mask.paste(255, (30, 20, 50, 40))
    photo = open_photo(data, "photo", window=window)
    for region in find_regions(mask, Edit(feather=3), 32):
        photo.put(region, Image.new("RGB", (32, 32), PAINT))
    if photo.alpha is not None:
        photo.rgb.putalpha(photo.alpha)
    return photo


UNTOUCHED = np.ones((HEIGHT, WIDTH), bool)
UNTOUCHED[16:44, 26:54] = False
PHOTOS: dict[str, Callable[[], bytes]] = {
    "png rgb16": lambda: imagecodecs.png_encode(DEEP),
    "png rgba16": lambda: imagecodecs.png_encode(ALPHA),
    "png la16": lambda: imagecodecs.png_encode(ALPHA[..., 2:].copy()),
    "png grey16": lambda: encoded(Image.fromarray(DEEP[..., 0])),
    "tif rgb16": lambda: written(DEEP, photometric="rgb"),
    "tif rgba16": lambda: written(ALPHA, photometric="rgb", extrasamples=["unassalpha"]),
    "tif rgb16 apart": lambda: written(np.moveaxis(DEEP, -1, 0), photometric="rgb", planarconfig="separate"),
    "tif rgb16 adobe": lambda: written(DEEP, photometric="rgb", iccprofile=SPACES["adobe"]),
    "tif rgb16 prophoto": lambda: written(DEEP, photometric="rgb", iccprofile=SPACES["prophoto"]),
    "tif grey16": lambda: written(DEEP[..., 0]),
    "png rgb8 adobe": lambda: encoded(Image.fromarray(BYTES), icc_profile=SPACES["adobe"]),
    "png rgba8 p3": lambda: encoded(
        Image.fromarray(np.dstack([BYTES, BYTES[..., :1]])), icc_profile=SPACES["p3"]
    ),
    "png grey8 gamma": lambda: encoded(
        Image.fromarray(BYTES[..., 0]), icc_profile=icc.grey_profile("g", (1.8,))
    ),
    "png rgb8 srgb": lambda: encoded(Image.fromarray(BYTES), icc_profile=icc.srgb()),
    "png rgb8": lambda: encoded(Image.fromarray(BYTES)),
    "tif rgb8 packed as png": lambda: written(BYTES, photometric="rgb", compression="png"),
    "tif rgba8 apart": lambda: written(
        np.moveaxis(np.dstack([BYTES, BYTES[..., :1]]), -1, 0),
        photometric="rgb",
        planarconfig="separate",
        extrasamples=["unassalpha"],
        iccprofile=SPACES["p3"],
    ),
}
ONLY_TIFF: dict[str, Callable[[], bytes]] = {
    "grey12": lambda: packed(DEEP[..., 0] >> 4, 12),
    "rgb10": lambda: packed(DEEP >> 6, 10),
    "grey16 negative": lambda: written(DEEP[..., 0], photometric="miniswhite"),
    "rgb16 associated": lambda: written(
        np.dstack([DEEP // 2, np.full((HEIGHT, WIDTH), 32768, np.uint16)]),
        photometric="rgb",
        extrasamples=["assocalpha"],
    ),
    "float32": lambda: written(RGB.astype(np.float32), photometric="rgb"),
    "float16": lambda: written(RGB.astype(np.float16), photometric="rgb"),
    "float64": lambda: written(RGB[..., 0]),
    "uint32": lambda: written((RGB[..., 0] * (2**32 - 1)).astype(np.uint32)),
    "int16": lambda: written((RGB[..., 0] * 65535 - 32768).astype(np.int16)),
    "cmyk16": lambda: written(ALPHA, photometric="separated"),
}


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("name", PHOTOS)
def test_every_pixel_that_is_not_painted_keeps_its_bits_and_its_colour(name: str, suffix: str) -> None:
    data = PHOTOS[name]()
    photo = painted(data)
    result = encode_picture(photo.rgb, suffix, RECORD, kept=photo.kept)
    before, after = raw(data), raw(result)
    assert after.dtype == before.dtype
    assert (after[UNTOUCHED] == before[UNTOUCHED]).all()
    assert (after[30, 40] != before[30, 40]).any()
    assert what_is_lost(photo.kept, f".{suffix}", "photo") == ()
    assert read_record(result, "result") == RECORD
    seen, original = read_picture(result, "result"), read_picture(data, "photo")
    assert seen.read == original.read
    assert (np.asarray(seen.image)[UNTOUCHED] == np.asarray(original.image)[UNTOUCHED]).all()
    if "grey" not in name and "la16" not in name and "rgba" not in name:
        assert np.abs(np.subtract(seen.image.getpixel((40, 30)), PAINT)).max() <= 2


@pytest.mark.parametrize("name", ONLY_TIFF)
def test_what_only_tiff_holds_is_kept_there_and_told_of_elsewhere(name: str) -> None:
    data = ONLY_TIFF[name]()
    photo = painted(data)
    result = encode_picture(photo.rgb, "tif", RECORD, kept=photo.kept)
    before, after = raw(data), raw(result)
    assert after.dtype == before.dtype
    if name in ("grey12", "rgb10") and not own._packs():  # as for Python 3.10
        before = np.round(before * (65535 / (4095 if name == "grey12" else 1023)))
    assert (after[UNTOUCHED] == before[UNTOUCHED]).all()
    assert read_record(result, "result") == RECORD
    original = np.asarray(read_picture(data, "photo").image).astype(int)
    for suffix in ("tif", "png", "jpg", "webp", "bmp"):
        other = encode_picture(photo.rgb, suffix, kept=photo.kept, quality=100)
        seen = np.asarray(read_picture(other, "result").image)
        assert np.abs(seen - original)[UNTOUCHED].max() <= (14 if suffix in ("jpg", "webp") else 1)
        told = any("depth" in note for note in what_is_lost(photo.kept, f".{suffix}", "photo"))
        in_png = name in ("grey12", "rgb10", "grey16 negative", "rgb16 associated")
        assert told == (suffix not in (("tif", "png") if in_png else ("tif",)))


def test_where_nothing_packs_bits_a_tiff_gets_16_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilvrctl.images.own._packs", lambda: False)
    data = ONLY_TIFF["grey12"]()
    photo = painted(data)
    after = raw(encode_picture(photo.rgb, "tif", kept=photo.kept))
    assert (after[UNTOUCHED] == np.round(raw(data)[UNTOUCHED] * (65535 / 4095))).all()


def test_a_window_stays_in_force_for_what_is_painted() -> None:
    values = (RGB[..., 0] * 3000 - 1000).astype(np.int16)
    data, window = written(values), "-1000:2000"
    photo = painted(data, window)
    assert photo.read == {"window": window}
    after = raw(encode_picture(photo.rgb, "tif", kept=photo.kept))
    assert (after[UNTOUCHED][:, 0] == values[UNTOUCHED]).all()
    grey = Image.new("RGB", (1, 1), PAINT).convert("L").getpixel((0, 0))
    assert abs(int(after[30, 40, 0]) - (grey / 255 * 3000 - 1000)) <= 1


def test_cmyk_stays_cmyk_where_the_format_holds_it() -> None:
    profile = cmyk_profile()
    image = Image.new("CMYK", (WIDTH, HEIGHT), (10, 120, 30, 5))
    photo = open_photo(encoded(image, "TIFF", icc_profile=profile), "photo.tif")
    # This profile has no way back: the result is in sRGB, with a word.
    assert photo.kept.own is None
    assert "no way back" in photo.notes[0]


def test_without_the_extra_a_deep_photo_becomes_one_of_8_bits_with_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiff, "can_read_all", lambda: False)
    monkeypatch.setattr("ilvrctl.images.photo.can_read_all", lambda: False)
    photo = painted(PHOTOS["png grey16"]())
    assert "ilvrctl[tiff]" in photo.notes[0]
    assert raw(encode_picture(photo.rgb, "png", kept=photo.kept)).dtype == np.uint8


def tagged(format_name: str, **more: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = 6, "maker", "2020:01:02 03:04:05"
    exif[0x8769] = {0x829A: 0.01, 0xA002: WIDTH, 0xA003: HEIGHT, 0x9003: "2020:01:02 03:04:05"}
    exif[0x8825] = {1: "N", 2: (47.0, 30.0, 0.0)}
    image = Image.fromarray(BYTES)
    options = {"exif": exif.tobytes(), **more}
    if format_name != "WEBP":
        options["dpi"] = (300, 300)
    return encoded(image, format_name, **options)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="t"/></x:xmpmeta>'


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP", "TIFF", "BigTIFF"])
def test_exif_xmp_and_resolution_go_along_and_the_orientation_is_set_once(source: str, suffix: str) -> None:
    more = {} if source in ("PNG", "TIFF", "BigTIFF") else {"xmp": XMP}
    if source == "PNG":
        from PIL import PngImagePlugin

        more["pnginfo"] = PngImagePlugin.PngInfo()
        more["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    if source == "BigTIFF":
        more["big_tiff"] = True
    photo = open_photo(tagged("TIFF" if "TIFF" in source else source, **more), "photo")
    assert photo.size == (HEIGHT, WIDTH)
    data = encode_picture(photo.rgb, suffix, RECORD, kept=photo.kept)
    assert what_is_lost(photo.kept, f".{suffix}", "photo") == ()
    assert read_record(data, "a") == RECORD
    with Image.open(BytesIO(data)) as image:
        image.load()
        exif, info = image.getexif(), image.info
        assert image.size == (HEIGHT, WIDTH)
        assert exif.get(0x0112, 1) == 1
        assert (exif[0x010F], exif[0x0132]) == ("maker", "2020:01:02 03:04:05")
        assert exif.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
        assert exif.get_ifd(0x8769)[0xA002] == HEIGHT
        if suffix != "tif":  # Pillow reads no second folder of a TIFF that it wrote
            assert exif.get_ifd(0x8825)[1] == "N"
        if suffix != "webp" and source != "WEBP":
            assert round(float(info["dpi"][0])) == 300
        layout = {254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 322, 323, 330, 339}
        assert suffix == "tif" or not layout & set(exif)
        if more.get("xmp") or source == "PNG":
            packet = info.get("xmp") or image.tag_v2.get(700)  # type: ignore[attr-defined]
            assert b'tiff:Orientation="1"' in packet
            assert b'dc:title="t"' in packet


def test_deep_results_carry_the_tags_too() -> None:
    base = written(DEEP, photometric="rgb", resolution=(300, 300), resolutionunit=2, description="a day")
    photo = painted(base)
    assert dict(photo.kept.texts) == {}
    for suffix in ("png", "tif"):
        data = encode_picture(photo.rgb, suffix, RECORD, kept=photo.kept)
        with Image.open(BytesIO(data)) as image:
            assert image.getexif()[270] == "a day"
            assert round(float(image.info["dpi"][0])) == 300
    source = tagged("PNG")
    kept = open_photo(source, "photo").kept
    from dataclasses import replace

    data = encode_picture(photo.rgb, "tif", RECORD, kept=replace(kept, own=photo.kept.own))
    assert raw(data).dtype == np.uint16
    with Image.open(BytesIO(data)) as image:
        assert image.getexif().get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
    assert read_record(data, "a") == RECORD


def test_texts_go_along_in_png_and_the_old_record_does_not() -> None:
    from PIL import PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Author", "me")
    chunks.add_itxt("Title", "猫")
    chunks.add_itxt("ilvrctl", "{}")
    photo = open_photo(encoded(Image.fromarray(BYTES), pnginfo=chunks), "photo")
    with Image.open(BytesIO(encode_picture(photo.rgb, "png", RECORD, kept=photo.kept))) as image:
        assert image.text == {"Author": "me", "Title": "猫", "ilvrctl": RECORD}  # type: ignore[attr-defined]
    assert what_is_lost(photo.kept, ".jpg", "photo.png") == ("photo.png: jpg files do not hold its text",)
    comment = open_photo(encoded(Image.fromarray(BYTES), "JPEG", comment=b"hello"), "photo").kept
    with Image.open(BytesIO(encode_picture(photo.rgb, "jpg", RECORD, kept=comment))) as image:
        assert image.info["comment"] == b"hello"
    assert what_is_lost(comment, ".jpg", "photo") == ()


def test_what_is_lost_is_known_before_anything_is_made() -> None:
    photo = open_photo(tagged("JPEG", xmp=XMP), "photo.jpg")
    assert what_is_lost(photo.kept, ".BMP", "photo.jpg") == (
        "photo.jpg: bmp files do not hold its EXIF, XMP",
    )
    assert what_is_lost(photo.kept, ".gif", "photo.jpg") == (
        "photo.jpg: gif files do not hold its EXIF, XMP, resolution",
    )
    plain = open_photo(encoded(Image.fromarray(BYTES)), "photo").kept
    assert not any(what_is_lost(plain, suffix, "photo") for suffix in PICTURE_SUFFIXES)


def test_exif_that_is_too_long_for_a_jpeg_loses_the_makers_notes_with_a_word() -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x8769] = {0x927C: bytes(60_000), 0x9003: "2020:01:02 03:04:05"}
    photo = open_photo(encoded(Image.fromarray(BYTES), exif=exif), "photo.png")
    assert what_is_lost(photo.kept, ".jpg", "photo.png") == (
        "photo.png: jpg files do not hold its EXIF maker's notes",
    )
    with Image.open(BytesIO(encode_picture(photo.rgb, "jpg", RECORD, kept=photo.kept))) as image:
        assert image.getexif().get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
        assert 0x927C not in image.getexif().get_ifd(0x8769)


def test_tags_that_cannot_be_written_are_left_out_and_the_others_are_not() -> None:
    entries = struct.pack("<HHII", 0x010F, 2, 6, 50) + struct.pack("<HHII", 0x0131, 5, 1, 56)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    block = block.ljust(6 + 50, b"\0") + b"maker\0" + struct.pack("<II", 1, 0)
    photo = open_photo(encoded(Image.fromarray(BYTES), "JPEG", exif=block), "photo")
    for suffix in ("png", "jpg", "webp", "tif"):
        with Image.open(BytesIO(encode_picture(photo.rgb, suffix, RECORD, kept=photo.kept))) as image:
            assert image.getexif()[0x010F] == "maker"


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png"])
def test_several_pictures_come_back_from_one_file(suffix: str, tmp_path: Any) -> None:
    pictures = [Image.new("RGB", (12, 9), (k * 60, 255 - k * 60, 0)) for k in range(4)]
    encode_picture(pictures[0], "jpg")  # leaves its traces on the picture
    save_pages(pictures, tmp_path / f"all{suffix}", record=RECORD, durations_ms=[40, 50, 60, 70])
    data = (tmp_path / f"all{suffix}").read_bytes()
    assert read_record(data, "a") == RECORD
    for k, picture in enumerate(pictures):
        found = read_picture(data, "a", frame=k)
        assert found.frames == 4
        difference = np.subtract(found.image.getpixel((5, 5)), picture.getpixel((5, 5)))
        assert np.abs(difference).max() <= (6 if suffix == ".webp" else 0)


def test_several_pictures_in_a_file_of_one_are_refused(tmp_path: Any) -> None:
    from ilvrctl.errors import UsageError

    with pytest.raises(UsageError, match="cannot hold several pictures"):
        save_pages([Image.new("RGB", (4, 4))] * 2, tmp_path / "a.jpg")
    sizes = [Image.new("RGB", (4, 4)), Image.new("RGB", (8, 2))]
    save_pages(sizes, tmp_path / "a.tif")
    assert read_picture((tmp_path / "a.tif").read_bytes(), "a", frame=1).image.size == (8, 2)
    with pytest.raises(ValueError, match="one size"):
        save_pages(sizes, tmp_path / "a.gif")
