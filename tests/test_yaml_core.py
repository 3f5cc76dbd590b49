"""YAML 1.2: what people write is what is read, in files and behind --set."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilvrctl.config import parse_value, read_yaml
from ilvrctl.errors import ConfigError
from ilvrctl.plans.asked import asked_by_flags
from ilvrctl.yaml_core import dump_yaml, load_yaml

TEXT = (
    "10:50", "1:2:3", "1:30.5", "on", "On", "OFF", "yes", "No", "y", "n", "1_000", "0b11", "2026-01-02",
    "2026-01-02T03:04:05Z", "=", "<<", "+", "-x", "0o8", "0xg", "1e", ".e3", "1.5.2", "nUll", "tRUE", "inf",
)  # fmt: skip
READ = (
    ("10", 10), ("010", 10), ("+12", 12), ("-0", 0), ("0o17", 15), ("0x1F", 31), ("1e-3", 0.001), ("1E3", 1e3),
    ("1.", 1.0), (".5", 0.5), ("-.5e-3", -0.0005), (".inf", math.inf), ("-.INF", -math.inf), ("true", True),
    ("FALSE", False), ("null", None), ("~", None), ("", None), ("'10'", "10"), ("[on, 1:30, 7]", ["on", "1:30", 7]),
)  # fmt: skip


@pytest.mark.parametrize("text", TEXT)
def test_plain_text_is_text(text: str, tmp_path: Path) -> None:
    assert load_yaml(text)[1] == text
    assert parse_value("--set", "a", text).values == {"a": text}
    (tmp_path / "x.yaml").write_text(f"a: {text}\nb: [{text}]\n{text}: 1\n")
    assert read_yaml(tmp_path / "x.yaml").values == {"a": text, "b": [text], text: 1}


@pytest.mark.parametrize(("text", "value"), READ)
def test_numbers_and_truth_are_what_json_has(text: str, value: object) -> None:
    read = load_yaml(f"a: {text}")[1]["a"]
    assert (read, type(read)) == (value, type(value))


def test_nan_is_a_number() -> None:
    assert math.isnan(load_yaml(".nan")[1])


@pytest.mark.parametrize(
    "text", ["!!timestamp 2026-01-02", "!!set {a}", "!!binary aGk=", "!!python/name:os.system x"]
)
def test_there_are_no_other_types(text: str) -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_value("--set", "a", text)


def test_a_window_is_a_window_however_it_is_given() -> None:
    flag = asked_by_flags("translate", {"window": "10:50"}).choices[0]
    assigned = asked_by_flags("translate", {"set": ["window=10:50"]}).choices[0]
    assert flag.options[0].value == assigned.options[0].value == "10:50"


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.sampled_from([*TEXT, *(text for text, _ in READ)]),
        st.from_regex(r"[-+0-9.:_eExoabinfySTn~]{1,6}", fullmatch=True),
        st.floats(allow_nan=False),
        st.integers(),
        st.booleans(),
        st.none(),
    )
)
def test_what_is_written_is_read_again(value: object) -> None:
    read = load_yaml(dump_yaml({"a": value, "b": [value]}))[1]
    assert read == {"a": value, "b": [value]}
    assert type(read["a"]) is type(value)
