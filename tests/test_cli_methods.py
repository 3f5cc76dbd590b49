"""Methods and samplers from the command line, as a person chooses and changes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import FOX, ilvrctl, pixels
from conftest import GOLDEN
from PIL import Image, PngImagePlugin

from ilvrctl.images.metadata import read_record

pytestmark = pytest.mark.usefixtures("stand_ins")

FAST = ("--to", "emoji3d", "--steps", "4", "--precision", "fp32")
DSE = (f"energies.dse.model={GOLDEN / 'dse.pt'}", "energies.dse.num_head_channels=16")


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def assign(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def made(out: str, *args: str | Path, **env: str) -> dict[str, Any]:
    """The settings in the record of the result."""
    ran = ilvrctl("translate", FOX, *args, "-o", out, "-q", **env)
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(read_record(Path(out).read_bytes(), out))["settings"]
    return found


def refused(*args: str | Path, code: int = 2, **env: str) -> str:
    ran = ilvrctl("translate", FOX, *FAST, *args, "--dry-run", **env)
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    return ran.err


METHODS: dict[str, Sequence[str]] = {
    "ilvr": ["--start", "0.8"],
    "sddm": ["--blocks", "8"],
    "sdedit": ["--repeats", "2"],
    "egsde": assign(*DSE, "energies.dse.weight=300"),
    "sddm+egsde": [*assign(*DSE), "--start", "0.9"],
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_with_changes_is_recorded_and_made_again_from_its_picture(name: str) -> None:
    found = made("a.png", *FAST, "--method", name, *METHODS[name])["method"]
    assert found["name"] == name
    files = assign(*DSE) if "dse" in found["energies"] else []  # a picture opens no file
    again = made("b.png", "--from-image", "a.png", *files)["method"]
    assert again == found
    assert pixels(Path("a.png")) == pixels(Path("b.png"))
    assert pixels(Path("a.png")) != pixels(FOX)


def test_flags_and_assignments_change_the_part_they_name() -> None:
    changed = made("a.png", *FAST, "--method", "sddm", "--blocks", "8", *assign("energies.picture.weight=5"))
    assert changed["method"]["constraint"]["blocks"] == 8
    assert changed["method"]["energies"]["picture"]["weight"] == 5
    assert changed["method"]["range"] == [1.0, 0.1]  # the target's for it, not that of its ILVR
    short = made(
        "b.png", *FAST, "--method", "egsde", "--N", "16", *assign("energies.dse=0", "energies.low_pass=3")
    )
    low = short["method"]["energies"]["low_pass"]
    assert (low["N"], low["weight"], short["method"]["energies"]["dse"]["weight"]) == (16, 3, 0)
    longer = made("c.png", *FAST, *assign("method.constraint.N=8", "start=800"))
    assert (longer["method"]["constraint"]["N"], longer["method"]["start"]) == (8, 800)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "dpmpp_2m_sde"])
@pytest.mark.parametrize("name", ["ilvr", "sddm"])
def test_every_sampler_goes_with_every_method(name: str, sampler: str) -> None:
    args = ["--method", name, "--sampler", sampler]
    assert made("a.png", *FAST, *args)["sampler"]["name"] == sampler


def test_each_choice_changes_the_pixels() -> None:
    seen = {}
    for n, args in enumerate(
        (
            [],
            ["--sampler", "dpmpp_2m"],
            ["--sampler", "dpmpp_2m_sde", "--range-t", "3"],
            ["--start", "0.8"],
            ["--method", "sddm"],
            ["--method", "sddm", "--compat", "sddm"],
            ["--method", "sddm", *assign("refinements=0")],
            ["--method", "sdedit"],
            ["--method", "sdedit", "--repeats", "2"],
            ["--method", "egsde", *assign("energies.dse=0")],
            ["--method", "egsde", *assign("energies.dse=0", "reference_noise=fixed")],
        )
    ):
        made(f"{n}.png", *FAST[:2], "--steps", "8", *FAST[4:], *args)
        seen[pixels(Path(f"{n}.png"))] = args
    assert len(seen) == 11


def test_the_plan_counts_the_calls_of_refinement_and_of_passes() -> None:
    for args, words in [
        (
            ["--method", "sddm", "--start", "1.0", "--range", "1.0:0.5"],
            "SDDM 16x16 blocks, picture 25, min-norm per channel, levels 1.0 to 0.5, 4 steps, 8 ",
        ),
        (["--method", "sdedit", "--repeats", "3"], "SDEdit from 0.5, 3 times, 2 steps, 6 network calls"),
        (
            ["--method", "ilvr", "--start", "0.5"],
            "ILVR N=2, levels 1.0 to 0.05, from 0.5, 2 steps, 2 network calls",
        ),
        (
            ["--compat", "egsde", *assign("energies.dse=0")],
            "EGSDE low-pass 4 (N=2), from 500, 2 steps",
        ),
    ]:
        ran = ilvrctl("translate", FOX, *FAST, *args, "--dry-run")
        assert ran.code == 0, ran.err
        assert words in ran.err


@pytest.mark.shipped
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--method", "sdm"], ["--method: unknown method 'sdm'", "did you mean 'sddm'?"]),
        (["--method", "sddm", "--N", "8"], ["--N: the method sddm has no 'N'", "--blocks says how fine"]),
        (["--blocks", "8"], ["--blocks: the method ilvr has no 'blocks'", "--N says how much"]),
        (["--method", "sddm", "--blocks", "7"], ["7 blocks a side do not cut a picture of 64", "1, 2, 4, 8"]),
        (assign("energies.des.weight=5"), ["--set energies.des.weight=5: unknown energy 'des'", "'dse'?"]),
        (assign("constraint=blocks"), ["--set constraint=blocks: unknown constraint 'blocks'"]),
        (assign("merge.name=minnorm"), ["unknown merge 'minnorm'", "'min_norm'?"]),
        (assign("merge.over=block"), ["the merge sum has no 'over'; it belongs to min_norm"]),
        (["--start", "half"], ["--start 'half' is no level", "--start 0.8"]),
        (["--start", "0.0"], ["--start: method.start must be above 0"]),
        (
            ["--compat", "sddm", "--method", "ilvr"],
            ["compat sddm is code of sddm and sddm+egsde, not of ilvr"],
        ),
        (["--sampler", "dpm"], ["unknown sampler 'dpm'; known: ddpm, ddim, dpmpp_2m, dpmpp_2m_sde"]),
        (
            ["--method", "egsde", *assign("energies.dse.model=nothing")],
            ["no model or target is called 'nothing'"],
        ),
        (
            ["--method", "egsde", *assign("energies.dse.model=dog")],
            ["the energy needs a guided-diffusion-class"],
        ),
        (["--preset", "ilvr_adm", "--method", "sddm"], ["compat ilvr_adm is code of ilvr, not of sddm"]),
    ],
    ids=str,
)
def test_mistakes_say_what_was_meant(args: list[str], words: list[str]) -> None:
    err = refused(*args)
    for word in words:
        assert word in " ".join(err.split())


def test_networks_that_are_not_here_are_named_with_the_command_that_gets_them() -> None:
    err = refused("--method", "sddm", *assign("energies.vgg=25"), code=3)
    assert "the weights of 'vgg_normalised' are not here" in err
    assert "ilvrctl download vgg_normalised" in err
    err = refused("--method", "egsde", *assign("energies.dse.model=cat2dog_dse"), code=3)
    assert "ilvrctl download cat2dog_dse" in err
    err = refused("--method", "egsde", *assign("energies.dse.model=gone.pt"), code=3)
    assert "the weights gone.pt are not here" in err
    # with no weight it is not asked for
    assert ilvrctl("translate", FOX, *FAST, *assign("energies.vgg=0"), "--dry-run").code == 0


def write_vgg(path: Path) -> None:
    """The first layers of the published encoder, and one that is not needed."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"0.weight": (3, 3, 1, 1), "0.bias": (3,), "2.weight": (64, 3, 3, 3), "2.bias": (64,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    torch.save({**tensors, "5.weight": torch.zeros(64, 64, 3, 3)}, path)


