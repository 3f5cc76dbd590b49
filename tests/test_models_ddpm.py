"""The network of Ho et al. under pesser's and diffusers' names: outputs as published, containers, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GOLDEN, golden
from safetensors.torch import save_file
from torch import Tensor

from ilvrctl.engine import Engine
from ilvrctl.errors import WeightsError
from ilvrctl.models import adm
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.blocks import DDPM
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.cpu import norm
from ilvrctl.models.files.inspection import inspect_file
from ilvrctl.models.files.loading import load_network
from ilvrctl.models.files.readers.pesser import PESSER
from ilvrctl.models.files.tensor_names import places
from ilvrctl.models.trunk_network import timestep_embedding
from ilvrctl.presets import ModelPreset

CPU = torch.device("cpu")
WEIGHTS = {n.removeprefix("module."): x for n, x in golden("ddpm_model.pt").items()}
OTHERS = {name: torch.zeros_like(x) for name, x in WEIGHTS.items()}
DDPM_CONFIG = {
    "_class_name": "UNet2DModel",
    "sample_size": 32,
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [32, 64, 64],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "out_channels": 3,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
"""The flags of Ho et al.'s networks as diffusers publishes them, at the golden network's size."""


def load(path: Path, dtype: torch.dtype = torch.float32) -> AdmUNet:
    return load_network(path, HiddenFlags(), dtype=dtype, device=CPU)


def error_of(network: AdmUNet) -> float:
    """The largest difference to the published output, relative to the largest output."""
    io = golden("ddpm_model.io.pt")
    with torch.inference_mode():
        out = network(io["x"], io["t"])
    assert out.dtype == torch.float32
    return float((out - io["out"]).abs().max() / io["out"].abs().max())


def renamed(name: str, new: bool) -> str:
    """The name that diffusers gives to a tensor of pesser's three-level network: written out, not computed."""
    outer = {
        "temb.dense.0": "time_embedding.linear_1",
        "temb.dense.1": "time_embedding.linear_2",
        "norm_out": "conv_norm_out",
        "mid.block_1": "mid_block.resnets.0",
        "mid.block_2": "mid_block.resnets.1",
        "mid.attn_1": "mid_block.attentions.0",
        "temb_proj": "time_emb_proj",
        "nin_shortcut": "conv_shortcut",
        "downsample.conv": "downsamplers.0.conv",
        "upsample.conv": "upsamplers.0.conv",
        "up.0.": "up_blocks.2.",
        "up.1.": "up_blocks.1.",
        "up.2.": "up_blocks.0.",
        "down.": "down_blocks.",
        ".block.": ".resnets.",
        ".attn.": ".attentions.",
    }
    inner = {
        ".norm.": ".group_norm.",
        ".q.": ".to_q." if new else ".query.",
        ".k.": ".to_k." if new else ".key.",
        ".v.": ".to_v." if new else ".value.",
        ".proj_out.": ".to_out.0." if new else ".proj_attn.",
    }
    for here, there in {**outer, **(inner if "attn" in name else {})}.items():
        name = name.replace(here, there)
    return name


def write_diffusers(folder: Path, *, new: bool = True, config: dict[str, Any] | None = None) -> Path:
    """The golden network as a folder of diffusers; matrices of attention lose their last dimensions."""
    weights = {
        renamed(n, new): x[:, :, 0, 0].contiguous() if "attn" in n and x.ndim == 4 else x
        for n, x in WEIGHTS.items()
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or DDPM_CONFIG))
    if new:
        save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    else:
        torch.save(weights, folder / "diffusion_pytorch_model.bin")
    return folder


def prefixed(weights: dict[str, Tensor] = WEIGHTS) -> dict[str, Tensor]:
    return {f"module.{name}": x for name, x in weights.items()}


CONTAINERS: dict[str, Callable[[], Any]] = {
    "dict": lambda: WEIGHTS,
    "DataParallel": prefixed,
    "state_dict": lambda: {"state_dict": prefixed()},
    "training list of ddim": lambda: [
        prefixed(OTHERS),
        {"state": {}, "param_groups": []},
        7,
        90,
        WEIGHTS,
    ],
    "training list, EMA of a DataParallel": lambda: [
        OTHERS,
        {"state": {}, "param_groups": []},
        7,
        90,
        prefixed(),
    ],
}


def test_outputs_of_the_published_network() -> None:
    assert error_of(load(GOLDEN / "ddpm_model.pt")) < 1e-5


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers(name: str, tmp_path: Path) -> None:
    torch.save(CONTAINERS[name](), tmp_path / "model.ckpt")
    assert inspect_file(tmp_path / "model.ckpt").format == "pesser-ddim"
    assert error_of(load(tmp_path / "model.ckpt")) < 1e-5


@pytest.mark.parametrize("new", [True, False])
def test_diffusers_names_give_the_same_network(new: bool, tmp_path: Path) -> None:
    folder = write_diffusers(tmp_path / "ddpm", new=new)
    assert inspect_file(folder).format == "diffusers"
    ours, theirs = load(folder).state_dict(), load(GOLDEN / "ddpm_model.pt").state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert error_of(load(folder)) < 1e-5


