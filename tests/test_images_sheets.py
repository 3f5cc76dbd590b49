"""Contact sheets: everything in its place, and no name that breaks them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from ilvrctl.images.sheets import SheetRow, contact_sheet

COLUMNS = ("input", "low-pass N=4", "sample 1")


def plain(colour: str) -> Image.Image:
    return Image.new("RGB", (64, 64), colour)


def row(label: str = "cat.png") -> SheetRow:
    return SheetRow(label, (plain("red"), plain("lime"), plain("blue")))


def area(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Bounding box of what has exactly ``colour``."""
    difference = ImageChops.difference(sheet, Image.new("RGB", sheet.size, colour)).split()
    brightest = ImageChops.lighter(ImageChops.lighter(difference[0], difference[1]), difference[2])
    box = brightest.point(lambda v: 0 if v else 255).getbbox()
    assert box is not None
    return box


def test_pictures_stand_in_columns_of_equal_cells() -> None:
    sheet = contact_sheet([row()], COLUMNS, "seed 7", cell=96)
    boxes = [area(sheet, colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    for left, top, right, bottom in boxes:
        assert (right - left, bottom - top) == (96, 96)
        assert top == boxes[0][1]
    assert boxes[1][0] - boxes[0][0] == boxes[2][0] - boxes[1][0] > 96


def test_small_pictures_are_enlarged_and_odd_shapes_kept() -> None:
    sheet = contact_sheet(
        [SheetRow("a", (Image.new("RGB", (200, 50), (255, 0, 0)),))], ["input"], "", cell=128
    )
    left, top, right, bottom = area(sheet, (255, 0, 0))
    assert (right - left, bottom - top) == (128, 32)


def test_the_width_follows_the_columns_and_the_height_the_rows() -> None:
    sizes = {
        (columns, rows): contact_sheet([row()] * rows, ["a"] * columns, "seed 7", cell=64).size
        for columns in (3, 4)
        for rows in (1, 5, 8)
    }
    assert sizes[4, 1][0] - sizes[3, 1][0] == 64 + 6
    assert sizes[3, 5][1] - sizes[3, 1][1] == 4 * (64 + 6)
    assert sizes[3, 8][1] - sizes[3, 1][1] == 7 * (64 + 6)


@pytest.mark.parametrize("count", [25, 60, 300])
def test_many_rows_stand_in_groups_so_that_the_sheet_stays_viewable(count: int) -> None:
    rows = [SheetRow(f"{i}.png", (plain("red"), plain("lime"))) for i in range(count)]
    width, height = contact_sheet(rows, ("input", "sample 1"), "seed 7", cell=32).size
    assert 0.5 < height / width < 1.6


def test_a_missing_picture_is_an_empty_square() -> None:
    shown = SheetRow("a", (plain("red"), None))
    short = SheetRow("a", (plain("red"),))
    sheet = contact_sheet([shown], ("input", "sample 1"), "")
    assert sheet.tobytes() == contact_sheet([short], ("input", "sample 1"), "").tobytes()
    left, top, right, bottom = area(sheet, (232, 232, 229))
    assert (right - left, bottom - top) == (128, 128)


def test_the_caption_is_wrapped_and_may_be_empty() -> None:
    without = contact_sheet([row()], COLUMNS, "")
    short = contact_sheet([row()], COLUMNS, "seed 7")
    long = contact_sheet([row()], COLUMNS, "ilvr, N=4, 100 steps, seed 7, emoji3d-64. " * 4)
    assert without.width == short.width == long.width
    assert without.height < short.height < long.height


def test_labels_and_titles_are_drawn() -> None:
    named = contact_sheet([row("cat.png")], COLUMNS, "")
    other = contact_sheet([row("dog.png")], COLUMNS, "")
    titled = contact_sheet([row("cat.png")], ("input", "low-pass N=4", "sample 2"), "")
    assert named.size == titled.size
    assert named.tobytes() != other.tobytes()
    assert named.tobytes() != titled.tobytes()


def test_long_names_are_shortened_in_the_middle_so_that_they_still_differ() -> None:
    sheets = [contact_sheet([row("IMG_2024_" * 40 + f"{i}.jpeg")], COLUMNS, "") for i in (1, 2)]
    assert sheets[0].size == sheets[1].size
    assert sheets[0].tobytes() != sheets[1].tobytes()


@pytest.mark.parametrize("title", ["sddm+egsde, " * 20, "x" * 300, "range=1.0:0.2, energies.dse.weight=500"])
def test_long_titles_stay_above_their_columns(title: str) -> None:
    """Nothing is drawn where the neighbours' titles stand."""
    bare = contact_sheet([row()], ("a", "b", "c"), "")
    sheet = contact_sheet([row()], ("a", title, "c"), "")
    assert sheet.width == bare.width
    left, top, right, _ = area(sheet, (0, 255, 0))
    for box in ((0, 0, left, top), (right, 0, sheet.width, top)):
        alone = contact_sheet([row()], ("a", "", "c"), "")
        beside = sheet.crop(box)
        shift = sheet.height - alone.height
        assert beside.crop((0, shift, beside.width, beside.height)).tobytes() == (
            alone.crop((box[0], 0, box[2], top - shift)).tobytes()
        )


@pytest.mark.parametrize(
    "label",
    [
        "photo[1].png",
        "猫 🐱.png",
        "two\nlines.png",
        "",
        " ",
        "\x1b[31mred\0",
        "caf\udce9.png",
        "\u202egnp.exe",
        "x" * 5000,
    ],
)
def test_odd_names_do_not_break_the_sheet(label: str) -> None:
    for cell in (16, 128):
        sheet = contact_sheet([row(label)], (label, *COLUMNS[1:]), label, cell=cell)
        assert area(sheet, (255, 0, 0))


@given(text=st.text(max_size=60))
@settings(max_examples=25, deadline=None)
def test_any_text_can_stand_anywhere(text: str) -> None:
    sheet = contact_sheet([SheetRow(text, (None,))], [text], text, cell=40)
    assert sheet.mode == "RGB"


def test_a_sheet_without_rows_is_still_a_picture() -> None:
    assert contact_sheet([], COLUMNS, "nothing to show").width > 3 * 128


def test_more_pictures_than_columns_or_no_columns_is_an_error() -> None:
    with pytest.raises(ValueError, match="a column for every picture"):
        contact_sheet([row()], ("input",), "")
    with pytest.raises(ValueError, match="a column for every picture"):
        contact_sheet([], (), "")
