"""Models of several networks, each for some levels: which is asked, what is known of them, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_random_checkpoint, write_small_network
from commands import FOX, ilvrctl, json_lines, pixels
from test_engine_load import SMALL
from test_engine_loop import engine, reference, results
from torch import Tensor

import ilvrctl as package
from ilvrctl import paths
from ilvrctl.config import Layer
from ilvrctl.diffusion.denoiser import Denoiser, Prediction, Predicts
from ilvrctl.diffusion.reuse import Reusing
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.engine import Engine
from ilvrctl.errors import ConfigError, WeightsError
from ilvrctl.images.metadata import read_record
from ilvrctl.presets import broken_presets, find_model, load_models, require_weights
from ilvrctl.settings import build_settings
from ilvrctl.yaml_core import dump_yaml

CHAIN = Schedule.named("linear")
FACTS = {"image_size": 32, "num_heads": 2}
TWO = [{"model": "high", "down_to": 450}, {"model": "low"}]


class Told:
    """A network that remembers the levels it was told."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor, self.levels = factor, list[float]()

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self.levels += t.tolist()
        return self.factor * torch.tanh(x.roll(1, -1) + t[:, None, None, None] / 1000)


def both(high: Any, low: Any, down_to: int = 450, **facts: Any) -> Denoiser:
    return Denoiser(low, experts=((down_to, Denoiser(high, **facts)),))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def write(name: str, facts: dict[str, Any], kind: str = "models") -> None:
    path = paths.config_dir() / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump_yaml(facts))


@pytest.fixture
def pair() -> tuple[Path, Path]:
    """The presets high (v), low (eps) and both, a target of each, and the files of high and low."""
    folder = paths.weights_dir()
    folder.mkdir(parents=True)
    for seed, name in enumerate(("high", "low")):
        write_small_network(folder / f"{name}.pt", seed)
        write(name, {**FACTS, "file": f"{name}.pt", "predicts": "v" if name == "high" else "eps"})
    write("both", {"title": "two", "experts": TWO})
    for name in ("high", "low", "both"):
        write(name, {"model": name, "settings": {"steps": 3, "method": {"name": "ilvr", "N": 4}}}, "targets")
    return folder / "high.pt", folder / "low.pt"


def loaded(name: str, **how: Any) -> Engine:
    model = find_model(name)
    return Engine.load(model, model.path(), device="cpu", **{"precision": "fp32", **how})


def asked(predicted: Prediction, other: Prediction) -> bool:
    return torch.equal(predicted.x0, other.x0) and torch.equal(predicted.eps, other.eps)


def test_the_level_itself_is_the_upper_ones() -> None:
    high, low = Told(), Told()
    denoise, x = both(high, low), noise(2, 3, 8, 8)
    for k in CHAIN.steps([999, 451, 450, 449, 0]):
        denoise(x, k)
    assert high.levels == [999, 999, 451, 451, 450, 450]
    assert low.levels == [449, 449, 0, 0]


def test_several_experts() -> None:
    networks = [Told() for _ in range(3)]
    upper = tuple((down_to, Denoiser(n)) for down_to, n in zip((700, 300), networks, strict=False))
    denoise = Denoiser(networks[2], experts=upper)
    for k in CHAIN.steps(range(0, 1000, 100)):
        denoise(noise(1, 3, 8, 8), k)
    assert [n.levels for n in networks] == [[900, 800, 700], [600, 500, 400, 300], [200, 100, 0]]


@pytest.mark.parametrize("predicts", ["v", "x0", "edm"])
def test_each_is_read_as_it_predicts(predicts: Predicts) -> None:
    high, low = Told(), Told(0.5)
    x = noise(1, 3, 8, 8)
    for clip in (True, False):
        denoise = replace(both(high, low, predicts=predicts, time_scale=0.25), clip_denoised=clip)
        above, below = CHAIN.steps([600, 200])
        one = Denoiser(high, predicts=predicts, time_scale=0.25, clip_denoised=clip)
        assert asked(denoise(x, above), one(x, above))
        assert asked(denoise(x, below), Denoiser(low, clip_denoised=clip)(x, below))


