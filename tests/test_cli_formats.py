"""Every readable format through the command line: translate, inspect, download, and what is said of mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import FOX, ilvrctl, json_lines
from conftest import GOLDEN
from test_models_ddpm import DDPM_CONFIG, write_diffusers

from ilvrctl import paths
from ilvrctl.models.lucidrains import Attends, LucidrainsArchitecture, LucidrainsUnet

STEPS = ("--steps", "3", "--precision", "fp32")
DDPM = GOLDEN / "ddpm_model.pt"
DSE = GOLDEN / "dse.pt"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_of_pesser_and_a_folder_of_diffusers_give_the_same_picture(here: Path) -> None:
    folder = write_diffusers(here / "faces")
    size = ("--set", "model.image_size=32")
    assert ilvrctl("translate", FOX, "--weights", DDPM, *size, *STEPS, "-o", "a.png").code == 0
    assert ilvrctl("translate", FOX, "--weights", folder, *STEPS, "-o", "b.png").code == 0
    a, b = (
        torch.frombuffer(bytearray(_pixels(name)), dtype=torch.uint8).int() for name in ("a.png", "b.png")
    )
    assert a.numel() == 3 * 32 * 32
    assert int((a - b).abs().max()) == 0


def test_a_saved_preset_of_either_translates_as_the_file_does(here: Path) -> None:
    folder = write_diffusers(here / "faces")
    for file, name in ((DDPM, "pesser"), (folder, "library")):
        saved = ilvrctl(
            "inspect", file, "--set", "model.image_size=32", "--save-preset", name, "-q", "--json"
        )
        assert saved.code == 0, saved.err
        assert json_lines(saved)[0]["preset"]["format"] in ("pesser-ddim", "diffusers")
        assert ilvrctl("translate", FOX, "--to", name, *STEPS, "-o", f"{name}.png").code == 0
    flags = ("--N", "2", "--range", "1.0:0.2", *STEPS)
    assert ilvrctl("translate", FOX, "--weights", folder, *flags, "-o", "flags.png").code == 0
    assert _pixels("pesser.png") == _pixels("library.png") == _pixels("flags.png")


def test_a_classifier_gives_no_preset_of_a_target(here: Path) -> None:
    saved = ilvrctl("inspect", DSE, "--set", "model.num_heads=1", "--save-preset", "dse")
    assert saved.code == 2
    assert "no network to translate with" in saved.err
    assert not list(paths.config_dir().rglob("*.yaml"))


def _pixels(name: str) -> bytes:
    from PIL import Image

    with Image.open(name) as picture:
        return picture.convert("RGB").tobytes()


def test_a_scheduler_beside_the_network_is_followed_and_can_be_overruled(here: Path) -> None:
    folder = write_diffusers(here / "pipeline" / "unet").parent
    (folder / "scheduler").mkdir()
    scheduler = {
        "beta_schedule": "squaredcos_cap_v2",
        "num_train_timesteps": 500,
        "variance_type": "fixed_large",
    }
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    ilvrctl("translate", FOX, "--weights", folder, *STEPS, "-o", "a.png")
    facts = _recorded("a.png")
    assert (facts["noise_schedule"], facts["diffusion_steps"], facts["variance"]) == (
        "cosine",
        500,
        "fixed_large",
    )
    overruled = ("--set", "model.noise_schedule=linear")
    ilvrctl("translate", FOX, "--weights", folder, *STEPS, *overruled, "-o", "b.png")
    assert _recorded("b.png")["noise_schedule"] == "linear"
    scheduler["beta_schedule"] = "laplace"
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    ran = ilvrctl("translate", FOX, "--weights", folder, *STEPS, "-o", "c.png")
    assert ran.code == 3
    assert 'beta_schedule is "laplace"' in ran.err


def _recorded(name: str) -> dict[str, object]:
    from ilvrctl.images.io import read_bytes
    from ilvrctl.plans.record import Recipe

    return dict(Recipe.read(read_bytes(Path(name)), name).facts)


def test_a_target_whose_weights_are_a_folder(here: Path) -> None:
    write_diffusers(paths.weights_dir() / "faces")
    for kind, name, text in (
        (
            "models",
            "faces-net",
            "file: faces\nfiles: [config.json, diffusion_pytorch_model.safetensors]\nformat: diffusers\n",
        ),
        ("targets", "faces", "name: faces\nmodel: faces-net\n"),
    ):
        file = paths.config_dir() / kind / f"{name}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    ran = ilvrctl("translate", FOX, "--to", "faces", *STEPS, "-o", "a.png")
    assert (ran.code, ran.lines) == (0, ["a.png"])
    shutil.rmtree(paths.weights_dir() / "faces")
    assert ilvrctl("translate", FOX, "--to", "faces", *STEPS, "-o", "b.png").code == 3


def test_another_config_of_the_same_tensors_is_another_network(here: Path) -> None:
    folder = write_diffusers(here / "faces")
    command = ("translate", FOX, "--weights", folder, *STEPS, "-o", "a.png")
    assert ilvrctl(*command).code == 0
    assert "already" in ilvrctl(*command).err
    (folder / "config.json").write_text(json.dumps({**DDPM_CONFIG, "attention_head_dim": 8}))
    assert ilvrctl(*command).code == 2  # a.png is there, and made otherwise


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_folder_is_named_by_where_one_stands(
    precision: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_diffusers(here / "faces"))
    assert ilvrctl("translate", FOX, "--weights", ".", "--steps", "3", "--precision", precision).code == 0
    (row,) = json_lines(ilvrctl("inspect", ".", "--json"))
    assert (row["file"], row["format"], row["image_size"]) == ("faces", "diffusers", 32)


@pytest.mark.parametrize(("path", "kind"), [(DDPM, "pesser-ddim"), (DSE, "guided-diffusion-classifier")])
def test_inspect(path: Path, kind: str) -> None:
    (row,) = json_lines(ilvrctl("inspect", path, "--json"))
    assert (row["format"], row["usable"], row["num_res_blocks"]) == (kind, True, 1)
    assert row["channel_mult"] == [1, 2, 2]
    heads = "num_heads or num_head_channels"
    assert ("num_heads" in row) == (heads not in row["not_in_the_file"]) == (kind == "pesser-ddim")


@pytest.mark.parametrize("name", ["empty", "conditional"])
def test_folders_that_hold_no_such_network(name: str, here: Path) -> None:
    folder = here / name
    if name == "empty":
        folder.mkdir()
    else:
        write_diffusers(folder, config={**DDPM_CONFIG, "_class_name": "UNet2DConditionModel"})
    for command in (("translate", FOX, "--weights", folder, *STEPS), ("inspect", folder)):
        ran = ilvrctl(*command)
        assert ran.code == 3
        expected = (
            "a folder without a diffusers network" if name == "empty" else "a diffusers UNet2DConditionModel"
        )
        assert expected in " ".join(ran.err.split())


def test_a_classifier_is_refused_as_a_denoiser(here: Path) -> None:
    ran = ilvrctl("translate", FOX, "--weights", DSE, "--set", "model.image_size=32", *STEPS)
    assert ran.code == 3
    assert "not a denoising network" in " ".join(ran.err.split())


@pytest.mark.parametrize(
    ("model", "file", "what"),
    [
        ("sdedit_celebahq", DSE, "a classifier"),
        ("cat2dog_dse", DDPM, "a model of pesser's"),
        ("afhq_dog_4m", DDPM, "a model of pesser's"),
    ],
)
def test_a_network_of_another_kind_is_not_taken_for_a_download(
    model: str, file: Path, what: str, here: Path
) -> None:
    ran = ilvrctl("download", model, "--file", file)
    assert ran.code == 3
    assert what in " ".join(ran.err.split())
    assert not list(paths.weights_dir().glob("*.p*"))


def test_a_folder_of_diffusers_is_checked_like_a_download(here: Path) -> None:
    folder = write_diffusers(here / "faces")
    assert ilvrctl("download", "ddpm-cifar10-32", "--file", folder).code == 0
    assert paths.weights_dir().joinpath("ddpm-cifar10-32", "config.json").is_file()
    other = write_diffusers(here / "other", config={**DDPM_CONFIG, "act_fn": "gelu"})
    ran = ilvrctl("download", "ddpm-cat-256", "--file", other)
    assert ran.code == 3
    assert 'act_fn is "gelu"' in ran.err


def test_a_network_that_tells_neither_schedule_nor_prediction_asks_for_both(here: Path) -> None:
    file = here / "unet.pt"
    attends = Attends(True, 2, 8, 4)
    torch.save(
        LucidrainsUnet(LucidrainsArchitecture(3, 3, 8, (8, 8), (attends,), attends)).state_dict(), file
    )
    command = ("translate", FOX, "--weights", file, *STEPS, "-o", "a.png")
    ran = ilvrctl(*command)
    assert ran.code == 2
    for word in ("picture size", "noise schedule", "what it predicts", "--set model.predicts="):
        assert word in ran.err
    said = ("image_size=32", "noise_schedule=sigmoid", "predicts=v")
    ran = ilvrctl(*command, *(word for fact in said for word in ("--set", f"model.{fact}")))
    assert (ran.code, ran.lines) == (0, ["a.png"])
    facts = _recorded("a.png")
    assert (facts["noise_schedule"], facts["predicts"], facts["timestep_spacing"]) == (
        "sigmoid",
        "v",
        "trailing",
    )
    assert ilvrctl("translate", FOX, "--from-image", "a.png", "--weights", file, "-o", "b.png").code == 0
    assert _pixels("a.png") == _pixels("b.png")
