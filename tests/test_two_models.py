"""Two models in the engine and on the command line: encode with the source's, decode with the target's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_small_network
from commands import FOX, difference, ilvrctl, json_lines, pixels, tree
from conftest import EMOJI
from test_engine_loop import Fake, engine, kinds, reference, results
from torch import Tensor

from ilvrctl.config import Layer
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.engine import Engine
from ilvrctl.errors import UsageError
from ilvrctl.events import BatchShrunk, StepDone
from ilvrctl.images.metadata import read_record
from ilvrctl.settings import Settings, build_settings

pytestmark = pytest.mark.usefixtures("stand_ins")

POT = sorted((EMOJI / "3d").glob("*.png"))[9]
QUICK = ("--to", "emoji3d", "--from", "emoji3d", "--steps", "2", "--precision", "fp32")


class Warm:
    """A network whose estimates turn with the sample and the level."""

    def __init__(self, most: int = 99) -> None:
        self.sizes: list[int] = []
        self.levels: list[float] = []
        self.most = most

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        self.sizes.append(len(x))
        self.levels.append(t[0].item())
        if len(x) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: out of memory")
        return torch.tanh(x.roll(1, -1) + t[:, None, None, None] / 1000)


def settings(name: str, **values: Any) -> Settings:
    return build_settings(Layer.of("test", {"steps": 5, "method": {"name": name}, **values}))


def pair(source: Any, target: Any, batch_size: int = 4) -> Engine:
    return engine(target, batch_size=batch_size).with_source(engine(source))


def translated(made: Engine, chosen: Settings, numbers: Sequence[int] = (1, 2)) -> list[Tensor]:
    return list(results(list(made.translate([reference(n) for n in numbers], chosen))).values())


@pytest.mark.parametrize("name", ["ddib", "cyclediffusion"])
def test_both_networks_are_called_once_a_step(name: str) -> None:
    source, target = Warm(), Warm()
    chosen = settings(name, method={"name": name, "start": 1.0})
    translated(pair(source, target), chosen)
    assert source.sizes == target.sizes == [2] * 5
    assert target.levels == [999, 749, 500, 250, 0]
    assert source.levels == ([0, 0, 250, 500, 749] if name == "ddib" else target.levels)
    assert chosen.network_calls(Schedule.named("linear", 1000)) == 10


@pytest.mark.parametrize(
    "sampler", [{"name": "ddim", "eta": 0.1}, {"name": "ddpm"}, {"name": "dpmpp_2m_sde"}]
)
def test_one_model_on_both_sides_returns_the_pictures(sampler: dict[str, Any]) -> None:
    network = Warm()
    chosen = settings("cyclediffusion", sampler=sampler, clip_denoised=False)
    for n, x in zip((1, 2), translated(pair(network, network), chosen), strict=True):
        assert torch.allclose(x, reference(n).picture, atol=2e-5)


def test_two_models_make_something_else() -> None:
    for name in ("ddib", "cyclediffusion"):
        [x] = translated(pair(Warm(), Fake()), settings(name), [1])
        assert x.isfinite().all()
        assert (x - reference(1).picture).abs().mean() > 0.05


@pytest.mark.parametrize("name", ["ddib", "cyclediffusion"])
def test_neighbours_and_memory_do_not_matter(name: str) -> None:
    alone = translated(pair(Warm(), Fake()), settings(name), [2])[0]
    beside = translated(pair(Warm(), Fake()), settings(name), [1, 2, 3])[1]
    assert torch.allclose(alone, beside, atol=1e-6)
    events = list(pair(Warm(most=1), Fake()).translate([reference(n) for n in (1, 2, 3)], settings(name)))
    assert kinds(events).count("BatchShrunk") == 1
    assert [e.now for e in events if isinstance(e, BatchShrunk)] == [1]
    assert torch.allclose(list(results(events).values())[1], alone, atol=1e-6)


def test_the_way_up_is_told_step_by_step() -> None:
    events = list(pair(Warm(), Warm()).translate([reference(1)], settings("ddib")))
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [(step.i, step.n) for step in steps] == [(i, 10) for i in range(10)]
    assert [step.t for step in steps] == [0, 250, 500, 749, 999, 999, 749, 500, 250, 0]


def test_models_that_do_not_match_are_refused() -> None:
    one = engine(Warm())
    with pytest.raises(UsageError, match="ddib needs a model of the inputs' own kind"):
        list(one.translate([reference(1)], settings("ddib")))
    weak = Engine(**{**vars(one), "schedule": Schedule.named("linear", 1000, 1e-4, 0.01)})
    with pytest.raises(UsageError, match="level 999 of the target's model is noisier") as refused:
        list(one.with_source(weak).translate([reference(1)], settings("ddib")))
    start = int((refused.value.hint or "").split()[1])
    begun = settings("ddib", method={"name": "ddib", "start": start})
    assert kinds(list(one.with_source(weak).translate([reference(1)], begun))).count("SampleDone") == 1
    with pytest.raises(UsageError, match=r"32 px and the target's of 16 px"):
        one.with_source(Engine(**{**vars(one), "image_size": 32}))
    with pytest.raises(UsageError, match="needs one of them"):
        pair_of = one.with_source(Engine(**{**vars(one), "class_count": 10}))
        list(pair_of.translate([reference(1)], settings("ddib")))
    with pytest.raises(UsageError, match="makes one pass"):
        list(
            pair(Warm(), Warm()).translate(
                [reference(1)], settings("ddib", method={"name": "ddib", "repeats": 2})
            )
        )


def test_the_published_sampler_unless_another_is_asked_for() -> None:
    assert settings("ddib").record()["sampler"] == {"name": "ddim", "eta": 0.0}
    assert settings("cyclediffusion").record()["sampler"] == {"name": "ddim", "eta": 0.1}
    assert settings("cyclediffusion", sampler="ddpm").record()["sampler"]["name"] == "ddpm"


# --- the command line --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.shipped
def test_the_bundled_model_on_both_sides_returns_the_input(tmp_path: Path) -> None:
    args = ["translate", POT, *QUICK[:4], "--precision", "fp32"]
    assert ilvrctl(*args, "--steps", "5", "-o", "cycle").code == 0
    assert difference(tmp_path / f"cycle/{POT.name}", POT)[1] <= 1
    assert ilvrctl(*args, "--method", "ddib", "--steps", "5,20", "-o", "ddib").code == 0
    few, many = (difference(tmp_path / f"ddib/steps={n}/{POT.name}", POT)[0] for n in (5, 20))
    assert 2 * many < few


def test_the_record_has_both_models_and_makes_the_picture_again(tmp_path: Path) -> None:
    ran = ilvrctl("translate", FOX, *QUICK, "--method", "ddib")
    assert ran.code == 0, ran.err
    record = json.loads(read_record(Path("out/fox.png").read_bytes(), "fox"))
    assert record["source"]["sha256"] == record["weights"]["sha256"]
    assert (record["source"]["domain"], record["source"]["name"]) == ("emoji3d", "emoji3d-64")
    again = ilvrctl("translate", FOX, "--from-image", "out/fox.png", "-o", "again")
    assert again.code == 0, again.err
    assert pixels(tmp_path / "again/fox.png") == pixels(tmp_path / "out/fox.png")
    assert "nothing to do" in ilvrctl("translate", FOX, *QUICK, "--method", "ddib").err


@pytest.mark.parametrize("method", ["ddib", "cyclediffusion"])
def test_the_record_says_how_other_noise_levels_were_matched(tmp_path: Path, method: str) -> None:
    args = ["translate", FOX, *QUICK, "--method", method, "--set", "source.noise_schedule=cosine"]
    ran = ilvrctl(*args)
    assert ran.code == 0, ran.err
    record = json.loads(read_record(Path("out/fox.png").read_bytes(), "fox"))
    assert record["source"]["matched"].startswith("abar")
    again = ilvrctl("translate", FOX, "--from-image", "out/fox.png", "-o", "again")
    assert again.code == 0, again.err
    assert pixels(tmp_path / "again/fox.png") == pixels(tmp_path / "out/fox.png")
    assert "nothing to do" in ilvrctl(*args).err
    assert ilvrctl(*args[:-2], "-o", "alike").code == 0
    assert "matched" not in json.loads(read_record(Path("alike/fox.png").read_bytes(), "fox"))["source"]


def test_weights_of_ones_own_on_the_source_side(tmp_path: Path) -> None:
    write_small_network(tmp_path / "mine.pt")
    write_small_network(tmp_path / "other.pt", seed=1)
    small = ["--set", "model.image_size=32", "--set", "source.image_size=32"]
    heads = ["--set", "model.num_heads=2", "--set", "source.num_heads=2"]
    args = ["translate", FOX, "--weights", "mine.pt", *small, *heads, "--steps", "2", "--method", "ddib"]
    ran = ilvrctl(*args, "--from-weights", "other.pt")
    assert ran.code == 0, ran.err
    ran = ilvrctl(*args, "--from-weights", "mine.pt")
    assert ran.code == 2  # another source makes another picture
    assert "out/fox.png is there already" in ran.err
    replay = ["translate", FOX, "--from-image", "out/fox.png", "--weights", "mine.pt", "-o", "again"]
    ran = ilvrctl(*replay)
    assert ran.code == 3
    assert "hint: give the file: --from-weights FILE" in ran.err
    ran = ilvrctl(*replay, "--from-weights", "other.pt")
    assert ran.code == 0, ran.err
    assert pixels(tmp_path / "again/fox.png") == pixels(tmp_path / "out/fox.png")
    ran = ilvrctl(*replay[:-1], "wrong", "--from-weights", "mine.pt")
    assert "warning: mine.pt is not the file that the picture was made with" in ran.err


def test_a_grid_of_methods_with_one_model_and_two() -> None:
    args = ["translate", FOX, *QUICK, "--method", "ilvr,ddib", "--N", "4,8", "--json"]
    lines = json_lines(ilvrctl(*args, "--dry-run"))
    assert [line["settings"] for line in lines[:-1]] == [
        {"method": "ilvr", "N": 4},
        {"method": "ilvr", "N": 8},
        {"method": "ddib"},
    ]
    assert lines[-1]["network_calls"] == 2 + 2 + 4
    assert ilvrctl(*args).code == 0
    alone = ["translate", FOX, "--to", "emoji3d", "--steps", "2", "--precision", "fp32", "--N", "4"]
    one = json.loads(read_record(Path("out/ilvr_N=4/fox.png").read_bytes(), "fox"))
    assert "source" not in one
    assert ilvrctl(*alone, "-o", "out/ilvr_N=4").lines == ["out/ilvr_N=4/fox.png"]


@pytest.mark.shipped
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["--method", "ddib", "--weights", "mine.pt", "--set", "model.image_size=32"],
            ["ddib needs a model of the inputs' own kind", "hint: --from NAME"],
        ),
        (
            ["--from", "emoji3d", "--method", "ilvr"],
            ["no use for", "--method cyclediffusion or --method ddib"],
        ),
        (["--from", "emoji3d", "--method", "ddib", "--sampler", "ddpm"], ["adds no noise, which ddpm does"]),
        (
            ["--from", "emoji3d", "--eta", "0"],
            ["needs a sampler that adds noise", "--sampler ddim --eta 0.1"],
        ),
        (["--from", "emojy3d"], ["unknown target 'emojy3d'", "did you mean 'emoji3d'?"]),
        (
            ["--from-weights", "mine.pt", "--set", "source.image_size=32"],
            ["of 32 px and the target's of 64 px"],
        ),
        (
            ["--from", "emoji3d", "--start", "1.0", "--set", "source.beta_end=0.01"],
            ["of the target's model is noisier", "hint: --start 7"],
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    args: list[str], words: list[str], tmp_path: Path
) -> None:
    write_small_network(tmp_path / "mine.pt")
    ran = ilvrctl("translate", FOX, "--to", "emoji3d", "--steps", "2", *args)
    assert ran.code == 2, ran.err
    for word in words:
        assert word in ran.err
    assert tree(tmp_path) == ["mine.pt"]


def test_weights_that_are_not_here() -> None:
    ran = ilvrctl("translate", FOX, "--from", "cat", "--to", "emoji3d")
    assert ran.code == 3
    assert "hint: ilvrctl download cat" in ran.err
