"""Comma lists on the command line: a folder a variant, one labelled sheet, and all else as for one setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import CUP, FOX, copies, ilvrctl, json_lines, leftovers, on_terminal, pixels, tree
from PIL import Image

from ilvrctl.engine import Engine
from ilvrctl.images.metadata import read_record
from ilvrctl.plans.inputs import Item

pytestmark = pytest.mark.usefixtures("stand_ins")

QUICK = ("--to", "emoji3d", "--steps", "2", "--precision", "fp32")


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_a_folder_a_variant_and_one_sheet(tmp_path: Path) -> None:
    ran = ilvrctl("translate", FOX, CUP, *QUICK, "--N", "2,4")
    assert ran.code == 0, ran.err
    results = ["out/N=2/fox.png", "out/N=2/cup.png", "out/N=4/fox.png", "out/N=4/cup.png"]
    assert ran.lines == results
    assert "sheet: out/sheet.png" in ran.err
    assert "4 translated" in ran.err
    assert tree(tmp_path / "out") == sorted(["N=2", "N=4", "sheet.png", *(r[4:] for r in results)])
    width, height = size_of("out/sheet.png")
    assert 3 * 128 < width < 5 * 128
    assert 2 * 128 < height < 3 * 128


def test_a_cell_is_what_the_settings_give_alone(tmp_path: Path) -> None:
    one = ("--batch-size", "1")  # else two seeds make one batch, which rounds differently
    ilvrctl("translate", FOX, *QUICK, "--N", "2,4", "--seed", "1,2", *one)
    ilvrctl("translate", FOX, *QUICK, "--N", "4", "--seed", "2", "-o", "alone", *one)
    cell = tmp_path / "out/N=4_seed=2/fox.png"
    assert cell.read_bytes() == (tmp_path / "alone/fox.png").read_bytes()
    record = json.loads(read_record(cell.read_bytes(), cell.name))
    assert (record["settings"]["method"]["constraint"]["N"], record["settings"]["seed"]) == (4, 2)
    again = ilvrctl("translate", FOX, "--from-image", cell, "-o", "again")
    assert again.code == 0, again.err
    assert pixels(tmp_path / "again/fox.png") == pixels(cell)


def test_weights_are_loaded_and_inputs_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, reads = [], []
    load, read = Engine.load, Item.read
    monkeypatch.setattr(Engine, "load", lambda *a, **k: loads.append(1) or load(*a, **k))
    monkeypatch.setattr(Item, "read", lambda self: reads.append(self.name) or read(self))
    args = ["translate", FOX, *QUICK, "--N", "2,4,8", "--fit", "crop,pad"]
    assert ilvrctl(*args).code == 0
    # Once for the results and once, after them, for the sheet.
    assert (len(loads), len(reads)) == (1, 2)
    (tmp_path / "out/N=8_fit=pad/fox.png").unlink()
    reads.clear()
    assert "1 translated, 5 there already" in ilvrctl(*args).err
    assert len(reads) == 3  # and once for the plan, however many variants ask


def test_what_is_done_is_skipped_and_a_larger_grid_goes_on(tmp_path: Path) -> None:
    ilvrctl("translate", FOX, *QUICK, "--N", "2,4")
    first = pixels(tmp_path / "out/sheet.png")
    again = ilvrctl("translate", FOX, *QUICK, "--N", "2,4")
    assert "nothing to do: all 2 results are there already" in again.err
    assert pixels(tmp_path / "out/sheet.png") == first
    more = ilvrctl("translate", FOX, *QUICK, "--N", "2,4,8")
    assert more.code == 0, more.err
    assert "1 translated, 2 there already" in more.err
    assert pixels(tmp_path / "out/sheet.png") != first
    other = ilvrctl("translate", FOX, *QUICK, "--N", "16,32")
    assert other.code == 2
    assert "out/sheet.png is there already" in other.err
    assert ilvrctl("translate", FOX, *QUICK, "--N", "16,32", "--sheet", "new.png").code == 0


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    ilvrctl("translate", FOX, *QUICK, "--N", "2,4")
    before = (tmp_path / "out/N=4/fox.png").read_bytes()
    ran = ilvrctl("translate", FOX, *QUICK, "--N", "2,4", "--seed", "9")
    assert ran.code == 2
    assert "out/N=2/fox.png, out/N=4/fox.png, out/sheet.png are there already" in ran.err
    assert (tmp_path / "out/N=4/fox.png").read_bytes() == before
    assert ilvrctl("translate", FOX, *QUICK, "--N", "2,4", "--seed", "9", "--overwrite").code == 0
    assert (tmp_path / "out/N=4/fox.png").read_bytes() != before


def test_json_lines_tell_the_settings(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    args = ["translate", FOX, bad, *QUICK, "--sampler", "ddpm,ddim", "--eta", "0,0.5", "--json"]
    planned = json_lines(ilvrctl(*args, "--dry-run"))
    assert [line.get("settings") for line in planned[:-1:2]] == [
        {"sampler": "ddpm"},
        {"sampler": "ddim", "eta": 0.0},
        {"sampler": "ddim", "eta": 0.5},
    ]
    assert planned[-1] == {"event": "summary", "pending": 6, "done": 0, "network_calls": 12}
    ran = ilvrctl(*args)
    assert ran.code == 1
    lines = json_lines(ran)
    done = [(line["output"], line["settings"]) for line in lines if line["event"] == "done"]
    assert done[1] == ("out/ddim_eta=0/fox.png", {"sampler": "ddim", "eta": 0.0})
    assert len(done) == 3
    [failed] = [line for line in lines if line["event"] == "failed"]
    assert "settings" not in failed  # it failed under all of them
    assert (lines[-1]["done"], lines[-1]["failed"]) == (3, 3)
    skipped = [line for line in json_lines(ilvrctl(*args)) if line["event"] == "skipped"]
    assert [line["settings"] for line in skipped] == [settings for _, settings in done]


def test_a_dry_run_names_the_settings_and_writes_nothing(tmp_path: Path) -> None:
    ran = ilvrctl("translate", FOX, *QUICK, "--N", "2,4", "--dry-run")
    assert ran.lines == ["out/N=2/fox.png", "out/N=4/fox.png"]
    assert "2 results: 2 to do, 0 there already; to emoji3d (emoji3d-64), 2 settings (N=2; N=4)" in ran.err
    assert tree(tmp_path) == []


def test_samples_and_animations_belong_to_a_variant(tmp_path: Path) -> None:
    args = ["translate", FOX, *QUICK, "--N", "2,4", "-n", "2", "--gif"]
    ran = ilvrctl(*args)
    assert ran.code == 0, ran.err
    files = [f"fox_{n}.{kind}" for n in (1, 2) for kind in ("gif", "png")]
    for variant in ("N=2", "N=4"):
        assert tree(tmp_path / "out" / variant) == files
    width, height = size_of("out/sheet.png")
    assert 3 * 128 < width < 5 * 128
    assert 2 * 128 < height < 3 * 128
    (tmp_path / "out/N=4/fox_2.gif").unlink()
    assert "1 translated, 3 there already" in ilvrctl(*args).err


@pytest.mark.shipped
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--N", "4,3"], ["error: N=3: N = 3 does not divide the picture size 64"]),
        (
            ["--N", "2,4", "-o", "-"],
            ["a grid of settings does not fit into standard output", "hint: -o FOLDER"],
        ),
        (["--N", "2,4", "-o", "a.png"], ["a grid of settings does not fit into a.png", "hint: -o FOLDER"]),
        (["--N", "2,4", "--eta", "0.5"], ["the sampler ddpm has no 'eta'"]),
        (["--N", "2,,4"], ["--N '2,,4' has an empty place in its list"]),
        (["--precision", "fp32,bf16"], ["--precision: precision must be"]),
        (["--preset", "paint,pait"], ["unknown preset 'pait'", "did you mean 'paint'?"]),
        (["--set", "seed=1,x"], ["error: seed=x: ", "seed must be a whole number, not 'x'"]),
        (["--background", "white,whiet"], ["error: background=whiet: 'whiet' is not a colour"]),
    ],
)
def test_grids_that_cannot_be_are_refused_before_anything_is_made(
    args: list[str], words: list[str], tmp_path: Path
) -> None:
    ran = ilvrctl("translate", FOX, *QUICK, *args)
    assert ran.code == 2, ran.err
    for word in words:
        assert word in ran.err
    assert tree(tmp_path) == []


def test_a_file_that_one_combination_needs_is_told_before_anything_is_made(tmp_path: Path) -> None:
    ran = ilvrctl(
        "translate", FOX, *QUICK, "--method", "egsde,ilvr", "--set", "method.energies.dse.model=cat2dog_dse"
    )
    assert ran.code == 3, ran.err
    assert ran.err.startswith("error: egsde: ")
    assert tree(tmp_path) == []


def test_presets_stand_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("method: {N: 16}")
    ran = ilvrctl("translate", FOX, *QUICK, "--preset", "ilvr_adm,mine.yaml", "--range-t", "-1")
    assert ran.lines == ["out/ilvr_adm/fox.png", "out/mine/fox.png"], ran.err


def test_a_picture_from_standard_input_goes_through_all_variants() -> None:
    ran = ilvrctl("translate", "-", *QUICK, "--N", "2,4", stdin=FOX.read_bytes())
    assert ran.lines == ["out/N=2/stdin.png", "out/N=4/stdin.png"]


def test_more_inputs_than_are_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilvrctl.work.batches.HELD", 2)
    copies(tmp_path, [f"in/{n}.png" for n in range(3)])
    (tmp_path / "in/1.png").write_text("no picture")
    ran = ilvrctl("translate", "in", *QUICK, "--N", "2,4", "--batch-size", "1")
    assert ran.code == 1
    assert ran.err.count("is not a picture") == 1
    assert "4 translated, 2 failed" in ran.err
    assert ran.lines == [f"out/N={N}/{n}.png" for n in (0, 2) for N in (2, 4)]
    assert leftovers(tmp_path) == []


def test_the_bar_counts_all_variants(tmp_path: Path) -> None:
    code, screen, out = on_terminal("translate", FOX, *QUICK, "--N", "2,4,8", stdout=False, cwd=tmp_path)
    assert code == 0
    assert "3/3" in screen
    assert "3 translated" in screen
    assert len(out.splitlines()) == 3
