"""The record inside a picture: what was stored comes back, character for character."""

from __future__ import annotations

import json
import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ilvrctl.errors import InputError
from ilvrctl.images.io import encode_picture
from ilvrctl.images.metadata import RECORD_KEY, read_record

HOLDING = ["png", "jpg", "jpeg", "webp", "tif", "tiff", "gif", "bmp"]
PICTURE = Image.radial_gradient("L").resize((24, 24)).convert("RGB")


@pytest.mark.parametrize("suffix", HOLDING)
@pytest.mark.parametrize(
    "record",
    [
        "{}",
        '{"input": "cat.jpg", "seed": 7}',
        '{"input": "naïve café 猫 🐱 שלום.jpg"}',
        '{"input": "two\\nlines [1].png"}',
        json.dumps({"config": "x" * 20_000}),
    ],
)
def test_the_record_comes_back(suffix: str, record: str) -> None:
    assert read_record(encode_picture(PICTURE, suffix, record), "a") == record


@given(
    record=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80)
)
@settings(max_examples=40, deadline=None)
def test_any_text_comes_back(record: str) -> None:
    for suffix in ("png", "jpg", "webp", "tif", "gif", "bmp"):
        assert read_record(encode_picture(PICTURE, suffix, record), "a") == record


@pytest.mark.parametrize("suffix", HOLDING)
def test_the_record_does_not_change_the_pixels(suffix: str) -> None:
    with_record = Image.open(BytesIO(encode_picture(PICTURE, suffix, '{"seed": 7}'))).convert("RGB")
    without = Image.open(BytesIO(encode_picture(PICTURE, suffix))).convert("RGB")
    assert with_record.tobytes() == without.tobytes()


def test_a_name_that_is_not_utf8_is_stored_as_the_json_escape_of_it() -> None:
    record = json.dumps({"input": "caf\udce9.png"}, ensure_ascii=False)
    for suffix in HOLDING:
        again = read_record(encode_picture(PICTURE, suffix, record), "a")
        assert json.loads(again) == {"input": "caf\udce9.png"}


def test_png_keeps_it_under_the_key_where_other_programs_find_it() -> None:
    image = Image.open(BytesIO(encode_picture(PICTURE, "png", '{"seed": 7}')))
    assert image.info[RECORD_KEY] == '{"seed": 7}'


def test_a_png_record_behind_the_pixels_is_found() -> None:
    data = encode_picture(PICTURE, "png")
    chunk = b"tEXt" + RECORD_KEY.encode() + b"\0" + b'{"seed": 7}'
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    end = data.index(b"IEND") - 4
    assert read_record(data[:end] + chunk + data[end:], "a") == '{"seed": 7}'


def test_bmp_has_it_behind_all_that_others_read() -> None:
    plain = encode_picture(PICTURE, "bmp")
    assert encode_picture(PICTURE, "bmp", '{"seed": 7}') == plain + b'ilvrctl:{"seed": 7}'


@pytest.mark.parametrize("suffix", HOLDING)
def test_a_picture_without_a_record_says_so(suffix: str) -> None:
    with pytest.raises(InputError) as caught:
        read_record(encode_picture(PICTURE, suffix), "cat.png")
    assert caught.value.message == "cat.png holds no ilvrctl record"
    assert caught.value.hint


def test_comments_of_others_are_not_taken_for_a_record() -> None:
    exif = Image.Exif()
    exif[0x8769] = {0x9286: b"ASCII\0\0\0a day at the sea"}
    for format_name, options in (("JPEG", {"exif": exif}), ("GIF", {"comment": b"made with love"})):
        content = BytesIO()
        PICTURE.save(content, format_name, **options)
        with pytest.raises(InputError, match="holds no ilvrctl record"):
            read_record(content.getvalue(), "a")


def test_what_is_no_picture_is_called_what_it_is() -> None:
    with pytest.raises(InputError, match=r"notes\.png is not a picture \(it is a text file\)"):
        read_record(b"hello\n", "notes.png")
