"""Colours: profiles and colour chunks come to sRGB once, and what cannot be used is told."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from test_images_read import png, png_chunk

from ilvrctl.images import icc, tiff
from ilvrctl.images.io import encode_picture, read_picture

ADOBE = (((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), icc.D65)
PROPHOTO = (((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (0.3457, 0.3585))
SPACES = {
    "adobe": icc.rgb_profile("Adobe", (2.19921875,), *ADOBE),
    "p3": icc.rgb_profile("P3", icc.SRGB_CURVE, icc.P3, icc.D65),
    "prophoto": icc.rgb_profile("ProPhoto", (1.8,), *PROPHOTO),
    "linear": icc.rgb_profile("linear", (1.0,), icc.REC_709, icc.D65),
    "2020": icc.rgb_profile("2020", icc.REC_709_CURVE, icc.REC_2020, icc.D65),
}
LEVELS = np.arange(0, 256, 15)
GRID = np.array(list(product(LEVELS, repeat=3)), np.uint8).reshape(18, -1, 3)


def encoded(image: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    content = BytesIO()
    image.save(content, format_name, **options)
    return content.getvalue()


def decoded(curve: icc.Curve, values: np.ndarray) -> np.ndarray:
    if len(curve) == 1:
        return values ** curve[0]
    g, a, b, c, d = curve
    return np.where(values >= d, (a * values + b) ** g, c * values)


def to_xyz(primaries: tuple[icc.Point, ...], white: icc.Point) -> np.ndarray:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    x, y = white
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))


def srgb_of(
    values: np.ndarray, curve: icc.Curve, primaries: tuple[icc.Point, ...], white: icc.Point
) -> np.ndarray:
    """By the textbook, 0 to 255: for spaces whose white is D65."""
    assert white == icc.D65
    matrix = np.linalg.inv(to_xyz(icc.REC_709, icc.D65)) @ to_xyz(primaries, white)
    linear = np.clip(decoded(curve, values / 255) @ matrix.T, 0, 1)
    return np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear) * 255


@pytest.mark.parametrize("name", ["adobe", "p3", "linear", "2020"])
def test_profiles_give_the_colours_of_the_textbook(name: str) -> None:
    parts = {
        "adobe": ((2.19921875,), *ADOBE),
        "p3": (icc.SRGB_CURVE, icc.P3, icc.D65),
        "linear": ((1.0,), icc.REC_709, icc.D65),
        "2020": (icc.REC_709_CURVE, icc.REC_2020, icc.D65),
    }[name]
    found = read_picture(encoded(Image.fromarray(GRID), icc_profile=SPACES[name]), "a")
    difference = np.abs(np.asarray(found.image) - srgb_of(GRID.astype(float), *parts))
    assert difference.max() <= 2
    assert (
        found.read["profile"].casefold()
        == ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(SPACES[name]))).strip().casefold()
    )
    assert found.notes == ()


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_profiles_count_in_every_format_that_holds_them(format_name: str, mode: str) -> None:
    if (format_name, mode) in (("JPEG", "RGBA"), ("JPEG", "P"), ("WEBP", "P"), ("AVIF", "P")):
        return
    image = Image.new("RGB", (16, 16), (30, 200, 60)).convert(mode)
    options = {"quality": 100} if format_name in ("JPEG", "WEBP", "AVIF") else {}
    found = read_picture(encoded(image, format_name, icc_profile=SPACES["adobe"], **options), "a")
    pixel = image.convert("RGB").getpixel((5, 5))
    expected = srgb_of(np.array(pixel, float), (2.19921875,), *ADOBE)
    assert np.abs(np.array(found.image.getpixel((5, 5))) - expected).max() <= 4
    assert found.read == {"profile": "Adobe"}


def test_srgb_of_any_maker_changes_no_pixel() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (own, icc.srgb()):
        found = read_picture(encoded(Image.fromarray(GRID), icc_profile=profile), "a")
        assert found.image.tobytes() == GRID.tobytes()
        assert (found.read, found.notes) == ({}, ())


def test_grey_profiles_and_rgb_profiles_of_grey_pictures() -> None:
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    expected = srgb_of(np.repeat(np.arange(256.0)[:, None], 3, 1), (1.8,), icc.REC_709, icc.D65)
    for profile in (icc.grey_profile("g", (1.8,)), icc.rgb_profile("rgb", (1.8,), icc.REC_709, icc.D65)):
        found = read_picture(encoded(ramp, icc_profile=profile), "a").image
        assert np.abs(np.asarray(found)[0] - expected).max() <= 1.5


def test_a_profile_for_other_pixels_is_told_and_left_out() -> None:
    grey = icc.grey_profile("g", (1.8,))
    found = read_picture(encoded(Image.fromarray(GRID), icc_profile=grey), "a.png")
    assert found.image.tobytes() == GRID.tobytes()
    assert found.notes == (
        "a.png: its colour profile is one of grey, and its pixels are RGB; its colours are taken as they are",
    )


@pytest.mark.parametrize("cut", [0, 20, 127, 128, 140, 200, 300, 400])
def test_broken_profiles_cost_a_note_and_no_picture(cut: int) -> None:
    for broken in (SPACES["adobe"][:cut], SPACES["adobe"][:cut] + bytes(len(SPACES["adobe"]) - cut)):
        found = read_picture(encoded(Image.fromarray(GRID), "TIFF", icc_profile=broken or b"x"), "a")
        assert len(found.notes) == 1 or found.read
        if found.notes:
            assert found.image.tobytes() == GRID.tobytes()


def test_deep_colours_are_converted_before_their_bits_are_cut() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (40, 50, 3)).astype(np.uint16)
    content = BytesIO()
    tifffile.imwrite(content, values, photometric="rgb", iccprofile=SPACES["adobe"])
    found = np.asarray(read_picture(content.getvalue(), "a").image)
    assert np.abs(found - srgb_of(values / 257, (2.19921875,), *ADOBE)).max() <= 1


def test_cmyk_with_a_profile_goes_through_it() -> None:
    """A profile of the test's own: ink k takes away so much of light k, black of all."""
    tables = cmyk_profile()
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    plain = read_picture(encoded(image, "TIFF"), "a").image.getpixel((1, 1))
    for format_name in ("TIFF", "JPEG"):
        found = read_picture(encoded(image, format_name, icc_profile=tables), "a")
        assert found.read == {"profile": "inks"}
        assert found.notes == ()
        assert found.image.getpixel((1, 1)) != plain


