"""Edits on a network made up for the test: what stays as it was, and what is refused."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from checkpoints import still_engine as load
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from ilvrctl.config import Layer
from ilvrctl.events import ItemFailed, JobEvent, Warned, Written
from ilvrctl.images.regions import Edit
from ilvrctl.plans.check import make_plan
from ilvrctl.plans.edit_modes import mode_layer
from ilvrctl.plans.grid import Variant
from ilvrctl.plans.inputs import Item
from ilvrctl.plans.outputs import Destination, outputs_of
from ilvrctl.plans.plan import Plan
from ilvrctl.presets import find_model
from ilvrctl.settings import Settings, build_settings
from ilvrctl.work.edit import select
from ilvrctl.work.run import run
from ilvrctl.work.workers import Alone

MODEL = 16
RED = (255, 0, 0)


def encoded(image: Image.Image, suffix: str = "png") -> bytes:
    content = BytesIO()
    image.save(content, Image.registered_extensions()[f".{suffix}"])
    return content.getvalue()


def noisy(mode: str, size: tuple[int, int], seed: int = 0) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    data = random.Random(seed).randbytes(size[0] * size[1] * bands)
    return Image.frombytes(mode, size, data)


def item_of(photo: bytes, guide: bytes | None = None, mask: bytes | None = None) -> Item:
    others = [
        None if data is None else Item(n, n, data=data) for n, data in (("copy", guide), ("mask", mask))
    ]
    return Item("photo", "photo", data=photo, guide=others[0], mask=others[1])


def settings_of(**edit: object) -> Settings:
    way = mode_layer("scribble", 64, masked=True)
    return build_settings(way, overrides=[Layer({"steps": 2, "edit": edit, "method": {"range": [1.0, 0.0]}})])


def plan_of(item: Item, out: Path, chosen: Settings, samples: int = 1) -> Plan:
    outputs = outputs_of([item], range(1, samples + 1), Destination(file=out))
    return make_plan(
        Plan(tuple(outputs), (Variant(chosen),), find_model("emoji3d-64"), "00"), overwrite=False
    )


def edited(item: Item, out: Path, chosen: Settings) -> list[JobEvent]:
    return list(run([plan_of(item, out, chosen)], Alone(lambda networks: load())))


@given(
    size=st.tuples(st.integers(8, 150), st.integers(8, 150)),
    corners=st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=3),
    mode=st.sampled_from(["RGB", "RGBA", "L", "LA"]),
    suffix=st.sampled_from(["png", "tiff"]),
    distances=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    whole=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_outside_of_the_feathered_mask_no_pixel_changes(
    size: tuple[int, int],
    corners: list[tuple[float, float, float, float]],
    mode: str,
    suffix: str,
    distances: tuple[int, int],
    whole: bool,
) -> None:
    mask = Image.new("L", size)
    for x, y, w, h in corners:
        left, top = int(x * (size[0] - 1)), int(y * (size[1] - 1))
        mask.paste(255, (left, top, left + 1 + int(w * size[0] / 3), top + 1 + int(h * size[1] / 3)))
    if mask.getextrema() == (255, 255):
        mask.putpixel((0, 0), 0)
    photo = noisy(mode, size)
    grow, feather = distances
    item = item_of(encoded(photo, suffix), mask=encoded(mask))
    chosen = settings_of(grow=grow, feather=feather, whole=whole)
    with TemporaryDirectory() as folder:
        out = Path(folder) / f"out.{suffix}"
        written = [event for event in edited(item, out, chosen) if isinstance(event, Written)]
        assert len(written) == 1
        result = Image.open(out)
        result.load()
    assert result.size == size
    change = ImageChops.difference(result.convert("RGB"), photo.convert("RGBA").convert("RGB"))
    reach = grow + feather
    allowed = Image.new("L", size)
    for x in range(size[0]):
        for y in range(size[1]):
            if mask.getpixel((x, y)):
                allowed.paste(255, (x - reach, y - reach, x + reach + 1, y + reach + 1))
    change.paste(0, mask=allowed)
    assert change.getbbox() is None
    if mode in ("RGBA", "LA"):
        assert result.getchannel("A").tobytes() == photo.getchannel("A").tobytes()


def test_only_the_scribble_is_edited_and_twice_is_the_same(tmp_path: Path) -> None:
    photo = noisy("RGB", (200, 120))
    guide = photo.copy()
    guide.paste(RED, (50, 40, 70, 60))
    item = item_of(encoded(photo), encoded(guide))
    edited(item, tmp_path / "a.png", settings_of())
    edited(item, tmp_path / "b.png", settings_of())
    a = Image.open(tmp_path / "a.png")
    changed = ImageChops.difference(a, photo).getbbox()
    assert changed is not None
    assert changed[0] >= 50 - 6
    assert changed[2] <= 70 + 6
    assert a.tobytes() == Image.open(tmp_path / "b.png").tobytes()
    middle = a.crop((54, 44, 66, 56)).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(middle, tuple)
    assert middle[0] > 180 > 60 > middle[1]


def test_regions_do_not_depend_on_each_other(tmp_path: Path) -> None:
    photo = noisy("RGB", (400, 120))
    one, two = photo.copy(), photo.copy()
    one.paste(RED, (20, 40, 40, 60))
    two.paste(RED, (20, 40, 40, 60))
    two.paste(RED, (340, 40, 360, 60))
    item = item_of(encoded(photo), encoded(two))
    found = select(item, item.contents(), Edit(), "white", 64)
    assert len(found.regions) == 2
    events = edited(item, tmp_path / "two.png", settings_of())
    assert sum(isinstance(event, Written) for event in events) == 1
    result = Image.open(tmp_path / "two.png")
    assert ImageChops.difference(result, two).crop((80, 0, 320, 120)).getbbox() is None
    for x in (30, 350):
        red = result.crop((x - 5, 45, x + 5, 55)).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        assert isinstance(red, tuple)
        assert red[0] > 150 > red[1]


def test_done_edits_are_known_again(tmp_path: Path) -> None:
    photo = noisy("RGB", (64, 64))
    guide, other = photo.copy(), photo.copy()
    guide.paste(RED, (20, 20, 40, 40))
    other.paste(RED, (10, 20, 40, 40))
    item, out = item_of(encoded(photo), encoded(guide)), tmp_path / "out.png"
    edited(item, out, settings_of())
    assert plan_of(item, out, settings_of()).pending == ()
    for changed, chosen in [
        (item_of(encoded(photo), encoded(other)), settings_of()),
        (item, settings_of(grow=9)),
    ]:
        with pytest.raises(Exception, match="there already, made from another input or with other settings"):
            plan_of(changed, out, chosen)


def failure(item: Item, tmp_path: Path, **edit: object) -> str:
    [failed] = [
        event
        for event in edited(item, tmp_path / "no.png", settings_of(**edit))
        if isinstance(event, ItemFailed)
    ]
    assert failed.error.exit_code == 2
    assert failed.error.hint
    assert not (tmp_path / "no.png").exists()
    return failed.error.message


def test_masks_that_cannot_be_meant(tmp_path: Path) -> None:
    photo = noisy("RGB", (64, 64))
    data = encoded(photo)
    guide = photo.copy()
    guide.paste(RED, (20, 20, 40, 40))
    drawn = encoded(guide)
    black, white = encoded(Image.new("L", (64, 64))), encoded(Image.new("L", (64, 64), 255))
    around = Image.new("L", (64, 64), 255)
    around.paste(0, (10, 10, 50, 50))
    small = encoded(Image.new("L", (32, 64), 255))
    for item, words in [
        (item_of(data, data), "copy differs from photo by 0 of 255 at most: there is no scribble in it"),
        (
            item_of(data, encoded(ImageChops.invert(noisy("RGB", (64, 64), 1)))),
            "it is not a scribbled copy of it",
        ),
        (item_of(data, encoded(guide.resize((64, 32)))), "copy has 64 x 32 pixels and photo 64 x 64"),
        (item_of(data, mask=small), "mask has 32 x 64 pixels and photo 64 x 64"),
        (item_of(data, mask=black), "mask is black everywhere: nothing is edited"),
        (item_of(data, mask=white), "mask is white everywhere: nothing is kept"),
        (item_of(data, drawn, encoded(around)), "it looks inverted"),
    ]:
        assert words in failure(item, tmp_path)


def test_a_mask_alone_that_looks_inverted_is_remarked_on(tmp_path: Path) -> None:
    around = Image.new("L", (64, 64), 255)
    around.paste(0, (20, 20, 50, 50))
    item = item_of(encoded(noisy("RGB", (64, 64))), mask=encoded(around))
    events = edited(item, tmp_path / "out.png", settings_of(feather=0))
    [note] = [event.message for event in events if isinstance(event, Warned)]
    assert "looks inverted" in note
    assert any(isinstance(event, Written) for event in events)


def test_a_broken_companion_fails_the_edit(tmp_path: Path) -> None:
    [failed] = [
        event
        for event in edited(
            item_of(encoded(noisy("RGB", (64, 64))), b"GIF8"), tmp_path / "a.png", settings_of()
        )
        if isinstance(event, ItemFailed)
    ]
    assert failed.error.message.startswith("copy is")


def test_pictures_beyond_the_limit_of_pillow_are_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow refuses to crop more pixels than its limit, and a square around a long side has many."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    photo = noisy("RGB", (150, 20))
    copy = photo.copy()
    copy.paste(RED, (4, 4, 140, 12))
    events = edited(item_of(encoded(photo), encoded(copy)), tmp_path / "out.png", settings_of())
    assert [event.path for event in events if isinstance(event, Written)] == [tmp_path / "out.png"]
    assert Image.MAX_IMAGE_PIXELS == 4000


@pytest.mark.parametrize("stage", ["scribbled", "find_regions", "open_photo"])
def test_a_mask_that_goes_wrong_fails_its_photo_alone(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    photo = noisy("RGB", (60, 60))
    copy = photo.copy()
    copy.paste(RED, (20, 20, 40, 30))
    monkeypatch.setattr(f"ilvrctl.work.edit.{stage}", wrong)
    events = edited(item_of(encoded(photo), encoded(copy)), tmp_path / "out.png", settings_of())
    [failed] = [event for event in events if isinstance(event, ItemFailed)]
    assert failed.error.message == "photo: decoding failed: RecursionError: maximum recursion depth exceeded"
