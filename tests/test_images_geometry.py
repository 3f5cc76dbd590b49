"""Fitting: a square of the size asked for, nothing bent that should not be, nothing touched that fits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from ilvrctl.errors import UsageError
from ilvrctl.images.geometry import FITS, fit_picture, parse_color

WHITE = (255, 255, 255)
GREEN = (0, 160, 0)


def disc(width: int, height: int) -> Image.Image:
    """A black disc, as large as fits, in the middle of a white picture."""
    image = Image.new("RGB", (width, height), WHITE)
    radius = min(width, height) / 2 - 1
    box = (width / 2 - radius, height / 2 - radius, width / 2 + radius, height / 2 + radius)
    ImageDraw.Draw(image).ellipse(box, "black")
    return image


def dark_box(image: Image.Image) -> tuple[int, int, int, int]:
    """Bounding box of what is darker than middle grey."""
    box = image.convert("L").point(lambda v: 255 if v < 128 else 0).getbbox()
    assert box is not None
    return box


@given(
    width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 70), fit=st.sampled_from(FITS)
)
@settings(max_examples=150, deadline=None)
def test_the_result_is_rgb_of_the_size_asked_for(width: int, height: int, size: int, fit: str) -> None:
    image = fit_picture(Image.new("RGB", (width, height), GREEN), size, fit, WHITE)
    assert (image.mode, image.size) == ("RGB", (size, size))


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_that_size_is_returned_as_it_is(fit: str) -> None:
    image = disc(40, 40)
    assert fit_picture(image, 40, fit, WHITE) is image


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 2000)])
def test_very_thin_pictures_work(fit: str, size: tuple[int, int]) -> None:
    image = fit_picture(Image.new("RGB", size, GREEN), 64, fit, WHITE)
    assert image.size == (64, 64)
    assert image.getpixel((31, 31)) == GREEN


@pytest.mark.parametrize("shape", [(200, 100), (100, 200), (301, 97)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_crop_and_pad_keep_a_disc_round_and_in_the_middle(fit: str, shape: tuple[int, int]) -> None:
    left, top, right, bottom = dark_box(fit_picture(disc(*shape), 64, fit, WHITE))
    assert abs((right - left) - (bottom - top)) <= 1
    assert abs(left + right - 64) <= 1
    assert abs(top + bottom - 64) <= 1


def test_crop_fills_the_square_with_the_centre() -> None:
    image = Image.new("RGB", (200, 100), "red")
    image.paste(GREEN, (50, 0, 150, 100))
    assert fit_picture(image, 32, "crop", WHITE).getcolors() == [(32 * 32, GREEN)]


def test_crop_of_the_right_height_keeps_pixels_exactly() -> None:
    image = Image.effect_noise((60, 40), 80).convert("RGB")
    assert fit_picture(image, 40, "crop", WHITE).tobytes() == image.crop((10, 0, 50, 40)).tobytes()


def test_pad_shows_the_whole_picture_on_the_background() -> None:
    image = fit_picture(Image.new("RGB", (200, 100), GREEN), 64, "pad", (9, 8, 7))
    for x, y, expected in [(0, 0, (9, 8, 7)), (63, 15, (9, 8, 7)), (0, 16, GREEN), (63, 47, GREEN)]:
        assert image.getpixel((x, y)) == expected
    assert image.getpixel((32, 48)) == (9, 8, 7)


def test_stretch_shows_the_whole_picture_out_of_shape() -> None:
    image = Image.new("RGB", (200, 100), GREEN)
    image.paste("red", (100, 0, 200, 100))
    stretched = fit_picture(image, 64, "stretch", WHITE)
    assert stretched.getpixel((10, 60)) == GREEN
    assert stretched.getpixel((54, 2)) == (255, 0, 0)


@pytest.mark.parametrize("fit", FITS)
def test_small_pictures_are_enlarged_and_large_ones_antialiased(fit: str) -> None:
    assert fit_picture(Image.new("RGB", (3, 3), GREEN), 64, fit, WHITE).getcolors() == [(64 * 64, GREEN)]
    stripes = Image.new("L", (512, 512))
    stripes.putdata([255 * (i % 2) for i in range(512 * 512)])
    low, high = fit_picture(stripes, 32, fit, WHITE).getextrema()[0]
    assert low > 120
    assert high < 135


def test_cropping_does_not_trip_over_pillows_pixel_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    image = disc(200, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert fit_picture(image, 64, "crop", WHITE).size == (64, 64)


def test_an_unknown_fit_is_a_usage_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="crop, pad, stretch") as caught:
        fit_picture(disc(8, 8), 64, "crpo", WHITE)
    assert caught.value.hint == "did you mean 'crop'?"
    with pytest.raises(UsageError, match="at least 1 pixel"):
        fit_picture(disc(8, 8), 0, "crop", WHITE)


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("white", (255, 255, 255)),
        ("  Black ", (0, 0, 0)),
        ("#f2f0e9", (242, 240, 233)),
        ("#FFF", (255, 255, 255)),
        ("#010203ff", (1, 2, 3)),
        ("rgb(1, 2, 3)", (1, 2, 3)),
        ("hsl(0, 100%, 50%)", (255, 0, 0)),
    ],
)
def test_colours_are_names_or_codes(text: str, colour: tuple[int, int, int]) -> None:
    assert parse_color(text) == colour


@pytest.mark.parametrize(
    "text", ["", "whit", "#12345", "rgb(300,0,0)", "#ff000080", "255,255,255", "#" * 200]
)
def test_what_is_no_opaque_colour_is_a_usage_error_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_color(text)
    assert repr(text) in caught.value.message
    assert caught.value.hint
