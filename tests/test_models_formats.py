"""Checkpoints of other projects: outputs as published, the facts that they state, and what cannot be read."""

from __future__ import annotations

import lzma
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import random_state_dict
from commands import ilvrctl
from conftest import GOLDEN, golden
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ilvrctl.diffusion.denoiser import Denoiser, SelfConditioned
from ilvrctl.diffusion.samplers import DDIM
from ilvrctl.diffusion.schedule import Schedule, Step
from ilvrctl.errors import IlvrctlError, UsageError, WeightsError
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.blocks import ROSINALITY
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.unet import AdmArchitecture
from ilvrctl.models.files import formats
from ilvrctl.models.files.facts import file_facts, with_stated
from ilvrctl.models.files.formats import FORMATS, identify
from ilvrctl.models.files.inspection import inspect_file
from ilvrctl.models.files.loading import load_network
from ilvrctl.models.files.rows import Format, has
from ilvrctl.models.files.verdict import verdict_on
from ilvrctl.models.lucidrains import Attends, LucidrainsArchitecture, LucidrainsUnet
from ilvrctl.presets import ModelPreset, load_models

CPU = torch.device("cpu")
ROSINALITY_FILES = ("rosinality_diffusion", "rosinality_improved")
LUCIDRAINS_FILES = ("lucidrains_trainer", "lucidrains_noise_linear", "lucidrains_unet_alone")
OBJECTIVES = {"pred_noise": "eps", "pred_x0": "x0", "pred_v": "v"}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A published file of that name, unpacked once."""
    folder = tmp_path_factory.mktemp("published")

    def unpacked(name: str) -> Path:
        path = folder / f"{name}.pt"
        if not path.exists():
            path.write_bytes(lzma.decompress((GOLDEN / f"{name}.pt.xz").read_bytes()))
        return path

    return unpacked


def relative(out: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected value."""
    return float((out - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", [*ROSINALITY_FILES, *LUCIDRAINS_FILES])
def test_outputs_of_the_published_networks(name: str, published: Callable[[str], Path]) -> None:
    network, io = load_network(published(name), HiddenFlags(), device=CPU), golden(f"{name}.io.pt")
    with torch.inference_mode():
        out = network(io["x"], io["t"].float())
    assert out.dtype == torch.float32
    assert relative(out, io["out"]) < 1e-5


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)])
@pytest.mark.parametrize("name", ["rosinality_improved", "lucidrains_trainer"])
def test_half_precision_is_close(
    name: str, dtype: torch.dtype, bound: float, published: Callable[[str], Path]
) -> None:
    network = load_network(published(name), HiddenFlags(), dtype=dtype, device=CPU)
    io = golden(f"{name}.io.pt")
    assert any(x.dtype == dtype for x in network.parameters())
    with torch.inference_mode():
        out = network(io["x"], io["t"].float())
    assert float((out - io["out"]).norm() / io["out"].norm()) < bound


@pytest.mark.parametrize("name", ROSINALITY_FILES)
def test_what_the_configuration_of_rosinality_tells(name: str, published: Callable[[str], Path]) -> None:
    facts, io = file_facts(published(name)), golden(f"{name}.io.pt")
    assert facts["num_heads"] == io["facts"]["heads"]
    assert facts["noise_schedule"] == io["facts"]["schedule"]
    assert (facts["format"], facts["image_size"], facts["predicts"]) == ("rosinality", 256, "eps")
    schedule = Schedule.of(with_stated(ModelPreset(), facts))
    expected = torch.cumprod(1 - io["betas"], 0)
    ours = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)
    torch.testing.assert_close(ours, expected, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("name", LUCIDRAINS_FILES)
def test_ten_deterministic_steps_as_lucidrains_takes_them(
    name: str, published: Callable[[str], Path]
) -> None:
    path, io = published(name), golden(f"{name}.io.pt")
    stated, facts = file_facts(path), io["facts"]
    told = {"noise_schedule": facts["beta_schedule"], "predicts": OBJECTIVES[facts["objective"]]}
    if name == "lucidrains_unet_alone":
        assert {stated[key] for key in told} == {"unknown"}
    else:
        assert {key: stated[key] for key in told} == told
    model = replace(with_stated(ModelPreset(), stated), **told)
    schedule = Schedule.of(model)
    ours = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)
    torch.testing.assert_close(ours, io["alphas_cumprod"], atol=1e-7, rtol=1e-5)
    denoiser = Denoiser(load_network(path, HiddenFlags(), device=CPU), predicts=model.predicts)  # type: ignore[arg-type]
    x, sampler = io["ddim_start"], DDIM()
    with torch.inference_mode():
        for k in schedule.steps(schedule.spread(io["ddim_steps"])):
            x, _ = sampler.step(x, denoiser(x, k), k, None, None)  # type: ignore[arg-type]
    assert float((x - io["ddim_sample"]).abs().max()) < 1e-4


