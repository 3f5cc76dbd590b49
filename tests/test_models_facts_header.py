"""Facts in the header of a safetensors file: written, read back, and refused when damaged."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ilvrctl import paths
from ilvrctl.errors import WeightsError
from ilvrctl.models.files.facts_header import facts_note, header_facts, read_notes, with_header_facts
from ilvrctl.models.files.saving import read_safetensors, save_pt, save_safetensors
from ilvrctl.presets import ModelPreset

FACTS = {
    "image_size": 32, "channels": 3, "num_heads": None, "num_head_channels": 32, "use_new_attention_order": False,
    "noise_schedule": "cosine", "diffusion_steps": 500, "predicts": "v", "variance": "fixed_small",
    "averaged": True, "pictures_seen": 640, "trained_on": {"pictures": 65, "digest": "ab"},
}  # fmt: skip


def with_note(path: Path, text: str) -> Path:
    save_safetensors(path, {"x": torch.arange(3)}, {"ilvrctl": text})
    return path


def test_facts_are_read_back_and_make_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_safetensors(path, {"x": torch.arange(3)}, {**facts_note(FACTS), "title": "another's note"})
    assert header_facts(path) == {"version": 1, **FACTS}
    assert read_notes(path)["title"] == "another's note"
    assert torch.equal(read_safetensors(path)[0]["x"], torch.arange(3))
    model = with_header_facts(ModelPreset(name="x", file="elsewhere"), path)
    assert (model.name, model.file, model.image_size, model.predicts) == ("x", "elsewhere", 32, "v")
    assert (model.noise_schedule, model.diffusion_steps, model.num_head_channels) == ("cosine", 500, 32)


def test_files_without_facts_have_none(tmp_path: Path) -> None:
    save_pt(tmp_path / "x.pt", {"x": torch.arange(3)})
    save_safetensors(tmp_path / "bare.safetensors", {"x": torch.arange(3)})
    (tmp_path / "short").write_bytes(b"1234")
    for path in (*tmp_path.iterdir(), tmp_path, tmp_path / "none", paths.DATA / "emoji-dse.safetensors"):
        assert header_facts(path) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "are damaged"),
        ("[1]", "no mapping with a version"),
        ('{"version": "1"}', "no mapping with a version"),
        ('{"version": 2}', "of layout 2"),
        ('{"version": 1, "image_size": "huge"}', "image_size is no size"),
        ('{"version": 1, "predicts": "colour"}', "predicts must be"),
        ("[" * 100_000, "are damaged"),
    ],
)
def test_damaged_facts_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = with_note(tmp_path / "x.safetensors", text)
    with pytest.raises(WeightsError, match=message) as caught:
        with_header_facts(ModelPreset(), path)
    assert str(path) in caught.value.message


def test_facts_cannot_move_the_file(tmp_path: Path) -> None:
    path = with_note(
        tmp_path / "x.safetensors", json.dumps({"version": 1, "file": "/etc/passwd", "bundled": True})
    )
    assert with_header_facts(ModelPreset(file="mine"), path) == ModelPreset(file="mine")


@given(st.binary(max_size=60))
def test_any_bytes_are_facts_none_or_an_error_that_is_named(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.mktemp("header") / "x.safetensors"
    for content in (raw, struct.pack("<Q", len(raw)) + raw, struct.pack("<Q", len(raw) + 1) + b"{" + raw):
        path.write_bytes(content)
        try:
            assert header_facts(path) == {}
        except WeightsError as error:
            assert "damaged" in error.message
