"""A target that knows the model of its usual inputs: when both take part, and when the target's works alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import FOX, ilvrctl, json_lines

import ilvrctl as package
from ilvrctl import paths
from ilvrctl.images.metadata import read_record

pytestmark = pytest.mark.usefixtures("stand_ins")

BOTH = "from emoji-flat to emoji3d"
PLAN = ("translate", FOX, "--to", "emoji3d", "--dry-run")
QUICK = ("translate", FOX, "--to", "emoji3d", "--steps", "5", "--precision", "fp32")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), f"{BOTH} (emoji3d-64), CycleDiffusion from 0.4, 10 steps, 20 network calls"),
        (("--start", "0.6", "--steps", "10"), f"{BOTH} (emoji3d-64), CycleDiffusion from 0.6, 6 steps"),
        (("--seed", "4", "-n", "2"), f"{BOTH} (emoji3d-64), CycleDiffusion from 0.4"),
        (("--method", "cyclediffusion"), f"{BOTH} (emoji3d-64), CycleDiffusion from 0.4, 10 steps"),
        (("--method", "ddib", "--steps", "4"), f"{BOTH} (emoji3d-64), DDIB, 4 steps, 8 network calls"),
        (("--from", "emoji-flat"), f"{BOTH} (emoji3d-64), CycleDiffusion from 0.4, 10 steps"),
        (("--N", "4"), "to do, 0 there already; to emoji3d (emoji3d-64), ILVR N=4"),
        (("--sampler", "ddim"), "; to emoji3d (emoji3d-64), ILVR N=2"),
        (("--range", "1.0:0.2"), "; to emoji3d (emoji3d-64), ILVR N=2, levels 1.0 to 0.2"),
        (("--method", "sdedit"), "; to emoji3d (emoji3d-64), SDEdit"),
        (("--speed", "turbo"), "; to emoji3d (emoji3d-64), ILVR N=2"),
        (("--preset", "ilvr_adm"), "; to emoji3d (emoji3d-64), ILVR N=2, reference at t"),
        (("--as-published",), "; to emoji3d (emoji3d-64), ILVR N=4, levels 1.0 to 0.2, 100 steps"),
    ],
)
def test_both_take_part_unless_it_is_said_how_to_sample(args: tuple[str, ...], says: str) -> None:
    ran = ilvrctl(*PLAN, *args)
    assert ran.code == 0, ran.err
    assert says in ran.err


def test_it_is_the_same_result_whether_the_source_is_named_or_not() -> None:
    assert ilvrctl(*QUICK).code == 0
    record = json.loads(read_record(Path("out/fox.png").read_bytes(), "fox"))
    assert record["source"]["domain"] == "emoji-flat"
    named = ilvrctl(*QUICK, "--from", "emoji-flat", "--json")
    assert next(line["event"] for line in json_lines(named)) == "skipped"
    replayed = ilvrctl("translate", FOX, "--from-image", "out/fox.png", "-o", "again")
    assert replayed.code == 0, replayed.err
    assert Path("again/fox.png").read_bytes() == Path("out/fox.png").read_bytes()


def test_weights_of_ones_own_and_edits_work_alone(tmp_path: Path) -> None:
    alone = ilvrctl(*PLAN, "--weights", paths.DATA / "emoji-flat-64.safetensors")
    assert "; to emoji3d" in alone.err and BOTH not in alone.err
    edited = ilvrctl("edit", FOX, "--mode", "paint", "--to", "emoji3d", "--dry-run")
    assert edited.code == 0, edited.err
    assert "to emoji3d (emoji3d-64), ILVR" in edited.err and BOTH not in edited.err


def test_a_jobs_file_decides_for_each_job() -> None:
    Path("jobs.yaml").write_text(
        f"defaults: {{to: emoji3d, steps: 5, inputs: {FOX}}}\njobs: [{{name: two}}, {{name: one, N: 4}}]\n"
    )
    calls = [
        line["network_calls"] for line in json_lines(ilvrctl("batch", "jobs.yaml", "--dry-run", "--json"))
    ]
    assert calls[:2] == [4, 5]


def test_a_loaded_model_has_both() -> None:
    with package.load("emoji3d", device="cpu", precision="fp32") as model:
        [both] = model.translate([FOX], steps=5)
        [named] = package.translate(FOX, to="emoji3d", steps=5, precision="fp32", device="cpu")
        [alone] = model.translate([FOX], steps=5, N=4)
    assert both.tobytes() == named.image.tobytes() != alone.tobytes()