def test_clean_estimates_of_an_edm_network(published: Callable[[str], Path]) -> None:
    path, io = published("openai_edm"), golden("openai_edm.io.pt")
    network = load_network(path, HiddenFlags(num_head_channels=32), device=CPU)
    denoiser = Denoiser(network, predicts="edm", clip_denoised=False)
    for row in io["rows"]:
        s = row["sigma"]
        alpha = (1 + s * s) ** -0.5
        k = Step(0, 1, 1, -1, alpha, s * alpha, 1.0, 0.0)
        with torch.inference_mode():
            x0 = denoiser(alpha * row["x"], k).x0
        assert float((x0 - row["denoised"]).abs().max()) < 1e-5
    assert file_facts(path)["predicts"] == "edm"
    info = inspect_file(path)
    assert (info.format, info.unknown) == ("openai-edm", ("num_heads or num_head_channels", "image_size"))


def test_the_levels_of_edm_are_its_noises() -> None:
    schedule = Schedule.named("karras")
    sigma = [(1 / abar - 1) ** 0.5 for abar in schedule.alphas_cumprod]
    assert sigma[0] == pytest.approx(0.002)
    assert sigma[-1] == pytest.approx(80)
    roots = [s ** (1 / 7) for s in sigma]
    assert [b - a for a, b in pairwise(roots)] == pytest.approx([roots[1] - roots[0]] * (schedule.T - 1))


def test_edm_networks_are_usable_and_one_step_networks_are_refused(
    tmp_path: Path, published: Callable[[str], Path]
) -> None:
    models = load_models()
    edm = models["edm_cat256_ema"]
    assert not edm.unsupported
    small = replace(edm, image_size=32, num_head_channels=32)
    assert verdict_on(published("openai_edm"), small).usable
    for name in ("cd_cat256_l2", "ct_bedroom256"):
        problems = verdict_on(published("openai_edm"), models[name]).problems
        assert "one step" in problems[0].message
    path = tmp_path / "cd_cat256_l2.pt"
    path.write_bytes(published("openai_edm").read_bytes())
    with pytest.raises(WeightsError, match="consistency network"):
        load_network(path, HiddenFlags(num_heads=1), device=CPU)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ROSINALITY_FILES, *LUCIDRAINS_FILES, "openai_edm"])
def test_what_inspect_tells_fits_on_one_screen(name: str, published: Callable[[str], Path]) -> None:
    """The family, and each fact with its source; the last part is the preset that would be written."""
    ran = ilvrctl("inspect", published(name))
    facts, _, _ = ran.out.decode().partition("\n\n")
    assert ran.code == 0 and len(ran.lines) <= 45
    rows = {line.split()[0]: line for line in facts.splitlines()}
    assert rows["format"].split()[1] in (row.name for row in FORMATS)
    if name in LUCIDRAINS_FILES:
        assert rows["release"].endswith("the file")
    for fact in ("channels", "noise_schedule", "predicts"):
        assert rows[fact].endswith(("the file", "assumed: nobody knows", "unknown"))


