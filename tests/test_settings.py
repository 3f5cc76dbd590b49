"""Settings: identities that stay, values in range or an error that shows a right one, aims beyond sense."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilvrctl.config import Layer, build
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.errors import ConfigError, IlvrctlError, UsageError
from ilvrctl.fields import LATER, Between, recorded
from ilvrctl.methods.method import MOST_CALLS
from ilvrctl.presets import ModelPreset, override_model
from ilvrctl.settings import Settings, build_settings

LINEAR = Schedule.named("linear")


def settings(**values: Any) -> Settings:
    return build_settings(Layer.of("--set", values))


# Computed before fields could be left out of records: results of then must be known again.
IDENTITIES: list[tuple[dict[str, Any], str]] = [
    ({}, "bd712a4d3f3a1a02"),
    (
        {
            "method": {"name": "ilvr", "N": 4, "range": [1.0, 0.2]},
            "steps": 20,
            "sampler": "ddim",
            "speed": "turbo",
        },
        "bfa1f7450ca90b78",
    ),
    ({"compat": "sddm"}, "d1603ee361bc1d99"),
    ({"compat": "egsde", "energies": {"dse": 0}}, "85b620ded110c679"),
    ({"method": "sddm+egsde"}, "a0e39c80ef779539"),
    ({"method": "cyclediffusion", "seed": 7}, "d497d7ed69f38d99"),
    (
        {
            "edit": {"mask": True, "threshold": 20, "grow": 0},
            "method": {"resample": [5, 2], "start": 0.6},
            "fit": "native",
        },
        "31d04e348bfbe1e7",
    ),
    (
        {"method": {"name": "sdedit", "energies": {"mine": {"call": "m:red", "weight": 2}}, "merge": "pair"}},
        "7f1ac301589fabd9",
    ),
]


@pytest.mark.parametrize(("values", "identity"), IDENTITIES)
def test_identities_of_results_made_before_stay(values: dict[str, Any], identity: str) -> None:
    assert settings(**values).identity({"a": 1}).startswith(identity)


def test_a_later_field_is_recorded_only_where_it_differs_from_its_default() -> None:
    @dataclasses.dataclass(frozen=True)
    class Piece:
        old: int = 1
        new: str | None = dataclasses.field(default=None, metadata=LATER)

    assert recorded(Piece()) == {"old": 1}
    assert recorded(Piece(new="a")) == {"old": 1, "new": "a"}
    assert build(Piece, Layer(recorded(Piece(new="a")))) == Piece(new="a")


# --- levels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words", "right"),
    [
        ({"start": 1}, "method.start: 1 may be the level 1 or all of T", "--start 1.0 all of T"),
        ({"start": 1.5}, "method.start: a fraction of T goes from 0.0 to 1.0, not 1.5", "--start 0.8 is"),
        ({"start": 500.0}, "a fraction of T goes from 0.0 to 1.0, not 500.0", "--start 500 a level"),
        ({"start": 1001}, "start 1001 is no level of this model, which has 1000", "1000 or 1.0"),
        ({"start": 100000}, "start 100000 is no level of this model", "1000 or 1.0"),
        ({"start": 0}, "method.start must be above 0", None),
        ({"start": -3}, "method.start must be above 0", None),
        ({"start": math.nan}, "method.start must be a finite number, not nan", None),
        ({"range": [5000, 200]}, "range 5000 is no level of this model", "1000 or 1.0"),
        ({"range": [2.0, 0.2]}, "method.range: a fraction of T goes from 0.0 to 1.0, not 2.0", "--range 1.0:0.2"),
        ({"range": [1, 0.2]}, "method.range: 1 may be the level 1 or all of T", "--range 1.0:0.2"),
        ({"range": [1.0, -0.2]}, "method.range: a fraction of T goes from 0.0 to 1.0, not -0.2", None),
        ({"range": [1000, -5]}, "method.range: levels are counted from 0, not -5", None),
        ({"range": [0.2, 1.0]}, "method.range 0.2:1.0 is empty: its high end comes first", "--range 1.0:0.2"),
        ({"range": [200, 1000]}, "method.range 200:1000 is empty: its high end comes first", "--range 1000:200"),
        ({"range": [200, 1.0]}, "range 200:1.0 is empty: its high end comes first", "--range 1.0:200"),
        ({"range": [0.5, 0.5]}, "method.range 0.5:0.5 is empty: its high end comes first", "--range 1.0:0.2"),
        ({"range": [math.inf, 0.5]}, "method.range.1 must be a finite number, not inf", None),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_is_a_level_or_a_fraction_in_range_and_in_order(
    values: dict[str, Any], words: str, right: str | None
) -> None:
    with pytest.raises(UsageError) as told:
        settings(**values).check(LINEAR, 64)
    assert words in told.value.message
    assert (right or "") in (told.value.hint or "")
    if not told.value.message.startswith(("start", "range")):  # told with T, after the origins are gone
        assert told.value.message.startswith("--set: ")


@pytest.mark.parametrize("T", [20, 1000, 4000])
@given(data=st.data())
def test_any_pair_of_values_is_walked_or_told(T: int, data: st.DataObject) -> None:
    value = st.one_of(st.integers(-5, 5000), st.floats(), st.floats(0, 1))
    start, high, low = data.draw(value), data.draw(value), data.draw(value)
    try:
        steps = settings(start=start, range=[high, low], steps=10).check(Schedule.named("cosine", T), 64)
    except UsageError:
        return
    level = {bound: bound * T if isinstance(bound, float) else bound for bound in (start, high, low)}
    assert 0 <= level[low] < level[high] <= T and 0 < level[start] <= T
    assert all(k.t < max(1, round(level[start])) for k in steps)
    assert start != 1 or isinstance(start, float)


def test_the_summary_of_all_levels_does_not_name_the_start() -> None:
    assert settings(start=1.0).method.describe() == settings().method.describe()
    assert settings(start=999).method.describe() == settings().method.describe() + ", from 999"


# --- every number has sense -----------------------------------------------------------------------------------


def numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from numbers(inner, (*path, key))
        elif isinstance(inner, int | float) and not isinstance(inner, bool):
            yield (*path, key), inner


WHOLE = settings(
    method={"name": "sddm", "energies": {"picture": 25.0, "low_pass": 2.0, "vgg": 1.0, "dse": 1.0}},
    sampler="ddim",
    edit={},
).record()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, "5", [1], {}], ids=str)
@pytest.mark.parametrize("path", [path for path, _ in numbers(WHOLE)], ids=".".join)
def test_no_number_takes_what_is_none(path: tuple[str, ...], wrong: Any) -> None:
    value: Any = wrong
    for key in reversed(path):
        value = {key: value}
    with pytest.raises(ConfigError, match=r"must be|goes from"):
        build_settings(Layer(WHOLE), Layer.of("--set", value))


@pytest.mark.parametrize("wrong", [0, -1, -(10**9), 10**9, 10**30], ids=str)
@pytest.mark.parametrize("path", [path for path, _ in numbers(WHOLE)], ids=".".join)
def test_any_whole_number_works_or_is_told_before_anything_is_allotted(
    path: tuple[str, ...], wrong: int
) -> None:
    value: Any = wrong
    for key in reversed(path):
        value = {key: value}
    try:
        found = build_settings(Layer(WHOLE), Layer.of("--set", value))
        found.check(LINEAR, 64)
        assert found.network_calls(LINEAR) <= MOST_CALLS
    except IlvrctlError as error:
        assert str(wrong) in error.message or f"{wrong:,}" in error.message or path[-1] in error.message


@pytest.mark.parametrize(
    "values",
    [
        {"repeats": 10**9},
        {"resample": [1, 10**9]},
        {"refinements": 10**9},
        {"repeats": 1000, "resample": [5, 1000]},
        {"steps": 10**12},
        {"timestep_respacing": "1000000000"},
    ],
    ids=str,
)
def test_aims_beyond_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as told:
        settings(**values).check(LINEAR, 64)
    assert "over 1,000,000 calls" in told.value.message or "1000" in told.value.message


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"diffusion_steps": 0}, "model.diffusion_steps goes from 1 to 100000, not 0"),
        ({"diffusion_steps": -5}, "model.diffusion_steps goes from 1 to 100000, not -5"),
        ({"diffusion_steps": 10**8}, "model.diffusion_steps goes from 1 to 100000"),
        ({"image_size": 10**6}, "model.image_size goes from 1 to 16384"),
        ({"image_size": 0}, "model.image_size goes from 1 to 16384, not 0"),
        ({"num_heads": 0}, "model.num_heads must be at least 1, not 0"),
    ],
)
def test_facts_of_a_network_that_no_network_has(facts: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError) as told:
        override_model(ModelPreset(), Layer.of("--set", facts))
    assert words in told.value.message


def test_every_range_of_a_type_holds_its_default() -> None:
    for cls in (Settings, ModelPreset):
        for name, hint in typing.get_type_hints(cls, include_extras=True).items():
            for extra in getattr(hint, "__metadata__", ()):
                if isinstance(extra, Between) and (value := getattr(cls, name, None)) is not None:
                    assert extra.mistake(value) is None


@pytest.mark.parametrize("name", ["grow", "feather"])
def test_a_mask_is_not_grown_without_end(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"edit\.{name} goes from 0 to 1000, not 1000000000"):
        build_settings(Layer({"edit": {name: 10**9}}))
