"""UNet2DModel as the diffusers library itself builds and saves it; every flag honoured or refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from test_models_ddpm import DDPM_CONFIG, error_of, load, write_diffusers

from ilvrctl.diffusion.denoiser import Prediction
from ilvrctl.diffusion.samplers import DDIM
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.errors import WeightsError
from ilvrctl.models.files.diffusers_config import read_config
from ilvrctl.models.files.diffusers_folder import network_files, stated_facts, weights_file
from ilvrctl.models.files.inspection import inspect_file
from ilvrctl.presets import ModelPreset

NO_NOISE = lambda: torch.zeros(())  # noqa: E731
SIZE: dict[str, Any] = {"sample_size": 32, "block_out_channels": (32, 64, 64), "layers_per_block": 1}
NETWORKS: dict[str, dict[str, Any]] = {
    "Ho et al.'s": {k: v for k, v in DDPM_CONFIG.items() if not k.startswith("_")},
    "the library's defaults": {
        **SIZE,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    },
    "as guided-diffusion, with classes": {
        **SIZE,
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 32,
        "attention_head_dim": 16,
        "num_class_embeds": 10,
        "out_channels": 6,
    },
    "no attention at all": {
        **SIZE,
        "down_block_types": ("DownBlock2D",) * 3,
        "up_block_types": ("UpBlock2D",) * 3,
        "add_attention": False,
    },
    "other groups, eps and depth": {
        "sample_size": 32,
        "block_out_channels": (16, 24),
        "layers_per_block": 2,
        "norm_num_groups": 8,
        "norm_eps": 1e-3,
        "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "dropout": 0.1,
    },
}


def build(flags: dict[str, Any]) -> UNet2DModel:
    """A network in which no weight is near zero."""
    torch.manual_seed(0)
    network = UNet2DModel(**flags).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_library_agree(name: str, tmp_path: Path) -> None:
    theirs = build(NETWORKS[name])
    theirs.save_pretrained(tmp_path, safe_serialization=name != "the library's defaults")
    ours = load(tmp_path)
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([3.0, 700.0])
    y = torch.tensor([1, 4]) if "num_class_embeds" in NETWORKS[name] else None
    with torch.inference_mode():
        expected, out = theirs(x, t, y).sample, ours(x, t, y)
    assert float((out - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize("part", ["", "unet"])
def test_a_whole_pipeline(part: str, tmp_path: Path) -> None:
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", variance_type="fixed_large"
    )
    DDPMPipeline(build(NETWORKS["Ho et al.'s"]), scheduler).save_pretrained(tmp_path)
    facts = {
        "format": "diffusers",
        "image_size": 32,
        "diffusion_steps": 1000,
        "noise_schedule": "cosine",
        "predicts": "v",
        "variance": "fixed_large",
        "timestep_spacing": "leading",
    }
    assert stated_facts(tmp_path / part) == facts
    info = inspect_file(tmp_path / part)
    assert info.facts["noise_schedule"] == "cosine"
    assert not info.unknown
    assert load(tmp_path / part).architecture.downsample_factor == 4


@pytest.mark.parametrize("T", [1000, 250])
def test_the_betas_of_the_library_are_those_of_the_schedules_here(T: int, tmp_path: Path) -> None:
    for name in ("linear", "squaredcos_cap_v2"):
        scheduler = DDPMScheduler(T, beta_start=0.1 / T, beta_end=20 / T, beta_schedule=name)
        folder = write_diffusers(tmp_path / f"{name}{T}")
        scheduler.save_pretrained(folder)
        facts = stated_facts(folder)
        ours = Schedule.named(facts["noise_schedule"], facts["diffusion_steps"])
        assert ours.T == T
        theirs = scheduler.alphas_cumprod.double()
        torch.testing.assert_close(
            torch.tensor(ours.alphas_cumprod, dtype=torch.float64), theirs, atol=1e-6, rtol=1e-4
        )


LEVELS: dict[str, dict[str, Any]] = {
    "Stable Diffusion's": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "scaled_linear of few levels": {"beta_schedule": "scaled_linear", "num_train_timesteps": 50},
    "linear with ends": {"beta_schedule": "linear", "beta_start": 0.0005, "beta_end": 0.01},
    "linear of 250 levels, ends not scaled": {"beta_schedule": "linear", "num_train_timesteps": 250},
    "a sigmoid": {"beta_schedule": "sigmoid", "num_train_timesteps": 400, "beta_end": 0.03},
    "squared cosine": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100},
    "trained betas": {"beta_schedule": "linear", "trained_betas": [0.001, 0.004, 0.002, 0.1, 0.3]},
    "trained betas that have a name": {
        "beta_schedule": "linear",
        "trained_betas": [0.0001 + 0.0199 * i / 999 for i in range(1000)],
    },
    "no signal at the end": {
        "beta_schedule": "scaled_linear",
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
    },
}


@pytest.mark.parametrize("name", LEVELS)
def test_any_levels_of_the_library_are_followed(name: str, tmp_path: Path) -> None:
    scheduler = DDPMScheduler(**LEVELS[name])
    folder = write_diffusers(tmp_path / "ddpm")
    scheduler.save_pretrained(folder)
    facts = stated_facts(folder)
    schedule = Schedule.of(replace(ModelPreset(), **facts))
    theirs = scheduler.alphas_cumprod.double()
    ours = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)
    assert min(schedule.alphas_cumprod) > 0
    if name == "trained betas that have a name":
        assert facts["noise_schedule"] == "linear"
        assert "betas" not in facts


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [2, 7, 10, 50, 333, 1000])
@pytest.mark.parametrize("offset", [0, 1])
def test_few_steps_walk_the_levels_of_the_library(
    spacing: str, steps: int, offset: int, tmp_path: Path
) -> None:
    scheduler = DDPMScheduler(timestep_spacing=spacing, steps_offset=offset)
    folder = write_diffusers(tmp_path / "ddpm")
    scheduler.save_pretrained(folder)
    schedule = Schedule.of(replace(ModelPreset(), **stated_facts(folder)))
    scheduler.set_timesteps(steps)
    theirs = sorted({min(int(t), 999) for t in scheduler.timesteps})
    ours = schedule.spread(steps)
    if (
        spacing == "linspace"
    ):  # as guided-diffusion rounds, which differs by one level where a half is rounded
        assert all(abs(a - b) <= 1 for a, b in zip(ours, theirs, strict=True))
    else:
        assert ours == theirs
        assert schedule.spread(steps, 400) == ([t for t in ours if t < 400] or [399])


@pytest.mark.parametrize(
    ("config", "clips"),
    [({}, True), ({"clip_sample": False}, False), ({"clip_sample": False, "thresholding": True}, True)],
)
def test_clean_estimates_are_clipped_as_the_library_does(
    config: dict[str, Any], clips: bool, tmp_path: Path
) -> None:
    folder = write_diffusers(tmp_path / "ddpm")
    DDPMScheduler(**config).save_pretrained(folder)
    assert replace(ModelPreset(), **stated_facts(folder)).clip_sample is clips


@pytest.mark.parametrize(
    ("name", "clips", "spacing", "to_clean"),
    [
        ("DDIMScheduler", True, "leading", True),
        ("DDIMParallelScheduler", True, "leading", True),
        ("DDPMParallelScheduler", True, "leading", True),
        ("PNDMScheduler", False, "leading", False),
        ("DPMSolverMultistepScheduler", False, "linspace", True),
        ("UniPCMultistepScheduler", False, "linspace", True),
        ("LCMScheduler", False, "leading", True),
    ],
)
def test_what_a_scheduler_does_not_say_is_as_its_class_has_it(
    name: str, clips: bool, spacing: str, to_clean: bool, tmp_path: Path
) -> None:
    folder = write_diffusers(tmp_path / "ddpm")
    getattr(diffusers, name)(beta_start=1e-4, beta_end=0.02, beta_schedule="linear").save_pretrained(folder)
    file = folder / "scheduler_config.json"
    bare = ("clip_sample", "set_alpha_to_one", "timestep_spacing", "thresholding")
    whole = json.loads(file.read_text())
    for config in (whole, {key: value for key, value in whole.items() if key not in bare}):
        file.write_text(json.dumps(config))
        model = replace(ModelPreset(), **stated_facts(folder))
        found = model.clip_sample, model.timestep_spacing, model.set_alpha_to_one
        assert found == (clips, spacing, to_clean)


@pytest.mark.parametrize("to_clean", [True, False])
@pytest.mark.parametrize(("steps", "offset"), [(10, 0), (10, 1), (50, 1)])
def test_ddim_ends_where_the_library_ends(to_clean: bool, steps: int, offset: int, tmp_path: Path) -> None:
    theirs = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=to_clean, steps_offset=offset)
    folder = write_diffusers(tmp_path / "ddim")
    theirs.save_pretrained(folder)
    schedule = Schedule.of(replace(ModelPreset(), **stated_facts(folder)))
    assert schedule.to_clean is to_clean

    def network(x: torch.Tensor, t: float) -> torch.Tensor:
        return torch.tanh(x.roll(1, -1) + t / 1000)

    x = y = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs.set_timesteps(steps)
    for t in theirs.timesteps:
        y = theirs.step(network(y, float(t)), t, y).prev_sample
    for k in schedule.steps(schedule.spread(steps)):
        eps = network(x, k.t)
        x, _ = DDIM().step(x, Prediction((x - k.sigma_t * eps) / k.alpha_t, eps), k, NO_NOISE, None)
    assert float((x - y).abs().max() / y.abs().max()) < 1e-4


REFUSED: dict[str, Any] = {
    "center_input_sample": True,
    "time_embedding_type": "fourier",
    "mid_block_type": None,
    "mid_block_scale_factor": 1.4,
    "downsample_padding": 2,
    "downsample_type": "fir",
    "act_fn": "gelu",
    "resnet_time_scale_shift": "spatial",
    "class_embed_type": "timestep",
    "down_block_types": ["DownBlock2D", "SkipDownBlock2D", "DownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
    "attn_norm_num_groups": 4,
    "norm_num_groups": None,
    "attention_head_dim": [8, 8, 8],
    "a_flag_of_tomorrow": 1,
}


@pytest.mark.parametrize("flag", REFUSED)
def test_flags_that_are_not_supported_are_named(flag: str, tmp_path: Path) -> None:
    folder = write_diffusers(tmp_path / "ddpm", config={**DDPM_CONFIG, flag: REFUSED[flag]})
    with pytest.raises(WeightsError, match=rf"^{folder}: config\.json: {flag} is .*not supported") as error:
        load(folder)
    assert error.value.exit_code == 3


def test_levels_that_resample_in_different_ways_are_refused() -> None:
    mixed = {**DDPM_CONFIG, "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D", "DownBlock2D"]}
    with pytest.raises(WeightsError, match=r"down_block_types .*different ways"):
        read_config(mixed)
    bare_middle = {**DDPM_CONFIG, "resnet_time_scale_shift": "scale_shift"}
    with pytest.raises(WeightsError, match="attn_norm_num_groups is null"):
        read_config(bare_middle)


def test_every_flag_of_the_library_is_known() -> None:
    flags = {k: v for k, v in UNet2DModel(**NETWORKS["Ho et al.'s"]).config.items() if v is not None}
    read_config(json.loads(json.dumps(flags)))


def test_another_network_of_the_library() -> None:
    with pytest.raises(WeightsError, match="a diffusers UNet2DConditionModel"):
        read_config({"_class_name": "UNet2DConditionModel"})


SCHEDULERS: dict[str, dict[str, Any]] = {
    "beta_schedule": {"beta_schedule": "laplace"},
    "beta_end": {"beta_schedule": "linear", "beta_end": 1.2},
    "beta_start": {"beta_schedule": "linear", "beta_start": "0.00085"},
    "prediction_type": {"beta_schedule": "linear", "prediction_type": "flow"},
    "trained_betas": {"beta_schedule": "linear", "trained_betas": [0.1, None]},
    "betas": {"beta_schedule": "linear", "trained_betas": [0.1, 7]},
    "num_train_timesteps": {"beta_schedule": "linear", "num_train_timesteps": 0},
    "rescale_betas_zero_snr": {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
    "variance_type": {"beta_schedule": "linear", "variance_type": "learned"},
    "timestep_spacing": {"beta_schedule": "linear", "timestep_spacing": "even"},
    "steps_offset": {"beta_schedule": "linear", "steps_offset": -1},
    "sample_max_value": {"beta_schedule": "linear", "thresholding": True, "sample_max_value": 1.5},
    "clip_sample_range": {"beta_schedule": "linear", "clip_sample_range": 2.0},
}


@pytest.mark.parametrize("flag", SCHEDULERS)
def test_schedules_that_are_not_supported_are_named(flag: str, tmp_path: Path) -> None:
    folder = write_diffusers(tmp_path / "ddpm")
    (folder / "scheduler_config.json").write_text(json.dumps(SCHEDULERS[flag]))
    with pytest.raises(WeightsError, match=f"{flag} is "):
        stated_facts(folder)


def test_a_schedule_without_betas_is_refused(tmp_path: Path) -> None:
    folder = write_diffusers(tmp_path / "ddpm")
    (folder / "scheduler_config.json").write_text('{"_class_name": "ScoreSdeVeScheduler", "sigma_max": 1348}')
    with pytest.raises(WeightsError, match="beta_schedule is null"):
        stated_facts(folder)


def test_folders_and_files(tmp_path: Path) -> None:
    folder = write_diffusers(tmp_path / "ddpm")
    file = folder / "diffusion_pytorch_model.safetensors"
    assert weights_file(folder) == weights_file(file) == file
    assert network_files(folder) == network_files(file) == (file, folder / "config.json")
    assert stated_facts(file) == stated_facts(folder) == {"format": "diffusers", "image_size": 32}
    assert error_of(load(file)) < 1e-5
    half = file.rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    assert weights_file(folder) == half
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json: not a JSON file"):
        load(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="no settings of a network"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config\.json is not beside the weights") as error:
        load(folder)
    assert error.value.hint


def test_weights_in_pieces_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a folder without a diffusers network"):
        weights_file(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="in several pieces"):
        weights_file(tmp_path)
