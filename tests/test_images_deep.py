"""More than 8 bits: which numbers are black and white, said, known or told; without numpy where Pillow is right."""

from __future__ import annotations

import struct
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_images_read import encoded, png, png_chunk

from ilvrctl.errors import InputError, UsageError
from ilvrctl.images import tiff
from ilvrctl.images.deep import parse_window
from ilvrctl.images.io import read_picture
from ilvrctl.settings import build_settings


def written(array: np.ndarray, **options: object) -> bytes:
    content = BytesIO()
    tifffile.imwrite(content, array, metadata=None, **options)
    return content.getvalue()


def packed(values: np.ndarray, bits: int, order: str = "<", orientation: int = 1) -> bytes:
    """A TIFF of grey (H, W) or RGB (H, W, 3) whose numbers of so many bits stand without a gap, row by row."""
    height, width, samples = (*values.shape, 1)[:3]
    size = -(-width * samples * bits // 8)
    rows = [0] * height
    for y, row in enumerate(values.reshape(height, -1).tolist()):
        for value in row:
            rows[y] = rows[y] << bits | value
        rows[y] <<= size * 8 - width * samples * bits
    pixels = b"".join(row.to_bytes(size, "big") for row in rows)
    tags = [(256, 3, (width,)), (257, 3, (height,)), (258, 3, (bits,) * samples), (259, 3, (1,))]
    tags += [(262, 3, (1 if samples == 1 else 2,)), (273, 4, (200,)), (274, 3, (orientation,))]
    tags += [(277, 3, (samples,)), (278, 3, (height,)), (279, 4, (len(pixels),))]
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, kind, numbers in tags:
        content = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        place = content if len(content) <= 4 else struct.pack(f"{order}I", 190)
        data += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + place.ljust(4, b"\0")
    return data.ljust(190, b"\0") + struct.pack(f"{order}5H", *(bits,) * 3, 0, 0) + pixels


def grey_png(values: list[int], extra: bytes = b"") -> bytes:
    return png(len(values), 1, 16, 0, b"\0" + struct.pack(f">{len(values)}H", *values), extra)


def reds(data: bytes, window: str | None = None) -> list[int]:
    return list(read_picture(data, "a", window=window).image.getchannel("R").tobytes())


@pytest.fixture(params=[True, False], ids=["extra", "plain"])
def with_extra(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(tiff, "can_read_all", lambda: False)
    return bool(request.param)


@given(
    st.integers(-70000, 70000),
    st.integers(1, 140000),
    st.lists(st.integers(0, 65535), min_size=2, max_size=9),
)
@settings(max_examples=60, deadline=None)
def test_a_window_maps_its_ends_to_black_and_white(low: int, width: int, values: list[int]) -> None:
    expected = [min(255, max(0, int((value - low) * 255 / width + 0.5))) for value in values]
    found = reds(grey_png(values), f"{low}:{low + width}")
    assert all(abs(a - b) <= 1 for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("offset", [0, 2**31, 2**32 - 300])
def test_a_narrow_window_high_up_loses_nothing(offset: int) -> None:
    values = np.array([[offset, offset + 128, offset + 255]], np.uint32)
    assert reds(written(values), f"{offset}:{offset + 255}") == [0, 128, 255]


def test_auto_goes_from_the_smallest_to_the_largest_number(with_extra: bool) -> None:
    assert reds(grey_png([100, 200, 300]), "auto") == [0, 128, 255]
    found = read_picture(grey_png([700, 700]), "a", window="auto")
    assert found.read == {"window": "700:701"}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0, 65535], False),
        ([0, 4095], True),
        ([0, 16000], True),
        ([0, 16384], False),
        ([60000, 65535], True),
        ([0, 0], False),
    ],
)
def test_less_than_a_quarter_of_the_range_is_told(values: list[int], told: bool, with_extra: bool) -> None:
    found = read_picture(grey_png(values), "a.png")
    assert len(found.notes) == told
    assert found.read == ({"window": "0:65535"} if told else {})
    if told:
        assert f"from {min(values)} to {max(values)}" in found.notes[0]


def test_colours_of_12_bits_in_16_are_told_too() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (8, 9, 3)).astype(np.uint16)
    data = written(values, photometric="rgb")
    assert "less than a quarter of 0:65535" in read_picture(data, "a").notes[0]
    found = np.asarray(read_picture(data, "a", window="0:4095").image)
    assert np.abs(found - values / 4095 * 255).max() <= 0.51


