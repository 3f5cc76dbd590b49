"""Which pictures are taken, and what their results are called."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest
from commands import CUP, FOX, QUICK, Ran, copies, ilvrctl, json_lines, pixels, tree
from PIL import Image

pytestmark = pytest.mark.usefixtures("stand_ins")

PLAN = (*QUICK, "--dry-run")


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(*args: str | Path) -> list[str]:
    """The results that a command would make."""
    ran = ilvrctl("translate", *args, *PLAN)
    assert ran.code == 0, ran.err
    return ran.lines


def refused(*args: str | Path) -> Ran:
    ran = ilvrctl("translate", *args, *PLAN)
    assert ran.code == 2, ran.err
    return ran


def test_a_folder_means_its_pictures_in_order(tmp_path: Path) -> None:
    copies(tmp_path, ["in/b.png", "in/a.jpg", "in/C.WEBP", "in/sub/d.png"])
    (tmp_path / "in/notes.txt").write_text("no picture")
    assert planned("in") == ["out/C.png", "out/a.png", "out/b.png"]
    assert planned("in/") == planned("in")


def test_recursive_keeps_the_folders(tmp_path: Path) -> None:
    copies(tmp_path, ["in/a.png", "in/x/a.png", "in/x/y/a.jpg"])
    assert planned("in", "-r") == ["out/a.png", "out/x/a.png", "out/x/y/a.png"]
    ran = ilvrctl("translate", "in", "--recursive", *QUICK)
    assert ran.code == 0
    assert tree(tmp_path / "out") == ["a.png", "x", "x/a.png", "x/y", "x/y/a.png"]


def test_results_are_not_taken_for_inputs(tmp_path: Path) -> None:
    copies(tmp_path, ["a.png", "sub/b.png"])
    expected = ["out/a.png", "out/sub/b.png"]
    assert planned(".", "-r") == expected
    assert ilvrctl("translate", ".", "-r", *QUICK).code == 0
    ran = ilvrctl("translate", ".", "-r", *QUICK)
    assert ran.lines == expected
    assert "nothing to do" in ran.err
    assert planned("sub", "-o", ".") == ["b.png"]
    assert "is the input and the output folder" in refused("sub", "-o", "sub").err


def test_one_picture_of_a_folder_into_the_same_folder(tmp_path: Path) -> None:
    copies(tmp_path, ["in/a.jpg"])
    for _ in range(2):
        assert ilvrctl("translate", "in", *QUICK, "-o", "in/result.png").lines == ["in/result.png"]


def test_hidden_files_and_folders_are_passed_by_unless_named(tmp_path: Path) -> None:
    copies(tmp_path, ["in/a.png", "in/.hidden.png", "in/.cache/b.png"])
    assert planned("in", "-r") == ["out/a.png"]
    assert planned("in/.hidden.png") == ["out/.hidden.png"]


def test_an_input_given_twice_is_translated_once(tmp_path: Path) -> None:
    copies(tmp_path, ["in/a.png", "in/b.png"])
    assert planned("in/a.png", "./in/a.png", tmp_path / "in/a.png", "in", "in/../in/b.png") == [
        "out/a.png",
        "out/b.png",
    ]


def test_two_inputs_of_one_stem_get_their_suffix(tmp_path: Path) -> None:
    copies(tmp_path, ["in/cat.png", "in/cat.jpg", "in/dog.png"])
    assert planned("in") == ["out/cat-jpg.png", "out/cat-png.png", "out/dog.png"]


def test_one_stem_in_different_folders_is_refused(tmp_path: Path) -> None:
    copies(tmp_path, ["a/cat.png", "b/cat.png", "b/Cat.jpg"])
    ran = refused("a/cat.png", "b/cat.png")
    assert "a/cat.png and b/cat.png would both be written as 'cat-png'" in ran.err
    assert "--recursive" in ran.err
    assert planned(".", "-r") == ["out/a/cat.png", "out/b/Cat-jpg.png", "out/b/cat-png.png"]


def test_loops_of_links_are_not_walked(tmp_path: Path) -> None:
    copies(tmp_path, ["in/a.png"])
    (tmp_path / "in/again").symlink_to(tmp_path / "in")
    (tmp_path / "in/loop.png").symlink_to(tmp_path / "in/loop.png")
    (tmp_path / "in/link.png").symlink_to(tmp_path / "in/a.png")
    assert planned("in", "-r") == ["out/a.png", "out/link.png"]
    ran = ilvrctl("translate", "in/loop.png", *QUICK)
    assert ran.code == 1
    assert "failed: in/loop.png cannot be read" in ran.err


def test_an_output_that_is_an_input_is_refused(tmp_path: Path) -> None:
    a, b = copies(tmp_path, ["in/a.png", "in/b.png"])
    before = a.read_bytes()
    for args in (
        ["in/a.png", "-o", "in"],
        ["in/a.png", "-o", "in/a.png"],
        ["in/a.png", "-o", "in/a.png", "--overwrite"],
        ["in/a.png", "in/b.png", "--sheet", "in/b.png", "--overwrite"],
    ):
        assert "is one of the inputs, which are never changed" in refused(*args).err
    (tmp_path / "link.png").symlink_to(a)
    assert "is one of the inputs" in refused("in/a.png", "-o", "link.png", "--overwrite").err
    os.link(b, tmp_path / "hard.png")
    assert a.read_bytes() == before


def test_several_inputs_do_not_fit_into_one_file(tmp_path: Path) -> None:
    copies(tmp_path, ["in/a.png", "in/b.png"])
    assert "2 inputs do not fit into one output" in refused("in", "-o", "one.png").err
    assert "2 inputs do not fit into one output" in refused("in", "-o", "-").err
    assert "3 samples do not fit into one output" in refused("in/a.png", "-n", "3", "-o", "-").err
    assert "hint: -o FOLDER" in refused("in", "-o", "one.png").err


def test_names_that_no_file_system_takes_fail_as_inputs() -> None:
    ran = ilvrctl("translate", "x" * 300 + ".png", *QUICK)
    assert ran.code == 1
    assert "has 304 bytes, and 255 are possible" in ran.err
    ran = ilvrctl("translate", "x" * 300 + ".png", *QUICK, "-o", "out.png")
    assert ran.code == 1
    assert "cannot be read: File name too long" in ran.err


def test_a_dry_run_warns_of_what_is_not_there_and_makes_nothing(tmp_path: Path) -> None:
    ran = ilvrctl("translate", FOX, "nope.png", *PLAN, "--N", "4")
    assert ran.code == 0
    assert "warning: nope.png does not exist" in ran.err
    assert "2 results: 2 to do, 0 there already; to emoji3d (emoji3d-64), ILVR N=" in ran.err
    assert "3 steps, 6 network calls" in ran.err
    lines = json_lines(ilvrctl("translate", FOX, "nope.png", *PLAN, "--N", "4", "--json", "-q"))
    assert [line["event"] for line in lines] == ["planned", "planned", "summary"]
    assert lines[0]["output"] == "out/fox.png"
    assert lines[-1] == {"event": "summary", "pending": 2, "done": 0, "network_calls": 6}
    assert tree(tmp_path) == []


def test_the_examples_that_ship_have_short_names() -> None:
    ran = ilvrctl("translate", "--examples", "--dry-run")
    assert len(ran.lines) == 12
    ran = ilvrctl("translate", FOX, *QUICK)
    assert "examples/fox.png -> out/fox.png" in ran.err
    assert str(FOX.parent) not in ran.err


def test_the_closing_line_accounts_for_everything_that_was_found(tmp_path: Path) -> None:
    copies(tmp_path, ["in/a.png", "in/b.png", "in/sub/c.png"])
    (tmp_path / "in/broken.png").write_bytes((tmp_path / "in/a.png").read_bytes()[:300])
    (tmp_path / "in/notes.txt").write_text("about them")
    (tmp_path / "in/more.txt").write_text("about them")
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "nowhere.png")
    assert ilvrctl("translate", "in/a.png", *QUICK).code == 0
    passed = "4 passed by: 2 not pictures, 1 dangling link, 1 subfolder (--recursive takes it)"
    ran = ilvrctl("translate", "in", *QUICK, "--dry-run")
    assert passed in ran.err and len(ran.lines) == 2
    ran = ilvrctl("translate", "in", *QUICK)
    closing = ran.err.splitlines()[-1]
    assert closing.startswith("1 translated, 1 there already, 1 failed in ") and closing.endswith(
        f"; {passed}"
    )
    ran = ilvrctl("translate", "in", *QUICK, "--json")
    lines = json_lines(ran)
    told = [line["input"] for line in lines if line["event"] == "passed_by"]
    assert sorted(told) == ["in/gone.png", "in/more.txt", "in/notes.txt", "in/sub"]
    counts = (
        lines[-1]["done"] + lines[-1]["skipped"] + lines[-1]["failed"] + sum(lines[-1]["passed_by"].values())
    )
    assert counts == len(list((tmp_path / "in").iterdir()))
    assert "passed by: in/notes.txt (not pictures)" in ilvrctl("translate", "in", *QUICK, "-v").err


def test_two_jobs_of_one_folder_pass_a_file_by_once(tmp_path: Path) -> None:
    copies(tmp_path, ["in/a.png"])
    (tmp_path / "in/notes.txt").write_text("about them")
    jobs = "".join(f"  - {{name: j{n}, inputs: in, to: emoji3d, steps: 3, seed: {n}}}\n" for n in range(2))
    (tmp_path / "jobs.yaml").write_text(f"jobs:\n{jobs}")
    assert "1 passed by: 1 not a picture" in ilvrctl("batch", "jobs.yaml", "--dry-run").err
    assert ilvrctl("batch", "jobs.yaml").err.count("1 passed by: 1 not a picture") == 1


def test_the_sheet_of_the_run_before_is_no_input(tmp_path: Path) -> None:
    copies(tmp_path, ["a.png"])
    for words in ("1 translated", "nothing to do"):
        ran = ilvrctl("translate", ".", *QUICK, "--sheet", "sheet.png")
        assert words in ran.err, ran.err
    assert "2 passed by: 2 outputs of this run" in ran.err


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_lists_are_read_whatever_wrote_them(tmp_path: Path, coding: str, end: str) -> None:
    names = ["in/caf\u00e9.png", "in/\u732b.png"]
    copies(tmp_path, names)
    (tmp_path / "list").write_bytes("".join(f"{name}{end}" for name in names).encode(coding))
    null = ["-0"] if end == "\0" else []
    assert planned("--from-file", "list", *null) == ["out/caf\u00e9.png", "out/\u732b.png"]
    with (tmp_path / "list").open("rb") as file:
        ran = ilvrctl("translate", "--from-file", "-", *null, *PLAN, stdin=file.read())
    assert len(ran.lines) == 2


def test_a_list_of_names_in_no_encoding_and_one_cut_in_a_letter(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"in/caf\xe9.png\n")
    assert ilvrctl("translate", "--from-file", "list", *PLAN).code == 0
    (tmp_path / "list").write_bytes("a.png".encode("utf-16")[:-1])
    assert "cannot read the list list: " in refused("--from-file", "list").err


def test_a_name_with_an_escape_reaches_no_terminal_raw(tmp_path: Path) -> None:
    copies(tmp_path, ["in/\x1b[31mred.png"])
    ran = ilvrctl("translate", "in", *QUICK)
    assert ran.code == 0 and "\x1b" not in ran.err
    ran = ilvrctl("translate", "in/\x1b[31mnone.png", *QUICK)
    assert ran.code == 1 and "\x1b" not in ran.err


def test_frames_are_said_to_be_taken_by_the_first_or_all_taken(tmp_path: Path) -> None:
    [a, b] = copies(tmp_path, ["a.png", "b.png"])
    (tmp_path / "in").mkdir()
    with Image.open(a) as first, Image.open(b) as second:
        first.save("in/doc.tif", save_all=True, append_images=[second])
        first.save("in/one.png")
    ran = ilvrctl("translate", "in", *QUICK)
    assert "warning: in/doc.tif has 2 pages: taken by its first" in ran.err
    ran = ilvrctl("translate", "in", *QUICK, "--frames", "all", "-o", "all")
    assert ran.lines == ["all/doc-1.png", "all/doc-2.png", "all/one.png"]
    assert "taken by its first" not in ran.err
    assert pixels(tmp_path / "all/doc-1.png") == pixels(tmp_path / "out/doc.png")
    assert pixels(tmp_path / "all/doc-1.png") != pixels(tmp_path / "all/doc-2.png")
    again = ilvrctl("translate", "in", *QUICK, "--frames", "all", "-o", "all")
    assert "nothing to do: all 3 results are there already" in again.err
    told = json_lines(ilvrctl("eval", "all", "--source", "in", "--json"))[0]["runs"][0]
    assert (told["pictures"], told["inputs"]) == (3, 3)
    assert "--frames 'some' is neither of first, all" in refused("in", "--frames", "some").err


def animation(path: Path, **options: object) -> None:
    with Image.open(FOX) as first, Image.open(CUP) as second:
        frames = [first.convert("RGB"), second.convert("RGB"), first.convert("RGB").rotate(90)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)


def shown(path: Path) -> tuple[int, list[int], int | None]:
    """How many frames, how long each, and what is said of repeating."""
    with Image.open(path) as image:
        durations = []
        for n in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(n)
            image.load()
            durations.append(round(image.info.get("duration", 0)))
        return len(durations), durations, image.info.get("loop")


def test_results_of_all_frames_are_joined_with_the_times_of_the_original(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    animation(tmp_path / "in/clip.gif", duration=[50, 120, 300], loop=3)
    animation(tmp_path / "in/once.webp", duration=[50, 120, 300], loop=1)
    animation(tmp_path / "in/doc.tif")
    words = ("translate", "in", *QUICK, "--frames", "all")
    ran = ilvrctl(*words, "--join", "gif")
    assert ran.code == 0 and "9 translated" in ran.err
    assert [line for line in ran.err.splitlines() if line.startswith("animation")] == [
        f"animation: out/{name}.gif" for name in ("clip", "doc", "once")
    ]
    assert shown(tmp_path / "out/clip.gif") == (3, [50, 120, 300], 3)
    assert shown(tmp_path / "out/once.gif") == (3, [50, 120, 300], None)
    assert shown(tmp_path / "out/doc.gif") == (3, [100, 100, 100], 0)
    told = {"webp": (3, [50, 120, 300], 4), "png": (3, [50, 120, 300], 4), "tiff": (3, [0, 0, 0], None)}
    for join, facts in told.items():
        again = ilvrctl(*words, "--join", join)
        assert "nothing to do: all 9 results are there already" in again.err
        assert shown(tmp_path / f"out/clip.{join}") == facts
    with Image.open("out/clip.png") as joined:
        for n, one in enumerate(("clip-1", "clip-2", "clip-3")):
            joined.seek(n)
            assert joined.convert("RGB").tobytes() == pixels(tmp_path / f"out/{one}.png")
    told_of = ilvrctl("eval", "out", "--source", "in", "--json")
    assert json_lines(told_of)[0]["runs"][0]["pictures"] == 9


def test_a_joined_file_is_made_when_all_of_it_is_there_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    animation(tmp_path / "in/clip.gif", duration=40)
    words = ("translate", "in", *QUICK, "--frames", "all", "--join", "gif")
    assert "animation: out/clip.gif" in ilvrctl(*words).err
    before = Path("out/clip.gif").stat().st_mtime_ns
    assert "animation" not in ilvrctl(*words).err
    assert Path("out/clip.gif").stat().st_mtime_ns == before
    Path("out/clip.gif").write_bytes(FOX.read_bytes())
    assert "out/clip.gif is there already, made from another input" in refused(*words[1:]).err
    Path("out/clip.gif").unlink()
    Path("out/clip-2.png").unlink()
    with patch("ilvrctl.work.run.save_picture", side_effect=ValueError("no")):
        ran = ilvrctl(*words)
    assert "out/clip.gif is not written: 1 of its 3 results are missing" in ran.err
    assert (ran.code, Path("out/clip.gif").exists()) == (1, False)
    assert "animation: out/clip.gif" in ilvrctl(*words).err


def test_where_results_cannot_be_joined_it_is_told(tmp_path: Path) -> None:
    copies(tmp_path, ["a.png"])
    animation(tmp_path / "clip.gif", duration=40)
    assert "no input has several" in refused("a.png", "clip.gif", "--join", "gif").err
    one_file = refused("a.png", "--frames", "all", "--join", "gif", "-o", "b.png")
    assert "--join writes a file beside numbered results" in one_file.err
    Path("jobs.yaml").write_text("jobs: [{inputs: clip.gif, to: emoji3d, steps: 2, frames: all, join: webp}]")
    assert ilvrctl("batch", "jobs.yaml").code == 0
    assert shown(tmp_path / "out/job-1/clip.webp")[0] == 3
