"""Every file that people give by mistake is named, and nothing in it is run."""

from __future__ import annotations

import ast
import io
import os
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from checkpoints import random_state_dict, write_random_checkpoint
from commands import environment, obedient
from safetensors.torch import save_file

from ilvrctl import paths
from ilvrctl.errors import WeightsError
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags
from ilvrctl.models.files.checkpoint import read_state_dict
from ilvrctl.models.files.formats import FORMATS, identify
from ilvrctl.models.files.inspection import inspect_file
from ilvrctl.models.files.loading import load_network

HIDDEN = HiddenFlags(num_heads=2)
SMALL = AdmArchitecture(3, 6, 32, (32, 64), 1, (False, True), "residual", hidden=HIDDEN)
CPU = torch.device("cpu")
WEIGHTS = random_state_dict(SMALL)


def refusal(path: Path) -> WeightsError:
    """The error of reading, inspecting and loading ``path``: the same for all three, short, with a hint."""
    for act in (read_state_dict, inspect_file):
        with pytest.raises(WeightsError):
            act(path)
    with pytest.raises(WeightsError) as error:
        load_network(path, HIDDEN, device=CPU)
    assert error.value.message.startswith(str(path))
    assert "\n" not in error.value.message
    assert error.value.hint
    assert error.value.exit_code == 3
    return error.value


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "hello")
    return buffer.getvalue()


class Person:
    """A class that the restricted unpickler has never heard of."""


GOOD = saved(WEIGHTS)
MISTAKES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "an empty file"),
    "quota page": (b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "web page.*quota"),
    "page without doctype": (b"<?xml version='1.0'?>\n<HTML><body>Sign in</body>", "web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 374\n", "Git LFS"),
    "text": ("# Modèle\nThe weights are at ...".encode(), "a text file"),
    "JSON": (b'{"_class_name": "UNet2DModel", "sample_size": 256}', "a JSON file"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG picture"),
    "JPEG": (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(64), "a JPEG picture"),
    "gzip": (b"\x1f\x8b\x08" + bytes(64), "gzip archive; unpack it"),
    "noise": (bytes(range(200, 256)), "begins with c8 c9"),
    "one byte": (b"x", "begins with 78"),
    "cut in the middle": (GOOD[: len(GOOD) // 2], "cut off"),
    "cut at the end": (GOOD[:-30], "cut off"),
    "another zip": (zipped("letter.txt"), "no PyTorch checkpoint"),
    "optimizer": (saved({"state": {0: {"step": 1}}, "param_groups": [{"lr": 1e-4}]}), "of an optimizer"),
    "numbers": (saved({"epoch": 3, "loss": 0.1}), "no named tensors"),
    "one tensor": (saved(torch.zeros(3)), "no named tensors"),
    "empty dict": (saved({}), "no named tensors"),
    "plain pickle": (pickle.dumps({"a": [1, 2, 3]}), "damaged|was not loaded"),
    "pickled class": (pickle.dumps(Person()), "was not loaded"),
    "a class inside": (saved({"state_dict": WEIGHTS, "args": Person()}), r"run `\S+Person`.*not loaded"),
    "safetensors of lies": (struct.pack("<Q", 40) + b'{"a":{"dtype":"F32","shape":[9],"data_of', "damaged"),
    "safetensors cut in the header": (struct.pack("<Q", 4000) + b'{"a":', "cut off.*4,000"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name: str, tmp_path: Path) -> None:
    content, message = MISTAKES[name]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert re.search(message, refusal(path).message)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.pt").message
    assert "a folder" in refusal(tmp_path).message


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write_random_checkpoint(tmp_path / "w.pt", SMALL)
    path.chmod(0)
    program = f"import test_models_mistakes as here; print(here.refusal(here.Path({str(path)!r})).message)"
    words = obedient([sys.executable, "-c", program])
    ran = forked.run(words, cwd=Path(__file__).parent, env=environment(), capture_output=True, text=True)
    assert "cannot be read" in ran.stdout, ran.stderr


def test_damaged_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(WEIGHTS, path)
    content = path.read_bytes()
    path.write_bytes(content[:-1000])
    assert "damaged safetensors" in refusal(path).message
    path.write_bytes(b"\xff" * 8 + content[8:])
    assert "damaged: the header of the safetensors format" in refusal(path).message
    path.write_bytes(b"")
    assert "an empty file" in refusal(path).message


def test_truncated_legacy_files(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for part in (0.5, 0.01, 0.99):
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(WeightsError, match=r"cut off or damaged|was not loaded"):
            load_network(path, HIDDEN, device=CPU)


class Trap:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "text pickle"])
def test_code_in_a_pickle_is_not_run(kind: str, tmp_path: Path) -> None:
    path, witness = tmp_path / "model.pt", tmp_path / "witness"
    trap = {"state_dict": WEIGHTS, "callback": Trap(witness)}
    if "pickle" in kind:
        path.write_bytes(pickle.dumps(Trap(witness), protocol=0 if "text" in kind else None))
    else:
        torch.save(trap, path, _use_new_zipfile_serialization=kind == "zip")
    error = refusal(path)
    if kind != "text pickle":
        assert "nothing in it was run" in error.message
    if kind in ("zip", "legacy"):
        assert "asks to run `" + os.system.__module__ + ".system`" in error.message
    assert not witness.exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), path)
    assert "TorchScript" in refusal(path).message


