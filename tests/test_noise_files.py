"""Noise in files: kept, started from under other settings, and a stranger's data all the same."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_small_network
from commands import FOX, ilvrctl, json_lines, pixels, tree
from conftest import EMOJI
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import ilvrctl as package
from ilvrctl.errors import InputError, UsageError
from ilvrctl.images.metadata import read_record
from ilvrctl.models.files.noise_file import KEY, NoiseFacts, noise_facts, read_noise

POTS = sorted((EMOJI / "3d").glob("*.png"))[9:11]
SMALL = ("--set", "model.image_size=32", "--set", "model.num_heads=2")
SOURCE = ("--set", "source.image_size=32", "--set", "source.num_heads=2")
FLAGS = (*SMALL, "--precision", "fp32")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_small_network(tmp_path / "dogs.pt")
    write_small_network(tmp_path / "cats.pt", seed=1)


def both(
    *flags: str | Path, method: str = "ddib", out: str = "both", inputs: Sequence[Path] = (FOX, POTS[0])
) -> Any:
    ran = ilvrctl(
        "translate", *inputs, "--weights", "dogs.pt", "--from-weights", "cats.pt", *FLAGS, *SOURCE,
        "--method", method, "--save-noise", "-o", out, *flags,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return ran


def from_noise(
    *flags: str | Path, method: str = "ddib", place: str = "both", weights: str = "dogs.pt"
) -> Any:
    flags = (*FLAGS, "--method", method, *flags)
    return ilvrctl("translate", "--from-noise", place, "--weights", weights, *flags, "-o", "again")


def record(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read_record(Path(path).read_bytes(), path))
    return found


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        ("ddib", ("--steps", "3")),
        ("cyclediffusion", ("--steps", "4")),
        pytest.param(
            "cyclediffusion", ("--steps", "3", "--sampler", "ddpm", "-n", "2"), marks=pytest.mark.slow
        ),
        pytest.param("ddib", ("--steps", "3", "--fit", "native"), marks=pytest.mark.slow),
    ],
)
def test_decoding_noise_from_files_is_the_run_with_both_models(
    method: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    both(*flags, method=method)
    names = [name.removeprefix("both/") for name in tree(tmp_path) if name.endswith(".png")]
    assert f"both/{names[0].removesuffix('.png')}.noise.safetensors" in tree(tmp_path)
    Path("cats.pt").unlink()  # which is not needed any more
    ran = from_noise(*(flag for flag in flags if flag not in ("-n", "2")), method=method)
    assert ran.code == 0, ran.err
    for name in names:
        if "native" not in flags:
            assert pixels(tmp_path / "again" / name) == pixels(tmp_path / "both" / name)
    made = record(f"again/{names[0]}")
    assert "source" not in made
    assert made["settings"]["method"]["encoder"]["given"] is True
    assert made["read"]["noise_of"] == record(f"both/{names[0]}")["input"]["sha256"]
    assert "given" not in record(f"both/{names[0]}")["settings"]["method"]["encoder"]


def test_the_file_tells_how_it_was_found() -> None:
    both("--steps", "3")
    facts, made = noise_facts(Path("both/fox.noise.safetensors")), record("both/fox.png")
    assert facts.network_sha256 == made["source"]["sha256"]
    assert (facts.picture, facts.sha256, facts.sample) == ("fox.png", made["input"]["sha256"], 1)
    assert (facts.method, facts.schedule, facts.T) == ("ddib", "linear", 1000)
    assert (facts.levels, facts.shape, facts.dtype) == ((999, 500, 0), (3, 32, 32), "float32")
    with safe_open("both/fox.noise.safetensors", "pt") as file:
        assert set(file.keys()) == {"x", "picture"}
        x = file.get_tensor("x")
    assert x.shape == (3, 32, 32)
    assert 0.3 < x.std() < 3


def test_runs_that_keep_noise_and_start_from_it_go_on() -> None:
    both("--steps", "3")
    assert "nothing to do" in both("--steps", "3").err
    Path("both/fox.noise.safetensors").unlink()
    assert "both/fox.png" in both("--steps", "3").lines
    assert Path("both/fox.noise.safetensors").is_file()
    assert from_noise("--steps", "3").code == 0
    assert "nothing to do" in from_noise("--steps", "3").err
    again = ilvrctl(
        "translate", "--from-noise", "both/fox.noise.safetensors", "--from-image", "again/fox.png",
        "--weights", "dogs.pt", "-o", "replayed",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert pixels(Path("replayed/fox.png")) == pixels(Path("again/fox.png"))


@pytest.mark.slow
def test_another_target_method_and_factor_start_from_it() -> None:
    both("--steps", "3")
    other = from_noise("--steps", "3", weights="cats.pt")
    assert other.code == 0, other.err
    ran = from_noise("--steps", "4", "--N", "2,8", "--overwrite", method="ilvr")
    assert ran.code == 0, ran.err
    assert pixels(Path("again/N=2/fox.png")) != pixels(Path("again/N=8/fox.png"))
    plain = ilvrctl(
        "translate", FOX, "--weights", "dogs.pt", *FLAGS, "--steps", "4", "--N", "2", "-o", "plain"
    )
    assert plain.code == 0
    assert pixels(Path("plain/fox.png")) != pixels(Path("again/N=2/fox.png"))


@pytest.mark.slow
def test_a_jobs_file_keeps_noise_and_starts_from_it() -> None:
    model = "model: {image_size: 32, num_heads: 2}, precision: fp32, steps: 3, weights: dogs.pt, method: ddib"
    Path("jobs.yaml").write_text(
        f"defaults: {{{model}}}\njobs:\n- name: both\n  inputs: {FOX}\n  from_weights: cats.pt\n  save_noise: true\n"
        "  source: {image_size: 32, num_heads: 2}\n"
    )
    assert ilvrctl("batch", "jobs.yaml").code == 0
    Path("more.yaml").write_text(f"defaults: {{{model}}}\njobs:\n- name: again\n  from_noise: out/both\n")
    ran = ilvrctl("batch", "more.yaml")
    assert ran.code == 0, ran.err
    assert pixels(Path("out/again/fox.png")) == pixels(Path("out/both/fox.png"))
    Path("bad.yaml").write_text(f"jobs:\n- {{from_noise: out/both, inputs: {FOX}, weights: dogs.pt}}\n")
    assert "brings its own pictures" in ilvrctl("batch", "bad.yaml").err


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the commands have it here: networks round otherwise with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_python_inverts_and_goes_on_elsewhere(tmp_path: Path) -> None:
    both("--steps", "3", inputs=[FOX])
    facts = {"image_size": 32, "num_heads": 2}
    cats, dogs = (
        package.load(f"{name}.pt", device="cpu", precision="fp32", **facts) for name in ("cats", "dogs")
    )
    [noise] = cats.invert([FOX], steps=3)
    [made] = dogs.translate(noise=[noise], method="ddib", steps=3)
    assert noise.arrays == read_noise(Path("both/fox.noise.safetensors").read_bytes(), "kept").arrays
    assert made.tobytes() == Image.open("both/fox.png").convert("RGB").tobytes()
    noise.save(tmp_path / "kept" / "fox.noise.safetensors")
    parameters = {"method": "ddib", "steps": 3, "precision": "fp32", "set": {"model": facts}}
    [result] = package.translate(from_noise="kept", weights="dogs.pt", **parameters)
    assert result.image.tobytes() == made.tobytes()
    several = cats.invert([FOX, POTS[0]], method="cyclediffusion", steps=3)
    assert len(dogs.translate(noise=several, method="cyclediffusion", steps=3)) == 2
    with pytest.raises(UsageError, match="finds no noise"):
        cats.invert([FOX], method="ilvr")
    with pytest.raises(UsageError, match="brings its own"):
        cats.translate([FOX], noise=[noise])


@pytest.mark.parametrize(
    ("flags", "method", "words"),
    [
        (
            ("--steps", "3", "--start", "600"),
            "ddib",
            ["alpha 0.00635", "begins at level 599", "--start 1000"],
        ),
        (("--steps", "3", "--set", "model.beta_end=0.005"), "ddib", ["alpha 0.00635", "find it again"]),
        (("--steps", "3", "--start", "1000"), "cyclediffusion", ["noises of 0 steps", "--method ddib"]),
        (("--steps", "3", "--repeats", "2"), "ddib", ["starts from noise that is given and makes one pass"]),
        (("--steps", "3", "--save-noise"), "ddib", ["starts from noise already"]),
        (("--from-weights", "cats.pt", *SOURCE), "ddib", ["the noise is found already"]),
    ],
)
def test_noise_of_something_else_is_told_before_anything_is_made(
    flags: tuple[str, ...], method: str, words: list[str], tmp_path: Path
) -> None:
    both("--steps", "3", inputs=[FOX])
    there = tree(tmp_path)
    for dry in ((), ("--dry-run",)):
        ran = from_noise(*flags, *dry, method=method)
        assert ran.code == 2, ran.err
        assert [word for word in words if word not in ran.err] == []
    assert tree(tmp_path) == there


def test_noise_of_another_size_is_told() -> None:
    both("--steps", "3", inputs=[FOX])
    ran = ilvrctl("translate", "--from-noise", "both", "--to", "emoji3d", "--method", "ddib", "--dry-run")
    assert ran.code == 2
    assert "noise of 32 x 32 pixels" in ran.err


def test_what_finds_no_noise_keeps_none(tmp_path: Path) -> None:
    ran = ilvrctl("translate", FOX, "--weights", "dogs.pt", *FLAGS, "--save-noise")
    assert ran.code == 2
    assert "ilvr finds no noise of the input" in ran.err
    assert ilvrctl("translate", "--from-noise", "nowhere", "--weights", "dogs.pt", *FLAGS).code == 1
    (tmp_path / "empty").mkdir()
    assert "there is no noise" in ilvrctl("translate", "--from-noise", "empty", "--weights", "dogs.pt").err
    assert "brings its own" in ilvrctl("translate", FOX, "--from-noise", "empty", "--weights", "dogs.pt").err


# --- a stranger's file -------------------------------------------------------------------------------------

FACTS = NoiseFacts(
    "a.png",
    "0" * 64,
    1,
    "cyclediffusion",
    "n",
    "0" * 64,
    "linear",
    1000,
    (999, 500, 0),
    (0.006, 0.3, 0.99),
    (3, 8, 8),
    True,
)
GOOD: dict[str, torch.Tensor] = {
    "x": torch.zeros(3, 8, 8),
    "deviations": torch.zeros(3, 3, 8, 8),
    "std": torch.tensor([1.0, 1.0, 0.0]).view(3, 1, 1, 1),
    "picture": torch.tensor([1, 2], dtype=torch.uint8),
}


def written(path: Path, tensors: dict[str, torch.Tensor], facts: Any) -> bytes:
    save_file({name: x.contiguous() for name, x in tensors.items()}, path, {KEY: json.dumps(facts)})
    return path.read_bytes()


def changed(**tensors: torch.Tensor | None) -> dict[str, torch.Tensor]:
    return {name: x for name, x in {**GOOD, **tensors}.items() if x is not None}


@pytest.mark.parametrize(
    ("tensors", "facts", "why"),
    [
        (changed(x=torch.full((3, 8, 8), torch.nan)), {}, "not finite"),
        (changed(deviations=torch.full((3, 3, 8, 8), torch.inf)), {}, "not finite"),
        (changed(x=torch.zeros(3, 8, 8, dtype=torch.float16)), {}, "does not belong"),
        (changed(extra=torch.zeros(2)), {}, "does not belong"),
        (changed(x=torch.zeros(3, 8, 9)), {}, "3 x 8 x 9"),
        (changed(x=None), {}, "holds no x"),
        (changed(picture=None), {}, "no picture"),
        (changed(std=None), {}, "do not go together"),
        (changed(std=torch.zeros(3, 1, 1, 1)), {}, "not above 0"),
        (changed(deviations=torch.zeros(2, 3, 8, 8)), {}, "not those of 3 steps"),
        (GOOD, {"levels": [0, 500, 999]}, "levels go from"),
        (GOOD, {"levels": [1000, 500, 0]}, "levels go from"),
        (changed(std=None, deviations=None), {}, "do not go together"),
        (GOOD, {"noises": False}, "do not go together"),
        (GOOD, {"levels": []}, "levels go from"),
        (GOOD, {"alphas": [0.5]}, "alpha"),
        (GOOD, {"alphas": [2.0, 1.0, 0.5]}, "alpha"),
        (GOOD, {"alphas": [float("nan"), 0.3, 0.9]}, "cannot be read"),
        (GOOD, {"shape": [5, 8, 8]}, "channels"),
        (GOOD, {"shape": [3, 8]}, "cannot be read"),
        (GOOD, {"dtype": "float16"}, "float32"),
        (GOOD, {"sample": 0}, "count from 1"),
        (GOOD, {"version": 2}, "layout 2"),
        (GOOD, {"T": "many"}, "cannot be read"),
        (GOOD, {"open": "/etc/passwd"}, "cannot be read"),
        (GOOD, {"picture": "\x1b]0;title\x07\n", "sample": -1}, "count from 1"),
    ],
)  # fmt: skip
def test_facts_and_numbers_that_cannot_be_are_told(
    tensors: dict[str, torch.Tensor], facts: dict[str, Any], why: str, tmp_path: Path
) -> None:
    assert read_noise(written(tmp_path / "good.st", GOOD, asdict(FACTS)), "good").facts == FACTS
    data = written(tmp_path / "x.st", tensors, {**asdict(FACTS), **facts})
    with pytest.raises(InputError, match=why) as refused:
        read_noise(data, "x.st")
    assert "\x1b" not in refused.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
    ],
)
def test_other_files_are_no_noise(data: bytes) -> None:
    with pytest.raises(InputError, match="no noise that can be used"):
        read_noise(data, "x")


def test_any_changed_byte_is_told_or_changes_numbers_alone(tmp_path: Path) -> None:
    good = written(tmp_path / "good.st", GOOD, asdict(FACTS))
    for at in range(0, len(good), 7):
        data = bytearray(good)
        data[at] ^= 0x55
        try:
            noise = read_noise(bytes(data), "x")
        except InputError:
            continue
        assert noise.facts.mistake() is None
        assert noise.arrays.x.shape == noise.facts.shape


def test_a_broken_file_fails_by_itself_and_the_others_go_on() -> None:
    both("--steps", "3")
    file = Path("both/fox.noise.safetensors")
    file.write_bytes(file.read_bytes()[:-40])
    ran = from_noise("--steps", "3", "--json")
    assert ran.code == 1
    events = [line["event"] for line in json_lines(ran)]
    assert events.count("failed") == 1
    assert "no noise that can be used" in ran.out.decode()
    assert len(list(Path("again").glob("*.png"))) == 1


def test_a_picture_beside_noise_of_another_size_fails(tmp_path: Path) -> None:
    both("--steps", "3", inputs=[FOX])
    noise = read_noise(Path("both/fox.noise.safetensors").read_bytes(), "x")
    replace(noise, picture=FOX.read_bytes()).save(tmp_path / "odd" / "odd.noise.safetensors")
    ran = from_noise("--steps", "3", place="odd")
    assert ran.code == 1
    assert "its picture is" in ran.err