def cmyk_profile() -> bytes:
    """A CMYK output profile with one table from inks to Lab: lightness falls with the sum of the inks."""
    grid, entries = 2, []
    for c, m, y, k in product(range(grid), repeat=4):
        light = max(0.0, 1 - 0.25 * (c + m + y) - 0.25 * k)
        entries += [round(light * 255), 128, 128]
    table = b"mft1\0\0\0\0" + bytes([4, 3, grid, 0])
    table += struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    table += bytes(range(256)) * 4 + bytes(entries) + bytes(range(256)) * 3
    return icc._file(b"CMYK", "inks", [(b"A2B0", table)]).replace(b"mntrCMYKXYZ ", b"prtrCMYKLab ", 1)


ROWS = b"".join(b"\0" + row.tobytes() for row in GRID)


def chunked(*chunks: tuple[bytes, bytes]) -> bytes:
    return png(GRID.shape[1], GRID.shape[0], 8, 2, ROWS, b"".join(png_chunk(*chunk) for chunk in chunks))


def gama(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def chrm(primaries: tuple[icc.Point, ...], white: icc.Point) -> tuple[bytes, bytes]:
    values = [round(value * 100_000) for point in (white, *primaries) for value in point]
    return b"cHRM", struct.pack(">8I", *values)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([gama(1.0)], ((1.0,), icc.REC_709, icc.D65)),
        ([gama(1 / 1.8)], ((1.8,), icc.REC_709, icc.D65)),
        ([gama(0.45455)], None),
        ([gama(0.45455), chrm(icc.REC_709, icc.D65)], None),
        ([gama(1 / 2.19921875), chrm(*ADOBE)], (icc.SRGB_CURVE, *ADOBE)),
        ([chrm(icc.P3, icc.D65)], (icc.SRGB_CURVE, icc.P3, icc.D65)),
        ([gama(1.0), (b"sRGB", b"\0")], None),
        ([(b"cICP", bytes([12, 13, 0, 1]))], (icc.SRGB_CURVE, icc.P3, icc.D65)),
        ([(b"cICP", bytes([9, 1, 0, 1])), (b"sRGB", b"\0")], (icc.REC_709_CURVE, icc.REC_2020, icc.D65)),
        ([(b"cICP", bytes([1, 13, 0, 1])), gama(1.0)], None),
    ],
)
def test_colour_chunks_of_png(chunks: list[tuple[bytes, bytes]], expected: tuple | None) -> None:
    found = read_picture(chunked(*chunks), "a")
    truth = GRID if expected is None else srgb_of(GRID.astype(float), *expected)
    assert np.abs(np.asarray(found.image) - truth).max() <= (0 if expected is None else 2)
    assert (found.notes, "profile" in found.read) == ((), expected is not None)


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        ((b"cICP", bytes([9, 16, 0, 1])), r"HDR \(PQ\)"),
        ((b"cICP", bytes([9, 18, 0, 1])), r"HDR \(HLG\)"),
        ((b"cICP", bytes([77, 13, 0, 1])), "does not know"),
        ((b"gAMA", bytes(4)), "cannot be read"),
        ((b"cHRM", bytes(32)), "cannot be read"),
        ((b"iCCP", b"x\0\0garbage"), "cannot be read"),
    ],
)
def test_colour_chunks_that_say_nothing_usable_are_told(chunk: tuple[bytes, bytes], said: str) -> None:
    found = read_picture(chunked(chunk), "a.png")
    assert found.image.tobytes() == GRID.tobytes()
    [note] = found.notes
    assert re.search(said, note)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_results_say_that_they_are_srgb_and_are_read_as_they_are(suffix: str) -> None:
    data = encode_picture(Image.fromarray(GRID), suffix, "{}")
    with Image.open(BytesIO(data)) as image:
        assert "srgb" in image.info if suffix == "png" else image.info["icc_profile"] == icc.srgb()
    found = read_picture(data, "a")
    assert (found.notes, found.read) == ((), {})
    assert len(icc.srgb()) < 600


