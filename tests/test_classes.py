"""Classes by their names of ImageNet."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_random_checkpoint, write_small_network
from commands import FOX, ilvrctl, pixels

from ilvrctl.classes import class_number
from ilvrctl.config import Layer
from ilvrctl.diffusion.noise import drawn_class
from ilvrctl.errors import UsageError
from ilvrctl.images.metadata import read_record
from ilvrctl.paths import DATA
from ilvrctl.plans.asked import asked_by_flags
from ilvrctl.plans.values import label
from ilvrctl.settings import build_settings

ROWS = (DATA / "imagenet.txt").read_text("utf-8").splitlines()


def test_every_class_has_its_number_by_each_of_its_names() -> None:
    assert len(ROWS) == 1000
    every = [(name, number) for number, row in enumerate(ROWS) for name in row.split(", ")]
    shared = {
        name.casefold()
        for name, n in every
        if any(m != n and o.casefold() == name.casefold() for o, m in every)
    }
    for name, number in every:
        if name.casefold() in shared:
            with pytest.raises(UsageError, match="classes of ImageNet are called") as refused:
                class_number(name)
            assert f"--class-label {number} (" in (refused.value.hint or "")
        else:
            assert class_number(name.upper()) == class_number(f" {name} ") == number


@pytest.mark.parametrize(
    ("name", "number"),
    [("tench", 0), ("golden retriever", 207), ("tabby cat", 281), ("lion", 291), ("toilet tissue", 999)],
)
def test_numbers_that_everybody_knows(name: str, number: int) -> None:
    assert class_number(name) == number


def test_a_name_is_recorded_as_its_number() -> None:
    by_name, by_number = (build_settings(Layer.of("test", {"class_label": c})) for c in ("Lion", 291))
    assert by_name == by_number
    assert by_name.identity({}) == by_number.identity({})
    with pytest.raises(UsageError, match="no class of ImageNet is called 'golden retreiver'") as refused:
        build_settings(Layer.of("test", {"class_label": "golden retreiver"}))
    assert "golden retriever" in (refused.value.hint or "")


def test_flags_take_numbers_and_names() -> None:
    [choice] = asked_by_flags("translate", {"class_label": "207,lion"}).choices
    assert [option.value for option in choice.options] == [207, "lion"]
    with pytest.raises(UsageError, match="at least 0"):
        label("--class-label", "-1")


def test_a_name_from_the_command_line_to_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {"image_size": 32, "num_channels": 32, "channel_mult": "1,2", "num_res_blocks": 1, "num_heads": 2}
    write_random_checkpoint(
        tmp_path / "classes.pt", {**flags, "attention_resolutions": "16", "class_cond": True}
    )
    write_small_network(tmp_path / "none.pt")
    args = ["translate", FOX, "--weights", "classes.pt", "--steps", "2", "--precision", "fp32"]
    args += ["--set", "model.image_size=32", "--set", "model.num_heads=2"]
    assert ilvrctl(*args, "--class-label", "Lion").code == 0
    assert "nothing to do" in ilvrctl(*args, "--class-label", "291").err
    record = json.loads(read_record(Path("out/fox.png").read_bytes(), "fox"))
    assert record["settings"]["class_label"] == 291
    (tmp_path / "jobs.yaml").write_text(
        "jobs:\n  - name: a\n    inputs: [in]\n    weights: classes.pt\n    class_label: lion\n    steps: 2\n"
        "    model: {image_size: 32, num_heads: 2}\n"
    )
    (tmp_path / "in").mkdir()
    shutil.copy(FOX, tmp_path / "in/fox.png")
    ran = ilvrctl("batch", "jobs.yaml", "-o", "many")
    assert ran.code == 0, ran.err
    source = ["--from-weights", "none.pt", "--set", "source.image_size=32", "--set", "source.num_heads=2"]
    ran = ilvrctl(*args, *source, "--class-label", "lion", "-o", "two")
    assert ran.code == 0, ran.err  # the label is that of the target, where the source has no classes


@pytest.fixture
def with_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    """A translation with a network of ten classes."""
    monkeypatch.chdir(tmp_path)
    flags = {"image_size": 32, "num_channels": 32, "channel_mult": "1,2", "num_res_blocks": 1, "num_heads": 2}
    write_random_checkpoint(
        tmp_path / "classes.pt", {**flags, "attention_resolutions": "16", "class_cond": True}
    )
    args = ["translate", FOX, "--weights", "classes.pt", "--steps", "2", "--precision", "fp32"]
    return [*args, "--set", "model.image_size=32", "--set", "model.num_heads=2"]


def record_of(name: str) -> Any:
    return json.loads(read_record(Path(name).read_bytes(), name))


def test_a_class_is_drawn_for_every_sample_and_recorded(with_classes: list[str | Path]) -> None:
    ran = ilvrctl(
        *with_classes, "--class-label", "random", "-n", "3", "--batch-size", "1"
    )  # as the bits are compared
    assert ran.code == 0, ran.err
    records = [record_of(f"out/fox_{n}.png") for n in (1, 2, 3)]
    drawn = [record["class"] for record in records]
    assert len(set(drawn)) == 3
    assert all(0 <= one < 1000 for one in drawn)
    assert {record["settings"]["class_label"] for record in records} == {"random"}
    assert "nothing to do" in ilvrctl(*with_classes, "--class-label", "random", "-n", "3").err
    again = ilvrctl(
        "translate", FOX, "--from-image", "out/fox_2.png", "--weights", "classes.pt", "-o", "again.png"
    )
    assert again.code == 0, again.err
    assert pixels(Path("again_2.png")) == pixels(Path("out/fox_2.png"))
    assert ilvrctl(*with_classes, "--class-label", str(drawn[0]), "-o", "named.png").code == 0
    assert pixels(Path("named.png")) == pixels(Path("out/fox_1.png"))
    assert ilvrctl(*with_classes, "--class-label", "random", "--seed", "1", "-o", "other.png").code == 0
    assert record_of("other.png")["class"] != drawn[0]


def test_no_class_where_the_network_has_one_that_means_it(with_classes: list[str | Path]) -> None:
    refused = ilvrctl(*with_classes, "--class-label", "none", "--dry-run")
    assert refused.code == 2
    assert "no class of this network is known to mean none" in refused.err
    assert "--set model.null_class=999" in refused.err
    for flags in (("--class-label", "none", "--set", "model.null_class=999"), ("--class-label", "999")):
        assert ilvrctl(*with_classes, *flags, "-o", f"{len(flags)}.png").code == 0
    assert pixels(Path("4.png")) == pixels(Path("2.png"))
    wrong = ilvrctl(*with_classes, "--class-label", "none", "--set", "model.null_class=1000")
    assert "not among the 1000 classes" in wrong.err


def test_a_network_without_classes_draws_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_small_network(tmp_path / "plain.pt")
    args = ["translate", FOX, "--weights", "plain.pt", "--steps", "2", "--dry-run"]
    args += ["--set", "model.image_size=32", "--set", "model.num_heads=2"]
    assert "trained without classes" in ilvrctl(*args, "--class-label", "random").err
    assert ilvrctl(*args, "--class-label", "none").code == 0


def test_classes_are_drawn_evenly() -> None:
    counts = Counter(drawn_class(0, f"{n:064x}", 1, 10) for n in range(2000))
    assert set(counts) == set(range(10))
    assert max(counts.values()) < 2 * min(counts.values())