def test_sddm_with_features_of_the_vgg() -> None:
    write_vgg(Path("vgg_normalised.pth"))
    vgg = ["--method", "sddm", "--start", "1.0", "--range", "1.0:0.5"]
    vgg += assign("energies.picture=0", "energies.vgg.model=vgg_normalised.pth")
    assert made("a.png", *FAST, *vgg)["method"]["energies"]["vgg"]["weight"] == 25
    made("b.png", *FAST, *vgg, *assign("energies.vgg.weight=0"))
    assert pixels(Path("a.png")) != pixels(Path("b.png"))
    torch.save({"0.weight": torch.zeros(3, 3, 1, 1)}, "other.pth")
    ran = ilvrctl("translate", FOX, *FAST, *vgg, *assign("energies.vgg.model=other.pth"), "-o", "c.png")
    assert ran.code == 3
    assert "not the normalised VGG encoder" in ran.err


MINE = "import pathlib\ndef red(x, y, t):\n    pathlib.Path('ran').touch()\n    return -x[:, 0].flatten(1).sum(1)\n"


def test_an_energy_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine_red.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    mine = assign("energies.red.call=mine_red:red", "energies.red.weight=20")
    plain = made("plain.png", *FAST, "--method", "sdedit")
    found = made("red.png", *FAST, "--method", "sdedit", *mine)
    assert found["method"]["energies"]["red"]["call"] == "mine_red:red"
    assert plain["method"]["energies"] == {}
    before, after = (Image.open(name).convert("RGB").getchannel(0) for name in ("plain.png", "red.png"))
    assert sum(after.histogram()[200:]) > sum(before.histogram()[200:])
    Path("ran").unlink()
    ran = ilvrctl("translate", FOX, "--from-image", "red.png", "-o", "again.png")
    assert ran.code == 2
    assert "red.png: energies.red.call calls the function 'mine_red:red', which no picture may" in ran.err
    assert "--set energies.red.call=mine_red:red" in ran.err
    assert not Path("ran").exists()  # a picture runs no code
    made("again.png", "--from-image", "red.png", *assign("energies.red.call=mine_red:red"))
    assert pixels(Path("again.png")) == pixels(Path("red.png"))
    made("without.png", "--from-image", "red.png", *assign("energies.red=0"))
    assert pixels(Path("without.png")) == pixels(Path("plain.png"))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("no_such_module:f", "cannot import 'no_such_module'"),
        ("math:no_such", "math has no function 'no_such'"),
        ("math", "'math' does not name a function"),
    ],
)
def test_an_energy_that_cannot_be_called(call: str, words: str) -> None:
    ran = ilvrctl("translate", FOX, *FAST, *assign(f"energies.mine.call={call}"), "-o", "x.png")
    assert ran.code == 2
    assert words in ran.err


