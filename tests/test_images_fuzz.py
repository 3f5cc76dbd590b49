"""Whatever bytes come, a decoder gives a picture or an InputError that names the file, and soon."""

from __future__ import annotations

import random
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_images_deep import packed
from test_images_keep import ONLY_TIFF, PHOTOS, tagged, written
from test_images_kinds import SINGLES

from ilvrctl.errors import InputError
from ilvrctl.images.io import encode_picture, read_bytes, read_picture
from ilvrctl.images.kinds import HEAD, TAIL, kind_of, recognise
from ilvrctl.images.metadata import read_record
from ilvrctl.images.photo import open_photo

CASES = 300
SMALL = np.random.default_rng(0).integers(0, 65536, (16, 18, 3)).astype(np.uint16)


def sound() -> list[bytes]:
    """A small file of every kind that is read."""
    files = [data for _, data in SINGLES]
    files += [make() for make in (*PHOTOS.values(), *ONLY_TIFF.values())]
    files += [tagged(name) for name in ("PNG", "JPEG", "WEBP", "TIFF")]
    for options in ({"compression": "zlib"}, {"compression": "lzw", "predictor": True}, {"tile": (16, 16)}):
        files += [written(SMALL, photometric="rgb", **options)]
    files += [packed(SMALL >> 4, 12), tagged("TIFF", big_tiff=True)]
    files += [
        file.read_bytes()
        for file in (Path(__file__).parent / "pictures").iterdir()
        if file.is_file() and file.name != "cases.json"
    ]
    return files


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed, mostly in the headers; or cut out, doubled, or cut off."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 20])):
        reach = chance.choice([60, 300, len(changed), len(changed)])
        changed[chance.randrange(max(1, min(reach, len(changed))))] = chance.choice(
            [0, 255, chance.randrange(256)]
        )
    kind, at, size = chance.randrange(8), chance.randrange(len(changed)), chance.randrange(1, 40)
    if kind == 0:
        del changed[at : at + size]
    elif kind == 1:
        changed[at:at] = changed[at : at + size]
    elif kind == 2:
        del changed[at:]
    return bytes(changed) or b"\0"


def check(data: bytes) -> None:
    recognise(data[:HEAD], data[-TAIL:])
    for read in (
        lambda: read_picture(data, "cat.png", max_pixels=200_000, window=None),
        lambda: read_picture(data, "cat.png", max_pixels=200_000, window="auto", frame=1),
        lambda: read_record(data, "cat.png"),
    ):
        try:
            read()
        except InputError as error:
            assert "cat.png" in error.message
    try:
        photo = open_photo(data, "cat.png", max_pixels=200_000)
    except InputError:
        return
    for suffix in ("png", "tif", "jpg", "webp"):
        encode_picture(photo.rgb, suffix, "{}", kept=photo.kept)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_of_every_kind_give_a_picture_or_an_input_error() -> None:
    files, chance = sound(), random.Random(2)
    assert len(files) > 80
    for case in range(CASES):
        check(damaged(files[case % len(files)], chance))


@pytest.mark.filterwarnings("ignore")
def test_noise_behind_every_mark_gives_an_input_error() -> None:
    chance = random.Random(3)
    marks = {data[:16] for data in sound()} | {data[:8] for data in sound()}
    for mark in marks:
        data = mark + chance.randbytes(200)
        try:
            read_picture(data, "cat.png", max_pixels=100_000)
        except InputError as error:
            assert "cat.png" in error.message


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2), (200_001, 1_000)])
def test_bombs_of_deep_pictures_are_refused_before_they_are_decoded(size: tuple[int, int]) -> None:
    width, height = size
    small = written(np.zeros((4, 4), np.uint32))
    bomb = BytesIO(small)
    with tifffile.TiffFile(bomb) as file:
        places = {tag: file.pages[0].tags[tag].valueoffset for tag in (256, 257)}
    changed = bytearray(small)
    for tag, length in ((256, width), (257, height)):
        kind = places[tag] - 8 + 2
        changed[kind : kind + 2] = (4).to_bytes(2, "little")
        changed[places[tag] : places[tag] + 4] = length.to_bytes(4, "little")
    with pytest.raises(InputError, match=f"too large: {width} x {height}"):
        read_picture(bytes(changed), "bomb.tif")
    with pytest.raises(InputError, match=f"too large: {width} x {height}"):
        read_picture(f"P6 {width} {height} 65535\n".encode() + bytes(99), "bomb.ppm")


def test_a_tiff_of_many_channels_is_refused_before_it_is_decoded() -> None:
    data = bytearray(written(np.zeros((20, 20, 3), np.uint16), photometric="rgb", compression="zlib"))
    with tifffile.TiffFile(BytesIO(bytes(data))) as file:
        tags = file.pages[0].tags
        places = {tag: tags[tag].valueoffset for tag in (256, 257, 277)}
    for tag, number in ((256, 14_000), (257, 14_000), (277, 60_000)):
        data[places[tag] : places[tag] + 2] = number.to_bytes(2, "little")
    with pytest.raises(InputError, match="is too large when decoded"):
        read_picture(bytes(data), "bomb.tif")


def test_a_file_of_20_gb_is_refused_by_its_size(tmp_path: Path) -> None:
    for content, said in (
        (b"", "is not a picture, or one that is too large"),
        (b"\xff\xd8\xff\xe0", "is too large"),
    ):
        huge = tmp_path / "huge.jpg"
        with huge.open("wb") as file:
            file.write(content)
            file.truncate(20_000_000_000)
        with pytest.raises(InputError, match=f"{said}: 20,000,000,000 bytes; the limit is 2,000,000,000"):
            read_bytes(huge)
        assert (kind_of(huge) is None) == (not content)


def test_devices_are_no_pictures() -> None:
    with pytest.raises(InputError, match="is a device, not a picture"):
        read_bytes(Path("/dev/zero"))


def test_a_tiff_whose_pages_go_round_in_a_circle_ends() -> None:
    data = bytearray(written(np.zeros((3, 4, 4), np.uint8), photometric="minisblack"))
    with tifffile.TiffFile(BytesIO(bytes(data))) as file:
        last = file.pages[2]
        end = last.offset + 2 + 12 * len(last.tags)
        first = file.pages[0].offset
    data[end : end + 4] = first.to_bytes(4, "little")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_picture(bytes(data), "a").frames == 3


@pytest.mark.filterwarnings("ignore")
def test_wherever_a_file_is_cut_its_picture_is_whole_or_refused() -> None:
    for data in sound():
        whole = read_picture(data, "a").image.tobytes()
        for part in (0.2, 0.5, 0.8, 0.97):
            try:
                found = read_picture(data[: int(part * len(data))], "a").image
            except InputError:
                continue
            assert found.tobytes() == whole


def test_a_sound_file_is_never_called_damaged() -> None:
    for data in sound():
        assert isinstance(read_picture(data, "a").image, Image.Image)