FOREIGN = {
    "stable-diffusion": [
        "model.diffusion_model.time_embed.0.weight",
        "first_stage_model.encoder.conv_in.weight",
    ],
    "latent-diffusion-unet": [
        "model.diffusion_model.time_embed.0.weight",
        "model.diffusion_model.out.0.weight",
    ],
    "text-conditional-unet": [
        "time_embed.0.weight",
        "input_blocks.0.0.weight",
        "output_blocks.0.0.in_layers.0.weight",
        "input_blocks.1.1.transformer_blocks.0.norm1.weight",
    ],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_networks_are_called_by_their_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"state_dict": {key: torch.zeros(2) for key in FOREIGN[name]}}, path)
    info = inspect_file(path)
    assert info.format == name
    assert not info.readable
    with pytest.raises(WeightsError, match="this is ") as error:
        load_network(path, HIDDEN, device=CPU)
    assert next(row.what for row in FORMATS if row.name == name) in error.value.message


CRUMBS = {
    "rosinality network": [
        "time.1.weight",
        "down.0.weight",
        "down.1.resblocks.conv1.weight",
        "up.0.1.weight",
    ],
    "guided-diffusion network": [
        "time_embed.0.weight",
        "input_blocks.0.0.weight",
        "output_blocks.0.0.in_layers.0.weight",
    ],
    "guided-diffusion classifier": ["time_embed.0.weight", "input_blocks.0.0.weight", "out.0.weight"],
    "pesser/ddim network": ["temb.dense.0.weight", "conv_in.weight", "down.0.block.0.norm1.weight"],
    "diffusers network": [
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "up_blocks.0.resnets.0.norm1.bias",
    ],
}


@pytest.mark.parametrize("kind", CRUMBS)
@pytest.mark.parametrize("shape", [(), (0,), (2,), (3, 3, 3, 3)])
def test_crumbs_of_a_readable_format_name_it_and_the_first_tensor(
    kind: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "w.pt"
    torch.save({key: torch.zeros(shape) for key in CRUMBS[kind]}, path)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(WeightsError, match=rf"(whole|a) {kind}: tensor \S+ (is missing|does not fit)"):
        inspect_file(path)
    assert refusal_when_loaded(path).hint


def test_unknown_networks_show_their_first_tensors(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"layer1.0.conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}, path)
    assert "layer1.0.conv1.weight, fc.bias" in refusal_when_loaded(path).message
    with pytest.raises(WeightsError, match="something else"):
        inspect_file(path)
    assert identify(["fc.bias"]) is None


def test_a_network_with_a_tensor_lost_names_it(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({k: x for k, x in WEIGHTS.items() if k != "middle_block.0.in_layers.2.bias"}, path)
    assert "middle_block.0.in_layers.2.bias is missing" in refusal_when_loaded(path).message


def refusal_when_loaded(path: Path, hidden: HiddenFlags = HIDDEN) -> WeightsError:
    with pytest.raises(WeightsError) as error:
        load_network(path, hidden, device=CPU)
    assert error.value.message.startswith(str(path))
    return error.value


def test_heads_must_be_told(tmp_path: Path) -> None:
    path = write_random_checkpoint(tmp_path / "w.pt", SMALL)
    assert "attention heads" in refusal_when_loaded(path, HiddenFlags()).message
    assert "num_head_channels=48" in refusal_when_loaded(path, HiddenFlags(num_head_channels=48)).message


def test_networks_for_other_than_pictures(tmp_path: Path) -> None:
    upsampler = AdmArchitecture(6, 6, 32, (32, 64), 1, (False, True), "residual", hidden=HIDDEN)
    path = write_random_checkpoint(tmp_path / "w.pt", upsampler)
    assert "super-resolution" in refusal_when_loaded(path).message
    whole = {name: x.to(torch.int8) for name, x in WEIGHTS.items()}
    torch.save(whole, path)
    assert "int8" in refusal_when_loaded(path).message


def test_every_error_about_weights_says_what_to_do_next() -> None:
    """Each ``WeightsError(...)`` of the package has a hint."""
    seen, bare = 0, []
    for module in sorted(Path(paths.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "WeightsError":
                seen += 1
                given = [*node.args[1:], *(word.value for word in node.keywords if word.arg == "hint")]
                if not given or getattr(given[0], "value", "") is None:
                    bare.append(f"{module.name}:{node.lineno}")
    assert seen > 50
    assert bare == []
