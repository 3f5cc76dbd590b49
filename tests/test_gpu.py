"""What only a CUDA device can show: `python -m pytest -m gpu` on a machine that has one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import FOX, ilvrctl, json_lines
from conftest import EMOJI, GOLDEN, golden
from PIL import Image, ImageChops, ImageStat
from published import BOUND, errors

from ilvrctl import paths
from ilvrctl.arithmetic import EXACT
from ilvrctl.config import Layer
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.engine import Engine, Reference
from ilvrctl.events import StepDone
from ilvrctl.images.tensors import to_tensor
from ilvrctl.models.architecture.unet import HiddenFlags
from ilvrctl.models.files.loading import load_classifier, load_network
from ilvrctl.settings import build_settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")


def translated(folder: Path, device: str, precision: str, *more: str) -> Image.Image:
    done = ilvrctl(
        "translate", FOX, "--to", "emoji3d", "--steps", "20", "--device", device, "--precision", precision,
        "-o", folder / f"{device}-{precision}{''.join(more)}", *more,
    )  # fmt: skip
    assert done.code == 0, done.err
    return Image.open(done.lines[-1]).convert("RGB")


def mean_difference(a: Image.Image, b: Image.Image) -> float:
    return max(ImageStat.Stat(ImageChops.difference(a, b)).mean)


def test_cuda_gives_the_pixels_of_the_cpu(tmp_path: Path) -> None:
    assert mean_difference(translated(tmp_path, "cuda", "fp32"), translated(tmp_path, "cpu", "fp32")) <= 0.5


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near(tmp_path: Path, precision: str) -> None:
    exact, half = (translated(tmp_path, "cuda", p) for p in ("fp32", precision))
    assert mean_difference(exact, half) <= 4


def test_compiled_gives_the_pixels_of_eager(tmp_path: Path) -> None:
    eager, compiled = (translated(tmp_path, "cuda", "fp32", *more) for more in ((), ("--compile",)))
    assert mean_difference(eager, compiled) <= 0.5


def test_the_batch_size_does_not_matter(tmp_path: Path) -> None:
    one, many = (translated(tmp_path, "cuda", "fp32", "--batch-size", n, "-n", "4") for n in ("1", "4"))
    assert mean_difference(one, many) <= 0.5


def test_float32_is_exact_whatever_the_caller_has_set() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        found = dict(errors(CUDA))
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert {name: error for name, error in found.items() if error > BOUND} == {}


@pytest.mark.parametrize("name", ["ilvr", "sddm"])
def test_no_step_waits_for_the_device(name: str) -> None:
    """CUDA's own word on it: in this mode it raises where it would wait."""
    case = golden("unet_adm_learned_sigma.io.pt")
    hidden = HiddenFlags(num_head_channels=case["flags"]["num_head_channels"])
    network = load_network(GOLDEN / "unet_adm_learned_sigma.pt", hidden, device=CUDA)
    made = Engine(Denoiser(network), Schedule.named("linear"), 32, CUDA, torch.float32, 2, "learned")
    how = build_settings(
        Layer({"steps": 25, "method": {"name": name} | ({"N": 4} if name == "ilvr" else {})})
    )
    references = [Reference(n, torch.zeros(3, 32, 32), f"{n:064x}") for n in range(2)]
    steps = 0
    try:
        for event in made.translate(references, how):
            if isinstance(event, StepDone):
                steps += 1
                torch.cuda.set_sync_debug_mode("default" if event.i == event.n - 1 else "error")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert steps == 25


@pytest.mark.parametrize(
    "how", [("--precision", "fp32"), ("--precision", "bf16"), ("--precision", "bf16", "--compile")]
)
def test_a_training_on_cuda_learns_and_goes_on(tmp_path: Path, how: tuple[str, ...]) -> None:
    """A network that says nothing of its own makes an error of 1."""
    words = (
        "train", EMOJI / "3d", "--name", "mine", "--device", "cuda", "--size", "16", "--batch-size", "32",
        "--set", "network.multipliers=[1, 1]", "--set", "network.attention=[8]", "--set", "warmup=640",
        "--set", "learning_rate=0.002", "--set", "ema=0.9", "--sheet-every", "0", "-o", tmp_path / "run", *how,
    )  # fmt: skip
    losses = []
    for images in ("2560", "5120"):
        ran = ilvrctl(*words, "--images", images, "--json")
        assert ran.code == 0, ran.err
        losses += [line["loss"] for line in json_lines(ran) if line.get("event") == "validated"]
    assert losses[-1] < losses[0] < 0.8
    made = ilvrctl(
        "translate", FOX, "--to", "mine", "--device", "cuda", "--steps", "5", "-o", tmp_path / "out"
    )
    assert made.code == 0, made.err


def test_a_domain_classifier_is_trained_on_cuda(tmp_path: Path) -> None:
    """What comes out says the same on both devices, and the pictures that it learned from it tells apart."""
    ran = ilvrctl(
        "train", "--dse", EMOJI / "flat", EMOJI / "3d", "--name", "dse", "--device", "cuda", "--size", "16",
        "--batch-size", "32", "--set", "network.multipliers=[1, 2]", "--set", "network.attention=[]",
        "--set", "warmup=320", "--set", "learning_rate=0.002", "--set", "levels=below100:100%", "--images", "5120",
        "--set", "ema=0.9", "-o", tmp_path / "run", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    file = paths.weights_dir() / "dse.safetensors"
    hidden = HiddenFlags(num_head_channels=32)
    said = []
    for device in (CUDA, torch.device("cpu")):
        network = load_classifier(file, hidden, device=device)
        seen = torch.stack([pixels(EMOJI / style, 16) for style in ("flat", "3d")]).flatten(0, 1).to(device)
        with torch.no_grad(), EXACT.stated(device):
            said.append(network(seen, torch.zeros(len(seen), device=device)).cpu())
    torch.testing.assert_close(*said, atol=1e-3, rtol=1e-3)
    assert (said[0].argmax(1) == torch.tensor([0] * 65 + [1] * 65)).float().mean() > 0.9


def pixels(folder: Path, size: int) -> torch.Tensor:
    """Its pictures, (N, 3, size, size) in [-1, 1]."""
    found = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            found.append(to_tensor(image.convert("RGB").resize((size, size), Image.Resampling.BOX)))
    return torch.stack(found)


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(tmp_path: Path) -> None:
    """The device's own refusal, when this process may have only so much of it."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 400e6) / total)
    try:
        words = ("--steps", "3", "--precision", "fp32", "--no-compile")
        ran = ilvrctl(
            "translate", FOX, "--to", "emoji3d", "--device", "cuda", *words, "-n", "64", "--batch-size", "64",
            "-o", tmp_path / "many",
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert ran.code == 0, ran.err
    assert "out of memory: going on with" in ran.err
    assert len(list((tmp_path / "many").glob("fox_*.png"))) == 64
