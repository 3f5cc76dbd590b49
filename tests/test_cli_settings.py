"""Settings in layers: target < preset < compat < environment < flags; a mistake says where it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import bare_copy
from commands import FOX, QUICK, ilvrctl, pixels

from ilvrctl.images.metadata import read_record
from ilvrctl.presets import load_targets

pytestmark = pytest.mark.usefixtures("stand_ins")


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(*args: str, **env: str) -> dict[str, Any]:
    """The settings that were used, from the record of a result."""
    ran = ilvrctl("translate", FOX, *args, "-o", "x.png", "--overwrite", "-q", **env)
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(read_record(Path("x.png").read_bytes(), "x.png"))["settings"]
    return found


def refused(*args: str, **env: str) -> str:
    ran = ilvrctl("translate", FOX, *args, "--dry-run", **env)
    assert ran.code == 2, ran.err
    return ran.err


TARGET = ("--to", "emoji3d", "--precision", "fp32")


def test_a_later_layer_wins() -> None:
    plain = settings(*QUICK, "--method", "ilvr")
    assert plain["method"]["constraint"]["N"] == load_targets()["emoji3d"].settings["method"]["N"]
    assert plain["method"]["constraint"]["reference_level"] == "s"
    assert settings(*QUICK, "--preset", "scribble")["method"]["constraint"]["N"] == 8
    assert settings(*QUICK, "--preset", "scribble", "--N", "16")["method"]["constraint"]["N"] == 16
    preset = settings(*TARGET, "--preset", "ilvr_adm", "--timestep-respacing", "3", "--range-t", "0")
    assert preset["method"]["constraint"]["reference_level"] == "t"
    assert settings(*QUICK, "--compat", "ilvr_adm")["method"]["constraint"]["reference_level"] == "t"
    over = settings(*QUICK, "--compat", "ilvr_adm", "--set", "method.reference_level=s")
    assert over["method"]["constraint"]["reference_level"] == "s"


def test_the_environment_lies_between_presets_and_flags() -> None:
    Path("seed.yaml").write_text("seed: 1\nprecision: fp32\n")
    args = [*QUICK[:4], "--preset", "seed.yaml"]
    assert settings(*args)["seed"] == 1
    assert settings(*args, ILVRCTL_SEED="2")["seed"] == 2
    assert settings(*args, "--set", "seed=3", ILVRCTL_SEED="2")["seed"] == 3
    assert settings(*args, "--set", "seed=3", "--seed", "4", ILVRCTL_SEED="2")["seed"] == 4
    assert settings(*args, ILVRCTL_SEED="")["seed"] == 1
    assert settings(*args, ILVRCTL_PRECISION="bf16")["precision"] == "bf16"
    assert "ILVRCTL_SEED: seed must be a whole number, not 'x'" in refused(*args, ILVRCTL_SEED="x")
    assert "ILVRCTL_PRECISION: precision must be" in refused(*args, ILVRCTL_PRECISION="fp99")
    assert "ILVRCTL_BATCH_SIZE" in refused(*args, ILVRCTL_BATCH_SIZE="0")
    assert ilvrctl("translate", FOX, *QUICK, ILVRCTL_DEVICE="gpu").code == 2


def test_steps_and_respacing_take_the_place_of_each_other() -> None:
    assert (
        settings(*TARGET, "--preset", "ilvr_adm", "--steps", "3", "--range-t", "0")["timestep_respacing"]
        is None
    )
    assert (
        settings(*TARGET, "--preset", "ilvr_adm", "--set", "steps=3", "--range-t", "0")["timestep_respacing"]
        is None
    )
    assert settings(*TARGET, "--timestep-respacing", "3")["timestep_respacing"] == "3"
    assert "both say how many steps" in refused(*QUICK, "--timestep-respacing", "3")


def test_range_and_range_t_take_the_place_of_each_other() -> None:
    preset = ["--preset", "ilvr_adm", "--steps", "3"]
    assert settings(*TARGET, *preset, "--range", "1.0:0.2")["method"]["range_t"] is None
    assert settings(*TARGET, *preset, "--set", "method.range=[1000, 200]")["method"]["range_t"] is None
    assert settings(*QUICK, "--range", "1000:200")["method"]["range"] == [1000, 200]
    assert settings(*QUICK, "--range-t", "1")["method"]["range_t"] == 1
    assert "both say what is conditioned" in refused(*QUICK, "--range", "1.0:0.2", "--range-t", "1")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        (
            "method.M=8",
            ["--set method.M=8: unknown key 'method.M'", "known keys under 'method': name, constraint"],
        ),
        ("methd.N=8", ["--set methd.N=8: unknown key 'methd'", "did you mean 'method'?"]),
        ("method.N=eight", ["--set method.N=eight: method.constraint.N must be a whole number, not 'eight'"]),
        ("method.N=8.5", ["method.constraint.N must be a whole number, not 8.5"]),
        (
            "method.kernel=cubci",
            ["method.constraint.kernel must be cubic or linear or box", "did you mean 'cubic'?"],
        ),
        ("method=[1]", ["--set method=[1]: method must be a name or a mapping"]),
        ("method.range=[1.0]", ["method.range must be a list of 2 times"]),
        ("sampler.eta=0.5", ["--set sampler.eta=0.5: the sampler ddpm has no 'eta'; it belongs to ddim"]),
        ("clip_denoised=maybe", ["clip_denoised must be true or false, not 'maybe'"]),
        ("model=5", ["model is a mapping of facts"]),
        ("model.num_hedas=4", ["--set model.num_hedas=4: unknown key 'model.num_hedas'", "'num_heads'"]),
        ("model.num_heads=many", ["--set model.num_heads=many: model.num_heads must be a whole number"]),
        ("seed", ["--set 'seed' is not of the form key=value", "--set method.N=8"]),
        ("=5", ["is not of the form key=value"]),
        ("seed=[1", ["--set seed=[1: the value is not valid YAML"]),
        ("compat=[1]", ["unknown compat [1]"]),
    ],
)
def test_assignments_that_cannot_be(assignment: str, words: list[str]) -> None:
    err = refused(*QUICK, "--set", assignment)
    for word in words:
        assert word in err
    assert "Traceback" not in err


@pytest.mark.shipped
def test_preset_files() -> None:
    Path("good.yaml").write_text("method: {name: ilvr, N: 8}\nseed: 3\n")
    found = settings(*QUICK, "--preset", "good.yaml")
    assert (found["method"]["constraint"]["N"], found["seed"]) == (8, 3)
    Path("shown.yaml").write_bytes(ilvrctl("presets", "show", "paint").out)
    assert settings(*QUICK, "--preset", "shown.yaml")["method"]["constraint"]["N"] == 64
    for text, words in [
        ("seed: 3\nmethod:\n  N: 8\n  kernl: box\n", "bad.yaml, line 4: unknown key 'method.kernl'"),
        ("seed: x\n", "bad.yaml, line 1: seed must be a whole number, not 'x'"),
        ("seed: 1\n\nseed: 2\n", "bad.yaml, line 3: 'seed' is given twice"),
        ("seed: [1\nfit: pad\n", "bad.yaml, line 2: not valid YAML"),
        ("- a\n", "bad.yaml must hold a mapping"),
        ("title: x\nsettings:\n  sed: 1\n", "bad.yaml, line 3: unknown key 'sed'"),
        ("titel: x\nsettings: {}\n", "bad.yaml, line 1: unknown key 'titel'"),
        ("method: {name: sdd}\n", "bad.yaml, line 1: unknown method 'sdd'"),
    ]:
        Path("bad.yaml").write_text(text)
        assert words in refused(*QUICK, "--preset", "bad.yaml")
    assert "cannot read nope.yaml: No such file" in refused(*QUICK, "--preset", "nope.yaml")


def test_targets_of_ones_own(tmp_path: Path) -> None:
    targets = tmp_path / "config/targets"
    targets.mkdir(parents=True)
    env = {"ILVRCTL_CONFIG": str(tmp_path / "config")}
    (targets / "mine.yaml").write_text(
        "title: my emoji\nmodel: emoji3d-64\naliases: [own]\n"
        "settings:\n  steps: 4\n  sampler: {name: ddim, eta: 0.5}\n  method: {name: ilvr, N: 8}\n"
    )
    for name in ("mine", "own"):
        found = settings("--to", name, "--precision", "fp32", **env)
        assert (found["steps"], found["method"]["constraint"]["N"], found["sampler"]) == (
            4,
            8,
            {"name": "ddim", "eta": 0.5},
        )
    assert settings("--to", "mine", "--sampler", "ddpm", **env)["sampler"]["name"] == "ddpm"
    assert '"mine"' in ilvrctl("presets", "--json", **env).out.decode()
    (targets / "mine.yaml").write_text("model: emoji3d-64\nsettings:\n  steps: many\n")
    assert "mine.yaml, line 3: steps must be a whole number" in refused("--to", "mine", **env)
    (targets / "mine.yaml").write_text("title: no model\n")
    assert "mine.yaml, line 1: missing key 'model'" in refused("--to", "mine", **env)


@pytest.mark.parametrize(
    "args",
    [
        ["--steps", "1"],
        ["--steps", "1", "--range-t", "-1"],
        ["--steps", "2"],
        ["--steps", "2", "--range", "1.0:0.0"],
        ["--timestep-respacing", "2,1"],
        ["--steps", "3", "--sampler", "ddim"],
        ["--steps", "3", "--sampler", "ddim", "--eta", "1"],
        ["--steps", "3", "--variance", "fixed_large"],
        ["--steps", "3", "--no-clip"],
        ["--steps", "3", "--kernel", "box"],
        ["--steps", "3", "--fit", "pad", "--background", "#ff8800"],
    ],
    ids=" ".join,
)
def test_these_work(args: list[str]) -> None:
    settings(*TARGET, *args)


def test_a_range_t_that_conditions_nothing_is_refused() -> None:
    err = refused(*TARGET, "--steps", "5", "--range-t", "5")
    assert "leaves none of the 5 steps conditioned" in err
    assert "--range-t -1" in err


@pytest.mark.slow
def test_respacing_as_published() -> None:
    assert settings(*TARGET, "--timestep-respacing", "ddim50")["timestep_respacing"] == "ddim50"
    ran = ilvrctl(
        "translate", FOX, *TARGET, "--method", "ilvr", "--timestep-respacing", "ddim50", "--dry-run"
    )
    assert "50 steps, 50 network calls" in ran.err


def test_each_setting_changes_the_pixels(tmp_path: Path) -> None:
    seen = {}
    for name, args in {
        "plain": [],
        "N": ["--N", "8"],
        "compat": ["--compat", "ilvr_adm"],
        "ddim": ["--sampler", "ddim"],
        "eta": ["--sampler", "ddim", "--eta", "0.5"],
        "kernel": ["--kernel", "box"],
        "variance": ["--variance", "fixed_large"],
        "clip": ["--no-clip"],
        "seed": ["--seed", "1"],
        "range": ["--range-t", "0"],
    }.items():
        out = tmp_path / f"{name}.png"
        assert ilvrctl("translate", FOX, *QUICK, *args, "-o", out).code == 0
        seen[name] = pixels(out)
    assert len(set(seen.values())) == len(seen)


@pytest.mark.shipped
def test_a_file_with_a_published_name_has_its_facts(tmp_path: Path) -> None:
    file = str(bare_copy(tmp_path / "emoji3d-64.safetensors"))
    args = ["translate", FOX, "--weights", file, "--steps", "3", "--N", "4", "--precision", "fp32"]
    ran = ilvrctl(*args)
    assert ran.code == 0, ran.err
    assert "emoji3d-64.safetensors is known as emoji3d-64: using its facts" in ran.err
    assert "known as" not in ilvrctl(*args, "-q").err
    assert settings(*QUICK, "--weights", file, "--N", "4")["method"]["constraint"]["N"] == 4


def test_what_this_network_cannot_do() -> None:
    assert "--eta: the sampler ddpm has no 'eta'; it belongs to ddim" in refused(*QUICK, "--eta", "0.5")
    assert "hint: --sampler ddim" in refused(*QUICK, "--eta", "0.5")
    assert "the sampler ddim has no 'variance'" in refused(
        *QUICK, "--sampler", "ddim", "--variance", "fixed_large"
    )
    assert "sampler.eta goes from 0 to 1, not 5" in refused(
        *QUICK, "--sampler", "ddim", "--set", "sampler.eta=5"
    )
    for args, words in [
        (["--variance", "learned"], "this network has not learned a variance"),
        (["--class-label", "3"], "this network was trained without classes"),
    ]:
        ran = ilvrctl("translate", FOX, *QUICK, *args)
        assert ran.code == 2
        assert words in ran.err
        assert not Path("out").exists()
