"""From a checkpoint that nobody knows to pictures: inspect --probe, what it keeps, and presets made from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints import bare_copy, write_small_network
from commands import FOX, Ran, difference, ilvrctl, process, slowness, tree
from retrained import Retrained, drawings, two_drawings

from ilvrctl import paths
from ilvrctl.config import Layer
from ilvrctl.plans.facts import SUFFIX, facts_file, load_facts
from ilvrctl.presets import ModelPreset, find_model, find_target, override_model
from ilvrctl.probe import Timing


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A folder with the shipped model under another name, after ``inspect --probe --json``."""
    folder = tmp_path_factory.mktemp("probed")
    bare_copy(folder / "mine.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ilvrctl.probe.pictures.probe_pictures", two_drawings)
        ran = ilvrctl("inspect", folder / "mine.safetensors", "--probe", "--json", ILVRCTL_CONFIG=str(folder))
    return folder, ran


@pytest.fixture
def weights(tmp_path: Path, probed: tuple[Path, Ran], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model with the stored answer beside it, in the current folder."""
    for file in probed[0].glob("mine.*"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("mine.safetensors")


def facts_of(ran: Ran) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(ran.out)
    return record


def test_the_probe_as_json(probed: tuple[Path, Ran]) -> None:
    folder, ran = probed
    assert ran.code == 0, ran.err
    record = facts_of(ran)
    assert record["probe"]["facts"]["num_head_channels"] == 32
    assert {f["status"] for f in record["probe"]["findings"]} == {"decided"}
    assert record["probe"]["levels"] == [50, 100, 200, 350, 660]
    assert all(
        set(trial["errors"]) <= {"50", "100", "200", "350", "660"} for trial in record["probe"]["trials"]
    )
    assert record["probe"]["possible"] == [{"noise_schedule": "linear", "diffusion_steps": 1000}]
    assert record["probe"]["curve"]["0.342"] == pytest.approx(100, rel=0.08)
    assert record["hidden"]["num_head_channels"] == {"value": 32, "from": "the probe"}
    assert record["hidden"]["image_size"] == {"value": 64, "from": "a guess"}
    assert record["hidden"]["variance"] == {"value": None, "from": None}
    assert record["memory_bytes"]["fp32"] == 4 * record["parameters"]
    assert record["memory_bytes"]["fp32"] > record["memory_bytes"]["bf16"] > 2 * record["parameters"]
    assert tree(folder) == ["mine.safetensors", "mine.safetensors" + SUFFIX]


def test_wrong_heads_cannot_be_silent(tmp_path: Path) -> None:
    bare_copy(tmp_path / "mine.safetensors")
    ran = ilvrctl(
        "translate", FOX, "--weights", tmp_path / "mine.safetensors", "--steps", "3", "-o", tmp_path / "out"
    )
    assert ran.code == 3
    assert "ilvrctl inspect FILE --probe" in ran.err
    assert tree(tmp_path) == ["mine.safetensors"]


def test_translate_uses_what_the_probe_kept(weights: Path) -> None:
    args = ("translate", FOX, "--steps", "3", "--precision", "fp32", "--N", "4", "--range", "1.0:0.05")
    ran = ilvrctl(*args, "--weights", weights, "-o", "a.png")
    assert ran.code == 0, ran.err
    assert "using mine.safetensors.facts.yaml" in ran.err
    assert "image_size 64 is a guess" in ran.err
    assert ilvrctl(*args, "--to", "emoji3d", "-o", "b.png").code == 0
    assert difference(Path("a.png"), Path("b.png")) == (0, 0)


def test_what_was_kept_of_another_file_is_not_used(weights: Path) -> None:
    stored = facts_file(weights)
    write_small_network(weights)
    ran = ilvrctl("translate", FOX, "--weights", weights, "--steps", "3")
    assert ran.code == 3
    assert "warning: not used: mine.safetensors.facts.yaml is about another file" in ran.err
    bare_copy(weights)
    stored.write_text("sizes: 3\n")
    ran = ilvrctl("inspect", weights)
    assert ran.code == 0
    assert "warning: not used: mine.safetensors.facts.yaml, line 1: unknown key 'sizes'" in ran.err
    assert "num_heads" in ran.out.decode()


def test_flags_win_over_what_was_kept(weights: Path) -> None:
    record = facts_of(ilvrctl("inspect", weights, "--json", "--set", "model.num_heads=2"))
    assert record["hidden"]["num_heads"] == {"value": 2, "from": "--set"}
    assert record["hidden"]["num_head_channels"]["value"] is None
    assert record["hidden"]["noise_schedule"]["from"] == "the probe"
    assert ilvrctl("inspect", weights, "--set", "steps=3").code == 2
    assert ilvrctl("inspect", weights, "--set", "model.image_sise=3").code == 2


def test_heads_that_are_asked_for_win_over_the_channels_of_a_preset() -> None:
    preset = ModelPreset(num_head_channels=64)
    assert override_model(preset, Layer.of("", {"num_heads": 4})).num_head_channels is None
    assert override_model(preset, Layer.of("", {"image_size": 64})).num_head_channels == 64


def test_a_preset_saved_works_as_a_target(weights: Path) -> None:
    ran = ilvrctl("inspect", weights, "--save-preset", "mine")
    assert ran.code == 0, ran.err
    assert "image_size: 64  # a guess" in ran.out.decode()
    model = find_model("mine")
    assert (model.image_size, model.num_head_channels, model.path()) == (64, 32, weights.resolve())
    assert find_target("mine")[0].model == "mine"
    ran = ilvrctl("translate", FOX, "--to", "mine", "--steps", "3")
    assert ran.code == 0, ran.err
    assert ran.lines == ["out/fox.png"]
    assert ilvrctl("download", "--list").code == 0
    assert ilvrctl("inspect", weights, "--json").code == 0
    weights.unlink()
    ran = ilvrctl("translate", FOX, "--to", "mine", "--steps", "3", "--overwrite")
    assert (ran.code, "the weights of 'mine' are not here" in ran.err) == (3, True)


def test_a_preset_in_the_weights_folder_has_a_relative_name(weights: Path) -> None:
    paths.weights_dir().mkdir(parents=True)
    for file in (weights, facts_file(weights)):
        shutil.copy(file, paths.weights_dir())
    assert ilvrctl("inspect", paths.weights_dir() / weights.name, "--save-preset", "mine").code == 0
    saved = yaml.safe_load((paths.config_dir() / "models" / "mine.yaml").read_text())
    assert saved["file"] == "mine.safetensors"


def test_presets_are_not_overwritten_nor_made_of_what_is_not_known(weights: Path) -> None:
    assert ilvrctl("inspect", weights, "--save-preset", "mine").code == 0
    ran = ilvrctl("inspect", weights, "--save-preset", "mine")
    assert (ran.code, "is there already" in ran.err, ran.out) == (2, True, b"")
    assert ilvrctl("inspect", weights, "--save-preset", "mine", "--overwrite").code == 0
    for name, words in [
        ("emoji3d", "ships with ilvrctl"),
        ("dogs", "ships with"),
        ("../a", "cannot be the name"),
    ]:
        ran = ilvrctl("inspect", weights, "--save-preset", name)
        assert (ran.code, words in ran.err) == (2, True)
    facts_file(weights).unlink()
    shutil.rmtree(paths.config_dir())
    ran = ilvrctl("inspect", weights, "--save-preset", "mine")
    assert ran.code == 2
    assert "no preset without the number of attention heads and the picture size" in ran.err
    assert "--probe" in ran.err
    assert not paths.config_dir().exists()
    given = ("--set", "model.num_heads=4", "--set", "model.image_size=64")
    assert ilvrctl("inspect", weights, "--save-preset", "mine", *given).code == 0
    assert find_model("mine").num_heads == 4


def test_a_random_network_is_undecided_and_nothing_is_used(tmp_path: Path) -> None:
    file = write_small_network(tmp_path / "random.pt")
    ran = ilvrctl("inspect", file, "--probe")
    assert ran.code == 0
    assert "undecided: the lowest error is" in ran.out.decode()
    stored = load_facts(file)
    assert stored is not None
    assert (stored.facts, len(stored.undecided)) == ({}, 4)
    flags = ("--weights", file, "--steps", "3", "-o", tmp_path / "out")
    assert ilvrctl("translate", FOX, *flags).code == 3


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    file = write_small_network(tmp_path / "random.pt")
    facts_file(file).mkdir()
    ran = ilvrctl("inspect", file, "--probe")
    assert ran.code == 0
    assert "warning: not kept: cannot write" in ran.err
    assert "heads " in ran.out.decode()
    assert tree(tmp_path) == ["random.pt", "random.pt" + SUFFIX]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("timing", "said"),
    [
        (Timing("linear", 1200), "--set model.noise_schedule=NAME --set model.diffusion_steps=T"),
        (
            Timing("linear", 1500),  # unknown, and not far from a known one
            "may be linear, 2000 levels, beta 0.0001 to 0.02: --set model.noise_schedule=linear",
        ),
        (
            Timing("linear", 2000),  # nearly the same levels
            "--set model.noise_schedule=linear --set model.diffusion_steps=4000 "
            "--set model.beta_start=0.0001 --set model.beta_end=0.02",
        ),
    ],
    ids=str,
)
def test_a_schedule_that_is_not_decided_is_not_taken_for_granted(
    timing: Timing, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_copy(tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ilvrctl.probe.pictures.probe_pictures", drawings)
        patch.setattr("ilvrctl.models.files.loading.load_unet", lambda *_, **__: Retrained(timing))
        ran = ilvrctl("inspect", "mine.safetensors", "--probe")
    assert ran.code == 0, ran.err
    text = ran.out.decode()
    assert "schedule         undecided" in text
    assert "levels found" in text
    assert said in text
    stored = load_facts(Path("mine.safetensors"))
    assert stored is not None
    assert (stored.undecided, stored.facts["num_head_channels"]) == (("schedule",), 32)
    assert not {"noise_schedule", "diffusion_steps"} & set(stored.facts)
    for strength, level in stored.curve.items():
        assert level == pytest.approx(timing.level(1 / (1 + float(strength) ** 2)), rel=0.1)
    flags = ("translate", FOX, "--weights", "mine.safetensors", "--steps", "3", "--N", "4", "-o", "a.png")
    ran = ilvrctl(*flags)
    assert (ran.code, tree(tmp_path)) == (2, ["mine.safetensors", "mine.safetensors" + SUFFIX])
    assert "does not tell its noise schedule" in ran.err
    assert ilvrctl(*flags, "--set", "model.noise_schedule=linear").code == 0
    missing = facts_of(ilvrctl("inspect", "mine.safetensors", "--json"))["missing"]
    assert missing == ["noise_schedule"]


def test_formats_that_hide_nothing_are_not_probed(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    torch.save({"all_modules.0.weight": torch.zeros(2), "all_modules.1.weight": torch.zeros(2)}, file)
    ran = ilvrctl("inspect", file, "--probe")
    assert ran.code == 0
    assert "nothing to probe: only guided-diffusion files hide flags" in ran.err
    assert tree(tmp_path) == ["model.pt"]


@pytest.mark.slow
def test_a_name_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare_copy(tmp_path / "ffhq_10m.pt")  # whose preset says 64 channels a head
    monkeypatch.setattr("ilvrctl.probe.pictures.probe_pictures", two_drawings)
    ran = ilvrctl("inspect", tmp_path / "ffhq_10m.pt", "--probe")
    assert ran.code == 0
    assert "has the name of ffhq_10m, but it has 10.7 MB of weights, not 374.3" in ran.err
    assert "num_head_channels 32 the probe" in " ".join(ran.out.decode().split())
    ran = ilvrctl("inspect", tmp_path / "ffhq_10m.pt", "--set", "model.num_head_channels=64")
    assert "warning: not what the probe found: num_head_channels 32 (probe) or 64 (--set)" in ran.err


@pytest.mark.parametrize(
    "command",
    [["inspect", "mine.safetensors"], ["translate", FOX, "--weights", "mine.safetensors", "--dry-run"]],
)
def test_a_flag_wins_over_what_the_probe_stored_but_not_silently(
    command: list[str | Path], weights: Path
) -> None:
    ran = ilvrctl(*command, "--set", "model.num_head_channels=64", "--set", "model.predicts=v")
    assert ran.code == 0, ran.err
    told = "warning: not what the probe found: num_head_channels 32 (probe) or 64 (--set)"
    assert told in ran.err.splitlines()
    assert "not what" not in ilvrctl(*command, "--set", "model.num_head_channels=32").err


@pytest.mark.slow
@pytest.mark.alone
def test_the_shipped_model_with_all_pictures(tmp_path: Path) -> None:
    """The margins that tests/benchmarks/RESULTS.md states."""
    bare_copy(tmp_path / "mine.safetensors")
    ran = process("inspect", tmp_path / "mine.safetensors", "--probe", "--json", OMP_NUM_THREADS="2")
    findings = {f["fact"]: f for f in facts_of(ran)["probe"]["findings"]}
    assert {f["status"] for f in findings.values()} == {"decided"}
    assert {fact: f["margin"] for fact, f in findings.items()} == pytest.approx(
        {"heads": 3.6, "attention order": 5.8, "predicts": 6.4, "schedule": 1.3}, abs=0.1
    )
    print(f"{facts_of(ran)['probe']['seconds']} s")
    assert facts_of(ran)["probe"]["seconds"] < 40 * slowness()
