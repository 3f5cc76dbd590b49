"""--speed: what it means, what wins over it, and that every mode keeps the promises of a result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
import torch
from checkpoints import architecture_of, random_state_dict, write_small_network
from commands import CUP, FOX, difference, ilvrctl, pixels
from torch import nn

from ilvrctl import paths
from ilvrctl.config import Layer
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.reuse import Reusing, splitting
from ilvrctl.diffusion.samplers import DDIM
from ilvrctl.diffusion.schedule import Schedule, spread_levels
from ilvrctl.errors import UsageError
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.cpu import choice, kernels
from ilvrctl.models.cpu.convolution import Convolution
from ilvrctl.settings import SPEEDS, Settings, build_settings

FLAGS = {
    "image_size": 32,
    "num_channels": 128,
    "channel_mult": "1,1",
    "num_res_blocks": 1,
    "num_head_channels": 64,
    "attention_resolutions": "16",
    "resblock_updown": True,
    "learn_sigma": True,
}
MODES = tuple(SPEEDS)
SHORT = ("--steps", "4", "--precision", "fp32")


@pytest.fixture(scope="module")
def network() -> AdmUNet:
    """Wide enough for Winograd convolutions, and with a deep part."""
    architecture = architecture_of(FLAGS)
    found = AdmUNet(architecture)
    found.load_state_dict(random_state_dict(architecture))
    return found.requires_grad_(False).eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("way", ["nnpack", "winograd"])
def test_exact_is_the_direct_arithmetic(network: AdmUNet, way: str) -> None:
    if not choice.KERNELS[way].fits(nn.Conv2d(128, 128, 3, padding=1), torch.float32, 32, 32):
        pytest.skip(f"this PyTorch has no {way}")
    x, t = noise(2, 3, 32, 32), torch.tensor([500.0, 20.0])
    with choice.directly():
        direct = network(x, t)
    with choice.forced(way):
        ours = network(x, t)
    assert not torch.equal(ours, direct)
    assert (ours - direct).abs().max() <= 1e-4 * direct.abs().max()


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_shallow_call_with_its_own_deep_features_is_the_whole_one(network: AdmUNet, blocks: int) -> None:
    x, t = noise(2, 3, 32, 32), torch.tensor([500.0, 20.0])
    whole, deep = network.keeping(x, t, None, blocks)
    assert deep is not None
    assert torch.equal(whole, network(x, t))
    torch.testing.assert_close(network.shallow(x, t, None, deep, blocks), whole, rtol=0, atol=1e-5)
    other = network.shallow(noise(2, 3, 32, 32).flip(3), t, None, deep, blocks)
    assert (other - whole).abs().max() > 0.1


def test_deep_features_are_found_at_every_second_step_whoever_stands_beside(network: AdmUNet) -> None:
    steps = Schedule.named("linear").steps(spread_levels(1000, 5))
    x = noise(3, 3, 32, 32)
    denoiser = Denoiser(network, clip_denoised=False)
    together, alone = (Reusing(denoiser, network, 2, 1) for _ in range(2))
    for k in steps:
        found, single = together(x, k).eps, alone(x[1:2], k).eps
        torch.testing.assert_close(found[1:2], single, rtol=0, atol=1e-4)
        assert torch.equal(found, denoiser(x, k).eps) == (k.i % 2 == 0)


def test_a_step_back_up_the_chain_is_a_whole_one(network: AdmUNet) -> None:
    steps = Schedule.named("linear").steps(spread_levels(1000, 5))
    x = noise(1, 3, 32, 32)
    denoiser = Denoiser(network, clip_denoised=False)
    reusing = Reusing(denoiser, network, 2, 1)
    for i, whole in ((0, True), (1, False), (2, True), (3, False), (1, True), (2, True), (3, False)):
        found = reusing(x, steps[i])
        assert torch.equal(found.eps, denoiser(x, steps[i]).eps) == whole


def test_what_each_speed_means() -> None:
    target = Layer({"steps": 100, "method": {"name": "ilvr", "N": 4}})
    exact, fast, turbo = (build_settings(target, overrides=[Layer({"speed": name})]) for name in MODES)
    assert (exact.precision, exact.steps, exact.reuse) == ("fp32", 100, 1)
    assert fast == build_settings(target)
    assert (fast.precision, fast.reuse) == ("auto", 1)
    assert turbo.sampler == DDIM()
    assert turbo.network_calls(Schedule.named("linear")) == turbo.steps * turbo.method.start < 10
    assert turbo.reuse > 1
    assert turbo.method.constraint == fast.method.constraint


@pytest.mark.parametrize(
    ("beside", "key", "value"),
    [
        ({"steps": 50}, "steps", 50),
        ({"timestep_respacing": "25"}, "timestep_respacing", "25"),
        ({"precision": "bf16"}, "precision", "bf16"),
        ({"reuse": 1}, "reuse", 1),
        ({"sampler": "ddpm"}, "sampler", {"name": "ddpm", "variance": "auto"}),
    ],
)
def test_what_is_given_beside_a_speed_wins(beside: dict[str, object], key: str, value: object) -> None:
    speed = Layer({"speed": "turbo"})
    for layers in ([merged(speed, beside)], [speed, Layer(beside)]):
        assert build_settings(overrides=layers).record()[key] == value
    assert build_settings(Layer(beside), overrides=[speed]).steps == build_settings(speed).steps


def merged(layer: Layer, values: dict[str, object]) -> Layer:
    return Layer({**layer.values, **values})


def test_a_record_of_turbo_gives_the_same_settings_again() -> None:
    turbo = build_settings(overrides=[Layer({"speed": "turbo"}), Layer({"steps": 30})])
    assert build_settings(Layer(turbo.record())) == turbo
    assert turbo.identity({}) != Settings().identity({})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--speed", "trubo"), "unknown speed 'trubo'"),
        (("--set", "reuse=0"), "reuse is a whole number from 1 up, not 0"),
        (("--from", "emoji3d", "--speed", "turbo", "--sampler", "ddim", "--eta", "0.1"), "deep features"),
        (("--set", "reuse=2", "--set", "reuse_blocks=40"), "deep features cannot be reused"),
    ],
)
def test_what_cannot_be_is_refused(flags: tuple[str, ...], message: str, tmp_path: Path) -> None:
    ran = ilvrctl("translate", FOX, "--to", "emoji3d", *SHORT, *flags, "-o", tmp_path / "out")
    assert ran.code == 2
    assert message in ran.err
    assert "hint: " in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("speed", MODES)
def test_every_mode_keeps_the_promises(speed: str, tmp_path: Path) -> None:
    pictures = sorted(paths.EXAMPLES.iterdir())[:1]

    def made(name: str, *more: str | Path) -> dict[str, Path]:
        flags = ("--to", "emoji3d", "--speed", speed, *SHORT, "-o", tmp_path / name)
        ran = ilvrctl("translate", *more, *flags)
        assert ran.code == 0, ran.err
        return {path.name: path for path in (tmp_path / name).iterdir()}

    many = made("many", *pictures, FOX, CUP)
    one = made("one", *pictures, FOX, "--batch-size", "1")
    again = made("again", FOX, "--batch-size", "1")
    assert pixels(one["fox.png"]) == pixels(again["fox.png"])
    for name, path in one.items():
        mean, largest = difference(path, many[name])
        assert mean <= 0.05
        assert largest <= 1
    replay = ilvrctl(
        "translate", FOX, "--from-image", one["fox.png"], "-o", tmp_path / "replay", "--batch-size", "1"
    )
    assert replay.code == 0, replay.err
    assert pixels(tmp_path / "replay" / "fox.png") == pixels(one["fox.png"])


def test_a_network_without_a_deep_part_is_refused(tmp_path: Path) -> None:
    assert splitting(AdmUNet(architecture_of(FLAGS)), 3)
    with pytest.raises(UsageError, match="deep features cannot be reused"):
        splitting(lambda x, t, y: x, 1)
    weights = write_small_network(tmp_path / "w.pt")
    facts = ("--set", "model.image_size=32", "--set", "model.num_heads=2", "--set", "reuse_blocks=4")
    ran = ilvrctl(
        "translate", FOX, "--weights", weights, *facts, "--N", "4", "--speed", "turbo", "-o", tmp_path
    )
    assert ran.code == 2
    assert "4 decoder blocks" in ran.err


def test_doctor_times_a_network() -> None:
    ran = ilvrctl(
        "doctor", "--bench", "--speed", "turbo", "--precision", "fp32", "--batch-size", "1", "--json"
    )
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)["bench"]
    turbo = build_settings(Layer({"speed": "turbo"}))
    assert found["network_calls"] == turbo.steps // 2 > found["whole_calls"]
    assert 0 <= found["share_of_peak"] < 4  # 0.0 where much else runs
    assert found["folder_seconds"] == pytest.approx(100 / found["images_per_second"])
    assert found["gflop_a_call"] == pytest.approx(3.8, abs=0.3)


def test_doctor_wants_bench_for_what_belongs_to_it() -> None:
    ran = ilvrctl("doctor", "--to", "emoji3d")
    assert ran.code == 2
    assert "ilvrctl doctor --bench" in ran.err
    assert ilvrctl("doctor", "--bench", "--to", "dog").code == 3


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (3, 2, 0), (1, 1, 0)])
def test_bf16_where_the_processor_has_none(
    kernel: int, stride: int, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_no_bf16", lambda: True)
    layer = Convolution(16, 24, kernel, stride, padding).bfloat16().requires_grad_(False)
    x = noise(2, 16, 12, 12).bfloat16()
    found = layer(x)
    exact = nn.functional.conv2d(
        x.double(), layer.weight.double(), cast(torch.Tensor, layer.bias).double(), stride, padding
    )
    assert found.dtype == torch.bfloat16
    assert (found - exact).abs().max() <= 2**-8 * exact.abs().max()  # rounded once, to 8 bits
    layer.requires_grad_(True)
    assert layer(x).requires_grad
