"""ilvrctl in a pipeline and on a terminal: data on stdout, everything else on stderr."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import forked
import pytest
from commands import (
    CUP,
    FOX,
    PATIENCE,
    QUICK,
    command,
    copies,
    environment,
    ilvrctl,
    json_lines,
    on_terminal,
    pixels,
    process,
    terminal,
    tree,
)
from PIL import Image

pytestmark = pytest.mark.usefixtures("stand_ins")

AWKWARD = [
    "two words.png",
    "photo[1].png",
    "🐱 猫.png",
    "-leading.png",
    'it\'s "quoted".png',
    "[bold]x[red].png",
]


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.shipped
def test_a_picture_goes_through_from_stdin_to_stdout(tmp_path: Path) -> None:
    ran = process("translate", "-", *QUICK, "-o", "-", stdin=FOX.read_bytes(), cwd=tmp_path)
    assert ran.code == 0
    assert "standard input -> standard output" in ran.err
    assert ran.out.startswith(b"\x89PNG")
    assert ran.out.index(b"IEND") == len(ran.out) - 8
    with Image.open(BytesIO(ran.out)) as image:
        assert image.size == (64, 64)
    ilvrctl("translate", FOX, *QUICK)
    (tmp_path / "piped.png").write_bytes(ran.out)
    assert pixels(tmp_path / "piped.png") == pixels(tmp_path / "out/fox.png")


def test_stdin_into_a_folder_or_a_file() -> None:
    data = FOX.read_bytes()
    assert ilvrctl("translate", "-", *QUICK, stdin=data).lines == ["out/stdin.png"]
    assert ilvrctl("translate", "-", *QUICK, "-o", "my.png", stdin=data).lines == ["my.png"]
    assert ilvrctl("translate", "-", "-", *QUICK, "-o", "my.png", stdin=data).lines == ["my.png"]


def test_stdin_that_is_empty_or_wanted_twice() -> None:
    ran = ilvrctl("translate", "-", *QUICK, "-o", "-")
    assert ran.code == 1
    assert ran.out == b""
    assert "failed: standard input is empty" in ran.err
    ran = ilvrctl("translate", "-", *QUICK, "--from-file", "-", stdin=FOX.read_bytes())
    assert ran.code == 2
    assert "both read standard input" in ran.err


@pytest.mark.parametrize("null", [False, True], ids=["lines", "zero bytes"])
def test_names_from_stdin(null: bool, tmp_path: Path) -> None:
    names = [*AWKWARD, "two\nlines.png"] if null else AWKWARD
    copies(tmp_path, names)
    end = b"\0" if null else b"\n"
    listed = b"".join(name.encode() + end for name in names)
    ran = ilvrctl("translate", "--from-file", "-", *(["-0"] if null else []), *QUICK, "--json", stdin=listed)
    assert ran.code == 0, ran.err
    done = [line for line in json_lines(ran) if line["event"] == "done"]
    assert [line["input"] for line in done] == names
    assert [line["output"] for line in done] == [f"out/{name}" for name in names]
    assert tree(tmp_path / "out") == sorted(names)


def test_a_list_in_a_file_with_windows_lines_and_blanks(tmp_path: Path) -> None:
    copies(tmp_path, ["a.png", "b.png"])
    (tmp_path / "my-list.txt").write_bytes(b"a.png\r\n\r\n  \nb.png")
    assert ilvrctl("translate", "--from-file", "my-list.txt", *QUICK).lines == ["out/a.png", "out/b.png"]
    (tmp_path / "empty.txt").write_text("\n")
    ran = ilvrctl("translate", "--from-file", "empty.txt", *QUICK)
    assert ran.code == 2
    assert "the list empty.txt names no pictures" in ran.err


def test_a_list_with_zero_bytes_read_as_lines_is_explained() -> None:
    ran = ilvrctl("translate", "--from-file", "-", *QUICK, stdin=b"a.png\0b.png\0")
    assert ran.code == 2
    assert "-0" in ran.err


def test_a_name_with_a_leading_dash_after_two_dashes(tmp_path: Path) -> None:
    copies(tmp_path, ["-x.png"])
    assert ilvrctl("translate", *QUICK, "--", "-x.png").lines == ["out/-x.png"]


def test_a_name_that_is_no_text_keeps_its_bytes(tmp_path: Path) -> None:
    name = b"caf\xe9.png"
    (tmp_path / os.fsdecode(name)).write_bytes(FOX.read_bytes())
    ran = process("translate", "--from-file", "-", *QUICK, stdin=name, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.out == b"out/" + name + b"\n"
    ran = process("translate", "--from-file", "-", *QUICK, "--json", stdin=name, cwd=tmp_path)
    assert json_lines(ran)[0]["output"] == "out/caf\udce9.png"


def test_stdout_has_only_paths() -> None:
    ran = ilvrctl(
        "translate", FOX, "nope.png", CUP, *QUICK, "--N", "4", "-vv", "--gif", "--sheet", "sheet.png"
    )
    assert ran.lines == ["out/fox.png", "out/cup.png"]
    for word in [
        "emoji3d-64 on cpu in fp32, loaded in",
        "step 3/3, level 0",
        "nope.png",
        "gif: out/fox.gif",
        "2 translated",
    ]:
        assert word in ran.err


def test_json_lines() -> None:
    args = ["translate", FOX, "nope.png", *QUICK, "-n", "2", "--json", "--sheet", "sheet.png"]
    lines = json_lines(ilvrctl(*args))
    assert [line["event"] for line in lines] == ["failed", "loaded", "done", "done", "sheet", "summary"] or [
        line["event"] for line in lines
    ] == ["loaded", "failed", "done", "done", "sheet", "summary"]
    done = [line for line in lines if line["event"] == "done"]
    assert [(line["input"], line["sample"], line["output"]) for line in done] == [
        ("examples/fox.png", 1, "out/fox_1.png"),
        ("examples/fox.png", 2, "out/fox_2.png"),
    ]
    assert lines[-1] == {
        "event": "summary",
        "done": 2,
        "skipped": 0,
        "failed": 2,
        "seconds": lines[-1]["seconds"],
        "interrupted": False,
    }
    again = json_lines(ilvrctl(*args))
    assert [line["event"] for line in again] == ["skipped", "skipped", "failed", "sheet", "summary"]


def test_quiet_says_only_what_went_wrong() -> None:
    ran = ilvrctl("translate", FOX, *QUICK, "-q")
    assert (ran.lines, ran.err) == (["out/fox.png"], "")
    ran = ilvrctl("translate", FOX, "nope.png", *QUICK, "-q")
    assert ran.err.startswith("failed: nope.png does not exist")
    assert len(ran.err.splitlines()) == 1


def test_off_a_terminal_there_is_one_plain_line_an_item() -> None:
    ran = ilvrctl("translate", FOX, CUP, *QUICK)
    first, second, last = ran.err.splitlines()
    assert first.startswith("[1/2] examples/fox.png -> out/fox.png (")
    assert second.startswith("[2/2] examples/cup.png -> out/cup.png (")
    assert last.startswith("2 translated in ")
    assert "\x1b" not in ran.err
    ran = ilvrctl("translate", FOX, CUP, *QUICK)
    assert ran.err.splitlines() == [
        "[1/2] out/fox.png is there already",
        "[2/2] out/cup.png is there already",
        "nothing to do: all 2 results are there already",
    ]
    assert ran.lines == ["out/fox.png", "out/cup.png"]


def test_colours() -> None:
    args = ["translate", "nope.png", *QUICK]
    assert "\x1b" not in ilvrctl(*args).err
    assert "\x1b[31m" in ilvrctl(*args, "--color", "always").err
    assert "\x1b[31m" in ilvrctl(*args, FORCE_COLOR="1").err
    assert "\x1b" not in ilvrctl(*args, FORCE_COLOR="1", NO_COLOR="1").err
    assert "\x1b" not in ilvrctl(*args, "--color", "never", FORCE_COLOR="1").err
    assert "\x1b[31m" in ilvrctl("translate", FOX, "--to", "dgo", "--color", "always").err


@pytest.mark.parametrize(
    "args", [["translate", "--examples", "--dry-run"], ["presets"]], ids=["translate", "presets"]
)
def test_a_reader_that_goes_away_is_no_error_to_talk_about(args: list[str], tmp_path: Path) -> None:
    run = forked.Popen(
        command(*args), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout is not None
    run.stdout.close()
    _, err = run.communicate(timeout=PATIENCE)
    assert b"Traceback" not in err
    assert b"Error" not in err
    assert run.returncode == 1


def test_a_reader_that_goes_away_in_mid_run(tmp_path: Path) -> None:
    run = forked.Popen(
        command("translate", "--examples", *QUICK[2:], "--batch-size", "1"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"out/astronaut.png\n"
    run.stdout.close()
    _, err = run.communicate(timeout=PATIENCE)
    assert b"Traceback" not in err
    assert 1 <= len(tree(tmp_path / "out")) < 12


def test_stdout_closed_from_the_start(tmp_path: Path) -> None:
    words = " ".join(f"'{word}'" for word in command("translate", str(FOX), *QUICK))
    done = subprocess.run(["sh", "-c", f"{words} >&-"], cwd=tmp_path, env=environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "out") == ["fox.png"]


def test_a_picture_is_not_awaited_from_a_keyboard(tmp_path: Path) -> None:
    with terminal() as (slave, _):
        words = command("translate", "-", *QUICK)
        done = forked.run(
            words, stdin=slave, cwd=tmp_path, env=environment(), capture_output=True, timeout=PATIENCE
        )
    assert done.returncode == 2
    assert b"standard input, which is a terminal" in done.stderr
    assert tree(tmp_path) == []


def test_picture_bytes_are_not_written_to_a_terminal(tmp_path: Path) -> None:
    code, screen, _ = on_terminal("translate", FOX, *QUICK, "-o", "-", cwd=tmp_path)
    assert code == 2
    assert "will not write the bytes of a picture to a terminal" in screen
    assert "hint:" in screen
    assert tree(tmp_path) == []


@pytest.mark.shipped
def test_bars_on_a_terminal_leave_names_and_paths_whole(tmp_path: Path) -> None:
    names = ["photo[1].png", "[bold]x[dim].png"]
    copies(tmp_path, names)
    (tmp_path / "no[2].png").write_text("a letter and no picture at all")
    args = ["translate", *names, "no[2].png", *QUICK, "-n", "2"]
    code, screen, _ = on_terminal(*args, cwd=tmp_path)
    assert code == 1
    assert "results" in screen
    assert "steps of" in screen
    assert "images/s" in screen
    assert "no[2].png is not a picture" in screen
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() for line in screen.splitlines()]
    for path in [
        "out/photo[1]_1.png",
        "out/photo[1]_2.png",
        "out/[bold]x[dim]_1.png",
        "out/[bold]x[dim]_2.png",
    ]:
        assert path in lines
    assert "4 translated, 2 failed in" in screen
    assert "6/6" in screen
    code, screen, _ = on_terminal(*args[:2], *args[4:], cwd=tmp_path)
    assert code == 0
    assert "nothing to do: all 2 results are there already" in screen


def test_bars_while_stdout_is_a_pipe(tmp_path: Path) -> None:
    code, screen, out = on_terminal("translate", FOX, *QUICK, cwd=tmp_path, stdout=False)
    assert (code, out) == (0, b"out/fox.png\n")
    assert "results" in screen
    assert "out/fox.png" not in screen
    code, screen, out = on_terminal("translate", FOX, *QUICK, "-q", cwd=tmp_path, stdout=False)
    assert (code, out, screen) == (0, b"out/fox.png\n", "")


@pytest.mark.parametrize(
    ("args", "env", "coloured"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        (["--color", "never"], {}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
    ],
    ids=["auto", "NO_COLOR", "never", "always"],
)
def test_colours_on_a_terminal(args: list[str], env: dict[str, str], coloured: bool, tmp_path: Path) -> None:
    code, screen, _ = on_terminal("translate", FOX, *QUICK, *args, cwd=tmp_path, **env)
    assert code == 0
    assert ("\x1b[38;5;" in screen or "\x1b[32m" in screen or "\x1b[36m" in screen) is coloured


def test_pillow_keeps_its_remarks_to_itself(tmp_path: Path) -> None:
    with Image.open(FOX) as image:
        exif = Image.Exif()
        exif[0x010E] = "a"
        image.convert("RGB").save(tmp_path / "odd.tif", exif=exif)
    data = bytearray((tmp_path / "odd.tif").read_bytes())
    data[4:8] = (len(data) + 8).to_bytes(4, "little")
    (tmp_path / "odd.tif").write_bytes(data)
    ran = process("translate", "odd.tif", *QUICK, cwd=tmp_path)
    assert ran.code == 1
    assert "Warning" not in ran.err
    assert len(ran.err.splitlines()) == 2


def test_libtiff_keeps_its_remarks_to_itself(tmp_path: Path) -> None:
    with Image.open(FOX) as image:
        image.convert("RGB").save(tmp_path / "damaged.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "damaged.tif").read_bytes())
    for i in range(20, len(content) - 400, 7):
        content[i] ^= 0x5A
    (tmp_path / "damaged.tif").write_bytes(content)
    noisy = f"from PIL import Image; Image.open({str(tmp_path / 'damaged.tif')!r}).load()"
    alone = subprocess.run([sys.executable, "-c", noisy], capture_output=True)
    assert b"tempfile.tif" in alone.stderr
    ran = process("translate", "damaged.tif", *QUICK, cwd=tmp_path)
    assert ran.code == 1
    told, last = ran.err.splitlines()
    assert told.startswith("failed: damaged.tif") and last.startswith("0 translated, 1 failed")
