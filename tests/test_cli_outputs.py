"""What is written: names, samples, sheets, animations, and the record that makes a result again."""

from __future__ import annotations

import json
import platform
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_small_network
from commands import CUP, FOX, QUICK, copies, ilvrctl, pixels, tree
from PIL import Image

from ilvrctl.images.metadata import read_record

pytestmark = pytest.mark.usefixtures("stand_ins")


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def record_of(path: Path | str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read_record(Path(path).read_bytes(), str(path)))
    return found


def size_of(path: Path | str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_samples_are_numbered() -> None:
    assert ilvrctl("translate", FOX, *QUICK, "-n", "2").lines == ["out/fox_1.png", "out/fox_2.png"]
    assert ilvrctl("translate", FOX, *QUICK, "-n", "2", "-o", "my.png").lines == ["my_1.png", "my_2.png"]
    assert ilvrctl("translate", FOX, *QUICK, "-o", "new/deep/my.png").lines == ["new/deep/my.png"]


@pytest.mark.shipped
@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jpg", "JPEG"), ("a.WEBP", "WEBP"), ("a.tif", "TIFF"), ("a.bmp", "BMP"), ("a.gif", "GIF")],
)
def test_the_name_decides_the_format(name: str, kind: str) -> None:
    assert ilvrctl("translate", FOX, *QUICK, "-o", name).lines == [name]
    with Image.open(name) as image:
        assert (image.format, image.size) == (kind, (64, 64))
    again = ilvrctl("translate", FOX, *QUICK, "-o", name)
    assert again.code == 0 and "nothing to do" in again.err


def test_a_folder_whose_name_looks_like_a_file() -> None:
    assert ilvrctl("translate", FOX, *QUICK, "-o", "results.png/").lines == ["results.png/fox.png"]
    assert ilvrctl("translate", FOX, *QUICK, "-o", "results.v2").lines == ["results.v2/fox.png"]
    ran = ilvrctl("translate", FOX, *QUICK, "-o", "results.v2", "--sheet", "results.png")
    assert ran.code == 2
    assert "the output results.png is a folder" in ran.err


def test_a_sheet_has_a_row_an_input_and_a_column_a_sample(tmp_path: Path) -> None:
    args = ["translate", FOX, CUP, "nope.png", *QUICK, "--N", "4", "-n", "2", "--batch-size", "1"]
    ran = ilvrctl(*args, "--sheet", "new/sheet.png")
    assert ran.code == 1
    assert "sheet: new/sheet.png" in ran.err
    width, height = size_of("new/sheet.png")
    assert width > 4 * 128
    assert 2 * 128 < height < 3 * 128
    first = pixels(tmp_path / "new/sheet.png")
    again = ilvrctl("translate", FOX, CUP, *QUICK, "--N", "4", "-n", "2", "--sheet", "new/sheet.png")
    assert "nothing to do: all 4 results are there already" in again.err
    assert size_of("new/sheet.png") == (width, height)
    assert pixels(tmp_path / "new/sheet.png") != b""
    (tmp_path / "new/sheet.png").unlink()
    (tmp_path / "out/cup_2.png").unlink()
    ilvrctl(*args, "--sheet", "new/sheet.png")
    assert pixels(tmp_path / "new/sheet.png") == first


def test_a_sheet_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    theirs = copies(tmp_path, ["sheet.png"])[0]
    before = theirs.read_bytes()
    ran = ilvrctl("translate", FOX, *QUICK, "--sheet", "sheet.png")
    assert ran.code == 2
    assert "sheet.png is there already" in ran.err
    assert ilvrctl("translate", FOX, *QUICK, "--sheet", "out/fox.png").code == 2
    assert theirs.read_bytes() == before
    assert ilvrctl("translate", FOX, *QUICK, "--sheet", "sheet.png", "--overwrite").code == 0
    ran = ilvrctl("translate", FOX, *QUICK, "-o", "other", "--N", "8", "--sheet", "sheet.png")
    assert ran.code == 2


