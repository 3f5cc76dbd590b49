"""Classes by their names of ImageNet."""

from __future__ import annotations

import pytest

from ilvrctl.classes import class_number
from ilvrctl.config import Layer
from ilvrctl.errors import UsageError
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
