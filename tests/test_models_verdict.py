"""What is known of a network and from where, and the one verdict on whether it can be used."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import random_state_dict, write_random_checkpoint, write_small_network

from ilvrctl.diffusion.schedule import cosine_betas
from ilvrctl.engine import Engine
from ilvrctl.errors import UsageError, WeightsError
from ilvrctl.models.architecture.classifier import ClassifierArchitecture
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags
from ilvrctl.models.files.contents import contents_of
from ilvrctl.models.files.diffusers_folder import folder_note, network_files, stated_facts, weights_file
from ilvrctl.models.files.facts import facts_of, file_facts, not_as_named
from ilvrctl.models.files.verdict import class_problem, verdict_on
from ilvrctl.plans.plan import network_facts
from ilvrctl.presets import ModelPreset, find_model

KNOWN = ModelPreset(image_size=32, num_heads=2)
PLAIN = AdmArchitecture(3, 3, 32, (32, 64), 1, (False, True), hidden=HiddenFlags(num_heads=2))


def network(path: Path, **changes: object) -> Path:
    architecture = replace(PLAIN, **changes)  # type: ignore[arg-type]
    torch.save(random_state_dict(architecture), path)
    return path


def test_a_sound_network_can_be_used_by_all_who_ask(tmp_path: Path) -> None:
    verdict = verdict_on(network(tmp_path / "w.pt"), KNOWN)
    assert verdict.usable
    assert verdict.sound
    assert verdict.require().facts["downsample_factor"] == 2
    assert Engine.load(KNOWN, tmp_path / "w.pt", device="cpu").image_size == 32


@pytest.mark.parametrize(
    ("into", "out", "what"),
    [
        (2, 2, "a network of 2"),
        (3, 5, "a network of 3 input and 5 output"),
        (5, 5, "a network of 5"),
        (6, 6, "a super-resolution"),
    ],
)
def test_networks_for_other_than_pictures_are_not_usable(
    into: int, out: int, what: str, tmp_path: Path
) -> None:
    path = network(tmp_path / "w.pt", in_channels=into, out_channels=out)
    verdict = verdict_on(path, KNOWN)
    assert not verdict.sound
    assert what in verdict.problems[0].message
    with pytest.raises(WeightsError, match=what):
        Engine.load(KNOWN, path, device="cpu")


def test_a_classifier_is_for_energies_and_a_network_is_not(tmp_path: Path) -> None:
    heads = HiddenFlags(num_heads=1)
    classifier = ClassifierArchitecture(3, 2, 32, (32, 64), 1, (False, True), hidden=heads)
    torch.save(random_state_dict(classifier), tmp_path / "c.pt")
    assert verdict_on(tmp_path / "c.pt", KNOWN, use="energy").usable
    assert "a classifier" in verdict_on(tmp_path / "c.pt", KNOWN).problems[0].message
    assert not verdict_on(network(tmp_path / "w.pt"), KNOWN, use="energy").usable


def test_all_that_is_missing_is_one_error_with_one_command(tmp_path: Path) -> None:
    path = network(tmp_path / "w.pt")
    (problem,) = verdict_on(path, ModelPreset(), word="source").problems
    assert problem.message == "w.pt does not tell its picture size nor how many attention heads it has"
    assert "--set source.image_size=256 --set source.num_head_channels=64" in (problem.hint or "")
    assert "inspect FILE --probe" in (problem.hint or "")
    with pytest.raises(WeightsError, match=r"picture size nor how many attention heads"):
        Engine.load(ModelPreset(), path, device="cpu")


@pytest.mark.parametrize(
    ("facts", "message", "hint"),
    [
        ({"diffusion_steps": 0}, "diffusion_steps is 0", "diffusion_steps=1000"),
        ({"diffusion_steps": -5}, "diffusion_steps is -5", "diffusion_steps=1000"),
        ({"diffusion_steps": 10}, "has 10 levels", "diffusion_steps=1000"),
        ({"diffusion_steps": 10**9}, "diffusion_steps is 1000000000", "diffusion_steps=1000"),
        ({"image_size": 33}, "2 divides, not 33", "image_size=32"),
        ({"image_size": 0}, "2 divides, not 0", "image_size=2"),
        ({"image_size": -32}, "not -32", "image_size=2"),
        ({"image_size": 1_000_000}, "at most 16,384 px a side, not 1000000", "image_size=1024"),
        ({"image_size": 8192}, "at most 4,194,304 pixels, not 8192", "image_size=1024"),
        ({"num_heads": 3}, "num_heads=3 does not divide the 64", "num_head_channels=64"),
        (
            {"num_heads": None, "num_head_channels": 48},
            "num_head_channels=48 does not",
            "num_head_channels=64",
        ),
        ({"num_heads": 0}, "num_heads is 0", "num_head_channels=64"),
        ({"num_heads": -2}, "num_heads is -2", "num_head_channels=64"),
    ],
)
def test_impossible_facts_are_errors_with_a_right_value(
    facts: dict[str, int], message: str, hint: str, tmp_path: Path
) -> None:
    path = network(tmp_path / "w.pt")
    model = replace(KNOWN, **facts)  # type: ignore[arg-type]
    (problem,) = verdict_on(path, model, word="source").problems
    assert message in problem.message
    assert f"--set source.{hint}" in (problem.hint or "")
    with pytest.raises((UsageError, WeightsError)) as error:
        Engine.load(model, path, device="cpu", word="source")
    assert error.value.message == problem.message


def test_class_labels(tmp_path: Path) -> None:
    path = network(tmp_path / "w.pt", num_classes=10)
    assert verdict_on(path, KNOWN, class_label=3).usable
    for label in (None, 207):
        (problem,) = verdict_on(path, KNOWN, class_label=label).problems
        assert problem.hint == "--class-label 0 to 9"
    assert "207" in (getattr(class_problem(None, 1000), "hint", "") or "")
    (problem,) = verdict_on(network(tmp_path / "v.pt"), KNOWN, class_label=3).problems
    assert "trained without classes" in problem.message


def test_every_fact_has_a_source(tmp_path: Path) -> None:
    path = network(tmp_path / "w.pt", out_channels=6)
    info = contents_of(path)
    facts = facts_of(info, replace(KNOWN, image_size=32), {"image_size": "--set"})
    assert (facts["image_size"].value, facts["image_size"].source) == (32, "--set")
    assert (facts["variance"].value, facts["variance"].source) == ("learned", "the file")
    assert facts["noise_schedule"].source == "assumed: nobody knows"
    assert facts.missing == ("num_heads",)
    assert "noise_schedule linear" in (facts.note() or "")
    assert all(fact.source for fact in facts.facts)
    whole = dict.fromkeys(
        ("num_heads", "use_new_attention_order", "noise_schedule", "image_size"), "preset x"
    )
    whole |= dict.fromkeys(("diffusion_steps", "predicts"), "the probe")
    assert (facts_of(info, KNOWN, whole).missing, facts_of(info, KNOWN, whole).note()) == ((), None)


def test_betas_in_the_file_are_its_schedule(tmp_path: Path) -> None:
    weights = random_state_dict(PLAIN)
    for name, betas in (
        ("linear", torch.linspace(1e-4, 0.02, 1000)),
        ("cosine", torch.tensor(cosine_betas(500))),
    ):
        path = tmp_path / f"{name}.pt"
        torch.save({**{f"denoise_fn.{k}": x for k, x in weights.items()}, "betas": betas}, path)
        assert file_facts(path) == {"noise_schedule": name, "diffusion_steps": len(betas)}
    odd = torch.tensor([0.1, 0.01, 0.2])
    torch.save({**{f"denoise_fn.{k}": x for k, x in weights.items()}, "betas": odd}, path)
    facts = file_facts(path)
    assert (facts["noise_schedule"], facts["betas"]) == ("betas", pytest.approx(odd.tolist()))
    torch.save({**{f"denoise_fn.{k}": x for k, x in weights.items()}, "betas": odd + 1}, path)
    with pytest.raises(WeightsError, match="betas is"):
        file_facts(path)


def test_a_name_is_believed_only_where_nothing_contradicts(tmp_path: Path) -> None:
    model = find_model("ffhq_10m")
    path = write_small_network(tmp_path / "ffhq_10m.pt")
    assert "MB of weights, not 374.3" in (not_as_named(contents_of(path), model) or "")
    info = replace(contents_of(path), tensor_bytes=374_255_640)
    assert not_as_named(info, model) is None
    assert not_as_named(replace(info, tensor_bytes=187_127_820), model) is None
    assert "of the kind" in (not_as_named(replace(info, format="pesser-ddim"), model) or "")


def diffusers_network(folder: Path, scheduler: dict[str, object] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "diffusion_pytorch_model.bin").write_bytes(folder.name.encode())
    (folder / "config.json").write_text('{"_class_name": "UNet2DModel", "sample_size": 32}')
    if scheduler is not None:
        place = folder.parent / "scheduler"
        place.mkdir(exist_ok=True)
        (place / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


COSINE = {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500}


def test_the_scheduler_is_found_wherever_the_network_is(tmp_path: Path) -> None:
    unet = diffusers_network(tmp_path / "run" / "unet", COSINE)
    step = diffusers_network(tmp_path / "run" / "checkpoint-500" / "unet")
    renamed = diffusers_network(tmp_path / "run" / "my faces")
    other = unet / "model.safetensors"
    other.write_bytes(b"")
    for path in (unet, unet.parent / "checkpoint-500", step, renamed, other):
        facts = stated_facts(path)
        assert (facts["noise_schedule"], facts["diffusion_steps"]) == ("cosine", 500), path


def test_of_a_folder_the_averaged_network_is_taken(tmp_path: Path) -> None:
    diffusers_network(tmp_path / "unet")
    assert weights_file(tmp_path).parent.name == "unet"
    assert len(network_files(tmp_path)) == 2
    diffusers_network(tmp_path / "unet_ema")
    assert weights_file(tmp_path).parent.name == "unet_ema"
    assert weights_file(tmp_path, "raw").parent.name == weights_file(tmp_path, "unet").parent.name == "unet"
    assert "averaged weights are taken, unet_ema; also there: unet" in (folder_note(tmp_path) or "")
    assert len(network_files(tmp_path)) == 4
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("{")
    assert weights_file(tmp_path).parent.name == "unet_ema"


def test_which_weights_changes_no_identity_of_before() -> None:
    assert "weights" not in network_facts(ModelPreset())
    assert network_facts(ModelPreset(weights="raw"))["weights"] == "raw"


def test_the_verdict_of_a_remembered_file_needs_no_torch(tmp_path: Path) -> None:
    path = write_random_checkpoint(tmp_path / "w.pt", PLAIN)
    assert verdict_on(path, KNOWN).usable
    code = (
        "import sys; from pathlib import Path; from ilvrctl.presets import ModelPreset\n"
        "from ilvrctl.models.files.verdict import verdict_on\n"
        "print(verdict_on(Path(sys.argv[1]), ModelPreset(image_size=32, num_heads=2)).usable, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "False"]
