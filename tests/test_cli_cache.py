"""``ilvrctl cache``: what lies where, and what is removed, and what is not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from commands import ilvrctl, json_lines
from hugging import HuggingFace, Networks

import ilvrctl as package
from ilvrctl import paths
from ilvrctl.files import Digests, Remembered, locked
from ilvrctl.hub.pins import lock_path
from ilvrctl.presets import find_model
from ilvrctl.work import storage

pytest_plugins = ("downloads",)


def put(path: Path, size: int = 1000) -> Path:
    """A file of a size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def listed() -> dict[str, dict[str, Any]]:
    """What the command lists, by name."""
    ran = ilvrctl("cache", "--json")
    assert ran.code == 0, ran.err
    return {row["name"]: row for row in json_lines(ran)}


@pytest.fixture
def dog() -> Path:
    """Weights of a model of one file, with the facts of a probe beside it."""
    path = put(paths.weights_dir() / find_model("afhq_dog_4m").file)
    put(path.with_name(path.name + ".facts.yaml"), 10)
    return path


def test_everything_is_listed_with_its_size(dog: Path) -> None:
    folder = paths.weights_dir() / "ddpm-cat-256"
    put(folder / "config.json", 5)
    put(folder / "diffusion_pytorch_model.safetensors", 2000)
    put(paths.weights_dir() / "mine.pt", 30)
    put(paths.cache_dir() / "features" / "inception.sqlite", 70)
    Digests(paths.cache_dir() / "sha256.json").of(dog)
    put(paths.cache_dir() / "sha256.json", 4)
    found = listed()
    sizes = {name: (row["kind"], row["bytes"]) for name, row in found.items()}
    assert sizes == {
        "afhq_dog_4m": ("weights", 1010),
        "ddpm-cat-256": ("weights", 2005),
        "mine.pt": ("weights", 30),
        "facts": ("cache", 4),
        "features": ("cache", 70),
    }
    table = ilvrctl("cache")
    assert len(table.lines) == 5 and max(map(len, table.lines)) <= 80
    assert str(paths.weights_dir()) in table.err


def test_weights_are_removed_by_the_names_that_download_takes(dog: Path) -> None:
    other = put(paths.weights_dir() / "mine.pt")
    told = ilvrctl("cache", "rm", "dog", "--dry-run")
    assert told.code == 0 and "would be freed" in told.err and dog.exists()
    asked = ilvrctl("cache", "rm", "dog")
    assert asked.code == 2 and "--yes" in asked.err and dog.exists()
    ran = ilvrctl("cache", "rm", "dog", "--yes", "--json")
    assert ran.code == 0 and json_lines(ran) == [{"event": "removed", "name": "afhq_dog_4m", "bytes": 1010}]
    assert not dog.exists() and list(listed()) == ["mine.pt"] and other.exists()


def test_what_is_not_here_or_stays() -> None:
    put(paths.weights_dir() / "mine.pt")
    for name, words in {
        "emoji3d": "ships with ilvrctl",
        "dog": "is not here",
        "minne.pt": "did you mean 'mine.pt'",
        "../mine.pt": "nothing here is called",
    }.items():
        ran = ilvrctl("cache", "rm", name, "-y")
        assert ran.code == 2 and words in ran.err, ran.err
    assert paths.DATA.joinpath("emoji3d-64.safetensors").exists()


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    mine = put(tmp_path / "precious.pt")
    folder = put(tmp_path / "folder" / "x.sqlite").parent
    paths.weights_dir().mkdir(parents=True)
    (paths.cache_dir()).mkdir(parents=True)
    (paths.weights_dir() / find_model("afhq_dog_4m").file).symlink_to(mine)
    (paths.weights_dir() / "linked").symlink_to(folder)
    (paths.cache_dir() / "features").symlink_to(folder)
    assert ilvrctl("cache", "rm", "dog", "-y").code == 0
    for name in ("features", "linked"):
        ilvrctl("cache", "rm", name, "-y")
    ilvrctl("cache", "prune", "-y")
    assert mine.exists() and (folder / "x.sqlite").exists()