@pytest.mark.parametrize(
    ("values", "window", "told"),
    [
        ([0.0, 1.0], None, False),
        ([-0.5, 1.25], None, True),
        ([0.0, 200.0], "0:255", True),
        ([0.0, 60000.0], "0:65535", True),
        ([-1000.0, 2000.0], "-1000:2000", True),
        ([0.0, 0.1], "0:1", True),
        ([0.0, 1e30], "0:1.000000015e+30", True),
    ],
)
def test_floats_that_do_not_go_from_0_to_1_are_told(
    values: list[float], window: str | None, told: bool, with_extra: bool
) -> None:
    data = encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")
    found = read_picture(data, "a")
    assert len(found.notes) == told
    if window is not None:
        assert found.read["window"] == window


def test_whole_numbers_of_32_bits_that_reach_little_are_told() -> None:
    for values, window in (([0, 255], "0:255"), ([0, 60000], "0:65535"), ([0, 2**20], "0:4294967295")):
        found = read_picture(written(np.array([values], np.uint32)), "a")
        assert len(found.notes) == 1
        assert found.read == {"window": window}
        assert "--window" in found.notes[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_for_that(bad: float) -> None:
    with pytest.raises(InputError, match=r"a\.tif holds values that are not numbers") as caught:
        read_picture(written(np.array([[0.5, bad]], np.float32)), "a.tif", window="0:1")
    assert "download" not in str(caught.value.hint)


def test_a_window_is_told_to_change_nothing_of_8_bits() -> None:
    image = Image.linear_gradient("L")
    found = read_picture(encoded(image, "PNG"), "a.png", window="0:100")
    assert found.image.getchannel("R").tobytes() == image.tobytes()
    assert found.notes == ("a.png has 8 bits, all of which are seen: --window does not change it",)


@pytest.mark.parametrize("text", ["", "5", "a:b", "5:5", "9:3", "1:2:3", "nan:1", "0:inf", "AUTO", "0-4095"])
def test_a_window_that_is_none_is_refused_with_one_that_is(text: str) -> None:
    with pytest.raises(UsageError, match="is no window") as caught:
        parse_window(text)
    assert "--window 0:4095" in str(caught.value.hint)


def test_the_setting_is_in_the_record_only_where_it_is_set() -> None:
    from ilvrctl.config import Layer

    plain = build_settings()
    assert "window" not in plain.record()
    windowed = build_settings(Layer.of("test", {"window": "0:4095"}))
    assert windowed.record() == {**plain.record(), "window": "0:4095"}
    assert build_settings(Layer.of("record", windowed.record())) == windowed
    assert build_settings(Layer.of("record", plain.record())) == plain
    assert windowed.identity({}) != plain.identity({})


def test_16_bit_png_of_every_colour_type_and_transparent_colour(with_extra: bool) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (1, 6, 4)).astype(np.uint16)
    values[..., 3] = [0, 65535, 32768, 65535, 1000, 65535]
    for colour_type, channels in ((2, [0, 1, 2]), (6, [0, 1, 2, 3]), (4, [0, 3])):
        part = values[..., channels]
        found = np.asarray(
            read_picture(png(6, 1, 16, colour_type, b"\0" + part.astype(">u2").tobytes()), "a").image
        )
        alpha = part[..., -1:] / 65535 if colour_type != 2 else 1.0
        colours = part[..., : 1 if colour_type == 4 else 3] / 257 * alpha + 255 * (1 - alpha)
        assert np.abs(found - colours).max() <= 1.6
    row = b"\0" + values[..., :3].astype(">u2").tobytes()
    key = png_chunk(b"tRNS", values[0, 2, :3].astype(">u2").tobytes())
    found = np.asarray(read_picture(png(6, 1, 16, 2, row, key), "a", background=(1, 2, 3)).image)[0]
    if with_extra:
        assert found[2].tolist() == [1, 2, 3]
        assert np.abs(found[[0, 1, 3]] - values[0, [0, 1, 3], :3] / 257).max() <= 1
    grey = grey_png([500, 40000, 65535], png_chunk(b"tRNS", struct.pack(">H", 40000)))
    assert read_picture(grey, "a", background=(9, 9, 9)).image.getpixel((1, 0)) == (9, 9, 9)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P5\n3 1\n4095\n" + struct.pack(">3H", 0, 2048, 4095), [0, 128, 255]),
        (b"P5 3 1 65535\n" + struct.pack(">3H", 0, 32896, 65535), [0, 128, 255]),
        (
            b"P6\n# a comment\n3 1\n1023\n" + struct.pack(">9H", *(v for v in (0, 512, 1023) for _ in "rgb")),
            [0, 128, 255],
        ),
        (b"P5\n3 1\n100\n" + bytes([0, 50, 100]), [0, 128, 255]),
        (b"P2 3 1 4095\n0 2048 4095\n", [0, 128, 255]),
        (b"P4\n3 1\n\x40", [255, 0, 255]),
        (b"Pf\n3 1\n-1.0\n" + struct.pack("<3f", 0, 0.5, 1), [0, 128, 255]),
        (b"Pf\n3 1\n1.0\n" + struct.pack(">3f", 0, 0.5, 1), [0, 128, 255]),
    ],
)
def test_netpbm_of_every_depth(data: bytes, expected: list[int], with_extra: bool) -> None:
    assert all(abs(a - b) <= 1 for a, b in zip(reds(data), expected, strict=True))


