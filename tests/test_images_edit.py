"""Masks and regions: what is found to be edited, which squares are laid over it, and what stays as it was."""

from __future__ import annotations

from io import BytesIO

import pytest
from commands import FOX
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw

from ilvrctl import paths
from ilvrctl.images.io import encode_picture, open_picture
from ilvrctl.images.masks import Grid, difference, feathered, grown, looks_inverted, scribbled, share
from ilvrctl.images.metadata import read_record
from ilvrctl.images.photo import open_photo
from ilvrctl.images.regions import Edit, Region, find_regions, mirrored

PHOTO = sorted(paths.PHOTOS.glob("*.jpg"))[0]


def box_mask(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    for box in boxes:
        mask.paste(255, box)
    return mask


def photo() -> Image.Image:
    return open_picture(PHOTO.read_bytes(), PHOTO.name)


@pytest.mark.parametrize("quality", [95, 75, 50])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_noise_of_compression_is_no_scribble(quality: int, subsampling: int) -> None:
    content = BytesIO()
    photo().save(content, "JPEG", quality=quality, subsampling=subsampling)
    assert share(scribbled(photo(), open_picture(content.getvalue(), "copy"), 20)) == 0


def test_a_scribble_saved_as_jpeg_is_found_where_it_is() -> None:
    drawn = photo()
    stroke = (60, 80, 140, 96)
    ImageDraw.Draw(drawn).rectangle(stroke, fill=(255, 0, 0))
    content = BytesIO()
    drawn.save(content, "JPEG", quality=75)
    box = scribbled(photo(), open_picture(content.getvalue(), "copy"), 20).getbbox()
    assert box is not None
    assert all(abs(edge - at) <= 3 for edge, at in zip(box, stroke, strict=True))


def test_a_thin_faint_line_hangs_together_with_a_strong_one() -> None:
    plain = Image.new("RGB", (100, 100), (128, 128, 128))
    drawn = plain.copy()
    ImageDraw.Draw(drawn).line((10, 50, 60, 50), fill=(255, 255, 255), width=5)
    ImageDraw.Draw(drawn).line((60, 50, 90, 50), fill=(158, 158, 158), width=5)  # its end fades
    ImageDraw.Draw(drawn).line((10, 90, 90, 90), fill=(158, 158, 158), width=5)
    assert scribbled(plain, drawn, 20).getbbox() == (9, 47, 90, 54)
    assert difference(plain, drawn).getextrema() == (0, 127)


@given(
    size=st.tuples(st.integers(3, 90), st.integers(3, 90)),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    r=st.integers(0, 40),
    width=st.integers(0, 40),
)
@settings(max_examples=40, deadline=None)
def test_growing_and_feathering_reach_as_far_as_they_say(
    size: tuple[int, int], at: tuple[float, float], r: int, width: int
) -> None:
    x, y = (min(length - 1, int(part * length)) for part, length in zip(at, size, strict=True))
    square = (max(0, x - r), max(0, y - r), min(size[0], x + r + 1), min(size[1], y + r + 1))
    large = grown(box_mask(size, (x, y, x + 1, y + 1)), r)
    assert ImageChops.difference(large, box_mask(size, square)).getbbox() is None
    soft = feathered(large, width)
    assert soft.crop(square).getextrema() == (255, 255)
    far = box_mask(size, (square[0] - width, square[1] - width, square[2] + width, square[3] + width))
    assert ImageChops.multiply(soft, far.point(lambda v: 255 - v)).getbbox() is None


@given(st.sets(st.tuples(st.integers(0, 299), st.integers(0, 19)), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_parts_of_a_grid_are_apart_and_together_the_mask(pixels: set[tuple[int, int]]) -> None:
    mask = Image.new("L", (300, 20))
    for pixel in pixels:
        mask.putpixel(pixel, 255)
    grid = Grid.of(mask)
    assert grid.factor == 2
    together = Image.new("L", mask.size)
    for label in range(1, max(grid.labels) + 1):
        part = grid.only(mask, {label}, (0, 0, *mask.size))
        assert part.getbbox() is not None
        assert ImageChops.multiply(together, part).getbbox() is None
        together = ImageChops.lighter(together, part)
    assert ImageChops.difference(together, mask).getbbox() is None


def test_a_huge_mask_loses_no_pixel() -> None:
    mask = Image.new("L", (6000, 4000))
    mask.putpixel((5999, 3999), 255)
    grid = Grid.of(mask)
    assert max(grid.width, grid.height) <= 256
    assert grid.on[-1]
    assert sum(map(bool, grid.on)) == 1


def test_masks_that_look_inverted() -> None:
    assert looks_inverted(ImageChops.invert(box_mask((50, 50), (10, 10, 30, 30))))
    assert not looks_inverted(box_mask((50, 50), (10, 10, 30, 30)))
    assert not looks_inverted(box_mask((50, 50), (0, 0, 40, 50)))
    assert not looks_inverted(Image.new("L", (50, 50), 255))


def boxes(regions: list[Region]) -> list[tuple[int, int, int, int]]:
    return [region.box for region in regions]


def test_squares_have_context_and_lie_in_the_picture() -> None:
    edit = Edit(feather=2)
    [region] = find_regions(box_mask((1024, 768), (500, 300, 600, 350)), edit, 64)
    assert region.box == (450, 225, 650, 425)
    [corner] = find_regions(box_mask((1024, 768), (1000, 0, 1024, 20)), edit, 64)
    assert corner.box == (960, 0, 1024, 64)
    [closer] = find_regions(box_mask((1024, 768), (500, 300, 600, 350)), Edit(feather=2, context=0.1), 64)
    assert closer.side == 120


def test_parts_that_one_square_shows_share_it_and_others_do_not() -> None:
    near = box_mask((1024, 768), (100, 100, 200, 200), (220, 150, 240, 170))
    assert len(find_regions(near, Edit(feather=2), 64)) == 1
    far = box_mask((1024, 768), (100, 100, 200, 200), (600, 500, 640, 520))
    first, second = find_regions(far, Edit(feather=2), 64)
    assert boxes([first, second]) == [(50, 50, 250, 250), (580, 470, 660, 550)]
    assert share(first.mask) < 0.3


def test_what_is_larger_than_any_square_in_the_picture_gets_all_of_it() -> None:
    [region] = find_regions(box_mask((100, 60), (5, 20, 95, 30)), Edit(feather=2), 64)
    assert region.box == (0, -20, 100, 80)
    [whole] = find_regions(box_mask((100, 60), (5, 20, 8, 30)), Edit(feather=2, whole=True), 64)
    assert whole.box == (0, -20, 100, 80)
    assert whole.mask.crop((0, 0, 100, 20)).getbbox() is None


def test_beyond_its_edges_a_picture_is_mirrored() -> None:
    row = Image.frombytes("L", (3, 1), bytes([10, 20, 30]))
    assert mirrored(row, (-3, 0, 7, 1)).tobytes() == bytes([30, 20, 10, 10, 20, 30, 30, 20, 10, 10])
    assert mirrored(row, (1, 0, 3, 1)).tobytes() == bytes([20, 30])


def test_at_its_own_size_a_square_is_cut_and_put_back_without_loss() -> None:
    picture = open_picture(FOX.read_bytes(), "fox")
    [region] = find_regions(box_mask((64, 64), (20, 20, 40, 40)), Edit(feather=0), 64)
    piece = region.cut(picture, 64)
    assert piece.tobytes() == picture.tobytes()
    assert region.free(64).getbbox() == (20, 20, 40, 40)
    target = Image.new("RGB", (64, 64))
    region.put(target, piece)
    assert target.crop((20, 20, 40, 40)).tobytes() == picture.crop((20, 20, 40, 40)).tobytes()
    assert target.getpixel((19, 20)) == target.getpixel((40, 39)) == (0, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_turned_photo_comes_out_upright_once(orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    exif[0x8769] = {0xA002: 30, 0xA003: 20}
    content = BytesIO()
    Image.linear_gradient("L").resize((30, 20)).convert("RGB").save(
        content, Image.registered_extensions()["." + suffix], exif=exif
    )
    opened = open_photo(content.getvalue(), "photo")
    expected = (30, 20) if orientation < 5 else (20, 30)
    assert opened.size == expected
    for result in ("png", "jpg", "webp"):
        data = encode_picture(opened.rgb, result, '{"a": 1}', kept=opened.kept)
        again = open_photo(data, "result")
        assert again.size == expected
        with Image.open(BytesIO(data)) as image:
            tags = image.getexif()
        assert (tags[0x0112], tags[0x010F]) == (1, "maker")
        assert tags.get_ifd(0x8769)[0xA002] == expected[0]
        assert read_record(data, "result") == '{"a": 1}'


def test_transparency_and_profile_survive_where_they_can() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = Image.new("L", (9, 7), 128)
    alpha.paste(0, (0, 0, 9, 1))
    picture = Image.merge("RGBA", [*Image.new("RGB", (9, 7), (1, 2, 3)).split(), alpha])
    content = BytesIO()
    picture.save(content, "PNG", icc_profile=profile)
    opened = open_photo(content.getvalue(), "photo")
    assert opened.alpha is not None
    assert opened.alpha.tobytes() == picture.getchannel("A").tobytes()
    assert opened.rgb.getcolors() == [(63, (1, 2, 3))]
    assert opened.flat((255, 255, 255)).getpixel((4, 0)) == (255, 255, 255)
    for suffix in ("png", "jpg", "webp", "tiff"):
        with Image.open(BytesIO(encode_picture(opened.rgb, suffix, "{}", kept=opened.kept))) as image:
            assert image.info["icc_profile"] == profile
    flat = open_picture(encode_picture(picture, "bmp"), "flat")
    assert (flat.getpixel((4, 0)), flat.getpixel((4, 3))) == ((255, 255, 255), (128, 128, 129))


def test_a_grey_profile_does_not_go_with_pictures_that_became_rgb() -> None:
    content = BytesIO()
    grey = b"\0" * 16 + b"GRAY" + b"\0" * 108
    Image.new("L", (8, 8)).save(content, "PNG", icc_profile=grey)
    assert open_photo(content.getvalue(), "photo").kept.profile == b""
