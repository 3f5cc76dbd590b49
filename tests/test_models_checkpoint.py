"""Every container of a real network is opened, whatever the file is called."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import random_state_dict, rezipped, write_random_checkpoint
from commands import FOX, difference, ilvrctl, json_lines
from safetensors.torch import save_file
from torch import Tensor

from ilvrctl.errors import UsageError, WeightsError
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags
from ilvrctl.models.files import numbers
from ilvrctl.models.files.checkpoint import read_state_dict
from ilvrctl.models.files.inspection import inspect_file
from ilvrctl.models.files.loading import load_network

HIDDEN = HiddenFlags(num_heads=2)
SMALL = AdmArchitecture(3, 6, 32, (32, 64), 1, (False, True), "residual", hidden=HIDDEN)
CPU = torch.device("cpu")
WEIGHTS = random_state_dict(SMALL)
OTHERS = {name: torch.zeros_like(x) for name, x in WEIGHTS.items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor] = WEIGHTS) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected)


def prefixed(prefix: str, weights: dict[str, Tensor] = WEIGHTS) -> dict[str, Tensor]:
    return {prefix + name: x for name, x in weights.items()}


def _cyclic() -> dict[str, Any]:
    content: dict[str, Any] = {"state_dict": WEIGHTS}
    content["self"] = content
    return content


def _in_one_block(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    block = torch.cat([x.flatten() for x in weights.values()])
    ends = torch.tensor([0, *(x.numel() for x in weights.values())]).cumsum(0).tolist()
    return {
        name: block[first:end].view(x.shape)
        for (name, x), first, end in zip(weights.items(), ends, ends[1:], strict=False)
    }


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
    "a key with a rate": lambda: {"model": OTHERS, "ema_0.9999": WEIGHTS, "step": 5},
    "an average by order": lambda: {
        "model": OTHERS,
        "ema": {"decay": 0.999, "num_updates": 9, "shadow_params": list(WEIGHTS.values())},
    },
    "AveragedModel": lambda: {**prefixed("module."), "n_averaged": torch.tensor(7)},
    "LitEma": lambda: {
        "state_dict": {
            **prefixed("model.", OTHERS),
            **{"model_ema." + name.replace(".", ""): x for name, x in WEIGHTS.items()},
            "model_ema.decay": torch.tensor(0.9),
            "model_ema.num_updates": torch.tensor(3),
        }
    },
    "a diffusion around it": lambda: {**prefixed("denoise_fn."), "betas": torch.linspace(1e-4, 0.02, 1000)},
    "Lightning around a diffusion": lambda: {"epoch": 3, "state_dict": prefixed("diffusion.model.")},
    "counters beside": lambda: {**WEIGHTS, "epoch": torch.tensor(3), "global_step": torch.tensor(100)},
    "a key nobody knows": lambda: {"what I trained": {"in May": WEIGHTS}, "args": {"lr": 1e-4}},
    "modelEMA": lambda: {"model": OTHERS, "modelEMA": prefixed("a.b.c.")},
    "the same twice": lambda: {"model": WEIGHTS, "best": WEIGHTS},
    "a dict in itself": _cyclic,
    "one block of memory": lambda: _in_one_block(WEIGHTS),
    "other strides": lambda: {
        k: x.transpose(0, -1).contiguous().transpose(0, -1) for k, x in WEIGHTS.items()
    },
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


@pytest.mark.parametrize(
    ("content", "raw", "note"),
    [
        ({"model": OTHERS, "ema_0.9999": WEIGHTS}, "model", "ema_0.9999; also there: model"),
        (prefixed("ema.") | prefixed("model.", OTHERS), "model", "ema; also there: model"),
        ([OTHERS, {"state": {}}, WEIGHTS], "0", "2; also there: 0"),
        (
            {"ema": prefixed("ema_model.") | prefixed("online_model.", OTHERS)},
            "ema/online_model",
            "ema/ema_model; also there: ema/online_model",
        ),
    ],
)
def test_averaged_weights_win_say_so_and_the_others_can_be_had(
    content: Any, raw: str, note: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.pt"
    torch.save(content, path)
    assert note in (inspect_file(path).note or "")
    assert same(read_state_dict(path))
    for which in ("raw", raw):
        assert same(read_state_dict(path, which=which), OTHERS)
        loaded = load_network(path, HIDDEN, device=CPU, which=which)
        assert same(dict(loaded.named_parameters()), OTHERS)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"no weights are called 'best'.*there are") as error:
        read_state_dict(path, which="best")
    assert "--set model.weights=" in (error.value.hint or "")


def test_of_two_networks_that_nothing_tells_apart_one_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"unets": prefixed("0.") | prefixed("1.", OTHERS)}, path)
    with pytest.raises(WeightsError, match=r"several networks, .*: unets/0, unets/1") as error:
        read_state_dict(path)
    assert "--set model.weights=unets/0" in (error.value.hint or "")
    assert same(read_state_dict(path, which="unets/0"))
    assert same(read_state_dict(path, which="unets/1"), OTHERS)


def test_an_average_that_fits_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"model": WEIGHTS, "ema": {"shadow_params": list(WEIGHTS.values())[:-1]}}, path)
    assert "ema/shadow_params holds averaged weights that do not fit" in (inspect_file(path).note or "")
    assert same(read_state_dict(path))


def test_a_deflated_archive_is_inflated(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(rezipped(WEIGHTS, method=zipfile.ZIP_DEFLATED))
    assert same(read_state_dict(path))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_file_kinds_whatever_the_file_is_called(
    kind: str, dtype: torch.dtype | None, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "CHUNK", 1000)  # several chunks even of a small tensor
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


def test_a_run_says_which_weights_it_takes_and_takes_the_others(tmp_path: Path) -> None:
    path, out = tmp_path / "w.pt", tmp_path / "out"
    torch.save({"model": OTHERS, "ema": WEIGHTS}, path)
    facts = ("--set", "model.image_size=32", "--set", "model.num_heads=2", "--steps", "2")
    ran = ilvrctl("translate", FOX, "--weights", path, *facts, "-o", out / "a.png")
    assert ran.code == 0, ran.err
    assert "the averaged weights are taken, ema; also there: model" in " ".join(ran.err.split())
    ran = ilvrctl(
        "translate", FOX, "--weights", path, *facts, "--set", "model.weights=raw", "-o", out / "b.png"
    )
    assert ran.code == 0, ran.err
    assert difference(out / "a.png", out / "b.png") != (0, 0)
    assert json_lines(ilvrctl("inspect", path, "--json"))[0]["inside"] == ["['ema']"]
    raw = ilvrctl("inspect", path, "--json", "--set", "model.weights=raw")
    assert json_lines(raw)[0]["inside"] == ["['model']"]
