"""Which pictures are taken, and what their results are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import FOX, QUICK, Ran, copies, ilvrctl, json_lines, tree

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
    assert "cannot be read: File name too long" in ran.err


def test_a_dry_run_warns_of_what_is_not_there_and_makes_nothing(tmp_path: Path) -> None:
    ran = ilvrctl("translate", FOX, "nope.png", *PLAN)
    assert ran.code == 0
    assert "warning: nope.png does not exist" in ran.err
    assert "2 results: 2 to do, 0 there already; to emoji3d (emoji3d-64), ILVR N=" in ran.err
    assert "3 steps, 6 network calls" in ran.err
    lines = json_lines(ilvrctl("translate", FOX, "nope.png", *PLAN, "--json", "-q"))
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
