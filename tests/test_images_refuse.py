"""Refusing: a file that cannot be used is an InputError that names it, says why, and what to do."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from ilvrctl.errors import InputError
from ilvrctl.images.io import open_picture, read_bytes
from ilvrctl.images.metadata import read_record

FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]


def encoded(image: Image.Image, format_name: str, **options: object) -> bytes:
    content = BytesIO()
    image.save(content, format_name, **options)
    return content.getvalue()


def busy(side: int = 32) -> Image.Image:
    """A picture that compresses badly, so that a cut falls among its pixels."""
    noise = random.Random(0).randbytes(3 * side * side)
    return Image.frombytes("RGB", (side, side), noise)


def refusal(data: bytes, name: str = "cat.png") -> str:
    """The message of the error; also checks what all of them promise."""
    with pytest.raises(InputError) as caught:
        open_picture(data, name)
    assert name in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 1
    return caught.value.message


def test_an_empty_file_is_called_empty() -> None:
    assert refusal(b"") == "cat.png is empty (0 bytes)"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"# Notes\n\nbuy milk\n", "it is a text file"),
        ("naïve café, 猫\n".encode() * 90, "it is a text file"),
        (b"<!DOCTYPE html><html><body>404", "it is a web page"),
        (b"\xef\xbb\xbf\n<html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "it is a Git LFS pointer"),
        (b'<?xml version="1.0"?><svg xmlns="">', "is an SVG drawing, which ilvrctl does not read"),
        (b"%PDF-1.7\n%\xe2\xe3", "it is a PDF document"),
        (b"PK\x03\x04\x14\x00\x00\x00", "it is a zip archive"),
        (b"\x1f\x8b\x08\x00", "it is a gzip archive"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "begins like an AVIF picture but its header is broken"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(20), "is a raw camera picture, which ilvrctl does not read"),
        (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2", "it is a video"),
        (b"8BPS\0\x01" + bytes(20), "is a Photoshop document, which ilvrctl does not read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is a PostScript document, which ilvrctl does not read"),
        (bytes(range(128, 256)) * 4, "is not a picture that ilvrctl knows"),
        (bytes(100), "is not a picture that ilvrctl knows"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(data: bytes, reason: str) -> None:
    assert reason in refusal(data, "notes.png")


def test_the_extension_does_not_matter_the_content_does() -> None:
    assert open_picture(encoded(busy(), "JPEG"), "really-a-jpeg.png").size == (32, 32)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_an_error_and_never_half_a_picture(format_name: str, kept: float) -> None:
    data = encoded(busy(), format_name)
    message = refusal(data[: int(kept * len(data))], "cat.jpg")
    expected = {"JPEG": "truncated", "PNG": "truncated", "WEBP": "truncated", "GIF": "truncated"}
    assert expected.get(format_name, "") in message


@pytest.mark.parametrize("format_name", ["JPEG", "PNG"])
def test_wherever_it_is_cut_the_picture_is_whole_or_refused(format_name: str) -> None:
    data = encoded(busy(12), format_name)
    whole = open_picture(data, "a").tobytes()
    for length in range(1, len(data), 5):
        try:
            image = open_picture(data[:length], "a.png")
        except InputError as error:
            assert "a.png is " in error.message
        else:
            assert image.tobytes() == whole


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_a_picture_or_an_input_error_and_nothing_else(format_name: str) -> None:
    chance = random.Random(format_name)
    data = encoded(busy(16), format_name)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(chance.choice([1, 3, 30])):
            damaged[chance.randrange(min(len(data), 200))] = chance.randrange(256)
        try:
            image = open_picture(bytes(damaged), "cat.png", max_pixels=100_000)
        except InputError as error:
            assert "cat.png" in error.message
        else:
            assert image.mode == "RGB"


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "100000 x 100000 pixels; the limit is 200,000,000" in refusal(data, "bomb.png")
        with pytest.raises(InputError, match=r"bomb\.png is too large"):
            read_record(data, "bomb.png")


def test_the_pixel_limit_can_be_set_and_is_inclusive() -> None:
    data = encoded(busy(), "PNG")
    assert open_picture(data, "a", max_pixels=32 * 32).size == (32, 32)
    with pytest.raises(InputError, match="too large: 32 x 32"):
        open_picture(data, "a", max_pixels=32 * 32 - 1)


def test_pillows_own_bomb_error_becomes_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Image.DecompressionBombError("too many pixels")

    data = encoded(busy(), "PNG")
    monkeypatch.setattr(Image, "open", refuse)
    assert "too large" in refusal(data)


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), KeyError("tag"), struct.error("short")]
)
def test_whatever_a_decoder_raises_becomes_an_input_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    assert refusal(encoded(busy(), "PNG")).startswith("cat.png ")


def test_ctrl_c_while_reading_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before, data = Image.MAX_IMAGE_PIXELS, encoded(busy(), "PNG")
    monkeypatch.setattr(Image, "open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_picture(data, "a")
    assert before == Image.MAX_IMAGE_PIXELS


def test_lab_colours_are_refused_with_their_reason() -> None:
    assert "Lab colours" in refusal(encoded(Image.new("LAB", (4, 4)), "TIFF"), "a.tif")


def test_a_float_picture_of_no_numbers_is_refused() -> None:
    assert "not numbers" in refusal(encoded(Image.new("F", (4, 4), float("nan")), "TIFF"), "a.tif")


def test_read_bytes_gives_what_the_file_holds(tmp_path: Path) -> None:
    (tmp_path / "photo[1] 猫.png").write_bytes(b"\x00\x01")
    assert read_bytes(tmp_path / "photo[1] 猫.png") == b"\x00\x01"


def test_read_bytes_says_why_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for path, reason in [
        (tmp_path / "none.png", "does not exist"),
        (tmp_path, "is a folder, not a picture"),
        (tmp_path / "file" / "a.png", "cannot be read: Not a directory"),
        (Path("a\0b.png"), "cannot be read"),
    ]:
        with pytest.raises(InputError) as caught:
            read_bytes(path)
        assert str(path) in caught.value.message
        assert reason in caught.value.message
        assert caught.value.hint

    def deny(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        read_bytes(tmp_path / "file")
