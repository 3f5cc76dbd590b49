"""Small files of the field, each with the truth about it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from ilvrctl.images.io import read_picture

PICTURES = Path(__file__).parent / "pictures"
CASES = json.loads((PICTURES / "cases.json").read_text())
WARNED = {"broken_profile.png": "its colour profile cannot be read"}
CONVERTED = {"adobe_rgb.png", "adobe_rgb_photo.jpg", "prophoto.png", "display_p3.png", "grey_gamma18.png"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_each_is_as_its_truth_says(case: dict[str, Any]) -> None:
    file = PICTURES / case["file"]
    found = read_picture(file.read_bytes(), file.name, window=case.get("window"))
    with Image.open(PICTURES / "truth" / f"{file.stem}.png") as truth:
        difference = ImageChops.difference(found.image, truth.convert("RGB")).getextrema()
    assert max(high for _, high in difference) <= case["largest_difference"]
    assert len(found.notes) == (file.name in WARNED)
    assert all(WARNED[file.name] in note for note in found.notes)
    assert ("profile" in found.read) == (file.name in CONVERTED)
    assert found.read.get("window") == case.get("window")


@pytest.mark.parametrize(
    ("name", "range_", "read_as"),
    [
        ("grey_12_in_16.png", "from 0 to 4095", "0:65535"),
        ("grey_int16.tif", "from -1000 to 2000", "-32768:32767"),
    ],
)
def test_levels_that_fill_little_of_their_range_are_told_with_the_flag(
    name: str, range_: str, read_as: str
) -> None:
    data = (PICTURES / name).read_bytes()
    found = read_picture(data, name)
    [note] = found.notes
    for part in (name, range_, f"less than a quarter of {read_as}", "--window LO:HI", "--window auto"):
        assert part in note
    auto = read_picture(data, name, window="auto")
    assert auto.notes == ()
    case = next(case for case in CASES if case["file"] == name)
    assert auto.read == {"window": case["window"]}
    assert auto.image.tobytes() == read_picture(data, name, window=case["window"]).image.tobytes()


def test_without_the_packages_of_the_extra_each_is_right_or_refused_for_that() -> None:
    """In a process in which neither numpy nor tifffile nor imagecodecs can be imported."""
    code = """
import json, sys
from pathlib import Path
for name in ("numpy", "tifffile", "imagecodecs", "pillow_heif", "pillow_jxl"):
    sys.modules[name] = None
from PIL import Image, ImageChops
from ilvrctl.errors import InputError
from ilvrctl.images.io import encode_picture, read_picture
from ilvrctl.images.photo import open_photo
folder = Path(sys.argv[1])
refused = []
for case in json.loads((folder / "cases.json").read_text()):
    file = folder / case["file"]
    try:
        found = read_picture(file.read_bytes(), file.name, window=case.get("window")).image
        photo = open_photo(file.read_bytes(), file.name)
        encode_picture(photo.rgb, "png", "{}", kept=photo.kept)
    except InputError as error:
        assert "needs the extra 'tiff'" in error.message and "ilvrctl[tiff]" in error.hint, error
        refused.append(file.name)
        continue
    truth = Image.open(folder / "truth" / f"{file.stem}.png").convert("RGB")
    assert max(high for _, high in ImageChops.difference(found, truth).getextrema()) <= 2, file
print(*refused)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(PICTURES)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = {"grey12_packed.tif", "grey_int16.tif", "grey_u32.tif", "rgb16_planar.tif", "la_planar.tif"}
    assert set(done.stdout.split()) == {*expected, "rgb10_packed.tif"}