def test_v_above_and_eps_below_by_hand() -> None:
    high, low, x = Told(), Told(0.5), noise(1, 3, 8, 8)
    denoise = replace(both(high, low, predicts="v"), clip_denoised=False)
    above, below = CHAIN.steps([600, 200])
    v, eps = high(x, torch.tensor([600.0])), low(x, torch.tensor([200.0]))
    torch.testing.assert_close(denoise(x, above).x0, above.alpha_t * x - above.sigma_t * v)
    torch.testing.assert_close(denoise(x, above).eps, above.sigma_t * x + above.alpha_t * v)
    torch.testing.assert_close(denoise(x, below).x0, (x - below.sigma_t * eps) / below.alpha_t)


@pytest.mark.parametrize("t", [600, 200])
def test_gradients_reach_the_picture_through_the_one_that_is_asked(t: int) -> None:
    high, low = Told(), Told(0.5)
    k = CHAIN.steps([t])[0]
    found = []
    one = Denoiser(high, predicts="v") if t > 450 else Denoiser(low)
    for denoise in (both(high, low, predicts="v"), one):
        x = noise(1, 3, 8, 8).requires_grad_()
        found.append(torch.autograd.grad(denoise(x, k).x0.square().sum(), x)[0])
    assert torch.equal(*found)
    assert found[0].abs().max() > 0


def test_a_chain_of_another_network_is_walked_by_the_networks_own_levels() -> None:
    high, low = Told(), Told()
    denoise = replace(both(high, low), levels=tuple(t / 2 for t in range(1000)))
    for k in CHAIN.steps([999, 900, 899]):
        denoise(noise(1, 3, 8, 8), k)
    assert (high.levels, low.levels) == ([499.5, 450], [449.5])