# --- what a format costs

SMALL = AdmArchitecture(3, 3, 32, (32, 64), 1, (False, True), hidden=HiddenFlags(num_heads=2))


def test_a_new_format_is_one_reader_and_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Format("toy", "a toy network", has("thgiew.0.debme_emit"), reads="toy_reader", states=True)
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, row))
    weights = random_state_dict(SMALL)
    path = tmp_path / "toy.pt"
    torch.save({"ema": {name[::-1]: x for name, x in weights.items()}, "step": 3}, path)
    network = load_network(path, HiddenFlags(), device=CPU)
    theirs = AdmUNet(SMALL)
    theirs.load_state_dict(weights)
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([7.0])
    with torch.inference_mode():
        assert torch.equal(network(x, t), theirs.eval()(x, t))
    info = inspect_file(path)
    assert (info.format, info.readable, info.unknown) == ("toy", True, ("image_size",))
    assert file_facts(path) == {"format": "toy", "predicts": "v", "noise_schedule": "cosine"}
    assert "toy" in formats.readable_hint()
    assert verdict_on(path, with_stated(ModelPreset(image_size=16), file_facts(path))).usable


# --- rosinality


def in_rosinality(architecture: AdmArchitecture) -> dict[str, str]:
    """guided-diffusion's name of every layer of rosinality's network, written as its constructor builds it."""
    layers = {"time.1": "time_embed.0", "time.3": "time_embed.2", "down.0": "input_blocks.0.0"}
    at, depth = 1, architecture.num_res_blocks

    def block(here: str, there: str, attends: bool) -> None:
        inner = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time.1": "emb_layers.1"}
        inner |= {"norm2": "out_layers.0", "conv2": "out_layers.3", "skip": "skip_connection"}
        layers.update({f"{here}.resblocks.{a}": f"{there}.0.{b}" for a, b in inner.items()})
        if attends:
            attention = {"norm": "norm", "qkv": "qkv", "out": "proj_out"}
            layers.update({f"{here}.attention.{a}": f"{there}.1.{b}" for a, b in attention.items()})

    for level, attends in enumerate(architecture.attention):
        for _ in range(depth):
            block(f"down.{at}", f"input_blocks.{at}", attends)
            at += 1
        if level < architecture.levels - 1:
            layers[f"down.{at}.0"] = f"input_blocks.{at}.0.op"
            at += 1
    block("mid.0", "middle_block", True)
    layers = {here: there.replace("middle_block.0.", "middle_block.0.") for here, there in layers.items()}
    block("mid.1", "middle_block_last", False)
    layers = {here: there.replace("middle_block_last.0", "middle_block.2") for here, there in layers.items()}
    own = number = 0
    for level in reversed(range(architecture.levels)):
        for _ in range(depth + 1):
            block(f"up.{own}", f"output_blocks.{number}", architecture.attention[level])
            own, number = own + 1, number + 1
        if level:
            place = 2 if architecture.attention[level] else 1
            layers[f"up.{own}.1"] = f"output_blocks.{number - 1}.{place}.conv"
            own += 1
    return layers | {"out.0": "out.0", "out.2": "out.2"}


