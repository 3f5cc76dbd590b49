"""The helpers: presets, inspect and doctor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import FOX, ilvrctl, json_lines

from ilvrctl import devices, paths
from ilvrctl.errors import IlvrctlError
from ilvrctl.plans.find_networks import NetworksAsked, find_networks
from ilvrctl.presets import find_model, load_methods, load_models, load_targets


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
    assert facts["weights_here"] == ["emoji-flat-64", "emoji3d-64", "emoji_dse"]
    assert facts["presets"] == str(paths.presets_dir())
    assert facts["torch"]


@pytest.mark.parametrize(
    ("build", "gpu", "seen", "words"),
    [
        ("cpu", None, False, None),
        ("cpu and MPS", None, True, None),
        ("CUDA 12.8", "NVIDIA", True, None),
        ("cpu", "NVIDIA", False, "pip install --force-reinstall torch=="),
        ("cpu", "AMD", False, "pytorch.org/get-started"),
        ("CUDA 12.8", None, False, "harmless"),
        ("CUDA 12.8", "NVIDIA", False, "driver"),
    ],
)
def test_doctor_tells_whether_torch_fits_the_machine(
    build: str, gpu: str | None, seen: bool, words: str | None
) -> None:
    advice = devices.torch_advice(build, gpu, seen)
    assert advice is None if words is None else words in str(advice)


def test_doctor_tells_the_build_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "torch_build", lambda: "cpu")
    monkeypatch.setattr(devices, "gpu_maker", lambda: "NVIDIA")
    told = ilvrctl("doctor", "--device", "cpu").out.decode()
    assert "cpu; an NVIDIA GPU is here, and this torch is a build for CPUs: pip install" in told
    monkeypatch.setattr(devices, "gpu_maker", lambda: None)
    facts = json.loads(ilvrctl("doctor", "--json", "--device", "cpu").out)
    assert facts["torch_build"] == "cpu" and facts["torch_advice"] is None


def test_what_this_torch_is() -> None:
    assert devices.torch_build().startswith(("cpu", "CUDA", "ROCm"))
    assert devices.size_of_torch() > 10_000_000


@pytest.mark.parametrize("flag", ["to", "weights"])
def test_every_model_of_the_list_can_be_named_or_it_is_told_why_not(flag: str) -> None:
    rows = {row["name"]: row for row in json_lines(ilvrctl("download", "--list", "--json"))}
    shown = {line.split()[0]: line for line in ilvrctl("download", "--list").lines}
    for name, row in rows.items():
        asked = NetworksAsked(to=name) if flag == "to" else NetworksAsked(weights=Path(name))
        if name in ("emoji3d-64", "emoji-flat-64"):
            assert find_networks(asked).target.weights == find_model(name).path()
            continue
        with pytest.raises(IlvrctlError) as refused:
            find_networks(asked)
        if row["domain"].startswith("auxiliary"):
            assert "makes no pictures" in refused.value.message
            assert "aux: " in shown[name] or "unusable" in shown[name]
        elif row["unsupported"]:
            assert row["unsupported"] in refused.value.message
            assert "unusable" in shown[name] and row["unsupported"][:10] in shown[name]
        else:
            assert str(refused.value.hint).startswith("ilvrctl download ")


def test_a_name_near_a_model_is_told(tmp_path: Path) -> None:
    assert "did you mean 'ffhq_10m'" in ilvrctl("translate", FOX, "--to", "ffhq_10").err
    ran = ilvrctl("translate", FOX, "--weights", "ffhq10m")
    assert ran.code == 3 and "did you mean" in ran.err
    jobs = tmp_path / "jobs.yaml"
    jobs.write_text(f"jobs:\n  - name: a\n    inputs: {FOX}\n    weights: emoji3d-64\n    steps: 2\n")
    ran = ilvrctl("batch", jobs, "--dry-run")
    assert ran.code == 0, ran.err


def test_a_model_by_its_name_has_the_facts_of_its_preset(tmp_path: Path) -> None:
    result = tmp_path / "a.png"
    ran = ilvrctl("translate", FOX, "--to", "emoji3d-64", "--steps", "2", "-o", result)
    assert ran.code == 0, ran.err
    for words in (("--weights", "emoji3d-64"), ("--weights", "EMOJI3D_64")):
        assert "there already" in ilvrctl("translate", FOX, *words, "--steps", "2", "-o", result).err
