"""Loading: the facts of the preset, and what is said when they are missing or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints import write_random_checkpoint

from ilvrctl.engine import Engine
from ilvrctl.errors import DeviceError, UsageError, WeightsError
from ilvrctl.presets import ModelPreset, find_model

SMALL = {
    "image_size": 32,
    "num_channels": 32,
    "channel_mult": "1,2",
    "num_res_blocks": 1,
    "num_heads": 2,
    "attention_resolutions": "16",
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_random_checkpoint(tmp_path / "small.pt", SMALL)


def test_the_shipped_model_loads_with_its_facts() -> None:
    model = find_model("emoji3d-64")
    engine = Engine.load(model, model.path(), device="cpu", precision="fp32", batch_size=3)
    assert (engine.image_size, engine.batch_size, engine.precision) == (64, 3, "fp32")
    assert (engine.variance, engine.class_count, engine.schedule.T) == ("fixed_small", None, 1000)
    x = torch.zeros(1, 3, 64, 64)
    assert engine.denoiser(x, engine.schedule.steps([999])[0]).x0.shape == x.shape


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_is_as_asked(precision: str, checkpoint: Path) -> None:
    model = ModelPreset(image_size=32, num_heads=2)
    assert Engine.load(model, checkpoint, device="cpu", precision=precision).precision == precision


def test_a_learned_variance_is_seen_in_the_tensors(tmp_path: Path) -> None:
    path = write_random_checkpoint(tmp_path / "six.pt", {**SMALL, "learn_sigma": True})
    assert Engine.load(ModelPreset(image_size=32, num_heads=2), path, device="cpu").variance == "learned"


def test_missing_facts(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=r"small\.pt does not tell its picture size"):
        Engine.load(ModelPreset(num_heads=2), checkpoint, device="cpu")
    with pytest.raises(UsageError, match="a size that 2 divides, not 33") as caught:
        Engine.load(ModelPreset(num_heads=2, image_size=33), checkpoint, device="cpu")
    assert caught.value.hint == "--set model.image_size=32"
    with pytest.raises(WeightsError, match="how many attention heads"):
        Engine.load(ModelPreset(image_size=32), checkpoint, device="cpu")


def test_what_is_no_network_is_told_before_what_is_missing_about_it(tmp_path: Path) -> None:
    page = tmp_path / "page.pt"
    page.write_text("<html>Sign in to continue</html>")
    with pytest.raises(WeightsError, match="a web page"):
        Engine.load(ModelPreset(), page, device="cpu")


def test_devices() -> None:
    model = find_model("emoji3d-64")
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        Engine.load(model, model.path(), device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="'cuda:3' is not there"):
            Engine.load(model, model.path(), device="cuda:3")