def test_pfm_in_colours_is_upright_or_refused_for_the_extra(with_extra: bool) -> None:
    data = b"PF\n1 2\n-1.0\n" + struct.pack("<6f", 0, 0, 1, 1, 0.5, 0)
    if not with_extra:
        with pytest.raises(InputError, match="needs the extra 'tiff'"):
            read_picture(data, "a.pfm")
        return
    assert read_picture(data, "a").image.tobytes() == bytes([255, 128, 0, 0, 0, 255])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("shape", [(3, 7), (5, 6, 3)])
@pytest.mark.parametrize("bits", [3, 6, 9, 10, 11, 12, 13, 14, 15])
def test_packed_bits_of_any_number_are_read(bits: int, shape: tuple[int, ...], order: str) -> None:
    values = np.random.default_rng(5).integers(0, 2**bits, shape)
    values.flat[:2] = 0, 2**bits - 1
    found = np.asarray(read_picture(packed(values, bits, order), "a").image)
    expected = values[..., None] if values.ndim == 2 else values
    assert np.abs(found - expected / (2**bits - 1) * 255).max() <= 0.51


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_deep_tiffs_are_upright_too(orientation: int, bits: int) -> None:
    values = (
        np.random.default_rng(2).integers(0, 2**bits, (5, 7)).astype(np.uint8 if bits == 8 else np.uint16)
    )
    if bits == 12:
        files = [packed(values, bits), packed(values, bits, orientation=orientation)]
    else:
        files = [written(values), written(values, extratags=[(274, 3, 1, orientation, True)])]
    plain, turned = (read_picture(data, "a").image for data in files)
    methods = [None, 0, 3, 1, 5, 4, 6, 2]
    method = methods[orientation - 1]
    expected = plain if method is None else plain.transpose(Image.Transpose(method))
    assert turned.tobytes() == expected.tobytes()
    assert turned.size == expected.size


