"""The same command gives the same pixels, whatever stands beside a picture and however often it was stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import forked
import pytest
from checkpoints import write_small_target
from commands import (
    CUP,
    FOX,
    PATIENCE,
    QUICK,
    command,
    difference,
    environment,
    ilvrctl,
    leftovers,
    pixels,
    process,
    tree,
)

from ilvrctl import paths

pytestmark = pytest.mark.usefixtures("stand_ins")


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made(*args: str | Path, out: str) -> dict[str, Path]:
    """The results of a translation by name."""
    ran = ilvrctl("translate", *args, "-o", out)
    assert ran.code == 0, ran.err
    return {path.name: path for path in sorted(Path(out).iterdir())}


def check_batch_sizes(precision: str, steps: int, mean: float, largest: int) -> None:
    pictures = sorted(paths.EXAMPLES.iterdir())[:6]
    args = [*pictures, "--to", "emoji3d", "--steps", str(steps), "--precision", precision]
    one = made(*args, "--batch-size", "1", out="one")
    many = made(*args, "--batch-size", "16", out="many")
    assert list(one) == list(many)
    assert len(one) == 6
    for name in one:
        found = difference(one[name], many[name])
        assert found[0] <= mean
        assert found[1] <= largest


def test_the_batch_size_does_not_matter() -> None:
    check_batch_sizes("fp32", 3, 0.05, 1)


@pytest.mark.slow
def test_the_batch_size_does_not_matter_in_half_precision() -> None:
    check_batch_sizes("bf16", 10, 0.5, 255)


def test_a_seed_gives_the_same_bytes_again_and_another_seed_gives_others() -> None:
    first = made(FOX, *QUICK, "--seed", "7", out="first")["fox.png"]
    again = made(FOX, *QUICK, "--seed", "7", out="again")["fox.png"]
    other = made(FOX, *QUICK, "--seed", "8", out="other")["fox.png"]
    assert first.read_bytes() == again.read_bytes()
    assert pixels(first) != pixels(other)


def test_a_renamed_copy_and_another_neighbour_change_nothing(tmp_path: Path) -> None:
    shutil.copy(FOX, tmp_path / "renamed.png")
    alone = made(FOX, *QUICK, out="alone")["fox.png"]
    beside = made(CUP, "renamed.png", *QUICK, "--batch-size", "1", out="beside")["renamed.png"]
    assert pixels(alone) == pixels(beside)


def test_a_sample_does_not_depend_on_how_many_there_are() -> None:
    two = made(FOX, *QUICK, "-n", "2", "--batch-size", "1", out="two")
    three = made(FOX, *QUICK, "-n", "3", "--batch-size", "1", out="three")
    assert list(three) == ["fox_1.png", "fox_2.png", "fox_3.png"]
    for name in two:
        assert two[name].read_bytes() == three[name].read_bytes()
    assert len({pixels(path) for path in three.values()}) == 3
    assert pixels(made(FOX, *QUICK, out="one")["fox.png"]) == pixels(three["fox_1.png"])


def started(*args: str | Path, cwd: Path) -> subprocess.Popen[bytes]:
    return forked.Popen(
        command("translate", *args),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_results(folder: Path, count: int) -> None:
    """Until so many results are on disk."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if folder.is_dir() and len(list(folder.glob("*.png"))) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"no {count} results in {folder}")


@pytest.fixture
def long(tmp_path: Path) -> tuple[str | Path, ...]:
    """The words of a translation that takes long enough to be stopped, and no longer."""
    target = write_small_target(tmp_path / "small.safetensors")
    pictures = sorted(paths.EXAMPLES.iterdir())
    return (*pictures, "--weights", target, "--steps", "50", "--precision", "fp32", "--batch-size", "1")


@pytest.mark.slow
def test_ctrl_c_says_what_is_saved_and_the_same_command_goes_on(
    long: tuple[str | Path, ...], tmp_path: Path
) -> None:
    run = started(*long, cwd=tmp_path)
    wait_for_results(tmp_path / "out", 2)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130
    saved = len(list((tmp_path / "out").glob("*.png")))
    assert 2 <= saved < 12
    assert (
        f"interrupted: {saved} of 12 results are saved; the same command goes on from there" in err.decode()
    )
    assert "Traceback" not in err.decode()
    assert len(out.splitlines()) == saved
    assert leftovers(tmp_path) == []
    again = process("translate", *long, cwd=tmp_path)
    assert again.code == 0
    assert f"{12 - saved} translated, {saved} there already" in again.err
    assert len(tree(tmp_path / "out")) == 12


@pytest.mark.slow
def test_sigterm_is_as_ctrl_c_but_for_its_code(long: tuple[str | Path, ...], tmp_path: Path) -> None:
    run = started(*long, "--json", cwd=tmp_path)
    wait_for_results(tmp_path / "out", 1)
    run.terminate()
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 143
    assert b'"interrupted": true' in out.splitlines()[-1]
    assert b"are saved; the same command goes on" in err
    assert leftovers(tmp_path) == []


def test_ctrl_c_before_anything_is_saved(tmp_path: Path) -> None:
    run = started(FOX, "--to", "emoji3d", "--steps", "1000", "-v", cwd=tmp_path)
    assert run.stderr is not None
    assert b"loaded in" in run.stderr.readline()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130
    assert err.decode() == "interrupted before a result was saved; the same command begins again\n"
    assert tree(tmp_path) == []


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_pictures(long: tuple[str | Path, ...], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert process("translate", *long, "-o", whole).code == 0
    run = started(*long, cwd=tmp_path)
    wait_for_results(tmp_path / "out", 3)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate(timeout=PATIENCE)
    assert process("translate", *long, cwd=tmp_path).code == 0
    assert leftovers(tmp_path) == []
    assert tree(tmp_path / "out") == tree(whole)
    for path in whole.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_a_part_that_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/fox.png.part").write_bytes(b"half of a picture")
    assert list(made(FOX, *QUICK, out="out")) == ["fox.png"]


def test_overwrite_goes_on_too_and_replaces_only_what_was_made_otherwise() -> None:
    first = made(FOX, *QUICK, out="out")["fox.png"]
    time_of_first = first.stat().st_mtime_ns
    made(CUP, *QUICK, "--seed", "9", out="out")
    ran = ilvrctl("translate", FOX, CUP, *QUICK, "-o", "out", "--overwrite")
    assert "1 translated, 1 there already" in ran.err
    assert first.stat().st_mtime_ns == time_of_first
