"""YAML to frozen dataclasses: strict, and every mistake says where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilvrctl.config import Layer, build, merge, nested, parse_assignment, parse_value, read_yaml
from ilvrctl.errors import ConfigError
from ilvrctl.settings import Settings, build_settings


@dataclass(frozen=True)
class Inner:
    size: int
    scale: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=lambda: Inner(1))
    count: int | None = None
    kind: Literal["red", "green"] = "red"
    pair: tuple[int | float, int | float] = (0, 1)
    many: tuple[str, ...] = ()
    flag: bool = False
    free: Mapping[str, Any] = field(default_factory=dict)


KEYS = "name, inner, count, kind, pair, many, flag, free"


def from_yaml(text: str, tmp_path: Path) -> Outer:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return build(Outer, read_yaml(path))


def refused(text: str, tmp_path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        from_yaml(text, tmp_path)
    assert caught.value.exit_code == 2
    return caught.value


def test_everything_that_fits(tmp_path: Path) -> None:
    found = from_yaml(
        "name: a\ninner: {size: 3, scale: 2}\ncount: null\nkind: green\npair: [1, 0.5]\n"
        "many: [x, y]\nflag: true\nfree: {a: {b: 1}}\n",
        tmp_path,
    )
    assert found == Outer("a", Inner(3, 2.0), None, "green", (1, 0.5), ("x", "y"), True, {"a": {"b": 1}})
    assert isinstance(found.inner.scale, float)
    assert isinstance(found.pair[0], int)
    assert from_yaml("name: a", tmp_path) == Outer("a")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("name: a\ncuont: 1\n", "x.yaml, line 2: unknown key 'cuont'", "did you mean 'count'?"),
        ("name: a\nzzz: 1\n", "x.yaml, line 2: unknown key 'zzz'", f"known keys: {KEYS}"),
        ("name: a\ninner: {size: 1,\n  sclae: 2}", "line 3: unknown key 'inner.sclae'", "did you mean 'scale'?"),
        ("name: a\ninner: {scale: 2}\n", "missing key 'inner.size'", None),
        ("kind: red\n", "x.yaml, line 1: missing key 'name'", None),
        ("name: 5\n", "x.yaml, line 1: name must be text, not 5", None),
        ("name: a\ncount: 1.5\n", "x.yaml, line 2: count must be a whole number or null, not 1.5", None),
        ("name: a\ncount: true\n", "x.yaml, line 2: count must be a whole number or null, not True", None),
        ("name: a\nflag: 1\n", "x.yaml, line 2: flag must be true or false, not 1", None),
        ("name: a\ntrue: 1\n", "x.yaml, line 2: a key that is no text: 'true'", "put it in quotes"),
        ("name: a\nkind: gren\n", "x.yaml, line 2: kind must be red or green, not 'gren'", "did you mean 'green'?"),
        ("name: a\npair: [1]\n", "pair must be a list of 2 times a whole number or a number, not [1]", None),
        ("name: a\nmany: x\n", "x.yaml, line 2: many must be a list of text, not 'x'", None),
        ("name: a\nmany: [x, 1]\n", "many must be a list of text, not ['x', 1]", None),
        ("name: a\ninner: 3\n", "x.yaml, line 2: inner must be a mapping, not 3", None),
        ("name: a\ninner: {size: x}\n", "x.yaml, line 2: inner.size must be a whole number, not 'x'", None),
        ("name: a\nname: b\n", "x.yaml, line 2: 'name' is given twice", None),
        ("name: a\ninner: {size: 1, size: 2}\n", "x.yaml, line 2: 'inner.size' is given twice", None),
        ("name: a\n1: b\n", "x.yaml, line 2: a key that is no text: '1'", None),
        ("- a\n", "must hold a mapping", None),
        ("a: [1\nb: 2\n", "x.yaml, line 2: not valid YAML", None),
        ("? [1]\n: 2\n", "x.yaml, line 1: not valid YAML: found unhashable key", None),
        ("name: !!python/object/apply:os.system [ls]\n", "x.yaml, line 1: not valid YAML", None),
        ("name: &a x\nkind: *a\n", "x.yaml, line 2: not valid YAML: aliases are not supported", None),
        ("free: &a [*a]\n", "x.yaml, line 1: not valid YAML: aliases are not supported", None),
        ("free: " + "[" * 3000, "x.yaml: not valid YAML", None),
    ],
)  # fmt: skip
def test_what_does_not_fit(text: str, message: str, hint: str | None, tmp_path: Path) -> None:
    error = refused(text, tmp_path)
    assert message in error.message
    assert "\n" not in error.message
    if hint is not None:
        assert error.hint == hint


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "nope.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read"):
            read_yaml(path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(tmp_path / "latin.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "empty.yaml") == Layer({})


def test_later_layers_win_key_by_key_and_remember_where_they_came_from() -> None:
    low = Layer.of("low", {"name": "a", "inner": {"size": 1, "scale": 2.0}})
    high = Layer.of("high", {"inner": {"size": 5}})
    assert build(Outer, merge(low, high)).inner == Inner(5, 2.0)
    assert low.values["inner"]["size"] == 1
    with pytest.raises(ConfigError, match=r"^high: inner\.size must be"):
        build(Outer, merge(low, Layer.of("high", {"inner": {"size": "x"}})))
    with pytest.raises(ConfigError, match=r"^low: inner\.scale must be"):
        build(Outer, merge(Layer.of("low", {"name": "a", "inner": {"scale": "x"}}), high))


NUMBERS = st.fixed_dictionaries({}, optional={"a": st.integers(), "b": st.integers()})


@given(layers=st.lists(st.fixed_dictionaries({}, optional={"a": st.integers(), "c": NUMBERS}), max_size=4))
def test_merging_is_associative(layers: list[dict[str, Any]]) -> None:
    parts = [Layer.of(str(n), values) for n, values in enumerate(layers)]
    whole = merge(*parts).values
    for cut in range(len(parts) + 1):
        assert merge(merge(*parts[:cut]), merge(*parts[cut:])).values == whole


def test_assignments() -> None:
    assert parse_assignment("method.N=8").values == {"method": {"N": 8}}
    assert parse_assignment(" seed = 3").values == {"seed": 3}
    assert parse_assignment("a=b=c").values == {"a": "b=c"}
    assert parse_assignment("range=[1.0, 0]").values == {"range": [1.0, 0]}
    assert parse_assignment("x=null").values == {"x": None}
    assert parse_assignment("x=").values == {"x": None}
    assert parse_assignment("a.b=1").origins == {("a",): "--set a.b=1", ("a", "b"): "--set a.b=1"}
    assert parse_value("VARIABLE", "seed", "7") == nested("VARIABLE", "seed", 7)
    for text in ("seed", "=1", " =1"):
        with pytest.raises(ConfigError, match="not of the form key=value"):
            parse_assignment(text)
    for text in ("x=[1", "x={a: b: c}", "x=*a"):
        with pytest.raises(ConfigError, match="not valid YAML"):
            parse_assignment(text)


SETTINGS = st.fixed_dictionaries(
    {
        "method": st.fixed_dictionaries(
            {
                "name": st.just("ilvr"),
                "N": st.sampled_from([1, 2, 4, 8]),
                "kernel": st.sampled_from(["cubic", "linear", "box", "lanczos3"]),
                "range": st.sampled_from([[1.0, 0.2], [1000, 200], [1.0, 0]]),
                "range_t": st.none() | st.integers(-1, 20),
                "reference_level": st.sampled_from(["s", "t"]),
            }
        ),
        "sampler": st.sampled_from(
            [{"name": "ddpm", "variance": "learned"}, {"name": "ddim", "eta": 0.5}, {"name": "ddim", "eta": 0.0}]
        ),
        "steps": st.integers(1, 1000),
        "timestep_respacing": st.none() | st.just("ddim50"),
        "seed": st.integers(),
        "clip_denoised": st.booleans(),
        "class_label": st.none() | st.integers(0, 9),
        "fit": st.sampled_from(["crop", "pad", "stretch"]),
        "background": st.sampled_from(["white", "#102030"]),
        "precision": st.sampled_from(["auto", "fp32", "bf16", "fp16"]),
    }
)  # fmt: skip


@given(values=SETTINGS)
def test_settings_are_what_they_were_after_a_record(values: dict[str, Any]) -> None:
    first = build_settings(Layer(values))
    again = build_settings(Layer(first.record()))
    assert again == first
    assert again.identity({"weights": "a"}) == first.identity({"weights": "a"})
    found = first.record()
    assert found["method"]["constraint"] == {
        "name": "low_pass",
        "noise": "auto",
        **{key: values["method"].pop(key) for key in ("N", "kernel", "reference_level")},
    }
    assert found["method"] == {**found["method"], **values.pop("method")}
    assert found == {**found, **values}


@given(values=SETTINGS, others=SETTINGS)
def test_settings_have_one_identity_each(values: dict[str, Any], others: dict[str, Any]) -> None:
    a, b = build_settings(Layer(values)), build_settings(Layer(others))
    assert (a.identity({}) == b.identity({})) == (a.record() == b.record())
    assert a.identity({"weights": "a"}) != a.identity({"weights": "b"})


def test_the_defaults_are_those_of_the_dataclass() -> None:
    assert build_settings() == Settings()
    assert build_settings(Layer({"method": "ilvr", "sampler": "ddpm"})) == Settings()


def test_another_sampler_keeps_what_it_knows_of_the_one_below() -> None:
    below = Layer.of("preset", {"sampler": {"name": "ddim", "eta": 0.5}})
    assert (
        build_settings(below, overrides=[nested("--sampler", "sampler.name", "ddpm")]).sampler.name == "ddpm"
    )
    assert build_settings(below, overrides=[nested("--sampler", "sampler.name", "ddim")]).sampler.eta == 0.5  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"^--eta: the sampler ddpm has no 'eta'"):
        build_settings(
            below,
            overrides=[
                merge(nested("--sampler", "sampler.name", "ddpm"), nested("--eta", "sampler.eta", 1.0))
            ],
        )


def test_compat_lies_above_presets_and_below_overrides() -> None:
    level = "method.reference_level"
    preset = merge(nested("preset", level, "s"), nested("preset", "compat", "ilvr_adm"))
    assert build_settings(preset).method.record()["constraint"]["reference_level"] == "t"
    over = build_settings(preset, overrides=[nested("--set", level, "s")])
    assert over.method.record()["constraint"]["reference_level"] == "s"
    flag = build_settings(nested("preset", level, "s"), overrides=[nested("--compat", "compat", "ilvr_adm")])
    assert flag.method.record()["constraint"]["reference_level"] == "t"


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("2E3", 2000.0), ("-1e+2", -100.0), ("1e", "1e")]
)
def test_a_number_with_an_exponent_needs_no_point(text: str, value: object) -> None:
    assert parse_assignment(f"a={text}").values == {"a": value}
