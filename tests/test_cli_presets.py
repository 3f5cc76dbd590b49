"""The helpers: presets, inspect and doctor."""

from __future__ import annotations

import json
from pathlib import Path

from commands import FOX, ilvrctl, json_lines

from ilvrctl import paths
from ilvrctl.presets import load_methods, load_models, load_targets


def test_presets_lists_targets_and_methods_with_what_is_here() -> None:
    ran = ilvrctl("presets")
    assert ran.code == 0
    assert {line.split()[0] for line in ran.lines} == {*load_targets(), *load_methods()}
    assert next(line for line in ran.lines if line.startswith("emoji3d ")).endswith("[ready]")
    assert next(line for line in ran.lines if line.startswith("dog ")).endswith("[ilvrctl download dog]")
    assert "--to NAME" in ran.err


def test_presets_as_json() -> None:
    rows = json_lines(ilvrctl("presets", "--json"))
    assert rows == json_lines(ilvrctl("presets", "list", "--json"))
    emoji = next(row for row in rows if row["name"] == "emoji3d")
    assert (emoji["kind"], emoji["installed"], emoji["model"]) == ("target", True, "emoji3d-64")
    assert {row["name"] for row in rows if row["kind"] == "preset"} == set(load_methods())


def test_a_preset_is_shown_as_its_file() -> None:
    assert "model: afhq_dog_4m" in ilvrctl("presets", "show", "dog").out.decode()
    assert ilvrctl("presets", "show", "dogs").out == ilvrctl("presets", "show", "dog").out
    assert "range_t" in ilvrctl("presets", "show", "ilvr_adm").out.decode()
    for name in load_models():
        assert ilvrctl("presets", "show", name).code == 0
    ran = ilvrctl("presets", "show", "scribbel")
    assert ran.code == 2
    assert "did you mean 'scribble'?" in ran.err


def test_inspect(tmp_path: Path) -> None:
    file = load_models()["emoji3d-64"].path()
    ran = ilvrctl("inspect", file)
    assert ran.code == 0
    assert "guided-diffusion" in ran.out.decode()
    assert json.loads(ilvrctl("inspect", file, "--json").out)["format"] == "guided-diffusion"
    for name in (FOX, tmp_path / "nope.pt", tmp_path):
        ran = ilvrctl("inspect", name)
        assert ran.code == 3
        assert "error: " in ran.err


def test_doctor() -> None:
    ran = ilvrctl("doctor")
    assert ran.code == 0
    facts = json.loads(ilvrctl("doctor", "--json").out)
    assert facts["weights_here"] == ["emoji3d-64", "emoji_dse"]
    assert facts["presets"] == str(paths.presets_dir())
    assert facts["torch"]
