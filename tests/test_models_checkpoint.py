"""Every container of a real network is opened, whatever the file is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import random_state_dict, write_random_checkpoint
from safetensors.torch import save_file
from torch import Tensor

from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags
from ilvrctl.models.files import header
from ilvrctl.models.files.checkpoint import read_state_dict
from ilvrctl.models.files.loading import inspect_file, load_network

HIDDEN = HiddenFlags(num_heads=2)
SMALL = AdmArchitecture(3, 6, 32, (32, 64), 1, (False, True), "residual", hidden=HIDDEN)
CPU = torch.device("cpu")
WEIGHTS = random_state_dict(SMALL)
OTHERS = {name: torch.zeros_like(x) for name, x in WEIGHTS.items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor] = WEIGHTS) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected)


def prefixed(prefix: str, weights: dict[str, Tensor] = WEIGHTS) -> dict[str, Tensor]:
    return {prefix + name: x for name, x in weights.items()}


CONTAINERS: dict[str, Callable[[], Any]] = {
    "bare": lambda: WEIGHTS,
    "DataParallel": lambda: prefixed("module."),
    "compiled DataParallel": lambda: prefixed("module._orig_mod."),
    "Lightning": lambda: {"state_dict": prefixed("model."), "epoch": 3, "lr": 0.1},
    "state_dict": lambda: {"state_dict": WEIGHTS, "step": torch.tensor(5)},
    "model": lambda: {"model": WEIGHTS, "optimizer": {"state": {}, "param_groups": []}},
    "EMA beside the raw weights": lambda: {"model": OTHERS, "ema": WEIGHTS, "conf": {"lr": 0.1}},
    "EMA under another name": lambda: {"state_dict": OTHERS, "model_ema": prefixed("module.")},
    "nested": lambda: {"ema": {"state_dict": prefixed("module."), "decay": 0.9999}},
    "EMA by prefix": lambda: prefixed("ema.") | prefixed("model.", OTHERS),
    "lucidrains": lambda: {"ema": prefixed("ema_model.") | prefixed("online_model.", OTHERS), "step": 1},
    "a training list": lambda: [OTHERS, {"state": {}, "param_groups": []}, 7, 90, prefixed("module.")],
    "parameters": lambda: {name: torch.nn.Parameter(x) for name, x in WEIGHTS.items()},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_and_prefixes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(CONTAINERS[name](), path)
    found = read_state_dict(path)
    assert same(found)
    assert not any(x.requires_grad for x in found.values())
    assert inspect_file(path).format == "guided-diffusion"


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_file_kinds_whatever_the_file_is_called(
    kind: str, dtype: torch.dtype | None, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header, "CHUNK", 1000)  # several chunks even of a small tensor
    path = tmp_path / "weights.ckpt"
    if kind == "safetensors":
        save_file(prefixed(prefix), path)
    else:
        torch.save(prefixed(prefix), path, _use_new_zipfile_serialization=kind == "zip")
    expected = {name: x.to(dtype or x.dtype) for name, x in WEIGHTS.items()}
    assert same(read_state_dict(path, dtype=dtype), expected)
    assert inspect_file(path).container == kind


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_precision_of_the_file_does_not_matter(dtype: torch.dtype, tmp_path: Path) -> None:
    network = load_network(write_random_checkpoint(tmp_path / "w.pt", SMALL, 0, dtype), HIDDEN, device=CPU)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert same(dict(network.named_parameters()), {k: x.to(dtype).float() for k, x in WEIGHTS.items()})  # type: ignore[arg-type]


def test_a_loaded_network_outlives_and_never_changes_its_file(tmp_path: Path) -> None:
    path = write_random_checkpoint(tmp_path / "w.pt", SMALL)
    content = path.read_bytes()
    network = load_network(path, HIDDEN, device=CPU)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    for x in read_state_dict(path).values():
        x.zero_()
    assert path.read_bytes() == content
    path.unlink()
    assert same(dict(network.named_parameters()))  # type: ignore[arg-type]


def test_inspection_tells_what_is_known_and_what_is_not(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"ema": prefixed("module."), "step": 3}, path)
    info = inspect_file(path)
    assert info.format == "guided-diffusion"
    assert info.readable
    assert info.wrapping == ("['ema']", "module.")
    assert info.parameters == sum(x.numel() for x in WEIGHTS.values())
    assert info.tensor_bytes == 4 * info.parameters
    assert info.dtypes == ("float32",)
    assert info.facts["num_channels"] == 32
    assert info.facts["channel_mult"] == (1, 2)
    assert info.facts["attention_factors"] == (2,)
    assert info.facts["resblock_updown"] is True
    assert info.facts["learn_sigma"] is True
    assert "use_new_attention_order" in info.unknown
    assert "num_heads or num_head_channels" in info.unknown
    assert not set(info.facts) & set(info.unknown)


def test_the_facts_can_be_written_as_json(tmp_path: Path) -> None:
    path = write_random_checkpoint(tmp_path / "w.pt", SMALL)
    json.dumps(dict(inspect_file(path).facts))
