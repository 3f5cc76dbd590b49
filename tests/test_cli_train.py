"""``ilvrctl train`` as a person uses it: one command, stopped and gone on, and then a target that translates."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean

import forked
import pytest
import torch
from commands import PATIENCE, command, environment, ilvrctl, json_lines
from conftest import EMOJI
from PIL import Image

from ilvrctl import paths
from ilvrctl.diffusion.lowpass import LowPass
from ilvrctl.errors import OutputError
from ilvrctl.images.tensors import to_tensor
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.files.facts_header import header_facts, read_notes
from ilvrctl.models.files.loading import load_classifier, load_network
from ilvrctl.models.files.saving import read_safetensors, save_safetensors
from ilvrctl.training import loop
from ilvrctl.training.events import Began
from ilvrctl.training.job import Job
from ilvrctl.training.recipe import Network, Recipe
from ilvrctl.training.run import run as training

TINY = (
    "--size", "8", "--batch-size", "8", "--set", "network.multipliers=[1, 1]", "--set", "network.attention=[]",
    "--set", "warmup=100", "--set", "learning_rate=0.002", "--sheet-every", "0", "--precision", "fp32",
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "glossy"
    shutil.copytree(EMOJI / "3d", folder)
    return folder


def weights(name: str) -> dict[str, torch.Tensor]:
    return read_safetensors(paths.weights_dir() / f"{name}.safetensors")[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_a_dry_run_tells_what_would_happen_and_writes_nothing(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ran = ilvrctl(
        "train", pictures, "--name", "glossy", "--for", "8h", "-o", run, "--dry-run", "--json", *TINY
    )
    assert ran.code == 0
    (plan,) = json_lines(ran)
    assert (plan["files"], plan["images_seen"], plan["recipe"]["size"]) == (65, 0, 8)
    assert not run.exists()
    assert not paths.weights_dir().exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--size", "20"], "8 must divide its size; 20"),
        (["--for", "8 hours"], "--for '8 hours' is no time"),
        (["--name", "dog"], "'dog' is taken: it ships with ilvrctl"),
        (["--name", "a/b"], "'a/b' cannot be a name"),
        (["--set", "learning_rte=1"], "unknown key 'learning_rte'"),
        (["--recipe", "smal64"], "unknown recipe 'smal64'"),
        (["--init", "emoji4d"], "no model or target is called 'emoji4d'"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(
    args: list[str], message: str, pictures: Path, tmp_path: Path
) -> None:
    ran = ilvrctl("train", pictures, "--name", "glossy", "-o", tmp_path / "run", *args)
    assert ran.code == 2
    assert message in ran.err
    assert "hint:" in ran.err
    assert not paths.weights_dir().exists()


def test_no_name_and_no_pictures() -> None:
    assert "the model needs a name" in ilvrctl("train", "x").err
    assert "no pictures to learn from" in ilvrctl("train", "--name", "glossy").err


def test_few_pictures_and_a_name_that_exists(pictures: Path, tmp_path: Path) -> None:
    for path in sorted(pictures.iterdir())[10:]:
        path.unlink()
    args = ("train", pictures, "--name", "glossy", "-o", tmp_path / "run", *TINY)
    few = ilvrctl(*args)
    assert few.code == 2
    assert "holds 10 different pictures: too few" in few.err
    paths.weights_dir().mkdir(parents=True)
    (paths.weights_dir() / "glossy.pt").touch()
    taken = ilvrctl(*args)
    assert taken.code == 2
    assert "the name 'glossy' is taken" in taken.err
    assert "--overwrite" in taken.err


def test_a_full_disk_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    save_safetensors(path, {"x": torch.arange(5)}, {"note": "first"})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="no space left"):
        save_safetensors(path, {"x": torch.zeros(5)})
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["state.safetensors"]
    tensors, notes = read_safetensors(path)
    assert torch.equal(tensors["x"], torch.arange(5))
    assert notes == {"note": "first"}


@pytest.mark.slow
def test_a_trained_target_translates_and_keeps_low_frequencies(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REPORT_EVERY", 0.0)  # the loss of every step, however fast the machine is
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n half a picture")
    run = tmp_path / "run"
    ran = ilvrctl(
        "train", pictures, "--name", "glossy", "-o", run, "--images", "2400", "--references", EMOJI / "flat",
        *TINY, "--sheet-every", "1",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "left out: broken.png" in ran.err
    assert ran.lines == [str(paths.weights_dir() / "glossy.safetensors")]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if line["event"] == "progress"]
    assert len(losses) == 300
    # in the first steps the network says nothing: its loss is the variance of eps
    assert fmean(losses[150:]) < 0.1 * fmean(losses[:3])
    assert next(line["loss"] for line in log if line["event"] == "validated") < 0.1
    with Image.open(next(run.glob("sheet-*.png"))) as sheet:
        assert sheet.width > 500

    network = load_network(paths.weights_dir() / "glossy.pt", HiddenFlags(num_head_channels=32), device=CPU)
    assert network.architecture == Network(multipliers=(1, 1), attention=()).unet(8, 3)
    facts = json_lines(ilvrctl("inspect", paths.weights_dir() / "glossy.safetensors", "--json"))[0]
    assert (facts["format"], facts["usable"], facts["channel_mult"]) == ("guided-diffusion", True, [1.0, 1.0])

    source = sorted((EMOJI / "flat").glob("*.png"))[0]
    out = tmp_path / "out"
    done = ilvrctl("translate", source, "--to", "glossy", "--N", "4", "--steps", "50", "-o", out)
    assert done.code == 0, done.err
    with Image.open(source) as before, Image.open(done.lines[0]) as after:
        phi = LowPass(4)
        asked = to_tensor(before.convert("RGB").resize((8, 8), Image.Resampling.LANCZOS))
        assert (phi(to_tensor(after)) - phi(asked)).abs().mean() < 0.1
    again = ilvrctl("train", pictures, "--name", "glossy", "-o", run, "--images", "2400", *TINY)
    assert (again.code, again.lines) == (0, [])
    assert "nothing to do" in again.err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_training_goes_on_bit_for_bit(how: signal.Signals, pictures: Path, tmp_path: Path) -> None:
    args = ("train", pictures, "--images", "640", "--set", "shift=1", *TINY)
    whole = ilvrctl(*args, "--name", "whole", "-o", tmp_path / "whole")
    assert whole.code == 0, whole.err
    run = tmp_path / "parts"
    parts = command(*args, "--name", "parts", "-o", run, "--save-every", "0.2s")
    started = forked.Popen(parts, env=environment(), stderr=subprocess.PIPE)
    while not (run / "state.safetensors").exists() and started.poll() is None:
        time.sleep(0.01)
    started.send_signal(how)
    _, errors = started.communicate(timeout=PATIENCE)
    assert started.returncode == (130 if how == signal.SIGINT else -how), errors.decode()
    if how == signal.SIGINT:
        assert b"the same command goes on from there" in errors
    done = ilvrctl(*args, "--name", "parts", "-o", run)
    assert done.code == 0, done.err
    assert "goes on after" in done.err
    assert same(weights("whole"), weights("parts"))
    states = [read_safetensors(tmp_path / name / "state.safetensors")[0] for name in ("whole", "parts")]
    assert same(states[0], states[1])


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(pictures: Path, tmp_path: Path) -> None:
    # AdamW turns the rounding of gradients near zero into steps of about the learning rate
    args = ("train", pictures, "--images", "80", *TINY, "--set", "learning_rate=1e-4", "--set", "warmup=0")
    alone = ilvrctl(*args, "--name", "alone", "-o", tmp_path / "alone")
    assert alone.code == 0, alone.err
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "ilvrctl",
    ]
    words = [str(arg) for arg in (*args, "--name", "pair", "-o", tmp_path / "pair")]
    done = subprocess.run([*run, *words], env=environment(), capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == [str(paths.weights_dir() / "pair.safetensors")]
    one, two = weights("alone"), weights("pair")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) <= 1e-5
    assert float(one["out.2.weight"].abs().max()) > 5e-4, (
        "it was zero: the weights have moved far more than that"
    )
    odd = subprocess.run(
        [*run, *words, "--batch-size", "7", "--overwrite"], env=environment(), capture_output=True
    )
    assert b"cannot be shared by 2 processes" in odd.stderr


@pytest.mark.slow
def test_fine_tuning_starts_from_the_model_and_can_learn_a_variance(pictures: Path, tmp_path: Path) -> None:
    for path in sorted(pictures.iterdir())[16:]:
        path.unlink()
    held_out = shutil.copytree(pictures, tmp_path / "held-out")
    ran = ilvrctl(
        "train", pictures, "--name", "tuned", "--init", "emoji3d", "-o", tmp_path / "run", "--images", "16",
        "--set", "learn_variance=true", "--sheet-every", "0", "--held-out", held_out, "--precision", "fp32",
    )  # fmt: skip
    assert ran.code == 2  # all pictures are kept aside
    for path in sorted(pictures.iterdir()):
        with Image.open(path) as image:
            mirrored = image.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mirrored.save(path)
    ran = ilvrctl(
        "train", pictures, "--name", "tuned", "--init", "emoji3d", "-o", tmp_path / "run", "--images", "16",
        "--set", "learn_variance=true", "--sheet-every", "0", "--held-out", held_out, "--precision", "fp32",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = weights("tuned")
    bundled = read_safetensors(paths.DATA / "emoji3d-64.safetensors")[0]
    assert found["out.2.weight"].shape[0] == 6
    assert (found["out.2.weight"][:3] - bundled["out.2.weight"].float()).abs().max() < 1e-2
    assert "validation loss 0.0" in ran.err


DSE = (
    "train", "--dse", EMOJI / "flat", EMOJI / "3d", "--name", "a2b", "--size", "8", "--batch-size", "8",
    "--set", "network.multipliers=[1, 2]", "--set", "network.attention=[]", "--set", "learning_rate=0.002",
)  # fmt: skip


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--references", "x"], "--references does not go with --dse: a domain classifier makes no pictures"),
        (["--sheet-every", "2"], "--sheet-every does not go with --dse"),
        (["--predicts", "v"], "--predicts does not go with --dse: a domain classifier predicts a domain"),
        (["--teacher", "emoji3d", "--teacher-below", "5"], "--teacher does not go with --dse"),
        (["--teacher-below", "5"], "--teacher-below does not go with --dse"),
        (["--teacher-steps", "5"], "--teacher-steps does not go with --dse"),
        (["--held-out", "x"], "validated with 2 held-out folders, not 1"),
        (["--precision", "fp16"], "fp16 loses small gradients"),
        (["--schedule", "linaer"], "noise_schedule must be linear or cosine"),
        (["--levels", "40%"], "levels must be uniform"),
        (["--decay", "soon"], "--decay 'soon' is no time"),
        (["x"], "--dse takes two folders, and there is a third"),
    ],
)
def test_no_flag_beside_dse_is_ignored(args: list[str], message: str, tmp_path: Path) -> None:
    ran = ilvrctl(*DSE, "-o", tmp_path / "run", "--images", "16", *args)
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "run").exists()


def test_flags_of_dse_do_what_they_say(tmp_path: Path) -> None:
    run = tmp_path / "run"
    args = (
        "-o", run, "--for", "2s", "--save-every", "0.3s", "--seed", "3", "--ema", "0.9", "--shift", "1", "--half",
        "--schedule", "cosine", "--levels", "below600:40%", "--decay", "0.02", "--precision", "bf16", "--json",
        "--held-out", EMOJI / "flat", "--held-out", EMOJI / "3d",
    )  # fmt: skip
    aside = ilvrctl(*DSE, *args)
    assert aside.code == 2
    assert "all pictures of" in aside.err
    ran = ilvrctl(*DSE, *args[:-4])
    assert ran.code == 0, ran.err
    lines = json_lines(ran)
    events = [line["event"] for line in lines]
    assert events.count("saved") >= 2
    assert events[-1] == "done"
    began = lines[events.index("began")]
    assert (began["precision"], began["total"]) == ("bf16", 0)
    assert lines[-1]["outputs"][0] == str(paths.weights_dir() / "a2b.safetensors")
    progress = [line for line in lines if line["event"] == "progress"]
    assert progress[-1]["learning_rate"] < 0.0005
    recipe = json.loads(read_notes(run / "state.safetensors")["progress"])["recipe"]
    assert {key: recipe[key] for key in ("seed", "ema", "shift", "store", "noise_schedule", "levels")} == {
        "seed": 3, "ema": 0.9, "shift": 1, "store": "fp16", "noise_schedule": "cosine", "levels": "below600:40%",
    }  # fmt: skip
    assert {x.dtype for x in weights("a2b").values()} == {torch.float16}
    assert header_facts(run / "average.safetensors")["format"] == "guided-diffusion-classifier"
    again = ilvrctl(*DSE, *args[:-4])
    assert (again.code, again.lines) == (0, [])
    assert "nothing to do" in again.err
    plan = json_lines(ilvrctl(*DSE, *args[:-4], "--dry-run"))[0]
    assert (plan["files"], plan["images_seen"]) == (130, lines[-2]["images"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("dse", signal.SIGKILL),
        ("dse", signal.SIGINT),
        ("dse", signal.SIGHUP),
        ("v", signal.SIGTERM),
        ("v", signal.SIGHUP),
    ],
)
def test_any_training_survives_any_signal(kind: str, how: signal.Signals, tmp_path: Path) -> None:
    args = (*DSE, "--images", "1000", "--set", "rise=0.5", "--ema", "0.9")
    if kind == "v":
        args = ("train", EMOJI / "3d", "--name", "a2b", "--images", "600", "--predicts", "v", *TINY)
    run = tmp_path / "run"
    parts = command(*args, "-o", run, "--save-every", "0.1s")
    started = forked.Popen(parts, env=environment(), stderr=subprocess.PIPE)
    while not (run / "state.safetensors").exists() and started.poll() is None:
        time.sleep(0.01)
    started.send_signal(how)
    _, errors = started.communicate(timeout=PATIENCE)
    assert started.returncode == (-how if how == signal.SIGKILL else 128 + how), errors.decode()
    if how != signal.SIGKILL:
        assert b"the same command goes on from there" in errors
    done = ilvrctl(*args, "-o", run)
    assert done.code == 0, done.err
    assert "goes on after" in done.err
    if kind == "dse" and how != signal.SIGHUP:
        found = weights("a2b")
        whole = ilvrctl(*args, "-o", tmp_path / "whole", "--overwrite")
        assert whole.code == 0, whole.err
        assert same(weights("a2b"), found)
    assert not list(tmp_path.rglob("*.part"))


def test_ctrl_c_while_pictures_are_read_ends_soon(tmp_path: Path) -> None:
    """The signal comes between two pictures: what was asked for ends without training."""
    asked = iter([False, True])
    job = Job(
        "x",
        (EMOJI / "3d",),
        Recipe(size=8, network=Network(multipliers=(1, 1), attention=())),
        tmp_path / "x",
    )
    events = list(training(job, lambda: next(asked, True)))
    assert not any(isinstance(event, Began) for event in events)
    assert not paths.weights_dir().exists()


def test_average_of_another_script_is_finished_by_one_command(tmp_path: Path) -> None:
    """As for the weights that a script of one's own left: a bare state dict in fp16, known to predict v."""
    network = AdmUNet(Network(multipliers=(1, 1), attention=()).unet(8, 3))
    bare = tmp_path / "average.safetensors"
    save_safetensors(bare, {name: x.half() for name, x in network.state_dict().items()})
    args = (
        "train", EMOJI / "3d", "--name", "mine", "--init", bare, "--predicts", "v", "--size", "8", "--json",
        "--levels", "below600:40%", "--decay", "0.02", "--half", "--sheet-every", "0", "--batch-size", "8",
        "-o", tmp_path / "run",
    )  # fmt: skip
    ran = ilvrctl(*args)
    assert ran.code == 0, ran.err
    assert (
        "does not say what it is; taken: v, linear, 1000 levels, 32 channels a head"
        in ran.err + ran.out.decode()
    )
    progress = [line for line in json_lines(ran) if line["event"] == "progress"]
    assert progress[-1]["share"] == 1.0
    assert progress[-1]["learning_rate"] < 2e-5
    alone = header_facts(tmp_path / "run" / "average.safetensors")
    assert (alone["predicts"], alone["image_size"]) == ("v", 8)


@pytest.mark.slow
def test_a_domain_classifier_is_trained_and_loaded(tmp_path: Path) -> None:
    ran = ilvrctl(
        "train", "--dse", EMOJI / "flat", EMOJI / "3d", "--name", "flat2glossy", "--size", "16", "--images", "640",
        "--set", "network.multipliers=[1, 2]", "--set", "network.attention=[]", "--set", "learning_rate=0.002",
        "--set", "rise=0.5", "--json", "-o", tmp_path / "run",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    graded = next(line for line in json_lines(ran) if line["event"] == "graded")
    assert len(graded["levels"]) == 10
    assert 0.4 < graded["accuracy"] <= 1
    file = paths.weights_dir() / "flat2glossy.safetensors"
    network = load_classifier(file, HiddenFlags(num_head_channels=32), device=CPU)
    assert network.features(torch.zeros(1, 3, 16, 16), torch.tensor([9.0])).shape == (1, 64, 8, 8)
    preset = (paths.config_dir() / "models" / "flat2glossy.yaml").read_text()
    assert "format: guided-diffusion-classifier" in preset
    assert os.listdir(paths.config_dir()) == ["models"]  # noqa: PTH208
