"""What the commands make of deep and coloured pictures: results, what is told, and what stands in the record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, ilvrctl
from PIL import Image
from test_images_colour import SPACES
from test_images_deep import written
from test_images_keep import BYTES, DEEP, encoded, raw, tagged

from ilvrctl.images.metadata import read_record

pytestmark = pytest.mark.usefixtures("stand_ins")

PICTURES = Path(__file__).parent / "pictures"


def read_of(path: str) -> dict[str, str]:
    read: dict[str, str] = json.loads(read_record(Path(path).read_bytes(), path)).get("read", {})
    return read


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_window_and_a_profile_are_in_the_record_and_a_flat_picture_is_warned_of() -> None:
    deep, profiled = PICTURES / "grey_12_in_16.png", PICTURES / "adobe_rgb.png"
    flat = ilvrctl("translate", deep, *QUICK, "-o", "flat.png")
    assert flat.code == 0
    assert "less than a quarter of 0:65535" in " ".join(flat.err.split())
    windowed = ilvrctl("translate", deep, *QUICK, "--set", "window=0:4095", "-o", "windowed.png")
    assert windowed.code == 0
    assert "quarter" not in windowed.err
    assert read_of("windowed.png") == {"window": "0:4095"}
    assert Path("flat.png").read_bytes() != Path("windowed.png").read_bytes()
    assert ilvrctl("translate", profiled, *QUICK, "-o", "profiled.png").code == 0
    assert read_of("profiled.png") == {"profile": "case"}


def test_a_window_that_is_none_stops_before_anything_is_made() -> None:
    ran = ilvrctl("translate", PICTURES / "grey_12_in_16.png", *QUICK, "--set", "window=5-1", "-o", "a.png")
    assert ran.code == 2
    assert "'5-1' is no window" in ran.err


@pytest.mark.parametrize("depth", [8, 16])
def test_an_edit_keeps_profile_depth_and_every_other_pixel(depth: int) -> None:
    if depth == 16:
        Path("photo.tif").write_bytes(written(DEEP, photometric="rgb", iccprofile=SPACES["adobe"]))
    else:
        Path("photo.tif").write_bytes(encoded(Image.fromarray(BYTES), "TIFF", icc_profile=SPACES["adobe"]))
    mask = Image.new("L", (80, 60))
    mask.paste(255, (30, 20, 50, 40))
    mask.save("mask.png")
    for suffix in ("tif", "png"):
        done = ilvrctl("edit", "photo.tif", "--mask", "mask.png", *QUICK, "-o", f"out.{suffix}")
        assert done.code == 0
        before, after = raw(Path("photo.tif").read_bytes()), raw(Path(f"out.{suffix}").read_bytes())
        assert after.dtype == before.dtype == (np.uint16 if depth == 16 else np.uint8)
        changed = np.argwhere((after != before).any(axis=2))
        assert len(changed) > 100
        assert changed.min(axis=0).tolist() >= [14, 24]
        assert changed.max(axis=0).tolist() <= [46, 56]
        with Image.open(f"out.{suffix}") as image:
            assert image.info["icc_profile"] == SPACES["adobe"]
        assert read_of(f"out.{suffix}") == {"profile": "Adobe"}


def test_what_a_format_does_not_hold_is_told_before_it_is_made() -> None:
    Path("photo.jpg").write_bytes(tagged("JPEG"))
    mask = Image.new("L", (60, 80))
    mask.paste(255, (20, 30, 40, 50))
    mask.save("mask.png")
    done = ilvrctl("edit", "photo.jpg", "--mask", "mask.png", *QUICK, "-o", "out.bmp")
    assert done.code == 0
    assert "photo.jpg: bmp files do not hold its EXIF" in " ".join(done.err.split())