def test_what_another_process_works_on_stays(dog: Path) -> None:
    part = put(dog.with_name(f"{dog.name}.part"))
    with locked(lock_path(dog.name)):
        for words in (("rm", "dog", "-y"), ("prune", "-y")):
            ran = ilvrctl("cache", *words)
            assert ran.code == 1 and "in use by another process" in ran.err, ran.err
    assert dog.exists() and part.exists()
    assert ilvrctl("cache", "prune", "-y").code == 0 and dog.exists() and not part.exists()


def test_prune_removes_what_kills_have_left_and_nothing_else(dog: Path) -> None:
    gone = put(paths.weights_dir() / "gone.pt", 40)
    for path in (dog, gone):
        Remembered("checkpoints-2").put({"x": 1}, path)
    digests = Digests(paths.cache_dir() / "sha256.json")
    digests.of(dog), digests.of(gone)
    digests.keep()
    put(paths.cache_dir() / "times.json").write_text(json.dumps({"cpu fp32": 1}))
    gone.unlink()
    for name in (
        "gone.pt.facts.yaml",
        "a.pt.part",
        "a.pt.part.json",
        "b.pt.drive.part",
        "b.pt.drive12345678.part",
    ):
        put(paths.weights_dir() / name)
    old = put(paths.cache_dir() / "sha256.json.part")
    new = put(paths.cache_dir() / "training" / "x.rgb.part")
    os.utime(old, (0, 0))
    ran = ilvrctl("cache", "prune", "-y")
    assert ran.code == 0 and "forgot 2 facts" in ran.err, ran.err
    left = sorted(
        path.name
        for path in paths.weights_dir().rglob("*")
        if path.is_file() and path.parent.name != ".locks"
    )
    assert left == sorted([dog.name, f"{dog.name}.facts.yaml"])
    assert not old.exists() and new.exists()
    assert json.loads((paths.cache_dir() / "times.json").read_text()) == {"cpu fp32": 1}
    assert Remembered("checkpoints-2").get(dog) == {"x": 1}
    assert len(json.loads((paths.cache_dir() / "sha256.json").read_text())) == 1


@pytest.mark.parametrize(("answer", "stays"), [(b"n\n", True), (b"y\n", False)])
def test_a_person_at_a_terminal_is_asked(
    dog: Path, answer: bytes, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilvrctl.cli.cache.terminal", lambda stream: True)
    ran = ilvrctl("cache", "rm", "dog", stdin=answer)
    assert ran.code == 0 and "remove?" in ran.err and "afhq_dog_4m" in ran.err
    assert dog.exists() == stays


@pytest.mark.slow
def test_models_on_hugging_face_are_listed_and_removed_by_name(
    hugging_face: HuggingFace, networks: Networks
) -> None:
    first = hugging_face.put("me/net", {"ema.pt": networks.file, "a.txt": b"1"})
    old = package.download("hf:me/net")
    second = hugging_face.put("me/net", {"ema.pt": networks.file, "a.txt": b"2"})
    new = package.download("hf:me/net")
    found = listed()
    assert {name: found[name]["bytes"] for name in found if name.startswith("hf:")} == {
        f"hf:me/net@{commit}": len(networks.file) for commit in (first, second)
    }
    two = ilvrctl("cache", "rm", "hf:me/net", "-y")
    assert two.code == 2 and "2 commits" in two.err
    assert ilvrctl("cache", "rm", f"hf:me/net@{first}", "-y").code == 0
    assert not old.exists() and new.read_bytes() == networks.file  # bytes that both share stay
    assert ilvrctl("cache", "rm", "hf:me/net", "-y").code == 0
    assert not new.exists() and not [name for name in listed() if name.startswith("hf:")]


def test_names_of_the_house_are_what_storage_calls_them(dog: Path) -> None:
    assert storage.called("afhq-dog").files[0] == dog
