"""Checkpoints written anew: every readable format, the facts inside, read back equal, and used by diffusers."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import bomb, random_state_dict
from commands import FOX, ilvrctl, json_lines
from conftest import GOLDEN, golden
from diffusers import DDPMPipeline, UNet2DModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_models_ddpm import DDPM_CONFIG, write_diffusers
from test_models_diffusers import NETWORKS, build
from test_models_formats import SMALL, diffusion_file, rosinality_file
from torch import Tensor

from ilvrctl import api
from ilvrctl.diffusion.samplers import DDPM
from ilvrctl.engine import Engine
from ilvrctl.errors import OutputError, UsageError, WeightsError
from ilvrctl.models.architecture.blocks import ROSINALITY
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.unet import AdmArchitecture
from ilvrctl.models.files.facts_header import header_facts
from ilvrctl.models.files.loading import load_network
from ilvrctl.models.files.saving import read_safetensors
from ilvrctl.plans.find_networks import NetworksAsked, find_networks
from ilvrctl.plans.plan import network_facts
from ilvrctl.presets import ModelPreset

ADM = replace(SMALL, out_channels=6, hidden=HiddenFlags(num_head_channels=16))
NEW_ORDER = replace(
    SMALL, resampling="residual", hidden=HiddenFlags(num_heads=2, use_new_attention_order=True)
)
LEVELS = {"noise_schedule": "linear", "diffusion_steps": 50, "predicts": "eps"}


def _guided(path: Path, form: AdmArchitecture = ADM) -> dict[str, Any]:
    torch.save(random_state_dict(form), path)
    hidden = {k: v for k, v in vars(form.hidden).items() if v}
    return {"image_size": 16, **hidden, **LEVELS}


def _averaged(path: Path) -> dict[str, Any]:
    torch.save({"model": random_state_dict(ADM, seed=1), "ema": random_state_dict(ADM)}, path)
    return {"image_size": 16, "num_head_channels": 16, "noise_schedule": "cosine", "predicts": "x0"}


def _pesser(path: Path) -> dict[str, Any]:
    path.write_bytes((GOLDEN / "ddpm_model.pt").read_bytes())
    return {"image_size": 32, **LEVELS, "variance": "fixed_large"}


def _rosinality(path: Path) -> dict[str, Any]:
    form = replace(SMALL, conventions=ROSINALITY, use_scale_shift_norm=False)
    torch.save({"ema": rosinality_file(form, random_state_dict(form))}, path)
    return {"image_size": 16, "num_heads": 2, "noise_schedule": "quad", "diffusion_steps": 50}


def _lucidrains(path: Path) -> dict[str, Any]:
    torch.save(diffusion_file("v"), path)
    return {"image_size": 16}


def _half(path: Path) -> dict[str, Any]:
    torch.save(random_state_dict(NEW_ORDER, dtype=torch.float16), path)
    return {"image_size": 16, "num_heads": 2, "use_new_attention_order": True}


KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "guided-diffusion, learned variance": _guided,
    "guided-diffusion, fixed variance": lambda path: _guided(path, NEW_ORDER),
    "guided-diffusion in fp16": _half,
    "averaged beside raw weights": _averaged,
    "pesser": _pesser,
    "rosinality": _rosinality,
    "lucidrains": _lucidrains,
}


def preset_of(path: Path, **facts: Any) -> ModelPreset:
    return find_networks(NetworksAsked(weights=path, facts=api._facts(facts))).target.model


def facts_of(path: Path, **facts: Any) -> dict[str, Any]:
    return network_facts(preset_of(path, **facts))


def output(path: Path, **facts: Any) -> Tensor:
    model = preset_of(path, **facts)
    network = load_network(path, HiddenFlags.of(model), device=torch.device("cpu"), which=model.weights)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out: Tensor = network(x, torch.tensor([3.0, 40.0]))
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_alone_is_what_the_checkpoint_and_its_facts_were(kind: str, tmp_path: Path) -> None:
    source, out = tmp_path / "w.pt", tmp_path / "out.safetensors"
    facts = KINDS[kind](source)
    assert api.convert(source, out, **facts) == out
    before, after = output(source, **facts), output(out)
    if kind == "rosinality":  # whose sums are taken in another order then
        assert float((after - before).abs().max() / before.abs().max()) < 1e-5
    else:
        assert torch.equal(after, before)
    assert facts_of(out) == facts_of(source, **facts)
    again = tmp_path / "again.safetensors"
    api.convert(out, again)
    assert again.read_bytes() == out.read_bytes()
    assert {x.dtype for x in read_safetensors(out)[0].values()} == {
        torch.float16 if "fp16" in kind else torch.float32
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.safetensors",
        "out.safetensors",
        "w.pt",
    ]


@pytest.mark.parametrize(
    ("name", "layout", "facts"),
    [
        ("rosinality_diffusion", "rosinality", {}),
        ("rosinality_improved", "rosinality", {}),
        ("lucidrains_trainer", "lucidrains", {"image_size": 32}),
        ("lucidrains_noise_linear", "lucidrains", {"image_size": 32}),
        (
            "lucidrains_unet_alone",
            "lucidrains",
            {"image_size": 32, "noise_schedule": "cosine", "predicts": "v"},
        ),
        ("openai_edm", "openai-edm", {"image_size": 32, "num_head_channels": 32}),
    ],
)
def test_files_of_the_published_code(name: str, layout: str, facts: dict[str, Any], tmp_path: Path) -> None:
    source, out = tmp_path / "w.pt", tmp_path / "out.safetensors"
    source.write_bytes(lzma.decompress((GOLDEN / f"{name}.pt.xz").read_bytes()))
    api.convert(source, out, **facts)
    assert header_facts(out)["format"] in (layout, "guided-diffusion")
    io = golden(f"{name}.io.pt")
    network, origin = (
        load_network(path, HiddenFlags.of(preset_of(path, **known)), device=torch.device("cpu"))
        for path, known in ((out, {}), (source, facts))
    )
    x, t = (io["rows"][0]["x"], torch.tensor([40.0])) if "rows" in io else (io["x"], io["t"].float())
    with torch.inference_mode():
        expected, found = origin(x, t), network(x, t)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
    assert facts_of(out) == facts_of(source, **facts)


def test_the_tensors_of_guided_diffusion_stay_as_they_are(tmp_path: Path) -> None:
    facts = _averaged(tmp_path / "w.pt")
    api.convert(tmp_path / "w.pt", tmp_path / "out.safetensors", **facts)
    tensors = read_safetensors(tmp_path / "out.safetensors")[0]
    expected = random_state_dict(ADM)
    assert set(tensors) == set(expected)
    assert all(torch.equal(tensors[name], x) for name, x in expected.items())
    assert header_facts(tmp_path / "out.safetensors")["averaged"] is True
    raw = tmp_path / "raw.safetensors"
    api.convert(tmp_path / "w.pt", raw, **facts, weights="raw")
    assert torch.equal(read_safetensors(raw)[0]["out.2.bias"], random_state_dict(ADM, seed=1)["out.2.bias"])
    assert "averaged" not in header_facts(raw)


def test_what_nobody_knows_is_not_made_a_fact(tmp_path: Path) -> None:
    _guided(tmp_path / "w.pt")
    told: list[str] = []
    api.convert(
        tmp_path / "w.pt",
        tmp_path / "out.safetensors",
        image_size=16,
        num_head_channels=16,
        progress=lambda note: told.append(note.message),
    )
    assert "nobody knows" in told[-1]
    assert not {"noise_schedule", "predicts", "use_new_attention_order"} & set(
        header_facts(tmp_path / "out.safetensors")
    )
    with pytest.raises(WeightsError, match="attention heads"):
        api.convert(tmp_path / "w.pt", tmp_path / "b.safetensors", image_size=16)


def test_half(tmp_path: Path) -> None:
    facts = _guided(tmp_path / "w.pt")
    for to in ("half.safetensors", "whole.safetensors"):
        api.convert(tmp_path / "w.pt", tmp_path / to, half=to.startswith("half"), **facts)
    whole, half = (read_safetensors(tmp_path / f"{name}.safetensors")[0] for name in ("whole", "half"))
    assert all(torch.equal(half[name], x.half()) for name, x in whole.items())
    torch.save({n: 1e5 * x for n, x in random_state_dict(ADM).items()}, tmp_path / "large.pt")
    with pytest.raises(WeightsError, match="too large for fp16"):
        api.convert(tmp_path / "large.pt", tmp_path / "large.safetensors", half=True, **facts)
    assert not (tmp_path / "large.safetensors").exists()


# --- diffusers


def theirs(folder: Path, out: Tensor) -> None:
    """The library's own network gives ``out`` for the inputs of :func:`output`, within float32."""
    network = UNet2DModel.from_pretrained(folder / "unet").eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(x, torch.tensor([3.0, 40.0])).sample
    assert float((out - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lucidrains"])
def test_diffusers_runs_what_was_converted_and_it_is_read_back(kind: str, tmp_path: Path) -> None:
    source, folder = tmp_path / "w.pt", tmp_path / "out"
    facts = KINDS[kind](source)
    api.convert(source, folder, to="diffusers", **facts)
    before, after = output(source, **facts), output(folder)
    assert float((after - before).abs().max() / before.abs().max()) < 1e-5
    theirs(folder, before)
    levels = ("image_size", "noise_schedule", "diffusion_steps", "predicts", "variance", "clip_sample")
    there, here = facts_of(folder), facts_of(source, **facts)
    learned = "learned" in kind or "averaged" in kind
    assert all(there.get(name) == here.get(name) for name in levels if not (learned and name == "variance"))
    api.convert(folder, tmp_path / "back.safetensors")
    back = output(tmp_path / "back.safetensors")
    if kind == "rosinality":  # whose embedding has another order in a single file
        assert float((after - back).abs().max() / back.abs().max()) < 1e-5
        return
    assert torch.equal(back, after)
    api.convert(tmp_path / "back.safetensors", tmp_path / "twice", to="diffusers")
    first, second = (
        read_safetensors(tmp_path / n / "unet/diffusion_pytorch_model.safetensors") for n in ("out", "twice")
    )
    assert first[0].keys() == second[0].keys()
    assert all(torch.equal(x, second[0][name]) for name, x in first[0].items())
    for name in ("unet/config.json", "scheduler/scheduler_config.json", "model_index.json"):
        assert (folder / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


@st.composite
def forms(draw: st.DrawFn) -> AdmArchitecture:
    levels = draw(st.integers(1, 3))
    widths = tuple(draw(st.sampled_from([32, 64])) for _ in range(levels))
    return AdmArchitecture(
        in_channels=3,
        out_channels=draw(st.sampled_from([3, 6])),
        model_channels=widths[0],
        widths=widths,
        num_res_blocks=draw(st.integers(1, 3)),
        attention=tuple(draw(st.booleans()) for _ in range(levels)),
        resampling=draw(st.sampled_from(["residual", "convolution"])),
        use_scale_shift_norm=draw(st.booleans()),
        hidden=HiddenFlags(
            num_head_channels=draw(st.sampled_from([8, 16, 32])),
            use_new_attention_order=draw(st.booleans()),
        ),
    )


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(form=forms())
def test_any_form_of_network_goes_to_diffusers_and_back(
    form: AdmArchitecture, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here = tmp_path_factory.mktemp("form")
    facts = _guided(here / "w.pt", form)
    api.convert(here / "w.pt", here / "out", to="diffusers", **facts)
    before = output(here / "w.pt", **facts)
    after = output(here / "out")
    assert float((after - before).abs().max() / before.abs().max()) < 1e-5
    theirs(here / "out", before)
    api.convert(here / "out", here / "back.safetensors")
    assert torch.equal(output(here / "back.safetensors"), after)
    expected = random_state_dict(form)
    back = read_safetensors(here / "back.safetensors")[0]
    assert back.keys() == expected.keys()
    assert all(
        torch.equal(x, back[name])
        for name, x in expected.items()
        if ".qkv." not in name or form.hidden.use_new_attention_order
    )


@pytest.mark.parametrize(
    ("form", "levels"),
    [
        (ADM, {"noise_schedule": "linear", "diffusion_steps": 50}),
        (NEW_ORDER, {"noise_schedule": "cosine", "diffusion_steps": 12, "predicts": "v"}),
        (
            SMALL,
            {"noise_schedule": "sigmoid", "diffusion_steps": 20, "predicts": "x0", "variance": "fixed_large"},
        ),
    ],
    ids=["learned variance", "cosine and v", "a schedule without a name there"],
)
def test_the_pipeline_of_diffusers_makes_the_same_picture(
    form: AdmArchitecture, levels: dict[str, Any], tmp_path: Path
) -> None:
    source, folder = tmp_path / "w.pt", tmp_path / "out"
    facts = {**_guided(source, form), **levels}
    api.convert(source, folder, to="diffusers", **facts)
    model = preset_of(source, **facts)
    engine = Engine.load(model, source, device="cpu", precision="fp32")
    draws = torch.Generator().manual_seed(7)
    x = torch.randn(1, 3, 16, 16, generator=draws)
    sampler = DDPM(model.variance if form is not ADM else "learned")
    with torch.inference_mode():
        for k in engine.schedule.steps(range(engine.schedule.T)):
            x, _ = sampler.step(
                x, engine.denoiser(x, k), k, lambda: torch.randn(1, 3, 16, 16, generator=draws), None
            )
    pipeline = DDPMPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        generator=torch.Generator().manual_seed(7), num_inference_steps=engine.schedule.T, output_type="np"
    ).images
    ours = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert ours.std() > 0.05
    assert float((ours - torch.from_numpy(made)).abs().max()) < 1e-4


def test_a_folder_of_diffusers_becomes_the_file_that_can_hold_it(tmp_path: Path) -> None:
    api.convert(write_diffusers(tmp_path / "faces"), tmp_path / "ddpm.safetensors", **LEVELS)
    tensors = read_safetensors(tmp_path / "ddpm.safetensors")[0]
    published = torch.load(GOLDEN / "ddpm_model.pt", weights_only=True)
    published = {name.removeprefix("module."): x for name, x in published.items()}
    assert tensors.keys() == published.keys()
    assert all(torch.equal(x, published[name]) for name, x in tensors.items())
    assert header_facts(tmp_path / "ddpm.safetensors")["format"] == "pesser-ddim"
    flags = {**NETWORKS["the library's defaults"], "downsample_padding": 1, "attention_head_dim": 16}
    build(flags).save_pretrained(tmp_path / "adm")
    api.convert(tmp_path / "adm", tmp_path / "adm.safetensors", image_size=32)
    assert header_facts(tmp_path / "adm.safetensors")["format"] == "guided-diffusion"
    assert torch.equal(output(tmp_path / "adm.safetensors"), output(tmp_path / "adm"))
    (tmp_path / "odd").mkdir()
    folder = write_diffusers(tmp_path / "odd" / "unet", config={**DDPM_CONFIG, "norm_eps": 1e-3})
    with pytest.raises(WeightsError, match="norm_eps"):
        api.convert(folder, tmp_path / "odd.safetensors", **LEVELS)
    api.convert(folder, tmp_path / "kept", to="diffusers", **LEVELS)
    assert torch.equal(output(tmp_path / "kept"), output(folder))


@pytest.mark.parametrize(
    ("form", "facts", "what"),
    [
        (replace(ADM, num_classes=10), {}, "classes"),
        (replace(ADM, resampling="pooling"), {}, "conv_resample=False"),
        (replace(ADM, widths=(64, 64)), {}, "time embedding of another width"),
        (
            replace(ADM, attention=(True, True), hidden=HiddenFlags(num_heads=2)),
            {},
            "heads of different widths",
        ),
        (ADM, {"rescale_timesteps": True}, "rescale_timesteps"),
        (ADM, {"predicts": "edm", "noise_schedule": "karras"}, "EDM"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_folder_of_diffusers_cannot_hold_is_named(
    form: AdmArchitecture, facts: dict[str, Any], what: str, tmp_path: Path
) -> None:
    known = {**_guided(tmp_path / "w.pt", form), **facts}
    with pytest.raises(WeightsError, match=what) as caught:
        api.convert(tmp_path / "w.pt", tmp_path / "out", to="diffusers", **known)
    assert "--to safetensors" in str(caught.value.hint)
    api.convert(tmp_path / "w.pt", tmp_path / "w.safetensors", **known)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pt", "w.safetensors"]


def test_lucidrains_and_folded_pixels_stay_what_they_are(tmp_path: Path) -> None:
    torch.save(diffusion_file("eps"), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="lucidrains"):
        api.convert(tmp_path / "w.pt", tmp_path / "out", to="diffusers", image_size=16)
    fold = replace(SMALL, in_channels=12, out_channels=12, conventions=replace(ROSINALITY, fold=2))
    torch.save(rosinality_file(fold, random_state_dict(fold)), tmp_path / "w.pt")
    facts = {"image_size": 16, "num_heads": 2, "noise_schedule": "quad"}
    with pytest.raises(WeightsError, match="folded"):
        api.convert(tmp_path / "w.pt", tmp_path / "out", to="diffusers", **facts)
    api.convert(tmp_path / "w.pt", tmp_path / "w.safetensors", **facts)
    assert torch.equal(output(tmp_path / "w.safetensors"), output(tmp_path / "w.pt", **facts))


# --- places


def test_nothing_is_overwritten_unasked_and_inputs_never(tmp_path: Path) -> None:
    facts = _guided(tmp_path / "w.pt")
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        api.convert(tmp_path / "w.pt", out, **facts)
    assert out.read_text() == "mine"
    api.convert(tmp_path / "w.pt", out, overwrite=True, **facts)
    with pytest.raises(UsageError, match="never touched"):
        api.convert(out, out, overwrite=True)
    with pytest.raises(UsageError, match=r"end in \.safetensors"):
        api.convert(out, tmp_path / "x.pt")
    with pytest.raises(UsageError, match="diffuser"):
        api.convert(out, tmp_path / "x.safetensors", to="diffuser")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    for to in ("diffusers", "safetensors"):
        with pytest.raises(UsageError):
            api.convert(out, folder, to=to, overwrite=True)
    with pytest.raises(UsageError):
        api.convert(out, tmp_path, to="diffusers", overwrite=True)
    assert (folder / "thesis.tex").read_text() == "mine"
    (folder / "thesis.tex").unlink()
    api.convert(out, folder, to="diffusers", overwrite=True)
    with pytest.raises(UsageError, match="there already"):
        api.convert(out, folder, to="diffusers")
    api.convert(out, folder, to="diffusers", overwrite=True, half=True)
    assert (
        read_safetensors(folder / "unet/diffusion_pytorch_model.safetensors")[0]["conv_out.bias"].dtype
        == torch.half
    )
    with pytest.raises(UsageError, match="never touched"):
        api.convert(folder, folder, to="diffusers", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "out.safetensors", "w.pt"]


def test_a_folder_that_cannot_be_finished_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = _guided(tmp_path / "w.pt")
    folder = api.convert(tmp_path / "w.pt", tmp_path / "out", to="diffusers", **facts)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ilvrctl.models.files.saving.save_safetensors", full)
    with pytest.raises(OutputError, match="no space left"):
        api.convert(tmp_path / "w.pt", folder, to="diffusers", overwrite=True, half=True, **facts)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "w.pt"]


# --- the command

STEPS = ("--steps", "3", "--precision", "fp32")


def test_the_command_and_the_same_picture_from_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [word for k, v in _guided(tmp_path / "w.pt").items() for word in ("--set", f"model.{k}={v}")]
    ran = ilvrctl("convert", "w.pt", "my cats.safetensors", *flags)
    assert (ran.code, ran.lines) == (0, ["my cats.safetensors"]), ran.err
    assert "ilvrctl translate PICTURE --weights 'my cats.safetensors'" in ran.err
    assert ilvrctl("translate", FOX, "--weights", "w.pt", *flags, *STEPS, "-o", "a.png").code == 0
    assert ilvrctl("translate", FOX, "--weights", "my cats.safetensors", *STEPS, "-o", "b.png").code == 0
    a, b = (Image.open(name).convert("RGB").tobytes() for name in ("a.png", "b.png"))
    assert a == b
    (row,) = json_lines(ilvrctl("convert", "my cats.safetensors", "cats", "--to", "diffusers", "--json"))
    assert (row["path"], row["format"]) == ("cats", "diffusers")
    assert json.loads((tmp_path / "cats/model_index.json").read_text())["_class_name"] == "DDPMPipeline"
    assert ilvrctl("translate", FOX, "--weights", "cats", *STEPS, "-o", "c.png").code == 0
    assert max(abs(x - y) for x, y in zip(a, Image.open("c.png").convert("RGB").tobytes(), strict=True)) <= 1
    assert ilvrctl("convert", "w.pt", "x.safetensors", "--set", "steps=3").code == 2
    assert ilvrctl("convert", "none.pt", "x.safetensors").code == 3


@pytest.mark.parametrize("name", ["bomb", "cut", "classifier", "other"])
def test_hostile_and_other_files_are_refused(name: str, tmp_path: Path) -> None:
    path, out = tmp_path / "w.pt", tmp_path / "out.safetensors"
    torch.save(random_state_dict(ADM), path)
    content = {
        "bomb": lambda: bomb([[[]]] * 3),
        "cut": lambda: path.read_bytes()[:-5000],
        "classifier": lambda: (GOLDEN / "dse.pt").read_bytes(),
        "other": lambda: b"\x89PNG not at all",
    }[name]()
    path.write_bytes(content)
    for to in ("safetensors", "diffusers"):
        ran = ilvrctl(
            "convert", path, out, "--to", to, "--set", "model.image_size=16", "--set", "model.num_heads=1"
        )
        assert ran.code == 3, ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]
