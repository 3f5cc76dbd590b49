"""Pictures that are not square: read, fitted, steered, edited, drawn and known again as those that are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_random_checkpoint
from commands import ilvrctl, json_lines
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops
from test_engine_loop import Fake, engine

import ilvrctl as package
from ilvrctl.config import Layer
from ilvrctl.diffusion.lowpass import LowPass, check_factor, filtered_plainly, usual_factor
from ilvrctl.engine import Engine, Reference
from ilvrctl.errors import ConfigError, UsageError, WeightsError
from ilvrctl.events import SampleDone
from ilvrctl.images.geometry import FITS, fit_picture
from ilvrctl.images.io import encode_picture
from ilvrctl.images.metadata import read_record
from ilvrctl.images.regions import Edit, find_regions
from ilvrctl.methods.blocks import Statistics, block_adain, check_blocks, join, split
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags
from ilvrctl.models.files.diffusers_folder import stated_facts
from ilvrctl.models.files.facts_header import facts_note, with_header_facts
from ilvrctl.models.files.saving import save_safetensors
from ilvrctl.models.files.stated import checked
from ilvrctl.models.files.verdict import verdict_on
from ilvrctl.plans.edit_modes import mode_layer
from ilvrctl.plans.plan import network_facts
from ilvrctl.presets import ModelPreset, override_model
from ilvrctl.settings import build_settings
from ilvrctl.sizes import Size

FACTS = ("--set", "model.image_size=16", "--set", "model.num_heads=2")
QUICK = (*FACTS, "--steps", "2", "--N", "4", "--precision", "fp32")
SHAPE = AdmArchitecture(3, 3, 32, (32, 32), 1, (False, True), hidden=HiddenFlags(num_heads=2))
WHITE = (255, 255, 255)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_random_checkpoint(tmp_path / "w.pt", SHAPE)
    Image.effect_noise((60, 40), 90).convert("RGB").save("photo.png")
    return tmp_path


def record_of(file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read_record(Path(file).read_bytes(), file))
    return found


def picture(H: int, W: int, seed: int = 0, channels: int = 3) -> torch.Tensor:
    return torch.rand(channels, H, W, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# --- what a size is ------------------------------------------------------------------------------------------


def test_the_width_comes_first() -> None:
    assert Size.of("384x256") == Size.of("384X256") == (384, 256)
    assert Size.of(64) == Size.of("64") == Size.of("64x64") == (64, 64)
    assert (Size(384, 256).plain, Size(64, 64).plain) == ("384x256", 64)
    for wrong in ("384*256", "384x", "x", "0x64", "-1", "384x256x3", "", "٣x٤"):
        with pytest.raises(UsageError, match="is no size: WIDTHxHEIGHT"):
            Size.of(wrong)


@given(width=st.integers(1, 999), height=st.integers(1, 999), factor=st.sampled_from([1, 2, 8, 32]))
def test_the_nearest_sizes_are_right_and_near(width: int, height: int, factor: int) -> None:
    size = Size(width, height)
    assert Size.of(str(size)) == Size.of(size.plain) == size
    for near in size.nearest(factor):
        assert near.fits(factor)
        assert all(abs(a - b) < factor for a, b in zip(near, size, strict=True))


def test_a_preset_has_it_as_it_is_written_and_squares_as_ever() -> None:
    model = override_model(ModelPreset(), Layer.of("test", {"image_size": "64x32"}))
    assert model.picture_size == (64, 32) and network_facts(model)["image_size"] == "64x32"
    assert override_model(ModelPreset(), Layer.of("t", {"image_size": "64x64"})) == ModelPreset(image_size=64)
    assert network_facts(ModelPreset(image_size=64))["image_size"] == 64
    assert "channels" not in network_facts(ModelPreset())
    for wrong in ("64*32", "99999x2"):
        with pytest.raises(ConfigError, match=r"model\.image_size"):
            override_model(ModelPreset(), Layer.of("test", {"image_size": wrong}), "model")


def test_what_files_and_records_say_of_sizes_and_channels_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    for facts in (
        {"image_size": "64x"},
        {"image_size": "64x32; rm"},
        {"image_size": [64, 32]},
        {"channels": 2},
    ):
        save_safetensors(file, {"a": torch.zeros(1)}, facts_note(facts))
        with pytest.raises(WeightsError, match=next(iter(facts))):
            with_header_facts(ModelPreset(), file)
    for size in ("64x", "99999x9", (64, 32), 0):
        with pytest.raises(WeightsError, match="image_size"):
            checked(file, {"image_size": size})
    assert checked(file, {"image_size": "64x32"}) == {"image_size": "64x32"}


def test_settings_without_a_size_are_recorded_as_before() -> None:
    plain = build_settings(Layer({})).record()
    assert not {"picture_size", "grey", "bits"} & plain.keys()
    assert build_settings(Layer({"picture_size": "64x64"})).picture_size == 64
    again = build_settings(Layer({"picture_size": "64x32", "fit": "pad+grey", "bits": 16}))
    assert build_settings(Layer(again.record())) == again
    assert (again.picture_size, again.fit, again.grey) == ("64x32", "pad", True)
    assert build_settings(Layer({"fit": "pad+grey"}), Layer({"fit": "crop"})).grey is False


# --- geometry and maths --------------------------------------------------------------------------------------


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    fit=st.sampled_from(FITS),
    mode=st.sampled_from(["RGB", "RGBA", "F"]),
)
@settings(max_examples=60)
def test_a_picture_gets_the_size(shape: tuple[int, int], size: tuple[int, int], fit: str, mode: str) -> None:
    image = Image.new("RGB", shape, (0, 128, 0)).convert("RGBA" if mode == "RGBA" else "RGB")
    image = image.convert("L").convert("F") if mode == "F" else image
    fitted = fit_picture(image, Size(*size), fit, WHITE)
    assert (fitted.size, fitted.mode) == (size, mode)
    if fit != "pad" and mode != "F":
        assert fitted.getcolors() == [(size[0] * size[1], image.getpixel((0, 0)))]


def test_crop_keeps_the_centre_of_that_shape() -> None:
    image = Image.new("RGB", (100, 100), "red")
    image.paste((0, 128, 0), (0, 25, 100, 75))
    assert fit_picture(image, Size(64, 32), "crop", WHITE).getcolors() == [(64 * 32, (0, 128, 0))]
    tall = fit_picture(image, Size(32, 64), "pad", WHITE)
    assert (tall.getpixel((0, 0)), tall.getpixel((16, 32))) == (WHITE, (0, 128, 0))


@given(
    N=st.sampled_from([1, 2, 4]),
    down=st.integers(1, 5),
    across=st.integers(1, 5),
    kernel=st.sampled_from(["cubic", "linear", "box", "lanczos3"]),
)
@settings(max_examples=12)
def test_the_low_pass_filter_turns_with_the_picture(N: int, down: int, across: int, kernel: Any) -> None:
    phi, x = LowPass(N, kernel), picture(N * down, N * across)
    torch.testing.assert_close(phi(x.mT), phi(x).mT, atol=1e-5, rtol=0)
    torch.testing.assert_close(phi(torch.ones_like(x)), torch.ones_like(x), atol=1e-5, rtol=0)
    plain = torch.tensor(filtered_plainly(x[0].tolist(), N, kernel))
    torch.testing.assert_close(plain, phi(x[0]), atol=1e-5, rtol=0)


@given(
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    block=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    seed=st.integers(0, 9),
)
@settings(max_examples=30)
def test_blocks_have_the_asked_statistics(grid: tuple[int, int], block: tuple[int, int], seed: int) -> None:
    H, W = grid[0] * block[0], grid[1] * block[1]
    x, y = picture(H, W, seed)[None], picture(H, W, seed + 1)[None]
    assert torch.equal(join(split(x, grid)), x)
    asked = Statistics.of(y, grid)
    assert asked.blocks == grid
    found = Statistics.of(block_adain(x, asked), grid)
    torch.testing.assert_close(found.mean, asked.mean, atol=1e-4, rtol=0)
    turned = Statistics.of(x.mT, grid[::-1])
    torch.testing.assert_close(turned.mean.transpose(2, 3), Statistics.of(x, grid).mean, atol=1e-5, rtol=0)


def test_factors_and_blocks_must_divide_both_sides() -> None:
    check_factor(8, "64x32")
    check_blocks(16, Size(64, 32))
    assert (usual_factor("64x32"), usual_factor(64), usual_factor(Size(96, 72))) == (2, 4, 4)
    with pytest.raises(UsageError, match="picture size 64x24") as refused:
        check_factor(16, "64x24")
    assert refused.value.hint == "choose N from 1, 2, 4, 8"
    with pytest.raises(UsageError, match="a picture of 64x24 pixels") as refused:
        check_blocks(16, "64x24")
    assert refused.value.hint == "choose --blocks from 1, 2, 4, 8"
    layer = mode_layer("scribble", "512x256", masked=True)
    assert layer.values["method"]["N"] == 8


@given(
    model=st.sampled_from([(64, 64), (64, 32), (32, 64), (48, 32)]),
    size=st.tuples(st.integers(40, 200), st.integers(40, 200)),
    at=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    part=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
@settings(max_examples=40)
def test_regions_have_the_models_shape_and_hold_the_mask(
    model: tuple[int, int], size: tuple[int, int], at: tuple[int, int], part: tuple[int, int]
) -> None:
    mask = Image.new("L", size)
    box = (*at, min(size[0], at[0] + part[0]), min(size[1], at[1] + part[1]))
    mask.paste(255, box)
    seen = Image.new("L", size)
    for region in find_regions(mask, Edit(feather=0), Size(*model)):
        width, height = region.size
        assert abs(width * model[1] - height * model[0]) <= max(model)
        seen.paste(255, region.box[:2], region.mask)
        assert region.cut(mask, Size(*model)).size == region.free(Size(*model)).size == model
    assert ImageChops.subtract(mask, seen).getbbox() is None


def test_what_is_put_back_lies_where_it_was_cut() -> None:
    photo = Image.effect_noise((90, 70), 90).convert("RGB")
    mask = Image.new("L", photo.size)
    mask.paste(255, (30, 20, 60, 32))
    [region] = find_regions(mask, Edit(feather=0, context=0.1), Size(64, 32))
    assert region.size == (64, 32)
    copy = photo.copy()
    region.put(copy, region.cut(photo, Size(64, 32)))
    assert copy.tobytes() == photo.tobytes()


@pytest.mark.parametrize(("H", "W"), [(16, 32), (24, 8)])
@pytest.mark.parametrize(
    "method",
    [
        {"name": "ilvr", "N": 4, "kernel": "box", "range_t": -1},
        {"name": "sddm", "blocks": 4, "energies": {"vgg": 0, "picture": 25}},
        {
            "name": "sddm",
            "constraint": {"size": 4},
            "energies": {"vgg": 0, "picture": {"weight": 25, "blocks": 2}},
        },
    ],
)
def test_methods_on_pictures_that_are_not_square(H: int, W: int, method: dict[str, Any]) -> None:
    made = Engine(**{**vars(engine(Fake())), "image_size": Size(W, H).plain})
    chosen = build_settings(Layer({"steps": 4, "method": method}))
    y = picture(H, W, 3)
    [x] = [e.x for e in made.translate([Reference(1, y, "y")], chosen) if isinstance(e, SampleDone)]
    assert x.shape == y.shape and x.isfinite().all()
    if method["name"] == "ilvr":
        torch.testing.assert_close(LowPass(4, "box")(x), LowPass(4, "box")(y), atol=1e-5, rtol=0)
    shown = chosen.method.preview(y)
    assert shown is not None and shown.shape == y.shape
    filter_ = chosen.method.seen(Size(W, H))
    assert filter_ is not None
    plain = torch.tensor(filtered_plainly(y[0].tolist(), *filter_))
    torch.testing.assert_close(plain, shown[0], atol=1e-5, rtol=0)


def test_noise_and_pictures_of_a_wide_network_are_wide(tmp_path: Path) -> None:
    made = Engine.load(
        ModelPreset(image_size="32x16", num_heads=2),
        write_random_checkpoint(tmp_path / "w.pt", SHAPE),
        device="cpu",
        precision="fp32",
    )
    assert (made.size, made.image_size) == ((32, 16), "32x16")
    [x] = made.unconditional(1, steps=2)
    assert x.shape == (3, 16, 32)
    assert made.batch_size == 64
    out = made.denoiser.network(picture(16, 32)[None], torch.tensor([10.0]), None)
    assert out.shape == (1, 3, 16, 32)


# --- the command ---------------------------------------------------------------------------------------------


def test_a_size_is_made_and_known_again(here: Path) -> None:
    args = ("translate", "photo.png", "--weights", "w.pt", *QUICK, "--size", "24x16")
    ran = ilvrctl(*args, "--sheet", "sheet.png", "--gif")
    assert ran.code == 0, ran.err
    with Image.open("out/photo.png") as made, Image.open("out/photo.gif") as film:
        assert made.size == (24, 16) and film.size == (48, 16)
    record = record_of("out/photo.png")
    assert record["settings"]["picture_size"] == "24x16" and record["weights"]["network"]["image_size"] == 16
    assert "far from" not in ran.err
    events = [line["event"] for line in json_lines(ilvrctl(*args, "--json"))]
    assert "skipped" in events and "written" not in events
    other = ilvrctl(*args[:-1], "16x24")
    assert other.code == 2 and "made from another input or with other settings" in other.err
    replay = ilvrctl(
        "translate", "photo.png", "--from-image", "out/photo.png", "--weights", "w.pt", "-o", "b.png"
    )
    assert replay.code == 0, replay.err
    assert Image.open("b.png").tobytes() == Image.open("out/photo.png").tobytes()


def test_wrong_sizes_name_the_nearest_right_ones(here: Path) -> None:
    args = ("translate", "photo.png", "--weights", "w.pt", *QUICK)
    ran = ilvrctl(*args, "--size", "25x16", "--dry-run")
    assert ran.code == 2
    assert "needs sides that 2 divides" in ran.err and "--size 24x16 or --size 26x16" in ran.err
    ran = ilvrctl("translate", "photo.png", "--to", "emoji3d", "--size", "60x64", "--dry-run")
    assert ran.code == 2 and "--size 56x64 or --size 64" in ran.err
    assert "is no size: WIDTHxHEIGHT" in ilvrctl(*args, "--size", "wide").err
    assert "and --size gives all of them one" in ilvrctl(*args, "--size", "24x16", "--fit", "native").err
    assert "choose N from 1, 2" in ilvrctl(*args, "--size", "24x14").err
    with pytest.raises(UsageError, match="sides that 2 divides"):
        Engine.load(ModelPreset(image_size=16, num_heads=2), Path("w.pt"), device="cpu").check(
            build_settings(Layer({"picture_size": "25x16", "method": {"name": "sdedit"}}))
        )


@pytest.mark.parametrize(
    ("size", "why"),
    [
        ("2050", "goes up to 4,194,304 pixels"),
        ("8192x8192", "goes up to 4,194,304 pixels"),
        ("16384x512", "goes up to 4,194,304 pixels"),
        ("16386x2", "goes up to 16,384 px a side"),
    ],
)
def test_sizes_beyond_sense_are_refused_before_anything_is_allotted(size: str, why: str, here: Path) -> None:
    for more in (["--dry-run"], []):
        ran = ilvrctl("translate", "photo.png", "--weights", "w.pt", *QUICK, "--size", size, *more)
        assert ran.code == 2 and why in ran.err, ran.err
    assert Size.of(size).within(2).too_large is None
    assert Size.of("2048").within(64) == Size(2048, 2048)


def test_a_size_far_from_the_trained_one_is_said_once(here: Path) -> None:
    Image.effect_noise((30, 30), 90).save("b.png")
    ran = ilvrctl("translate", "photo.png", "b.png", "--weights", "w.pt", *QUICK, "--size", "40x16")
    assert ran.code == 0 and ran.err.count("--size 40x16 is far from the 16 px that w was trained on") == 1


@pytest.mark.slow
def test_networks_of_other_shapes_are_loaded_with_their_size(here: Path) -> None:
    args = (
        "--weights",
        "w.pt",
        "--set",
        "model.image_size=32x16",
        "--set",
        "model.num_heads=2",
        "--steps",
        "2",
    )
    ran = ilvrctl("translate", "photo.png", *args, "--N", "4", "--sheet", "sheet.png")
    assert ran.code == 0, ran.err
    assert Image.open("out/photo.png").size == (32, 16)
    assert record_of("out/photo.png")["weights"]["network"]["image_size"] == "32x16"
    ran = ilvrctl("inspect", "w.pt", "--set", "model.image_size=33x16", "--set", "model.num_heads=2")
    assert "2 divides, not 33x16" in ran.out.decode() and "model.image_size=32x16" in ran.out.decode()
    assert verdict_on(Path("w.pt"), ModelPreset(image_size="32x16", num_heads=2)).usable
    package.convert("w.pt", "c.safetensors", image_size="32x16", num_heads=2, predicts="eps")
    with package.load("c.safetensors", device="cpu") as model:
        assert model.facts["image_size"] == "32x16" and model.engine.size == (32, 16)


@pytest.mark.slow
def test_diffusers_tell_the_height_first(here: Path) -> None:
    facts = {"image_size": "32x16", "num_head_channels": 16, "predicts": "eps", "noise_schedule": "linear"}
    package.convert("w.pt", "folder", to="diffusers", **facts)
    config = json.loads(Path("folder/unet/config.json").read_text(encoding="utf-8"))
    assert config["sample_size"] == [16, 32]
    assert stated_facts(Path("folder"))["image_size"] == "32x16"
    config["sample_size"] = [16, 0]
    Path("folder/unet/config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(WeightsError, match="sample_size is 0"):
        stated_facts(Path("folder"))


@pytest.mark.slow
def test_edits_see_regions_of_that_size(here: Path) -> None:
    photo = Image.open("photo.png")
    drawn = photo.copy()
    drawn.paste((255, 0, 0), (10, 10, 18, 14))
    drawn.save("drawn.png")
    args = ("edit", "photo.png", "drawn.png", "--weights", "w.pt", *FACTS, "--steps", "2", "--size", "24x16")
    ran = ilvrctl(*args, "-o", "e.png")
    assert ran.code == 0, ran.err
    made = Image.open("e.png")
    assert made.size == photo.size
    assert ImageChops.difference(made, photo).crop((34, 0, 60, 40)).getbbox() is None
    assert record_of("e.png")["settings"]["picture_size"] == "24x16"
    ran = ilvrctl(*args, "--preview", "p.png")
    assert ran.code == 0 and "1 region of 30x20 px" in ran.err, ran.err


@pytest.mark.slow
def test_a_jobs_file_sweeps_sizes_and_evaluation_takes_them(here: Path) -> None:
    Path("jobs.yaml").write_text(
        "out: out\njobs:\n  - inputs: photo.png\n    weights: w.pt\n    model: {image_size: 16, num_heads: 2}\n"
        "    steps: 2\n    N: 4\n    matrix: {size: [16, 24x16]}\n",
        encoding="utf-8",
    )
    ran = ilvrctl("batch", "jobs.yaml")
    assert ran.code == 0, ran.err
    made = sorted(Image.open(path).size for path in Path("out").rglob("photo.png"))
    assert made == [(16, 16), (24, 16)]
    Path("in").mkdir()
    Path("in/photo.png").write_bytes(Path("photo.png").read_bytes())
    wide = next(path.parent for path in Path("out").rglob("photo.png") if Image.open(path).size == (24, 16))
    found = package.evaluate(wide, source="in", device="cpu")
    assert found.runs[0].metrics["mse_source"].value > 0


@pytest.mark.slow
def test_two_models_of_other_sizes_meet_at_one(here: Path) -> None:
    args = ("translate", "photo.png", "--weights", "w.pt", "--from-weights", "w.pt", *FACTS, "--steps", "2")
    args = (*args, "--set", "source.image_size=32", "--set", "source.num_heads=2")
    ran = ilvrctl(*args)
    assert ran.code == 2 and "or both at one: --size 16" in ran.err
    ran = ilvrctl(*args, "--size", "24x16", "--precision", "fp32")
    assert ran.code == 0, ran.err
    assert Image.open("out/photo.png").size == (24, 16)


@pytest.mark.slow
def test_the_picture_of_python_has_it_too(here: Path) -> None:
    data = encode_picture(Image.open("photo.png"))
    with package.load(here / "w.pt", device="cpu", image_size=16, num_heads=2) as model:
        [made] = model.translate([data], steps=2, N=4, size="24x16")
        [square] = model.translate([data], steps=2, N=4, size=24)
    assert (made.size, square.size) == ((24, 16), (24, 24))