class Deep(Told):
    """A network with a deep part, which tells whether the whole was run."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = list[bool]()

    def keeping(self, x: Tensor, t: Tensor, y: Tensor | None, blocks: int) -> tuple[Tensor, Tensor]:
        self.whole.append(True)
        return self(x, t), x

    def shallow(self, x: Tensor, t: Tensor, y: Tensor | None, deep: Tensor, blocks: int) -> Tensor:
        self.whole.append(False)
        return self(x, t)


def test_deep_features_are_not_handed_from_one_to_the_other() -> None:
    high, low = Deep(), Deep()
    reusing = Reusing(both(high, low), low, 2)
    for k in CHAIN.steps([900, 700, 500, 300, 200, 100, 0]):
        reusing(noise(1, 3, 8, 8), k)
    assert high.whole == [True, False, True]
    assert low.whole == [True, True, False, True]


def test_the_method_and_the_sampler_do_not_know() -> None:
    steps = {
        "steps": 5,
        "method": {"name": "sddm", "constraint": {"blocks": 4}},
        "sampler": {"name": "dpmpp_2m"},
    }
    settings = build_settings(Layer.of("test", steps))

    def made(denoiser: Denoiser) -> Sequence[Tensor]:
        one = replace(engine(Told()), denoiser=denoiser)
        return list(results(list(one.translate([reference(1), reference(2)], settings))).values())

    high, network = Told(), Told()
    for x, y in zip(made(both(high, network)), made(Denoiser(network)), strict=True):
        assert torch.equal(x, y)
    assert set(high.levels) == {999, 749, 500}


@pytest.mark.usefixtures("pair")
def test_one_file_for_all_levels_is_one_network_to_the_bit() -> None:
    write("twice", {"experts": [{"model": "low", "down_to": 300}, {"model": "low"}]})
    settings = build_settings(Layer.of("test", {"steps": 4, "method": {"name": "ilvr", "N": 4}}))
    small = replace(reference(1), picture=noise(3, 32, 32).clamp(-1, 1))
    [one], [two] = (
        results(list(loaded(name).translate([small], settings))).values() for name in ("low", "twice")
    )
    assert torch.equal(one, two)


@pytest.mark.usefixtures("pair")
def test_files_are_loaded_with_their_own_facts_and_when_they_are_wanted() -> None:
    made = loaded("both", precision="bf16")
    ((down_to, high),) = made.denoiser.experts
    assert (down_to, high.predicts, made.denoiser.predicts, made.image_size) == (450, "v", "eps", 32)
    x = noise(1, 3, 32, 32)
    above, below = made.schedule.steps([450, 449])
    low = made.denoiser(x, below)
    assert "loaded" not in vars(high.network)
    assert asked(made.denoiser(x, above), loaded("high", precision="bf16").denoiser(x, above))
    assert high.network.loaded.dtype == torch.bfloat16
    assert asked(low, loaded("low", precision="bf16").denoiser(x, below))
    assert next(iter(made.unconditional(1, steps=3))).isfinite().all()


def test_a_learned_variance_is_used_where_all_have_one(pair: tuple[Path, Path]) -> None:
    for path in pair:
        assert loaded("both").variance == "fixed_small"
        write_random_checkpoint(path, {**SMALL, "learn_sigma": True})
    assert loaded("both").variance == "learned"


@pytest.mark.parametrize(
    ("facts", "wrong"),
    [
        ({"experts": [{"model": "high", "down_to": 450}]}, "both: nothing is said of the levels below 450"),
        ({"experts": [{"model": "low"}, TWO[0]]}, "listed from the noise down"),
        ({"experts": [{**TWO[0], "down_to": 1000}, TWO[1]]}, "listed from the noise down"),
        ({"experts": [{**TWO[0]}, *TWO]}, "listed from the noise down"),
        ({"experts": TWO, "image_size": 32}, "image_size is a fact of one network"),
        ({"experts": TWO, "file": "low.pt"}, "listed from the noise down"),
        ({"experts": [TWO[0], {"model": "lo"}]}, "unknown model 'lo'"),
        ({"experts": [TWO[0], {"model": "both"}]}, "both has experts itself"),
        ({"experts": [{"model": "high", "from": 450}, TWO[1]]}, "unknown key 'experts.1.from'"),
        ({"experts": [{"model": "high", "down_to": -1}, TWO[1]]}, "must be at least 0"),
        ({"experts": [{"model": "cosine", "down_to": 450}, TWO[1]]}, "differ in noise_schedule"),
        ({"experts": [{"model": "large", "down_to": 450}, TWO[1]]}, "differ in image_size"),
    ],
)
@pytest.mark.usefixtures("pair")
def test_what_does_not_go_together_is_a_broken_preset(facts: dict[str, Any], wrong: str) -> None:
    write("cosine", {**FACTS, "file": "high.pt", "noise_schedule": "cosine"})
    write("large", {**FACTS, "file": "high.pt", "image_size": 64})
    write("both", facts)
    with pytest.raises(ConfigError, match=wrong):
        find_model("both")
    assert [bad.name for bad in broken_presets("models")] == ["both"]


def test_networks_that_differ_are_refused_by_the_one_verdict(pair: tuple[Path, Path]) -> None:
    write_random_checkpoint(pair[0], {**SMALL, "class_cond": True})
    with pytest.raises(WeightsError, match="agree in num_classes, and it has 1000 where"):
        loaded("both")
    ran = ilvrctl("translate", FOX, "--to", "both", "--dry-run")
    assert (ran.code, "agree in num_classes" in ran.err) == (3, True)
    [row] = [row for row in json_lines(ilvrctl("presets", "--json")) if row["name"] == "both"]
    assert "agree in num_classes" in row["broken"]
    pair[0].write_bytes(b"no network")
    assert ilvrctl("translate", FOX, "--to", "both", "--dry-run").code == 3


def test_a_preset_with_a_file_of_its_own_may_have_experts_above(pair: tuple[Path, Path]) -> None:
    write("low", {**FACTS, "file": "low.pt", "experts": [TWO[0]]})
    write("mine", {"experts": [TWO[0], {"model": "low"}]})
    assert [part.file for part in find_model("low").parts] == ["low.pt", "high.pt"]
    with pytest.raises(ConfigError, match="low has experts itself"):
        find_model("mine")
    assert ilvrctl("translate", FOX, "--weights", pair[1], "--N", "4", "--dry-run").code == 0


def test_all_that_is_missing_is_told_at_once(pair: tuple[Path, Path]) -> None:
    assert find_model("both").installed()
    for path in pair:
        path.unlink()
        assert not find_model("both").installed()
    with pytest.raises(WeightsError, match=r"low\.pt and high\.pt are not in") as missing:
        require_weights(find_model("both"), "both")
    assert missing.value.hint == "ilvrctl download low --file FILE"
    for name in ("high", "low"):
        write(name, {**FACTS, "file": f"{name}.pt", "sources": [f"https://example.org/{name}.pt"]})
    with pytest.raises(WeightsError) as missing:
        require_weights(find_model("both"), "both")
    assert missing.value.hint == "ilvrctl download both"
    planned = json_lines(ilvrctl("download", "both", "--dry-run", "--json"))
    assert [Path(row["path"]).name for row in planned] == ["low.pt", "high.pt"]
    assert "both" not in json_lines(ilvrctl("doctor", "--json"))[0]["targets_ready"]


@pytest.mark.usefixtures("pair")
def test_every_file_is_verified_once() -> None:
    found = [row["name"] for row in json_lines(ilvrctl("download", "--verify", "--json")) if "name" in row]
    assert sorted(set(found)) == ["high", "low"]


def test_a_network_that_cannot_be_loaded_is_told(pair: tuple[Path, Path]) -> None:
    made = loaded("both")
    pair[0].unlink()
    with pytest.raises(WeightsError):
        made.denoiser(noise(1, 3, 32, 32), made.schedule.steps([900])[0])


@pytest.mark.usefixtures("pair")
def test_where_one_network_is_meant() -> None:
    [row] = json_lines(ilvrctl("download", "both", "--list", "--json"))
    assert (row["installed"], row["experts"]) == (True, [["high", 450]])
    ran = ilvrctl("download", "both", "--file", FOX)
    assert (ran.code, "both is 2 networks" in ran.err, "low or high" in ran.err) == (2, True, True)
    ran = ilvrctl("train", FOX.parent, "--name", "x", "--init", "both", "--size", "32")
    assert (ran.code, "both is 2 networks" in ran.err) == (2, True)


def record_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read_record(path.read_bytes(), path.name))
    return found


def test_results_know_all_their_networks(pair: tuple[Path, Path], tmp_path: Path) -> None:
    translate = ("translate", FOX, "--to", "both", "-o", tmp_path / "a.png")
    assert ilvrctl(*translate).code == 0
    [expert] = record_of(tmp_path / "a.png")["weights"]["network"]["experts"]
    assert (expert["model"], expert["down_to"], expert["network"]["predicts"]) == ("high", 450, "v")
    assert "is there already" in ilvrctl(*translate).err
    again = ilvrctl("translate", FOX, "--from-image", tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert again.code == 0, again.err
    assert pixels(tmp_path / "b.png") == pixels(tmp_path / "a.png")
    alone = ("translate", FOX, "--to", "both", "--weights", pair[1], "-o", tmp_path / "c.png")
    low = ("translate", FOX, "--to", "low", "-o", tmp_path / "d.png")
    assert ilvrctl(*alone, "--set", "model.num_heads=2", "--set", "model.image_size=32").code == 0
    assert ilvrctl(*low).code == 0
    assert pixels(tmp_path / "c.png") == pixels(tmp_path / "d.png") != pixels(tmp_path / "a.png")
    write_small_network(pair[0], 7)
    assert "made from another input or with other settings" in ilvrctl(*translate).err
    again = ilvrctl("translate", FOX, "--from-image", tmp_path / "a.png", "-o", tmp_path / "e.png")
    assert (again.code, "high.pt is not the file that the picture was made with" in again.err) == (0, True)


def test_the_file_of_an_expert_is_the_one_that_its_preset_was_made_for(pair: tuple[Path, Path]) -> None:
    write("high", {**FACTS, "file": "high.pt", "sha256": "0" * 64})
    ran = ilvrctl("translate", FOX, "--to", "both", "--dry-run")
    assert (ran.code, "high.pt is not the file" in ran.err) == (3, True)


@pytest.mark.usefixtures("pair")
def test_the_level_can_be_set_and_what_is_shared_is_set_for_all() -> None:
    with package.load("both", device="cpu", experts=[{"model": "high", "down_to": 100}]) as one:
        assert [level for level, _ in one.engine.denoiser.experts] == [100]
        assert one.facts["experts"][0]["down_to"] == 100
    with package.load("low", device="cpu", experts=[{"model": "high", "down_to": 99}]) as one:
        assert [level for level, _ in one.engine.denoiser.experts] == [99]
    wider = find_model("both", Layer({"image_size": 64}))
    assert [part.image_size for part in wider.parts] == [64, 64]


@pytest.mark.usefixtures("pair")
def test_a_model_of_two_encodes_too(tmp_path: Path) -> None:
    ran = ilvrctl(
        "translate", FOX, "--to", "low", "--from", "both", "--method", "ddib", "--steps", "4", "-o", tmp_path
    )
    assert ran.code == 0, ran.err
    [expert] = record_of(tmp_path / "fox.png")["source"]["network"]["experts"]
    assert expert["model"] == "high"
    assert load_models()["both"].experts