def test_every_tensor_has_a_place_of_its_own_and_the_shapes_fit() -> None:
    names = places(PESSER, WEIGHTS)
    taken = [(names[name].name, names[name].part) for name in WEIGHTS]
    assert len(set(taken)) == len(taken)
    network = load(GOLDEN / "ddpm_model.pt")
    assert {name for name, _ in taken} == set(network.state_dict())
    assert sum(x.numel() for x in network.state_dict().values()) == sum(x.numel() for x in WEIGHTS.values())


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.04), (torch.float16, 0.005)])
def test_half_precision_is_close(dtype: torch.dtype, bound: float) -> None:
    network, io = load(GOLDEN / "ddpm_model.pt", dtype), golden("ddpm_model.io.pt")
    assert network.input_blocks[0][0].weight.dtype == network.middle_block[1].qkv.weight.dtype == dtype  # type: ignore[index]
    with torch.inference_mode():
        out = network(io["x"], io["t"])
    assert float((out - io["out"]).norm() / io["out"].norm()) < bound


def test_large_pictures_take_the_thrifty_path_to_the_same_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (norm, adm):
        monkeypatch.setattr(module, "LARGE", 1)
    assert error_of(load(GOLDEN / "ddpm_model.pt")) < 1e-5


def test_features_and_weights_are_channels_last() -> None:
    network, strays = load(GOLDEN / "ddpm_model.pt"), []
    for layer in (layer for block in (*network.input_blocks, *network.output_blocks) for layer in block):  # type: ignore[union-attr]
        layer.register_forward_hook(
            lambda module, _, out: (
                strays.append(module) if not out.is_contiguous(memory_format=torch.channels_last) else None
            )
        )
    with torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32), torch.tensor([5.0]))
    assert not strays
    assert all(
        p.is_contiguous(memory_format=torch.channels_last) for p in network.parameters() if p.ndim == 4
    )


def test_the_timestep_embedding_is_sines_then_cosines_down_to_a_tenthousandth() -> None:
    embedding = timestep_embedding(torch.tensor([3.0]), 8, DDPM)
    angles = 3.0 * torch.tensor([1.0, 10000 ** (-1 / 3), 10000 ** (-2 / 3), 1e-4])
    torch.testing.assert_close(embedding[0], torch.cat([angles.sin(), angles.cos()]))


def test_nothing_of_the_network_is_hidden(tmp_path: Path) -> None:
    info = inspect_file(GOLDEN / "ddpm_model.pt")
    assert info.readable
    assert info.facts["channel_mult"] == (1, 2, 2)
    assert info.facts["attention_factors"] == (2,)
    assert info.facts["num_heads"] == 1
    assert info.facts["use_scale_shift_norm"] is False
    assert set(info.unknown) == {"image_size", "noise_schedule", "predict_xstart", "sigma_small"}
    folder = write_diffusers(tmp_path / "ddpm")
    assert inspect_file(folder).facts["image_size"] == 32
    (folder / "scheduler_config.json").write_text(
        json.dumps({"beta_schedule": "linear", "variance_type": "fixed_large"})
    )
    info = inspect_file(folder)
    assert not info.unknown
    assert info.facts["noise_schedule"] == "linear"
    assert info.facts["variance"] == "fixed_large"
    json.dumps(dict(info.facts))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_engine_drives_it_like_any_other(precision: str, tmp_path: Path) -> None:
    model = ModelPreset(image_size=32, variance="fixed_large")
    for path in (GOLDEN / "ddpm_model.pt", write_diffusers(tmp_path / "ddpm")):
        engine = Engine.load(model, path, device="cpu", precision=precision)
        assert (engine.variance, engine.class_count, engine.image_size) == ("fixed_large", None, 32)
        x = torch.zeros(2, 3, 32, 32)
        prediction = engine.denoiser(x, engine.schedule.steps([500])[0])
        assert prediction.x0.shape == x.shape
        assert prediction.log_variance is None


@pytest.mark.parametrize(
    "name", [n for n in WEIGHTS if n.startswith(("mid.attn", "down.1", "up.1.u", "temb"))]
)
def test_a_tensor_that_is_lost_or_wrong_is_named_as_the_file_names_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({n: x for n, x in WEIGHTS.items() if n != name}, path)
    with pytest.raises(WeightsError) as error:
        load(path)
    assert "input_blocks" not in error.value.message
    if name != "temb.dense.0.weight":  # by which the format is known
        assert "pesser/ddim network: tensor" in error.value.message
    torch.save({**WEIGHTS, name: torch.zeros(7, 5)}, path)
    with pytest.raises(WeightsError, match=r"tensor \S+ does not fit"):
        load(path)


def test_tensors_without_a_place_or_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({**WEIGHTS, "down.0.extra.weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"down\.0\.extra\.weight does not fit .*no place"):
        load(path)
    folder = write_diffusers(tmp_path / "twice", new=False)
    weights = torch.load(folder / "diffusion_pytorch_model.bin", weights_only=True)
    weights["mid_block.attentions.0.to_q.weight"] = weights["mid_block.attentions.0.query.weight"]
    torch.save(weights, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match="is there twice"):
        load(folder)
