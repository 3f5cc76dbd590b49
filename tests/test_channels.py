"""Networks of grey pictures and of pictures with an opacity, from the file to the numbers of an evaluation."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_random_checkpoint
from commands import ilvrctl, json_lines
from conftest import EMOJI
from PIL import Image, ImageChops
from test_engine_loop import Fake, engine
from test_training_loop import job

import ilvrctl as package
from ilvrctl.config import Layer
from ilvrctl.diffusion.lowpass import LowPass
from ilvrctl.diffusion.samplers import DDPM
from ilvrctl.engine import Engine, Reference
from ilvrctl.errors import ConfigError, UsageError
from ilvrctl.events import SampleDone
from ilvrctl.images.channels import eight_bits, in_channels, in_floats, is_grey
from ilvrctl.images.io import encode_picture, open_picture, read_picture
from ilvrctl.images.metadata import read_record
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags
from ilvrctl.models.files.facts_header import header_facts
from ilvrctl.models.files.inspection import inspect_file
from ilvrctl.models.files.verdict import verdict_on
from ilvrctl.presets import ModelPreset, find_model
from ilvrctl.settings import build_settings
from ilvrctl.training.pictures import Square
from ilvrctl.training.recipe import Network, Recipe
from ilvrctl.training.run import run

FACTS = ("--set", "model.image_size=16", "--set", "model.num_heads=2")
QUICK = (*FACTS, "--steps", "2", "--N", "4", "--precision", "fp32")
KNOWN = ModelPreset(image_size=16, num_heads=2)
WHITE = (255, 255, 255)


def network(path: Path, channels: int, *, variance: bool = False) -> Path:
    out = 2 * channels if variance else channels
    shape = AdmArchitecture(channels, out, 32, (32, 32), 1, (False, True), hidden=HiddenFlags(num_heads=2))
    return write_random_checkpoint(path, shape, seed=channels)


def scan(size: tuple[int, int] = (20, 16)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).rotate(90, expand=False)


def sprite() -> Image.Image:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((200, 80, 20, 255), (4, 4, 12, 12))
    return image


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    network(tmp_path / "grey.pt", 1)
    network(tmp_path / "rgba.pt", 4)
    scan().save("scan.png")
    Image.merge("RGB", [scan().rotate(turn) for turn in (0, 90, 180)]).save("photo.png")
    sprite().save("sprite.png")
    return tmp_path


def numbers(image: Image.Image) -> list[float]:
    """Those of a picture in mode I or F."""
    kind = torch.int32 if image.mode == "I" else torch.float32
    found: list[float] = torch.frombuffer(bytearray(image.tobytes()), dtype=kind).tolist()
    return found


def record_of(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read_record(file.read_bytes(), file.name))
    return found


@pytest.mark.parametrize(("channels", "variance"), [(1, True), (4, False)])
def test_networks_of_one_and_four_channels_are_usable(channels: int, variance: bool, tmp_path: Path) -> None:
    path = network(tmp_path / "w.pt", channels, variance=variance)
    assert verdict_on(path, KNOWN).usable
    assert inspect_file(path).facts["channels"] == channels
    made = Engine.load(KNOWN, path, device="cpu")
    assert (made.channels, made.variance) == (channels, "learned" if variance else "fixed_small")
    [x] = made.unconditional(1, steps=2)
    assert x.shape == (channels, 16, 16) and x.isfinite().all()


def test_other_numbers_are_named_and_refused(tmp_path: Path) -> None:
    for channels in (2, 5, 7):
        problem = verdict_on(network(tmp_path / "w.pt", channels), KNOWN).problems[0]
        assert f"a network of {channels} input and {channels} output channels" in problem.message
        assert "1 (grey), 3 (colours) or 4 (colours and opacity)" in problem.message


def test_grey_in_grey_out(here: Path) -> None:
    ran = ilvrctl("translate", "scan.png", "--weights", "grey.pt", *QUICK, "--sheet", "sheet.png", "--gif")
    assert ran.code == 0, ran.err
    with Image.open("out/scan.png") as made:
        assert (made.mode, made.size) == ("L", (16, 16))
    record = record_of(Path("out/scan.png"))
    assert record["weights"]["network"]["channels"] == 1
    assert "grey" not in record["settings"] and "bits" not in record["settings"]
    assert Image.open("sheet.png").size[0] > 100 and Image.open("out/scan.gif").n_frames > 1  # type: ignore[attr-defined]
    again = ilvrctl("translate", "scan.png", "--weights", "grey.pt", *QUICK, "--json")
    assert [line["event"] for line in json_lines(again) if line["event"] in ("written", "skipped")] == [
        "skipped"
    ]
    replay = ilvrctl(
        "translate", "scan.png", "--from-image", "out/scan.png", "--weights", "grey.pt", "-o", "b.png"
    )
    assert replay.code == 0, replay.err
    assert Image.open("b.png").tobytes() == Image.open("out/scan.png").tobytes()


@pytest.mark.slow
def test_a_coloured_picture_needs_fit_grey(here: Path) -> None:
    ran = ilvrctl("translate", "photo.png", "--weights", "grey.pt", *QUICK)
    assert ran.code == 1
    assert "photo.png is a coloured picture, and the network makes grey ones" in ran.err
    assert "--fit grey" in ran.err and not Path("out/photo.png").exists()
    for fit, shape in (("grey", "crop"), ("pad+grey", "pad")):
        ran = ilvrctl(
            "translate", "photo.png", "--weights", "grey.pt", *QUICK, "--fit", fit, "-o", f"{shape}.png"
        )
        assert ran.code == 0, ran.err
        record = record_of(Path(f"{shape}.png"))
        assert (record["settings"]["fit"], record["settings"]["grey"]) == (shape, True)
        assert record["read"]["grey"] == "luma of Rec. 601"
    Image.open("photo.png").convert("L").save("luma.png")
    ilvrctl("translate", "luma.png", "--weights", "grey.pt", *QUICK, "-o", "luma-out.png")
    found, known = (read_picture(Path(f).read_bytes(), f) for f in ("photo.png", "luma.png"))
    assert (
        in_channels(found, "", 1, WHITE, grey=True)[0].tobytes()
        == in_channels(known, "", 1, WHITE, grey=False)[0].tobytes()
    )


@pytest.mark.slow
def test_grey_stored_as_colours_is_grey(here: Path) -> None:
    scan().convert("RGB").save("stored.png")
    ran = ilvrctl("translate", "stored.png", "--weights", "grey.pt", *QUICK)
    assert ran.code == 0, ran.err
    assert "read" not in record_of(Path("out/stored.png"))


def test_what_is_for_grey_pictures_is_refused_for_others(here: Path) -> None:
    for flag, value in (("--bits", "16"), ("--fit", "grey")):
        ran = ilvrctl("translate", "photo.png", "--to", "emoji3d", flag, value, "--dry-run")
        assert ran.code == 2 and f"{flag} {value} is for networks of grey pictures" in ran.err
    ran = ilvrctl("translate", "scan.png", "--weights", "grey.pt", *QUICK, "--bits", "16", "-o", "a.jpg")
    assert ran.code == 2 and "those that can end in .png, .tif, .tiff" in ran.err
    ran = ilvrctl("translate", "scan.png", "--weights", "grey.pt", *QUICK, "--bits", "12")
    assert ran.code == 2 and "--bits is 8 or 16" in ran.err


@pytest.mark.parametrize("suffix", [".png", pytest.param(".tiff", marks=pytest.mark.slow)])
def test_sixteen_bits_in_and_out(suffix: str, here: Path) -> None:
    deep = torch.arange(320).mul(205).reshape(16, 20).to(torch.int32)
    Image.frombytes("I", (20, 16), bytes(bytearray(deep.numpy().tobytes()))).convert("I;16").save("deep.png")
    ran = ilvrctl("translate", "deep.png", "--weights", "grey.pt", *QUICK, "--bits", "16", "-o", f"a{suffix}")
    assert ran.code == 0, ran.err
    with Image.open(f"a{suffix}") as made:
        assert made.mode == "I;16"
        levels = numbers(made.convert("I"))
    assert any(level % 257 for level in levels)
    ilvrctl("translate", "deep.png", "--weights", "grey.pt", *QUICK, "-o", "b.png")
    with Image.open("b.png") as coarse:
        for level, byte in zip(levels, coarse.tobytes(), strict=True):
            assert abs(level / 257 - byte) < 0.51
    assert record_of(Path(f"a{suffix}"))["settings"]["bits"] == 16


def test_a_deep_scan_keeps_its_bits_on_the_way_in() -> None:
    values = [0, 1, 255, 256, 32768, 65534, 65535, 300]
    image = Image.new("I", (8, 1))
    image.putdata(values)
    content = io.BytesIO()
    image.convert("I;16").save(content, "PNG")
    found, _ = in_channels(read_picture(content.getvalue(), "a"), "a", 1, WHITE, grey=False)
    x = to_tensor(found)
    assert x.shape == (1, 1, 8)
    torch.testing.assert_close(x[0, 0], torch.tensor(values) / 32767.5 - 1, atol=1e-6, rtol=0)
    assert numbers(to_image(x, 1, bits=16).convert("I")) == values
    assert [round(v * 257) for v in numbers(in_floats(to_image(x, 1, bits=16)))] == values


@pytest.mark.slow
def test_opacity_in_and_out(here: Path) -> None:
    ran = ilvrctl(
        "translate", "sprite.png", "photo.png", "--weights", "rgba.pt", *QUICK, "--sheet", "sheet.png"
    )
    assert ran.code == 0, ran.err
    for name in ("sprite", "photo"):
        with Image.open(f"out/{name}.png") as made:
            assert (made.mode, made.size) == ("RGBA", (16, 16))
    found, _ = in_channels(read_picture(Path("sprite.png").read_bytes(), "s"), "s", 4, WHITE, grey=False)
    assert found.tobytes() == sprite().tobytes()
    ran = ilvrctl("translate", "sprite.png", "--weights", "rgba.pt", *QUICK, "--fit", "pad", "-o", "a.jpg")
    assert ran.code == 0 and "jpg files do not hold the opacity of results" in ran.err
    assert Image.open("a.jpg").mode == "RGB"


METHODS: dict[str, dict[str, Any]] = {
    "ilvr": {"N": 4, "kernel": "box", "range_t": -1},
    "sddm": {"blocks": 4, "energies": {"vgg": 0, "picture": 25}},
    "egsde": {"energies": {"dse": 0, "low_pass": {"N": 4}}},
    "sdedit": {},
}


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", METHODS)
def test_methods_hold_what_they_promise_whatever_the_channels(channels: int, name: str) -> None:
    made = Engine(**{**vars(engine(Fake())), "channels": channels})
    chosen = build_settings(Layer({"steps": 4, "method": {"name": name, **METHODS[name]}}))
    y = torch.rand(channels, 16, 16, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    [x] = [e.x for e in made.translate([Reference(1, y, "y")], chosen) if isinstance(e, SampleDone)]
    assert x.shape == y.shape and x.isfinite().all()
    if name == "ilvr":  # the box is a projection
        phi = LowPass(4, "box")
        torch.testing.assert_close(phi(x), phi(y), atol=1e-5, rtol=0)


def test_a_classifier_of_other_channels_is_named() -> None:
    from types import SimpleNamespace

    from ilvrctl.methods import Context
    from ilvrctl.methods.energies import ClassifierEnergy, DseEnergy

    seen = SimpleNamespace(architecture=SimpleNamespace(in_channels=3, out_channels=2))
    context = Context(torch.zeros(1, 1, 16, 16), engine(Fake()).schedule, lambda: torch.zeros(1, 1, 16, 16))
    for energy in (DseEnergy(model="a.pt"), ClassifierEnergy(model="a.pt", label=0)):
        with pytest.raises(UsageError, match="sees pictures of 3 channels, and the model makes them of 1"):
            energy.bind(context, seen, None)


def test_two_models_of_other_channels_are_refused() -> None:
    one = engine(Fake())
    with pytest.raises(UsageError, match="pictures of 1 channels and the target's of 3"):
        one.with_source(Engine(**{**vars(one), "channels": 1}))


@pytest.mark.slow
def test_a_grey_photo_is_edited_and_stays_as_it_was_elsewhere(here: Path) -> None:
    photo = scan((64, 48))
    photo.save("wide.png")
    drawn = photo.copy()
    drawn.paste(255, (10, 10, 20, 20))
    drawn.save("drawn.png")
    ran = ilvrctl(
        "edit", "wide.png", "drawn.png", "--weights", "grey.pt", *FACTS, "--steps", "2", "-o", "e.png"
    )
    assert ran.code == 0, ran.err
    made = Image.open("e.png").convert("RGB")
    assert is_grey(made)
    outside = ImageChops.difference(made.crop((40, 0, 64, 48)), photo.convert("RGB").crop((40, 0, 64, 48)))
    assert outside.getbbox() is None
    drawn.convert("RGB").save("drawn.png")
    coloured = Image.open("drawn.png").convert("RGB")
    coloured.paste((255, 0, 0), (10, 10, 20, 20))
    coloured.save("red.png")
    ran = ilvrctl(
        "edit", "wide.png", "red.png", "--weights", "grey.pt", *FACTS, "--steps", "2", "-o", "f.png"
    )
    assert ran.code == 1 and "has colours, and the network makes grey pictures" in ran.err
    ran = ilvrctl("edit", "wide.png", "drawn.png", "--weights", "grey.pt", *FACTS, "--preview", "p.png")
    assert ran.code == 0 and Path("p.png").exists()


@pytest.mark.slow
def test_an_edit_with_an_opacity_keeps_that_of_the_photo(here: Path) -> None:
    large = sprite().resize((48, 48), Image.Resampling.NEAREST)
    large.save("large.png")
    mask = Image.new("L", large.size)
    mask.paste(255, (16, 16, 32, 32))
    mask.save("mask.png")
    ran = ilvrctl(
        "edit",
        "large.png",
        "--mask",
        "mask.png",
        "--weights",
        "rgba.pt",
        *FACTS,
        "--steps",
        "2",
        "-o",
        "e.png",
    )
    assert ran.code == 0, ran.err
    made = Image.open("e.png")
    assert made.getchannel("A").tobytes() == large.getchannel("A").tobytes()
    assert made.crop((0, 0, 13, 48)).tobytes() == large.crop((0, 0, 13, 48)).tobytes()


@pytest.mark.slow
def test_from_python(here: Path) -> None:
    with package.load(here / "grey.pt", device="cpu", precision="fp32", image_size=16, num_heads=2) as model:
        assert model.facts["channels"] == 1
        [picture] = model.translate([scan()], steps=2, N=4)
        [x] = model.translate([scan()], steps=2, N=4, bits=16, as_tensor=True)
        [fresh] = model.sample(steps=2)
    assert picture.mode == fresh.mode == "L" and x.shape == (1, 16, 16)
    assert picture.tobytes() == eight_bits(to_image(x, 1)).tobytes()
    with package.load(here / "rgba.pt", device="cpu", precision="fp32", image_size=16, num_heads=2) as model:
        [picture] = model.translate([sprite()], steps=2, N=4)
        assert picture.mode == "RGBA"


@pytest.mark.slow
def test_evaluation_is_in_the_channels_of_the_results(here: Path) -> None:
    ran = ilvrctl("translate", "scan.png", "--weights", "grey.pt", *QUICK, "-o", "run")
    assert ran.code == 0, ran.err
    Path("in").mkdir()
    scan().save("in/scan.png")
    found = package.evaluate("run", source="in", device="cpu", N=4)
    a = torch.tensor(list(open_picture(Path("run/scan.png").read_bytes(), "a").getchannel(0).tobytes())) / 255
    crop = to_tensor(
        in_channels(read_picture(Path("in/scan.png").read_bytes(), "a"), "a", 1, WHITE, grey=False)[0].crop(
            (2, 0, 18, 16)
        )
    )
    b = (crop.flatten() + 1) / 2
    metrics = found.runs[0].metrics
    assert metrics["mse_source"].value == pytest.approx(float((a - b).square().mean()), rel=1e-4)
    assert metrics["l2_source"].value == pytest.approx(float((a - b).square().sum().sqrt()), rel=1e-4)
    assert "psnr_source" in metrics and "ssim_source" in metrics and "phi_4" in metrics


def test_formats_keep_grey_of_16_bits() -> None:
    image = to_image(torch.linspace(-1, 1, 64).view(1, 8, 8), 1, bits=16)
    for format_ in ("png", "tiff"):
        assert (
            Image.open(io.BytesIO(encode_picture(image, format_))).convert("I").tobytes()
            == image.convert("I").tobytes()
        )


@pytest.mark.parametrize(
    ("recipe", "dse"),
    [
        ({"channels": 1, "fit": "grey"}, False),
        pytest.param({"channels": 4, "learn_variance": True}, False, marks=pytest.mark.slow),
        pytest.param({"channels": 1, "fit": "pad+grey"}, True, marks=pytest.mark.slow),
    ],
)
def test_what_is_trained_on_grey_or_with_an_opacity_is_of_that_kind(
    recipe: dict[str, Any], dse: bool, tmp_path: Path
) -> None:
    sheets = {"sheet_every": 1, "references": EMOJI / "flat"} if recipe["channels"] == 4 else {}
    list(run(job(tmp_path, dse=dse, recipe={**recipe, "images": 8}, **sheets)))
    file, channels = tmp_path / "glossy" / "average.safetensors", recipe["channels"]
    assert header_facts(file)["channels"] == find_model("glossy").channels == channels
    assert inspect_file(file).facts["in_channels"] == channels
    if dse:
        return
    assert (tmp_path / "glossy" / "sheet-000000008.png").is_file() == bool(sheets)
    picture = {1: scan(), 4: sprite()}[channels]
    with package.load("glossy", device="cpu") as model:
        [made] = model.translate([picture], steps=2, N=2)
    assert (made.size, made.mode) == ((8, 8), {1: "L", 4: "RGBA"}[channels])


def test_coloured_pictures_are_left_out_of_a_grey_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds 0 different pictures \(\d+ more cannot be read\)"):
        list(run(job(tmp_path, recipe={"channels": 1})))
    with pytest.raises(ConfigError, match="fit: grey is for grey pictures"):
        Recipe(fit="grey")
    with pytest.raises(UsageError, match="is for pictures of 3 channels, and those of 1 are learned"):
        list(
            run(
                job(
                    tmp_path,
                    recipe={
                        "channels": 1,
                        "fit": "grey",
                        "size": 64,
                        "init": "emoji3d",
                        "network": Network(),
                    },
                )
            )
        )
    plain, grey = Square(8), Square(8, channels=1)
    assert plain.identity() == "1:8:crop:white" and grey.identity() == "1:8:crop:white:1"


@pytest.mark.slow
def test_diffusers_runs_a_grey_network_of_another_shape_to_the_same_picture(tmp_path: Path) -> None:
    from diffusers import DDPMPipeline

    path, facts = network(tmp_path / "w.pt", 1), {"num_heads": 2, "noise_schedule": "linear"}
    levels = {**facts, "image_size": "24x16", "diffusion_steps": 50, "predicts": "eps"}
    package.convert(path, tmp_path / "folder", to="diffusers", **levels)
    made = Engine.load(ModelPreset(**levels), path, device="cpu", precision="fp32")  # type: ignore[arg-type]
    draws = torch.Generator().manual_seed(7)
    x = torch.randn(1, 1, 16, 24, generator=draws)
    with torch.inference_mode():
        for k in made.schedule.steps(range(50)):
            noise = lambda: torch.randn(1, 1, 16, 24, generator=draws)  # noqa: E731
            x, _ = DDPM("fixed_small").step(x, made.denoiser(x, k), k, noise, None)
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "folder")
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        generator=torch.Generator().manual_seed(7), num_inference_steps=50, output_type="np"
    ).images
    ours = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert ours.std() > 0.05
    assert float((ours - torch.from_numpy(theirs)).abs().max()) < 1e-4