@pytest.mark.shipped
def test_an_animation_beside_every_result(tmp_path: Path) -> None:
    ran = ilvrctl(
        "translate", FOX, *QUICK[:2], "--steps", "10", "--N", "4", "--precision", "fp32", "-n", "2", "--gif"
    )
    assert ran.lines == ["out/fox_1.png", "out/fox_2.png"]
    assert tree(tmp_path / "out") == ["fox_1.gif", "fox_1.png", "fox_2.gif", "fox_2.png"]
    with Image.open("out/fox_1.gif") as animation:
        assert animation.n_frames >= 10  # type: ignore[attr-defined]
        assert animation.size == (128, 64)
        assert animation.info["loop"] == 0


def test_an_animation_that_is_missing_is_made(tmp_path: Path) -> None:
    args = ["translate", FOX, CUP, *QUICK]
    ilvrctl(*args)
    before = (tmp_path / "out/fox.png").read_bytes()
    assert "2 translated" in ilvrctl(*args, "--gif").err
    assert (tmp_path / "out/fox.png").read_bytes() == before
    (tmp_path / "out/fox.gif").unlink()
    assert "1 translated, 1 there already" in ilvrctl(*args, "--gif").err
    assert "nothing to do" in ilvrctl(*args, "--gif").err


def test_an_animation_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    copies(tmp_path, ["out/fox.gif"])
    ran = ilvrctl("translate", FOX, *QUICK, "--gif")
    assert ran.code == 2
    assert "out/fox.gif is there already" in ran.err
    assert tree(tmp_path / "out") == ["fox.gif"]


def test_animations_need_a_name_of_their_own() -> None:
    for out in ("-", "fox.gif"):
        ran = ilvrctl("translate", FOX, *QUICK, "--gif", "-o", out)
        assert ran.code == 2
        assert "--gif writes an animation beside the result" in ran.err


def test_the_record_tells_how_and_not_where(tmp_path: Path) -> None:
    copies(tmp_path, ["private/cat.png"])
    ilvrctl(
        "translate",
        tmp_path / "private/cat.png",
        *QUICK,
        "-n",
        "2",
        "--seed",
        "7",
        "-o",
        tmp_path / "results",
    )
    record = record_of("results/cat_2.png")
    assert record["input"]["name"] == "cat.png"
    assert (record["target"], record["sample"], record["settings"]["seed"]) == ("emoji3d", 2, 7)
    assert record["run"]["precision"] == "fp32"
    assert len(record["weights"]["sha256"]) == len(record["input"]["sha256"]) == len(record["identity"]) == 64
    text = json.dumps(record)
    assert str(tmp_path) not in text
    assert "private" not in text
    assert "results" not in text
    assert platform.node() not in text.replace('"', " ").split()


def test_a_result_makes_itself_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [
        "--N",
        "8",
        "--sampler",
        "ddim",
        "--eta",
        "0.5",
        "--range-t",
        "0",
        "--seed",
        "7",
        "--compat",
        "ilvr_adm",
    ]
    ilvrctl("translate", FOX, *QUICK, *settings, "-n", "2", "--batch-size", "1")
    ran = ilvrctl("translate", FOX, "--from-image", "out/fox_2.png", "-o", "again")
    assert ran.lines == ["again/fox_2.png"]
    assert pixels(tmp_path / "again/fox_2.png") == pixels(tmp_path / "out/fox_2.png")
    monkeypatch.setenv("ILVRCTL_SEED", "8")
    monkeypatch.setenv("ILVRCTL_PRECISION", "bf16")
    ilvrctl("translate", FOX, "--from-image", "out/fox_2.png", "-o", "env.png")
    assert pixels(tmp_path / "env_2.png") == pixels(tmp_path / "out/fox_2.png")
    ilvrctl("translate", FOX, "--from-image", "out/fox_2.png", "--seed", "9", "-o", "other")
    assert pixels(tmp_path / "other/fox_2.png") != pixels(tmp_path / "out/fox_2.png")


def test_a_jpeg_too_makes_itself_again() -> None:
    ilvrctl("translate", FOX, *QUICK, "-o", "a.jpg")
    assert ilvrctl("translate", FOX, "--from-image", "a.jpg", "-o", "b.jpg").code == 0
    assert Path("a.jpg").read_bytes()[-2000:] == Path("b.jpg").read_bytes()[-2000:]