def test_frames_and_pages_are_counted_and_each_can_be_taken() -> None:
    pages = np.stack([np.full((6, 8), value, np.uint16) for value in (0, 32768, 65535)])
    data = written(pages, photometric="minisblack")
    found = read_picture(data, "a.tif")
    assert found.frames == 3
    assert found.notes == ("a.tif has 3 pages: taken by its first",)
    for k, level in enumerate((0, 128, 255)):
        page = read_picture(data, "a.tif", frame=k)
        assert page.image.getpixel((0, 0)) == (level,) * 3
        assert page.notes == ()
    with pytest.raises(InputError, match="has 3 pages: there is none of number 4"):
        read_picture(data, "a.tif", frame=3)
    colours = [Image.new("RGB", (8, 8), (k * 80, 0, 0)) for k in range(4)]
    for format_name, options in (
        ("GIF", {}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("AVIF", {}),
    ):
        content = BytesIO()
        colours[0].save(content, format_name, save_all=True, append_images=colours[1:], **options)
        found = read_picture(content.getvalue(), "a")
        assert found.frames == 4
        [note] = found.notes
        assert "4 " in note
        for k in range(4):
            image = read_picture(content.getvalue(), "a", frame=k).image
            assert abs(image.getpixel((4, 4))[0] - k * 80) <= 3
        with pytest.raises(InputError, match="none of number 5"):
            read_picture(content.getvalue(), "a", frame=4)
    single = encoded(colours[0], "PNG")
    assert read_picture(single, "a", frame=0).frames == 1
    with pytest.raises(InputError, match="has 1 frame: there is none of number 2"):
        read_picture(single, "a", frame=1)


def test_reduced_copies_in_a_tiff_are_no_pages() -> None:
    content = BytesIO()
    image = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    with tifffile.TiffWriter(content) as writer:
        writer.write(image, photometric="rgb", metadata=None)
        writer.write(image[::2, ::2].copy(), photometric="rgb", subfiletype=1, metadata=None)
        writer.write(255 - image, photometric="rgb", metadata=None)
    found = read_picture(content.getvalue(), "a", frame=1)
    assert found.frames == 2
    assert found.image.tobytes() == (255 - image).tobytes()


def test_a_preview_is_not_taken_for_the_picture() -> None:
    content = BytesIO()
    with tifffile.TiffWriter(content) as writer:
        writer.write(
            np.zeros((8, 8, 3), np.uint8), photometric="rgb", subfiletype=1, subifds=1, metadata=None
        )
        writer.write(np.zeros((64, 64), np.uint16), photometric="cfa", extratags=[], metadata=None)
    with pytest.raises(InputError, match="is a raw camera picture"):
        read_picture(content.getvalue(), "a.nef")


def test_a_volume_is_no_picture() -> None:
    data = written(np.zeros((16, 16, 16), np.uint8), volumetric=True, tile=(16, 16, 16))
    with pytest.raises(InputError, match="is a volume of 16 planes"):
        read_picture(data, "a.tif")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_a_truncated_deep_tiff_is_never_filled_up(kept: float, options: dict[str, object]) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
    data = written(values, photometric="rgb", rowsperstrip=None if "tile" in options else 8, **options)
    with pytest.raises(InputError, match=r"truncated|damaged"):
        read_picture(data[: int(len(data) * kept)], "a.tif")


@pytest.mark.parametrize("cut", range(40, 500, 37))
def test_a_truncated_deep_png_is_never_half_a_picture(cut: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 9, 3)).astype(">u2")
    data = png(9, 9, 16, 2, b"".join(b"\0" + row.tobytes() for row in values))
    with pytest.raises(InputError, match="truncated"):
        read_picture(data[:cut], "a.png")


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("box", ["jp2", "j2k"])
def test_jpeg_2000_of_every_depth_is_right_up_to_white(
    bits: int, channels: int, box: str, with_extra: bool
) -> None:
    values = np.random.default_rng(4).integers(0, 2**bits, (24, 31, channels))
    values[0], values[1, ..., -1] = 2**bits - 1, 2**bits - 1
    array = values.astype(np.uint8 if bits == 8 else np.uint16)
    array = array if channels > 1 else array[..., 0]
    data = imagecodecs.jpeg2k_encode(array, level=0, bitspersample=bits, codecformat=box)
    if bits > 8 and channels > 1 and not with_extra:
        with pytest.raises(InputError, match="needs the extra 'tiff'"):
            read_picture(data, "a.jp2")
        return
    part = values / (2**bits - 1)
    alpha = part[..., 3:] if channels == 4 else 1.0
    expected = (part[..., :3] * alpha + 1 - alpha) * 255
    assert np.abs(np.asarray(read_picture(data, "a.jp2").image) - expected).max() <= 1.6


def test_a_deep_png_with_a_broken_byte_is_never_a_picture() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 9, 3)).astype(">u2")
    data = png(9, 9, 16, 2, b"".join(b"\0" + row.tobytes() for row in values))
    start = data.index(b"IDAT") + 4
    for at in range(start, len(data) - 16, 13):
        broken = bytearray(data)
        broken[at] ^= 64
        with pytest.raises(InputError, match="is damaged"):
            read_picture(bytes(broken), "a.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_of_12_bits_is_read_upright_or_refused_for_the_extra(channels: int, with_extra: bool) -> None:
    y, x = np.mgrid[0:48, 0:64]
    values = np.stack([x * 65, y * 87, (x + y) * 36][:channels], axis=-1).astype(np.uint16)
    data = imagecodecs.jpeg8_encode(values if channels > 1 else values[..., 0], level=98, bitspersample=12)
    exif = Image.Exif()
    exif[0x0112] = 6
    block = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    if not with_extra:
        with pytest.raises(InputError, match="is a JPEG of 12 bits, which needs the extra 'tiff'"):
            read_picture(data, "a.jpg")
        return
    found = np.asarray(read_picture(data, "a.jpg").image)
    expected = np.rot90(values / 4095 * 255, -1)
    assert found.shape == (64, 48, 3)
    assert np.abs(found - expected).max() <= 8
    with pytest.raises(InputError, match="truncated"):
        read_picture(data[:-40], "a.jpg")


def test_what_is_wrong_with_a_broken_jpeg_is_told_in_words() -> None:
    broken = bytearray(encoded(Image.linear_gradient("L"), "JPEG"))
    at = broken.index(b"\xff\xc0")
    broken[at + 5 : at + 9] = bytes(4)
    with pytest.raises(InputError, match="is damaged") as caught:
        read_picture(bytes(broken), "a.jpg")
    assert "MPO" not in caught.value.message
    with pytest.raises(InputError, match="is a JPEG-LS, which ilvrctl does not read"):
        read_picture(imagecodecs.jpegls_encode(np.zeros((9, 9), np.uint16)), "a.jls")