def rosinality_file(architecture: AdmArchitecture, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under rosinality's names, matrices as convolutions, without those of the second norms."""
    layers = in_rosinality(architecture)
    found = {"time.0.inv_freq": torch.zeros(architecture.model_channels // 2)}
    for here, there in layers.items():
        for kind in ("weight", "bias"):
            x = weights.get(f"{there}.{kind}")
            if x is not None and not (architecture.use_scale_shift_norm and here.endswith("norm2")):
                found[f"{here}.{kind}"] = x[..., None] if x.ndim == 3 else x
    return found


@st.composite
def rosinality_networks(draw: st.DrawFn) -> AdmArchitecture:
    levels = draw(st.integers(1, 3))
    heads = draw(st.sampled_from([1, 2, 4]))
    channels, fold = draw(st.sampled_from([(3, 1), (3, 2), (1, 1), (4, 1)]))
    return AdmArchitecture(
        in_channels=channels * fold * fold,
        out_channels=channels * fold * fold,
        model_channels=32,
        widths=tuple(32 * draw(st.integers(1, 2)) for _ in range(levels)),
        num_res_blocks=draw(st.integers(1, 3)),
        attention=tuple(draw(st.booleans()) for _ in range(levels)),
        use_scale_shift_norm=draw(st.booleans()),
        hidden=HiddenFlags(num_heads=heads),
        conventions=replace(ROSINALITY, fold=fold),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(architecture=rosinality_networks())
def test_any_network_of_rosinality_is_read(architecture: AdmArchitecture, tmp_path: Path) -> None:
    weights = random_state_dict(architecture)
    if architecture.use_scale_shift_norm:
        for name, x in weights.items():
            if "out_layers.0" in name:
                x.fill_(1.0 if name.endswith("weight") else 0.0)
    torch.save({"ema": rosinality_file(architecture, weights)}, tmp_path / "w.pt")
    network = load_network(tmp_path / "w.pt", architecture.hidden, device=CPU)
    assert network.architecture == architecture
    ours = network.state_dict()
    assert ours.keys() == weights.keys()
    assert all(torch.equal(ours[name], x) for name, x in weights.items())
    size = 2 * architecture.downsample_factor
    x = torch.randn(1, architecture.channels, size, size)
    assert network(x, torch.tensor([5.0])).shape == x.shape


def test_attention_of_several_heads_is_divided_by_the_root_of_all_channels() -> None:
    plain = AdmUNet(replace(SMALL, hidden=HiddenFlags(num_heads=4)))
    weights = random_state_dict(SMALL)
    plain.load_state_dict(weights)
    scaled = AdmUNet(
        replace(SMALL, hidden=HiddenFlags(num_heads=4), conventions=replace(ROSINALITY, sine_first=False))
    )
    for name, x in weights.items():
        if ".qkv." in name:  # rows of q, k and v of each head in turn
            x.view(4, 3, 16, *x.shape[1:])[:, 0] *= 2.0
    scaled.load_state_dict(weights)
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([9.0])
    with torch.inference_mode():
        assert relative(scaled(x, t), plain(x, t)) < 1e-5


class Settings(dict[str, Any]):
    """What a configuration of rosinality's project pickles to; its module is set below."""


Settings.__module__ = "config"


class Trap:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.witness}",)


def save_with_conf(path: Path, conf: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    import sys
    from types import ModuleType

    module = ModuleType("config")
    module.Settings = Settings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "config", module)
    architecture = replace(SMALL, conventions=ROSINALITY, use_scale_shift_norm=False)
    torch.save({"ema": rosinality_file(architecture, random_state_dict(architecture)), "conf": conf}, path)
    monkeypatch.delitem(sys.modules, "config")
    return path


def conf_of(**changes: Any) -> Settings:
    schedule = {"schedule": "linear", "n_timestep": 500, "linear_start": 1e-4, "linear_end": 0.02}
    return Settings(model={"attn_heads": 2}, diffusion={"beta_schedule": {**schedule, **changes}})


def test_linear_meant_quadratic_before_configurations_named_what_they_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for conf, name in (
        (conf_of(), "quad"),
        (conf_of(__target="diffusion.make_beta_schedule"), "linear"),
        (conf_of(__target="diffusion.make_beta_schedule", schedule="quad"), "quad"),
        (Settings(model={"fold": 1}), "quad"),
    ):
        facts = file_facts(save_with_conf(tmp_path / "w.pt", conf, monkeypatch))
        assert facts["noise_schedule"] == name
        assert facts["num_heads"] == (2 if "attn_heads" in conf["model"] else 1)


HOSTILE: dict[str, Any] = {
    "heads": Settings(model={"attn_heads": -3}),
    "a text for heads": Settings(model={"attn_heads": "4; rm -rf /"}),
    "a schedule of its own": conf_of(schedule="../../etc/passwd"),
    "no levels": conf_of(n_timestep=0),
    "levels without end": conf_of(n_timestep=10**12),
    "betas beyond 1": conf_of(linear_end=40.0),
    "an odd cosine": conf_of(schedule="cosine", cosine_s=0.5),
    "a size of nothing": Settings(model={}, dataset={"resolution": 0}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_impossible_configurations_are_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_with_conf(tmp_path / "w.pt", HOSTILE[name], monkeypatch)
    for act in (inspect_file, file_facts):
        with pytest.raises(WeightsError) as error:
            act(path)
        assert "\n" not in error.value.message
        assert error.value.hint or "cosine" in error.value.message


def test_code_in_a_configuration_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = tmp_path / "witness"
    path = save_with_conf(tmp_path / "w.pt", Settings(model=Trap(witness)), monkeypatch)
    with pytest.raises(WeightsError, match="nothing in it was run"):
        inspect_file(path)
    assert not witness.exists()


def test_without_a_configuration_schedule_and_heads_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(rosinality_file(replace(SMALL, conventions=ROSINALITY), random_state_dict(SMALL)), path)
    assert file_facts(path)["noise_schedule"] == "unknown"
    (problem,) = verdict_on(path, with_stated(ModelPreset(image_size=16), file_facts(path))).problems[:1]
    assert "attention heads" in problem.message
    assert "noise schedule" in problem.message
    known = replace(
        with_stated(ModelPreset(image_size=16), file_facts(path)), noise_schedule="quad", num_heads=2
    )
    assert verdict_on(path, known).usable
    betas = torch.linspace(0.0001**0.5, 0.02**0.5, 1000, dtype=torch.float64) ** 2
    weights = rosinality_file(replace(SMALL, conventions=ROSINALITY), random_state_dict(SMALL))
    torch.save({"ema": weights | {"betas": betas.float()}}, path)
    assert file_facts(path)["noise_schedule"] == "quad"


def test_the_first_version_of_rosinality_is_named(tmp_path: Path) -> None:
    weights = rosinality_file(replace(SMALL, conventions=ROSINALITY), random_state_dict(SMALL))
    weights = {n: torch.cat([x, x[:64]]) if ".qkv." in n else x for n, x in weights.items()}
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="first version"):
        inspect_file(tmp_path / "w.pt")


# --- lucidrains


@st.composite
def lucidrains_networks(draw: st.DrawFn) -> LucidrainsArchitecture:
    levels, width, channels = (
        draw(st.integers(1, 4)),
        draw(st.sampled_from([8, 16])),
        draw(st.sampled_from([1, 3, 4])),
    )
    attends = st.builds(
        Attends, st.booleans(), st.integers(1, 4), st.sampled_from([8, 16]), st.sampled_from([2, 4])
    )
    attention = tuple(draw(attends) for _ in range(levels))
    condition, variance = draw(st.booleans()), draw(st.booleans())
    return LucidrainsArchitecture(
        in_channels=channels * (2 if condition else 1),
        out_channels=channels * (2 if variance else 1),
        width=width,
        widths=tuple(draw(st.sampled_from([8, 12, 16])) for _ in range(levels + 1)),
        attention=attention,
        middle=replace(attention[-1], full=True),
        self_condition=condition,
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(architecture=lucidrains_networks())
def test_any_network_of_lucidrains_is_read(architecture: LucidrainsArchitecture, tmp_path: Path) -> None:
    theirs = LucidrainsUnet(architecture).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    ours = load_network(tmp_path / "w.pt", HiddenFlags(), device=CPU)
    assert ours.architecture == architecture
    size = 2 * architecture.downsample_factor
    x, t = torch.randn(2, architecture.channels, size, size), torch.tensor([3.0, 700.0])
    with torch.inference_mode():
        out = ours(x, t)
        assert relative(out, theirs(x, t)) < 1e-5
    assert out.shape == (2, architecture.out_channels, size, size)
    if architecture.levels > 1:
        with pytest.raises(UsageError, match="multiples"):
            ours(torch.zeros(1, architecture.channels, size + 1, size), t[:1])


UNET = LucidrainsArchitecture(
    3, 3, 8, (8, 8, 16), (Attends(False, 2, 8, 4), Attends(True, 2, 8, 4)), Attends(True, 2, 8, 4)
)


def diffusion_file(
    predicts: str, name: str = "sigmoid", T: int = 200, gamma: float = 1e9
) -> dict[str, Tensor]:
    """The state of a GaussianDiffusion."""
    abar = torch.tensor(Schedule.named(name, T).alphas_cumprod, dtype=torch.float64)
    before = torch.cat([torch.ones(1, dtype=torch.float64), abar[:-1]])
    snr = abar / (1 - abar)
    weight = snr.clamp(max=gamma) / {"eps": snr, "x0": torch.ones_like(snr), "v": snr + 1}[predicts]
    state = {f"model.{n}": x for n, x in LucidrainsUnet(UNET).state_dict().items()}
    return {"betas": (1 - abar / before).float(), "loss_weight": weight.float()} | state


@pytest.mark.parametrize("gamma", [1e9, 5.0])
@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_schedule_and_objective_follow_from_the_loss(
    predicts: str, name: str, gamma: float, tmp_path: Path
) -> None:
    state = diffusion_file(predicts, name, gamma=gamma)
    ema = {f"ema_model.{n}": x for n, x in state.items()} | {
        "initted": torch.tensor(True),
        "step": torch.tensor(9),
    }
    raw = {n: torch.zeros_like(x) for n, x in state.items()}
    for content in (
        state,
        {"model": state, "step": 1},
        {"model": raw, "ema": ema, "version": "2.1.0", "step": 1},
    ):
        torch.save(content, tmp_path / "w.pt")
        facts = file_facts(tmp_path / "w.pt")
        assert (facts["predicts"], facts["noise_schedule"], facts["diffusion_steps"]) == (predicts, name, 200)
        info = inspect_file(tmp_path / "w.pt")
        assert info.facts["release"] == ("2.1.0" if "version" in content else "2.0 or later")
        assert info.unknown == ("image_size", "theta")
        weights = load_network(tmp_path / "w.pt", HiddenFlags(), device=CPU).state_dict()
        assert torch.equal(weights["init_conv.weight"], state["model.init_conv.weight"])


def test_a_loss_of_no_objective_is_an_error(tmp_path: Path) -> None:
    torch.save({**diffusion_file("v"), "loss_weight": torch.rand(200) + 3}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="objectives"):
        file_facts(tmp_path / "w.pt")


def test_a_unet_alone_asks_for_schedule_and_objective_at_once(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(LucidrainsUnet(UNET).state_dict(), path)
    model = with_stated(ModelPreset(), file_facts(path))
    problem = verdict_on(path, model).problems[0]
    assert isinstance(problem, UsageError)
    for word in ("picture size", "noise schedule", "what it predicts"):
        assert word in problem.message
    assert "--set model.predicts=" in str(problem.hint)
    assert verdict_on(path, replace(model, image_size=16, noise_schedule="cosine", predicts="v")).usable
    written_for_it = ModelPreset(format="lucidrains", noise_schedule="cosine", predicts="v")
    assert with_stated(written_for_it, file_facts(path)).predicts == "v"


def test_self_conditioning_hands_each_estimate_to_the_next_step() -> None:
    seen: list[Tensor | None] = []

    def network(x: Tensor, t: Tensor, y: Tensor | None, before: Tensor | None) -> Tensor:
        seen.append(before)
        return torch.zeros_like(x)

    denoise = SelfConditioned(Denoiser(network, predicts="v", self_condition=True))
    steps = Schedule.named("linear").steps([900, 500, 100])
    x = torch.full((1, 3, 4, 4), 0.5)
    first, second = denoise(x, steps[0]), denoise(x, steps[1])
    denoise(x, steps[0])  # back up the chain
    assert seen[0] is None
    assert seen[1] is first.x0
    assert seen[2] is None
    assert not torch.equal(first.x0, second.x0)


OLDER = {
    "before 0.16": ["downs.0.0.block1.block.0.weight", "mid_block1.mlp.1.weight"],
    "from 0.16 to 1.7": [
        "downs.0.0.block1.proj.weight",
        "downs.0.2.fn.fn.to_qkv.weight",
        "mid_attn.fn.fn.to_qkv.weight",
    ],
    "1.8": ["downs.0.0.block1.proj.weight", "downs.0.2.to_qkv.weight", "mid_attn.to_qkv.weight"],
    "from 1.9 to 1.11": ["downs.0.0.block1.norm.weight", "downs.0.2.mem_kv", "mid_attn.mem_kv"],
}


@pytest.mark.parametrize("release", OLDER)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_older_releases_are_named(release: str, prefix: str, tmp_path: Path) -> None:
    tensors = {f"{prefix}{name}": torch.zeros(2, 2) for name in OLDER[release]}
    torch.save({"model": {"betas": torch.zeros(5), **tensors}}, tmp_path / "w.pt")
    info = inspect_file(tmp_path / "w.pt")
    assert not info.readable
    assert info.facts["release"] == release
    with pytest.raises(WeightsError, match=f"release {release}") as error:
        load_network(tmp_path / "w.pt", HiddenFlags(), device=CPU)
    assert "2.0" in str(error.value.hint)
    torch.save({"model": tensors, "version": "1.5.4"}, tmp_path / "w.pt")
    assert inspect_file(tmp_path / "w.pt").facts["release"] == "1.5.4"


def test_embeddings_that_cannot_be_driven_are_named(tmp_path: Path) -> None:
    torch.save({**LucidrainsUnet(UNET).state_dict(), "time_mlp.0.weights": torch.zeros(8)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="learned or random embedding"):
        load_network(tmp_path / "w.pt", HiddenFlags(), device=CPU)


@pytest.mark.parametrize(
    "name", ["mid_attn.mem_kv", "downs.1.0.block1.norm.g", "final_conv.bias", "ups.0.3.1.weight"]
)
def test_a_tensor_that_is_lost_or_wrong_is_named(name: str, tmp_path: Path) -> None:
    weights = LucidrainsUnet(UNET).state_dict()
    torch.save({n: x for n, x in weights.items() if n != name}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"tensor \S+ (is missing|does not fit)"):
        load_network(tmp_path / "w.pt", HiddenFlags(), device=CPU)
    torch.save({**weights, name: torch.zeros(7, 5)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"tensor \S+ does not fit"):
        load_network(tmp_path / "w.pt", HiddenFlags(), device=CPU)


# --- networks that cannot be read

FOREIGN: dict[str, list[str]] = {
    "score-sde": ["all_modules.0.weight", "all_modules.2.Conv_0.weight", "sigmas"],
    "nvlabs-edm": ["model.map_layer0.weight", "model.enc.64x64_conv.weight", "model.dec.64x64_in0.weight"],
    "k-diffusion": ["inner_model.timestep_embed.weight", "inner_model.u_net.d_blocks.0.0.weight"],
    "imagen-pytorch": ["unets.0.init_conv.convs.0.weight", "unets.0.to_time_hiddens.0.weights"],
    "stable-diffusion": ["model.diffusion_model.time_embed.0.weight", "first_stage_model.encoder.conv_in.weight"],
    "learned-autoencoder": ["encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight"],
    "diffusers-conditional": [
        "conv_in.weight", "time_embedding.linear_1.weight",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    ],
    "controlnet": ["control_model.time_embed.0.weight", "control_model.input_hint_block.0.weight"],
    "lora": ["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"],
    "dit": ["x_embedder.proj.weight", "t_embedder.mlp.0.weight", "blocks.0.attn.qkv.weight"],
    "u-vit": ["patch_embed.proj.weight", "in_blocks.0.attn.qkv.weight", "out_blocks.0.skip_linear.weight"],
    "mmdit": ["double_blocks.0.img_attn.qkv.weight", "img_in.weight"],
    "stylegan": ["style.1.weight", "convs.0.conv.modulation.weight", "to_rgbs.0.conv.weight"],
    "biggan": ["shared.weight", "linear.weight", "blocks.0.0.conv1.weight", "output_layer.1.weight"],
    "dcgan": ["main.0.weight", "main.1.running_mean"],
    "translation-gan": ["model.1.weight", "model.10.conv_block.1.weight"],
    "flow": ["blocks.0.flows.0.actnorm.loc", "blocks.0.flows.0.invconv.w_p"],
    "vqvae": ["enc_b.blocks.0.weight", "quantize_t.embed"],
    "clip": ["visual.conv1.weight", "text_projection", "logit_scale"],
    "language-model": ["transformer.h.0.attn.c_attn.weight", "transformer.wte.weight"],
    "resnet": ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.1.conv1.weight", "fc.weight"],
    "inception": ["Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch1x1.conv.weight"],
    "vgg": ["features.0.weight", "classifier.0.weight"],
    "sr3": ["denoise_fn.downs.0.weight", "denoise_fn.noise_level_mlp.1.weight"],
    "pytorch-ddpm": ["time_embedding.timembedding.0.weight", "head.weight", "downblocks.0.block1.0.weight"],
    "monai": ["conv_in.conv.weight", "time_embed.0.weight", "down_blocks.0.resnets.0.norm1.weight"],
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_networks_of_the_best_known_repositories_are_named(name: str, tmp_path: Path) -> None:
    found = identify(FOREIGN[name])
    assert found is not None
    assert found.name == name
    for content in ({key: torch.zeros(2, 2) for key in FOREIGN[name]},):
        torch.save({"state_dict": content}, tmp_path / "w.pt")
        info = inspect_file(tmp_path / "w.pt")
        assert (info.format, info.readable, info.denoises) == (name, False, False)
        for act in (
            lambda: load_network(tmp_path / "w.pt", HiddenFlags(), device=CPU),
            lambda: verdict_on(tmp_path / "w.pt", ModelPreset()).require(),
        ):
            with pytest.raises(WeightsError, match="this is") as error:
                act()
            assert error.value.hint
            assert "something else" not in error.value.message


def test_no_readable_network_is_taken_for_a_foreign_one(published: Callable[[str], Path]) -> None:
    for name in (*ROSINALITY_FILES, *LUCIDRAINS_FILES, "openai_edm"):
        info = inspect_file(published(name))
        assert info.readable
        assert info.denoises


def test_a_pickle_of_nvlabs_is_named_and_not_run(tmp_path: Path) -> None:
    pickled = (
        b"\x80\x04\x95\x50\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x03ema\x94\x8c\x17torch_utils.persistence\x94"
        b"\x8c\x1e_reconstruct_persistent_object\x94\x93\x94)R\x94s."
    )
    path = tmp_path / "edm-afhqv2-64x64.pkl"
    path.write_bytes(pickled)
    with pytest.raises(WeightsError, match=r"NVlabs.*nothing in it was run") as error:
        inspect_file(path)
    assert "edm_" in str(error.value.hint)


def test_errors_are_of_the_program(tmp_path: Path) -> None:
    """Every file of one kind under the name of another is one error of the program, never a traceback."""
    names = sorted(
        {name for names in FOREIGN.values() for name in names} | {n for v in OLDER.values() for n in v}
    )
    for start in range(0, len(names), 3):
        torch.save({name: torch.zeros(2, 3) for name in names[start : start + 5]}, tmp_path / "w.pt")
        with pytest.raises(IlvrctlError):
            load_network(tmp_path / "w.pt", HiddenFlags(), device=CPU)
