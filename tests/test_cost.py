"""What a dry run says that results would cost, and of inputs that the target is not made for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import CUP, FOX, QUICK, command, environment, ilvrctl, json_lines, tree
from PIL import Image

from ilvrctl import paths
from ilvrctl.errors import UsageError
from ilvrctl.images.geometry import fit_picture, on_white
from ilvrctl.plans.asked import asked_by_values
from ilvrctl.plans.check import make_plan
from ilvrctl.plans.outputs import Destination
from ilvrctl.plans.pace import Pace, cost_of, keep_pace, known_pace, work_of
from ilvrctl.plans.plan import Plan
from ilvrctl.plans.request import translation
from ilvrctl.presets import find_target

pytestmark = pytest.mark.usefixtures("stand_ins")

HOW = ("auto", None, None)
PACE = Pace(0.25, 500.0, "cpu", "fp32", 8)


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan_of(*inputs: Path, **parameters: object) -> Plan:
    asked = asked_by_values("translate", {"to": "emoji3d", "steps": 4, "method": "ilvr", **parameters})
    plan = translation(asked, [str(one) for one in inputs], Destination.parse("out"))
    return make_plan(plan, overwrite=False)


@pytest.mark.shipped
def test_the_cost_follows_from_the_pace() -> None:
    plan = plan_of(FOX, CUP, samples=3)
    cost = cost_of([plan], lambda *_: PACE)
    assert (cost.results, cost.calls) == (6, 24)
    assert cost.seconds == pytest.approx(24 * 0.25)
    assert cost.peak_mb == 500
    assert 6 * 3 * 64 * 64 < cost.disk < 6 * 3 * 64 * 64 + 6 * 8192
    assert cost_of([plan], lambda *_: PACE, parts=2).calls == 48
    assert cost_of([plan, plan], lambda *_: PACE).seconds == pytest.approx(12)
    assert cost_of([plan_of(FOX, samples=3, gif=True)], lambda *_: PACE).disk > 10 * cost.disk


def test_a_grid_costs_what_its_variants_cost_and_nobody_guesses() -> None:
    plan = plan_of(FOX, steps=[4, 6])
    first, second = plan.variants
    assert cost_of([plan], lambda *_: PACE).seconds == pytest.approx(10 * 0.25)
    half = cost_of([plan], lambda _, variant: PACE if variant is first else None)
    assert half.seconds is None and half.calls == 10
    assert cost_of([plan], lambda *_: None).record()["measured"] is None
    done = replace(plan, outputs=tuple(replace(o, status="done") for o in plan.outputs))
    assert cost_of([done], lambda *_: PACE).results == 0
    assert first.folder != second.folder


def test_a_result_of_the_size_of_its_input_takes_as_much_disk(tmp_path: Path) -> None:
    Image.new("RGB", (320, 128), "white").save(tmp_path / "wide.png")
    cost = cost_of([plan_of(tmp_path / "wide.png", fit="native")], lambda *_: None)
    assert 3 * 320 * 128 < cost.disk < 3 * 320 * 128 + 8192


def test_a_pace_is_known_for_the_same_work_alone() -> None:
    plan = plan_of(FOX)
    [variant] = plan.variants
    assert known_pace(plan, variant, HOW) is None
    keep_pace(plan, variant, HOW, PACE)
    assert known_pace(plan, variant, HOW) == PACE
    same, other = (
        {"steps": 9, "N": 2, "seed": 5},
        [{"precision": "fp32"}, {"speed": "turbo"}, {"method": "egsde"}, {"size": "128"}],
    )
    longer = plan_of(FOX, **same)
    assert known_pace(longer, longer.variants[0], HOW) == PACE
    for changes in other:
        changed = plan_of(FOX, **changes)
        assert known_pace(changed, changed.variants[0], HOW) is None
    assert known_pace(plan, variant, ("cpu", "2", None)) is None
    heavier = replace(plan, weights_sha256="0" * 64)
    assert work_of(heavier, variant, HOW) != work_of(plan, variant, HOW)


def test_a_damaged_memory_is_none(tmp_path: Path) -> None:
    plan = plan_of(FOX)
    keep_pace(plan, plan.variants[0], HOW, PACE)
    [file] = (paths.cache_dir() / "pace").iterdir()
    for text in ("", "{", "[]", '{"seconds": 1}', "3"):
        file.write_text(text)
        assert known_pace(plan, plan.variants[0], HOW) is None


def test_a_run_remembers_its_pace_and_a_dry_run_tells_it() -> None:
    dry = ("translate", CUP, *QUICK, "--N", "4", "--dry-run", "-o", "other")
    before = ilvrctl(*dry)
    assert "how long is not known" in before.err and "--estimate" in before.err
    assert [line["event"] for line in json_lines(ilvrctl(*dry, "--json"))] == ["planned", "summary"]
    assert ilvrctl("translate", FOX, *QUICK, "--N", "4").code == 0
    [kept] = (paths.cache_dir() / "pace").iterdir()
    pace = Pace(**json.loads(kept.read_text()))
    ran = ilvrctl(*dry, "--json")
    planned, told, summary = json_lines(ran)
    assert (planned["event"], told["event"], summary["event"]) == ("planned", "estimate", "summary")
    assert told["seconds"] == pytest.approx(3 * pace.seconds_a_call, abs=0.06)
    assert told["network_calls"] == 3 and told["measured"] == "run"
    for_people = ilvrctl(*dry).err
    assert "estimate: " in for_people and "from an earlier run: " in for_people and "on disk" in for_people
    assert "estimate" not in ilvrctl(*dry, "-q").err


@pytest.mark.shipped
def test_steps_are_timed_on_request_and_remembered(tmp_path: Path) -> None:
    words = (
        "translate",
        CUP,
        *QUICK,
        "--method",
        "egsde",
        "--steps",
        "8",
        "--batch-size",
        "1",
        "--dry-run",
        "--json",
    )
    [told] = [line for line in json_lines(ilvrctl(*words, "--estimate")) if line["event"] == "estimate"]
    assert told["measured"] == "steps" and told["seconds"] > 0
    assert told in json_lines(ilvrctl(*words))
    assert tree(tmp_path) == []


def test_an_estimate_belongs_to_a_dry_run() -> None:
    ran = ilvrctl("translate", CUP, *QUICK, "--estimate")
    assert ran.code == 2 and "--estimate belongs to --dry-run" in ran.err and "hint: add --dry-run" in ran.err


def test_a_dry_run_with_a_known_pace_needs_no_torch() -> None:
    plan = plan_of(CUP)
    keep_pace(plan, plan.variants[0], HOW, PACE)
    words = command("translate", CUP, "--to", "emoji3d", "--method", "ilvr", "--steps", "4", "--dry-run")
    tell = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); "
    code = f"{tell}{words[2]}"
    ran = subprocess.run(
        [sys.executable, "-c", code, *words[3:]], capture_output=True, text=True, env=environment()
    )
    assert ran.returncode == 0 and "estimate: 1.0 s in all, 500 MB" in ran.stderr
    assert ran.stdout.splitlines() == ["out/cup.png", "False"]


def test_a_disk_without_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=1000))
    assert "warning: 1 kB are free on the disk of" in ilvrctl("translate", CUP, *QUICK, "--dry-run").err


def photos() -> Iterator[Path]:
    yield from sorted(paths.PHOTOS.glob("*.jpg"))


def test_drawings_on_white_are_told_from_photos() -> None:
    drawn = [*paths.EXAMPLES.glob("*.png"), *(Path(__file__).parent / "emoji" / "flat").glob("*.png")]
    assert len(drawn) > 50
    for path in drawn:
        with Image.open(path) as picture:
            flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
            assert on_white(fit_picture(flat.convert("RGB"), 64, "crop", (255, 255, 255))), path.name
    for path in photos():
        with Image.open(path) as picture:
            assert not on_white(fit_picture(picture, 64, "crop", (255, 255, 255))), path.name


def test_photos_for_a_target_of_drawings_get_one_line() -> None:
    some = list(photos())[:2]
    line = "is not on white: emoji3d expects flat drawings on white"
    for more in (["--dry-run"], []):
        ran = ilvrctl("translate", FOX, *some, *QUICK, "--steps", "2", *more)
        assert ran.code == 0
        assert ran.err.count(line) == 1 and some[0].name in ran.err
    assert line not in ilvrctl("translate", FOX, CUP, *QUICK, "--dry-run").err
    assert line not in ilvrctl("translate", *some, *QUICK, "--dry-run", "-q").err


def test_what_a_target_expects_is_a_field_of_its_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_target("emoji3d")[0].expects == "flat drawings on white"
    assert find_target("dog")[0].expects == ""
    mine = tmp_path / "config" / "targets"
    mine.mkdir(parents=True)
    (mine / "mine.yaml").write_text("model: emoji3d-64\nexpects: oil on canvas\n")
    monkeypatch.setenv("ILVRCTL_CONFIG", str(tmp_path / "config"))
    with pytest.raises(UsageError, match="expects must be  or flat drawings on white"):
        find_target("mine")


def test_jobs_of_one_kind_are_told_and_remembered_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("importlib.metadata.version", lambda name: asked.append(name) or "2.4")
    photo = next(photos())
    settings = {"inputs": str(photo), "to": "emoji3d", "method": "ilvr", "steps": 2, "precision": "fp32"}
    jobs = [{"name": f"j{n}", **settings, "seed": n} for n in range(30)]
    (tmp_path / "jobs.yaml").write_text(json.dumps({"jobs": jobs}))
    dry = ilvrctl("batch", "jobs.yaml", "--dry-run", "--device", "cpu")
    line = "is not on white: emoji3d expects flat drawings on white"
    assert dry.code == 0 and dry.err.count(line) == 1
    assert len(asked) <= 1
    assert not (paths.cache_dir() / "pace").exists()
    ran = ilvrctl("batch", "jobs.yaml", "--device", "cpu")
    assert ran.code == 0 and ran.err.count(line) == 1
    assert len(list((paths.cache_dir() / "pace").iterdir())) == 1
    assert (
        "from an earlier run: "
        in ilvrctl("batch", "jobs.yaml", "-o", "b", "--dry-run", "--device", "cpu").err
    )
