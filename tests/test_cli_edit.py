"""``ilvrctl edit`` as a person uses it, with the bundled model."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
import torch
from commands import command, environment, ilvrctl, json_lines, pixels, tree
from conftest import EMOJI
from PIL import Image, ImageChops, ImageDraw

from ilvrctl.diffusion.lowpass import LowPass
from ilvrctl.images.tensors import to_tensor

pytestmark = pytest.mark.usefixtures("stand_ins")

EGG = EMOJI / "3d" / "1f95a_egg.png"
QUICK = ("--to", "emoji3d", "--steps", "10", "--precision", "fp32")
RED = (235, 30, 40)
BAND = (20, 26, 46, 34)
WITHOUT_TORCH = """
import sys
from ilvrctl.cli.app import main
try:
    main()
finally:
    print("heavy:", sorted({"torch", "numpy", "safetensors"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def egg() -> Image.Image:
    with Image.open(EGG) as image:
        return image.convert("RGB")


def scribbled(photo: Image.Image, *boxes: tuple[int, int, int, int]) -> Image.Image:
    drawn = photo.copy()
    for box in boxes:
        ImageDraw.Draw(drawn).rectangle(box, fill=RED)
    return drawn


def save_pair(photo: Image.Image, *boxes: tuple[int, int, int, int]) -> None:
    photo.save("photo.png")
    scribbled(photo, *boxes).save("scribbled.png")


def changed(result: str, photo: str = "photo.png") -> tuple[int, int, int, int] | None:
    with Image.open(result) as a, Image.open(photo) as b:
        return ImageChops.difference(a.convert("RGB"), b.convert("RGB")).getbbox()


def low_frequencies(result: str, box: tuple[int, int, int, int]) -> float:
    """The mean |phi_2(result) - phi_2(scribbled)| within the box, in 1/255."""
    with Image.open(result) as a, Image.open("scribbled.png") as b:
        one, two = (to_tensor(image.convert("RGB").crop(box)) for image in (a, b))
    phi = LowPass(2)
    return 127.5 * float((phi(one) - phi(two)).abs().mean())


@pytest.mark.shipped
def test_a_scribble_on_an_emoji() -> None:
    save_pair(egg(), BAND)
    ran = ilvrctl("edit", "photo.png", "scribbled.png", *QUICK, "-o", "out.png")
    assert (ran.code, ran.lines) == (0, ["out.png"])
    assert "1 edited" in ran.err
    box = changed("out.png")
    assert box is not None
    assert box[0] >= BAND[0] - 4
    assert box[1] >= BAND[1] - 4
    assert box[2] <= BAND[2] + 5
    assert box[3] <= BAND[3] + 5
    assert low_frequencies("out.png", (22, 26, 46, 34)) < 12
    assert pixels(Path("out.png")) != pixels(Path("scribbled.png"))
    again = ilvrctl("edit", "photo.png", "scribbled.png", *QUICK, "-o", "out.png")
    assert "nothing to do" in again.err
    assert tree(Path()) == ["out.png", "photo.png", "scribbled.png"]


def test_two_scribbles_in_a_large_canvas_make_two_regions() -> None:
    canvas = Image.new("RGB", (1024, 768), (250, 250, 250))
    for at in ((100, 80), (800, 600)):
        canvas.paste(egg(), at)
    save_pair(canvas, (122, 106, 144, 114), (822, 626, 844, 634))
    args = ("edit", "photo.png", "scribbled.png", *QUICK, "--steps", "5")
    planned = json_lines(ilvrctl(*args, "-o", "out.png", "--dry-run", "--json"))
    assert planned[0]["event"] == "selected"
    assert len(planned[0]["regions"]) == 2
    ran = ilvrctl(*args, "-o", "out.png")
    assert ran.code == 0, ran.err
    with Image.open("out.png") as result, Image.open("photo.png") as before:
        difference = ImageChops.difference(result.convert("RGB"), before)
    for box in ((100, 80, 180, 160), (800, 600, 880, 680)):
        assert difference.crop(box).getbbox() is not None
        difference.paste(0, box)
    assert difference.getbbox() is None


def test_the_result_makes_itself_again_and_is_no_translation() -> None:
    save_pair(egg(), BAND)
    args = ("edit", "photo.png", "scribbled.png")
    ilvrctl(
        *args,
        *QUICK,
        "--steps",
        "4",
        "--grow",
        "3",
        "--seed",
        "5",
        "-n",
        "2",
        "--batch-size",
        "1",
        "-o",
        "a.png",
    )
    ran = ilvrctl(*args, "--from-image", "a_2.png", "-o", "b.png")
    assert ran.code == 0, ran.err
    assert pixels(Path("b_2.png")) == pixels(Path("a_2.png"))
    with Image.open("a_2.png") as image:
        record = json.loads(image.info["ilvrctl"])
    assert record["settings"]["edit"]["grow"] == 3
    ran = ilvrctl("translate", "photo.png", "--from-image", "a_2.png", "-o", "c.png")
    assert ran.code == 2
    assert "made by ilvrctl edit" in ran.err
    ilvrctl("translate", "photo.png", *QUICK, "--steps", "3", "-o", "t.png")
    ran = ilvrctl(*args, "--from-image", "t.png", "-o", "d.png")
    assert ran.code == 2
    assert "not made by ilvrctl edit" in ran.err


def test_pictures_through_pipes_and_formats() -> None:
    photo = egg()
    photo.putalpha(Image.linear_gradient("L").resize((64, 64)))
    photo.save("photo.png")
    scribbled(egg(), BAND).save("scribbled.png")
    drawn = Image.open("photo.png")
    ImageDraw.Draw(drawn).rectangle(BAND, fill=(*RED, 255))
    drawn.save("scribbled.png")
    args = (*QUICK, "--steps", "3")
    ran = ilvrctl("edit", "photo.png", "-", *args, "-o", "-", stdin=Path("scribbled.png").read_bytes())
    assert ran.code == 0, ran.err
    result = Image.open(BytesIO(ran.out))
    assert result.mode == "RGBA"
    assert result.getchannel("A").tobytes() == photo.getchannel("A").tobytes()
    for name in ("a.jpg", "b.jpg"):
        quality = "95" if name == "a.jpg" else "20"
        ran = ilvrctl("edit", "photo.png", "scribbled.png", *args, "-o", name, "--quality", quality)
        assert ran.code == 0, ran.err
    assert Path("b.jpg").stat().st_size < Path("a.jpg").stat().st_size
    with Image.open("a.jpg") as image:
        assert (image.mode, image.getpixel((1, 1))) == ("RGB", (255, 255, 255))


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["photo.png", "photo.png"], 2, "there is no scribble in it"),
        (["photo.png", "missing.png"], 1, "missing.png does not exist"),
        (["-", "-"], 2, "- can be read once"),
        (["photo.png", "scribbled.png", "--mode", "pain"], 2, "did you mean 'paint'?"),
        (["photo.png", "scribbled.png", "--resample", "3"], 2, "not of the form JUMPxTIMES"),
        (["photo.png", "scribbled.png", "--mask", "m.png", "--no-mask"], 2, "both say what is edited"),
        (["photo.png", "scribbled.png", "-o", "scribbled.png"], 2, "which are never changed"),
        ([".", "scribbled.png"], 2, ". is a folder, and one picture is edited at a time"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes(args: list[str], code: int, words: str) -> None:
    save_pair(egg(), BAND)
    ran = ilvrctl("edit", *args, "--to", "emoji3d", "--precision", "fp32")
    assert ran.code == code, ran.err
    assert words in ran.err
    assert tree(Path()) == ["photo.png", "scribbled.png"]


@pytest.mark.shipped
def test_a_single_picture_is_edited_as_in_the_paper_and_a_painting_at_all_steps() -> None:
    egg().resize((90, 60)).save("photo.png")
    ran = ilvrctl("edit", "photo.png", *QUICK, "--dry-run")
    assert "ILVR N=2, levels 1.0 to 0.2" in ran.err
    assert "100.0% of the picture is edited" in ran.err
    ran = ilvrctl("edit", "photo.png", *QUICK, "--steps", "3", "--mode", "paint", "-n", "2", "-o", "paint")
    assert ran.code == 0, ran.err
    assert tree(Path("paint")) == ["photo_1.png", "photo_2.png", "sheet.png"]
    with Image.open("paint/photo_1.png") as image:
        assert image.size == (90, 60)
        record = json.loads(image.info["ilvrctl"])
    assert record["settings"]["method"]["constraint"]["N"] == 16
    assert record["settings"]["method"]["range"] == [1.0, 0.0]


@pytest.mark.parametrize(
    "how", [["--preview", "p.png"], ["--dry-run"], ["--preview", "p.png", "--json"]], ids=str
)
def test_a_preview_and_a_plan_do_not_wait_for_torch(how: list[str], tmp_path: Path) -> None:
    save_pair(egg(), BAND)
    words = ["edit", "photo.png", "scribbled.png", "--to", "emoji3d", *how]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stderr
    if "--preview" in how:
        with Image.open("p.png") as image:
            assert image.width > 500
        ran = ilvrctl(*words)
        assert ran.code == 2
        assert "p.png is there already" in ran.err


def test_the_preview_shows_what_the_method_takes_over() -> None:
    from ilvrctl.diffusion.lowpass import filtered_plainly

    band = torch.rand(24, 32, generator=torch.Generator().manual_seed(0))
    for kernel in ("cubic", "box"):
        plain = torch.tensor(filtered_plainly(band.tolist(), 4, kernel))
        assert torch.allclose(plain, LowPass(4, kernel)(band), atol=1e-5)


@pytest.mark.shipped
def test_translate_at_the_own_size_of_a_picture() -> None:
    egg().resize((75, 52)).save("photo.png")
    args = ("translate", "photo.png", *QUICK, "--steps", "3", "--fit", "native")
    ran = ilvrctl(*args, "-o", "out.png", "--sheet", "sheet.png")
    assert ran.code == 0, ran.err
    with Image.open("out.png") as image:
        assert image.size == (75, 52)
    ran = ilvrctl("translate", EGG, *QUICK, "--steps", "3", "--fit", "native", "-o", "native.png")
    ilvrctl("translate", EGG, *QUICK, "--steps", "3", "--fit", "crop", "-o", "crop.png")
    assert pixels(Path("native.png")) == pixels(Path("crop.png"))
    Image.new("RGB", (1200, 1000)).save("large.png")
    ran = ilvrctl("translate", "large.png", *QUICK, "--fit", "native", "-o", "no.png")
    assert ran.code == 1
    assert "too many for --fit native" in ran.err


def test_sddm_at_the_own_size_of_a_picture() -> None:
    egg().resize((75, 52)).save("photo.png")
    args = ("translate", "photo.png", *QUICK, "--steps", "3", "--method", "sddm", "--fit", "native")
    ran = ilvrctl(*args, "-o", "out.png")
    assert ran.code == 0, ran.err
    with Image.open("out.png") as image:
        assert image.size == (75, 52)


@pytest.mark.slow
def test_a_photo_of_24_megapixels_is_edited_in_less_than_a_gigabyte(tmp_path: Path) -> None:
    photo = Image.radial_gradient("L").resize((6000, 4000)).convert("RGB")
    photo.save("photo.jpg", quality=90)
    drawn = photo.copy()
    ImageDraw.Draw(drawn).line((2500, 1800, 3200, 2300), fill=RED, width=40)
    drawn.save("scribbled.jpg", quality=90)
    del photo, drawn
    args = ("edit", "photo.jpg", "scribbled.jpg", *QUICK, "--steps", "2", "-o", "out.png")
    measured = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", measured, *command(*args)], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kilobytes = int(done.stdout.splitlines()[-1])
    assert 200_000 < kilobytes < 1_000_000
    box = changed("out.png", "photo.jpg")
    assert box is not None
    assert box[0] > 2300
    assert box[2] < 3400