def test_the_profile_of_srgb_is_one_for_others_too() -> None:
    profile = ImageCms.ImageCmsProfile(BytesIO(icc.srgb()))
    assert ImageCms.getProfileDescription(profile).strip() == "sRGB"
    other = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    transform = ImageCms.ImageCmsTransform(profile, other, "RGB", "RGB")
    assert np.abs(np.asarray(transform.apply(Image.fromarray(GRID))).astype(int) - GRID).max() <= 1


def test_a_plain_picture_needs_no_colour_management() -> None:
    code = (
        "import sys, io; from PIL import Image; from ilvrctl.images.io import encode_picture, open_picture; "
        "open_picture(encode_picture(Image.new('RGB', (9, 9)), 'png'), 'a'); "
        "sys.exit(any(name in sys.modules for name in ('PIL.ImageCms', 'numpy', 'tifffile', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_16_bit_png_with_a_profile_and_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    row = struct.pack(">3H", 30 * 257, 200 * 257, 60 * 257)
    profile = png_chunk(b"iCCP", b"a\0\0" + zlib.compress(SPACES["adobe"]))
    data = png(1, 1, 16, 2, b"\0" + row, profile)
    with_extra = read_picture(data, "a").image.getpixel((0, 0))
    monkeypatch.setattr(tiff, "can_read_all", lambda: False)
    without = read_picture(data, "a").image.getpixel((0, 0))
    assert np.abs(np.subtract(with_extra, without)).max() <= 1


def test_the_profile_of_a_jpeg_2000_counts() -> None:
    image = Image.fromarray(GRID)
    plain = encoded(image, "JPEG2000")
    assert read_picture(plain, "a").read == {}
    at = plain.index(b"colr") - 4
    end = at + int.from_bytes(plain[at : at + 4], "big")
    box = b"colr\2\0\0" + SPACES["adobe"]
    box = struct.pack(">I", len(box) + 4) + box
    outer = plain.index(b"jp2h") - 4
    size = int.from_bytes(plain[outer : outer + 4], "big") + len(box) - (end - at)
    data = plain[:outer] + struct.pack(">I", size) + plain[outer + 4 : at] + box + plain[end:]
    found = read_picture(data, "a")
    assert found.read == {"profile": "Adobe"}
    assert np.abs(np.asarray(found.image) - srgb_of(GRID.astype(float), (2.19921875,), *ADOBE)).max() <= 2


@pytest.mark.parametrize(
    ("numbers", "read"), [((1, 13), ""), ((12, 13), "cICP 12/13"), ((9, 16), "HDR (PQ)")]
)
def test_colours_that_an_avif_names_by_numbers_count(numbers: tuple[int, int], read: str) -> None:
    plain = encoded(Image.fromarray(GRID), "AVIF", quality=100, subsampling="4:4:4")
    at = plain.index(b"colrnclx") + 8
    found = read_picture(plain[:at] + struct.pack(">HH", *numbers) + plain[at + 4 :], "a.avif")
    if "HDR" in read:
        assert read in found.notes[0]
    else:
        assert found.read == ({"profile": read} if read else {})
        assert found.notes == ()