def test_a_method_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "config/methods"
    folder.mkdir(parents=True)
    env = {"ILVRCTL_CONFIG": str(tmp_path / "config")}
    (folder / "mine.yaml").write_text(
        "title: coarse blocks\nsettings:\n  method: {name: sddm, blocks: 4, merge: {over: image}, start: 0.9}\n"
    )
    found = made("a.png", *FAST, "--method", "mine", **env)["method"]
    assert (found["name"], found["constraint"]["blocks"], found["merge"]["over"]) == ("mine", 4, "image")
    assert made("b.png", *FAST, "--preset", "mine", **env)["method"]["constraint"]["blocks"] == 4
    # the record tells every piece: the definition is not needed to make the picture again
    assert made("c.png", "--from-image", "a.png")["method"] == found
    (folder / "mine.yaml").write_text("settings:\n  method: {name: mine}\n")
    assert "unknown method 'mine'" in refused("--method", "mine", **env)


def test_records_of_earlier_releases_are_read() -> None:
    made("new.png", *FAST, "--N", "8", "--range-t", "1")
    with Image.open("new.png") as image:
        record = json.loads(image.info["ilvrctl"])
        record["settings"]["method"] = {
            "name": "ilvr",
            "N": 8,
            "kernel": "cubic",
            "range": [1.0, 0.05],
            "range_t": 1,
            "reference_level": "s",
        }
        info = PngImagePlugin.PngInfo()
        info.add_itxt("ilvrctl", json.dumps(record))
        image.save("old.png", pnginfo=info)
    made("again.png", "--from-image", "old.png")
    assert pixels(Path("again.png")) == pixels(Path("new.png"))


@pytest.mark.parametrize(("start", "noise"), [("0.5", "fresh"), ("1.0", "network")])
def test_ddim_takes_fresh_noise_for_the_reference_where_it_starts_from_it(start: str, noise: str) -> None:
    flags = ("--to", "emoji3d", "--precision", "fp32", "--steps", "10", "--sampler", "ddim", "--start", start)
    for out, more in (("auto", []), ("fresh", ["fresh"]), ("network", ["network"])):
        made(f"{out}.png", *flags, *assign(*(f"constraint.noise={name}" for name in more)))
    auto, fresh, network = (pixels(Path(f"{name}.png")) for name in ("auto", "fresh", "network"))
    assert fresh != network
    assert auto == {"fresh": fresh, "network": network}[noise]