def test_replays_that_cannot_be(tmp_path: Path) -> None:
    ilvrctl("translate", FOX, *QUICK, "--sheet", "sheet.png")
    for args, words in [
        (["--from-image", "nope.png"], "nope.png does not exist"),
        (["--from-image", FOX], "holds no ilvrctl record"),
        (["--from-image", "sheet.png"], "sheet.png is no result of this ilvrctl"),
        (["--from-image", "out/fox.png", "--to", "emoji3d"], "brings its own target"),
        (
            ["--from-image", "out/fox.png", "-n", "2"],
            "--samples and --from-image both say which samples are made",
        ),
    ]:
        ran = ilvrctl("translate", FOX, *args, "-o", "again")
        assert ran.code == 2, ran.err
        assert words in ran.err
    assert not (tmp_path / "again").exists()


def test_a_result_of_weights_of_ones_own_needs_them_again(tmp_path: Path) -> None:
    write_small_network(tmp_path / "mine.pt")
    facts = [
        "--set",
        "model.image_size=32",
        "--set",
        "model.num_heads=2",
        "--set",
        "model.noise_schedule=cosine",
    ]
    ran = ilvrctl("translate", FOX, "--weights", "mine.pt", *facts, "--steps", "3", "--N", "4")
    assert ran.code == 0, ran.err
    ran = ilvrctl("translate", FOX, "--from-image", "out/fox.png", "-o", "again")
    assert ran.code == 3
    assert "made with the weights 'mine'" in ran.err
    assert "--weights FILE" in ran.err
    ran = ilvrctl("translate", FOX, "--from-image", "out/fox.png", "--weights", "mine.pt", "-o", "again")
    assert ran.code == 0, ran.err
    assert pixels(tmp_path / "again/fox.png") == pixels(tmp_path / "out/fox.png")
    write_small_network(tmp_path / "mine.pt", seed=1)
    ran = ilvrctl("translate", FOX, "--from-image", "out/fox.png", "--weights", "mine.pt", "-o", "new")
    assert "warning: mine.pt is not the file that the picture was made with" in ran.err


def test_the_format_of_the_results_in_a_folder(tmp_path: Path) -> None:
    copies(tmp_path, ["in/a.png", "in/b.webp"])
    for _ in range(2):
        ran = ilvrctl("translate", "in", *QUICK, "--ext", "jpg", "--quality", "80")
        assert ran.lines == ["out/a.jpg", "out/b.jpg"]
    assert "nothing to do" in ran.err
    with Image.open("out/a.jpg") as image:
        assert image.format == "JPEG"
    assert ilvrctl("translate", "in/a.png", *QUICK, "--ext", "jpg", "-o", "my.webp").lines == ["my.webp"]
    job = "jobs:\n  - {name: j, inputs: in, to: emoji3d, steps: 3, ext: webp, pattern: 'x_{stem}'}\n"
    (tmp_path / "jobs.yaml").write_text(job)
    assert ilvrctl("batch", "jobs.yaml").lines == ["out/j/x_a.webp", "out/j/x_b.webp"]
    ran = ilvrctl("translate", "in", *QUICK, "--ext", "jpgg")
    assert ran.code == 2
    assert "--ext 'jpgg' is none of png, jpg, webp" in ran.err and "did you mean 'jpg'" in ran.err


def listed(count: int) -> str:
    return ",".join(str(n) for n in range(1, count + 1))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-n", "1000000000"], "1,000,000,000 samples"),
        (["-n", "100000", "--N", "1,2,4,8,16,32", "--seed", "1,2,3,4"], "are 2,400,000 results"),
        (
            ["--seed", ",".join(map(str, range(3000))), "--steps", ",".join(map(str, range(1, 1001)))],
            "3,000,000 settings",
        ),
        (["--batch-size", "1000000000"], "beyond any device"),
        (["--batch-size", "1e9"], "takes a number or auto"),
        (["--set", "model.image_size=1000000"], "goes from 1 to 16384"),
        (["--set", "model.diffusion_steps=100000000"], "goes from 1 to 100000"),
        (["--steps", "1000000000"], "steps must be from 1 to 1000"),
    ],
)
def test_aims_beyond_sense_are_refused_before_anything_is_allotted(args: list[str], words: str) -> None:
    tracemalloc.start()
    ran = ilvrctl("translate", FOX, "--to", "emoji3d", *args)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ran.code == 2
    assert words in ran.err
    assert peak < 100e6
