"""Results whose names no file system takes fail when they are planned, and the others are made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import QUICK, copies, ilvrctl, json_lines, tree
from hypothesis import given
from hypothesis import strategies as st

from ilvrctl.plans import places
from ilvrctl.plans.places import LONGEST, Limits

pytestmark = pytest.mark.usefixtures("stand_ins")

WIDE = "ü" * 125  # 250 bytes


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_what_the_file_system_says_is_what_is_planned(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "names"
    folder.mkdir(exist_ok=True)
    told = Limits().too_long(folder / name)
    if name in (".", ".."):
        return
    try:
        (folder / name).write_bytes(b"")
    except OSError:
        assert told is not None and f"{len(os.fsencode(name))} bytes, and 255 are possible" in told
    else:
        assert told is None
        (folder / name).unlink()


def test_folders_that_are_not_there_yet_count_and_are_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits()
    assert limits.too_long(tmp_path / ("a" * LONGEST) / "new" / "x.png") is None
    assert "the name of the folder has 256 bytes" in str(
        limits.too_long(tmp_path / ("a" * 256) / "n" / "x.png")
    )
    monkeypatch.setattr(places, "_limit", lambda folder: pytest.fail("asked again"))
    assert limits.too_long(tmp_path / ("a" * LONGEST) / "new" / "y.png") is None


def test_a_name_that_gets_too_long_fails_before_anything_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies(tmp_path, [f"in/{WIDE}.png", "in/b.png"])
    sampled = []
    from ilvrctl import engine

    def sample(*args: object, **options: object) -> object:
        sampled.append(args)
        return real(*args, **options)

    real = engine.sample
    monkeypatch.setattr(engine, "sample", sample)
    ran = ilvrctl("translate", "in", *QUICK, "-n", "1", "--json")
    assert ran.code == 0, ran.err  # 250 + 4 bytes
    sampled.clear()
    ran = ilvrctl("translate", f"in/{WIDE}.png", *QUICK, "-n", "2", "-o", "two", "--json")
    assert ran.code == 1 and sampled == [], ran.err
    assert ran.err.count("its result cannot be written: the name of the file has 256 bytes") == 2, ran.err
    ran = ilvrctl("translate", "in", *QUICK, "-n", "2", "-o", "three")
    assert ran.code == 1
    assert tree(tmp_path / "three") == ["b_1.png", "b_2.png"]
    assert "hint" in ran.err or "rename the input" in ran.err, ran.err


def test_a_batch_tells_of_it_too_and_makes_the_rest(tmp_path: Path) -> None:
    copies(tmp_path, [f"in/{WIDE}.png", "in/b.png"])
    Path("jobs.yaml").write_text(
        "jobs: [{name: j, inputs: in, to: emoji3d, steps: 3, precision: fp32, samples: 2}]"
    )
    for _ in range(2):  # the second time all else is done
        ran = ilvrctl("batch", "jobs.yaml", "-o", "out", "--json")
        assert ran.code == 1, ran.err
        failed = [one for one in json_lines(ran) if one["event"] == "failed"]
        assert len(failed) == 2 and all("256 bytes" in str(one) for one in failed), ran.out
    assert len([name for name in tree(tmp_path) if name.startswith("out") and name.endswith(".png")]) == 2
