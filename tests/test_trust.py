"""What a record may not do: name code, open files, or pass for a sound one when it is damaged."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import random
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import GOLDEN
from PIL import Image, PngImagePlugin

from ilvrctl.config import Layer, merge
from ilvrctl.diffusion.samplers import SAMPLERS
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.errors import IlvrctlError, InputError
from ilvrctl.evaluation.measure import Protocol, factor_of
from ilvrctl.evaluation.pairing import Partners
from ilvrctl.evaluation.sets import pictures_of
from ilvrctl.fields import CODE, FILE
from ilvrctl.methods import networks
from ilvrctl.methods.constraints import CONSTRAINTS
from ilvrctl.methods.encoders import ENCODERS
from ilvrctl.methods.energies import ENERGIES, UserEnergy
from ilvrctl.methods.merge import MERGES
from ilvrctl.plans.plan import network_facts
from ilvrctl.plans.record import Recipe
from ilvrctl.presets import ModelPreset, load_models
from ilvrctl.settings import Settings, build_settings, identity_of
from ilvrctl.trust import named

TABLES = (SAMPLERS, CONSTRAINTS, MERGES, ENCODERS, ENERGIES)
PIECES = [UserEnergy, *(piece for table in TABLES for piece in table.values())]

# Free text that reaches neither an import nor an open file: a colour, a list of counts, and keys of tables.
PLAIN_TEXT = {
    "Settings.background",
    "Settings.timestep_respacing",
    "Settings.window",
    "Settings.picture_size",
    "Method.name",
}
MARKED = {
    "UserEnergy.call": CODE,
    "VggEnergy.model": FILE,
    "DseEnergy.model": FILE,
    "ClassifierEnergy.model": FILE,
}


def types_in(hint: Any) -> Iterator[Any]:
    yield hint
    for inner in typing.get_args(hint):
        yield from types_in(inner)


def settings_types() -> set[type]:
    """Every dataclass that settings can hold, and the pieces of the tables that they are built from."""
    found: set[type] = set()
    waiting: list[Any] = [Settings, *PIECES]
    while waiting:
        cls = waiting.pop()
        if cls in found:
            continue
        found.add(cls)
        for hint in typing.get_type_hints(cls, include_extras=True).values():
            waiting += [t for t in types_in(hint) if isinstance(t, type) and dataclasses.is_dataclass(t)]
    return found


def test_no_setting_of_any_type_names_code_or_files_but_those_that_say_so() -> None:
    marked, free = {}, set()
    for cls in settings_types():
        hints = typing.get_type_hints(cls, include_extras=True)
        for field in dataclasses.fields(cls):
            hint, name = hints[field.name], f"{cls.__name__}.{field.name}"
            marks = {CODE, FILE} & set(getattr(hint, "__metadata__", ()))
            parts = set(map(str, types_in(hint)))
            assert not any(
                word in part for part in parts for word in ("Any", "object", "Callable", "Path")
            ), name
            if marks:
                [marked[name]] = marks
            elif (
                "<class 'str'>" in parts and name != "Method.energies"
            ):  # whose keys are looked at with the values
                free.add(name)
    assert (marked, free) == (MARKED, PLAIN_TEXT)


@functools.cache
def sound(name: str, **changes: Any) -> dict[str, Any]:
    return build_settings(
        Layer({"method": {"name": name}, "energies": {"dse": 0}} if "egsde" in name else {"method": name})
    ).record()


def from_record(record: Mapping[str, Any], **flags: Any) -> Settings:
    return build_settings(Layer.of("in.png", record, trusted=False), overrides=[Layer.of("--set", flags)])


def test_a_sound_record_gives_the_settings_that_it_is_of() -> None:
    for name in ("ilvr", "sddm", "egsde", "sdedit", "sddm+egsde", "ddib", "cyclediffusion"):
        assert from_record(sound(name)).record() == sound(name)


WAYS: dict[str, dict[str, Any]] = {
    "call": {"energies": {"x": {"call": "os:getcwd"}}},
    "call of a known one": {"energies": {"picture": {"call": "os:getcwd"}}},
    "a key": {"energies": {"os:getcwd": 1}},
    "a key with settings": {"energies": {"os:getcwd": {"weight": 2.0}}},
    "in method": {"method": {"name": "sdedit", "energies": {"x": {"call": "os:getcwd"}}}},
    "a key in method": {"method": {"name": "sdedit", "energies": {"os:getcwd": 1}}},
    "in methods": {"methods": {"ilvr": {"energies": {"x": {"call": "os:getcwd"}}}}},
    "a key in methods": {"methods": {"ilvr": {"energies": {"os:getcwd": 1}}}},
}
FILES: dict[str, dict[str, Any]] = {
    "dse": {"method": "egsde", "energies": {"dse": {"model": str(GOLDEN / "dse.pt")}}},
    "vgg": {"method": "sddm", "energies": {"vgg": {"model": "/etc/secret.pth", "weight": 1}}},
    "in methods": {"methods": {"ilvr": {"energies": {"vgg": {"model": "x.pt"}}}}},
    "a name that nobody knows": {"energies": {"vgg": {"model": "/dev/zero"}}},
}


@pytest.mark.parametrize("way", [*WAYS, *FILES])
def test_a_record_names_neither_code_nor_files(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = WAYS.get(way) or FILES[way]
    monkeypatch.setattr(networks.importlib, "import_module", None)
    build_settings(Layer(record))  # what a person writes may
    merged = merge(Layer({"steps": 5}), Layer.of("in.png", record, trusted=False))
    for layer in (Layer.of("in.png", record, trusted=False), merged):
        with pytest.raises(
            IlvrctlError, match=r"in\.png: energies\..* (calls the function|opens the file)"
        ) as told:
            build_settings(layer, overrides=[Layer.of("--steps", {"steps": 7})])
        assert "if you want it: --set energies." in (told.value.hint or "")


def test_the_flag_that_the_refusal_names_allows_this_one_function() -> None:
    record = {"method": "sdedit", "energies": {"x": {"call": "mine:red"}, "y": {"call": "mine:blue"}}}
    with pytest.raises(IlvrctlError) as told:
        from_record(record)
    assert "--set energies.x.call=mine:red" in (told.value.hint or "")
    with pytest.raises(IlvrctlError, match=r"energies\.y\.call"):
        from_record(record, energies={"x": {"call": "mine:red"}})
    found = from_record(record, energies={"x": {"call": "mine:red"}, "y": 0})
    assert [energy.weight for energy in found.method.energies.values()] == [1, 0]
    assert list(found.method.acting) == ["x"]


def test_a_record_may_name_what_the_registry_knows() -> None:
    found = from_record({"method": "egsde", "energies": {"dse": {"model": "cat2dog_dse"}}})
    assert found.method.record()["energies"]["dse"]["model"] == "cat2dog_dse"


@pytest.mark.parametrize("escape", ["\x1b]0;title\x07:f", "a\nb:c", "a.b:c d"])
def test_a_refusal_repeats_no_control_characters(escape: str) -> None:
    with pytest.raises(IlvrctlError) as told:
        from_record({"energies": {"x": {"call": escape}}})
    text = f"{told.value.message}{told.value.hint}"
    assert text.isprintable()


# --- damaged records ---------------------------------------------------------------------------------------


def record_of(name: str) -> dict[str, Any]:
    """The record of a result, as it is written."""
    settings, facts = Settings(), network_facts(ModelPreset("emoji3d", image_size=64, num_heads=4))
    settings = build_settings(Layer(sound(name)))
    network = {"weights": "ab" * 32, **facts}
    return {
        "ilvrctl": "1",
        "target": "emoji3d",
        "settings": settings.record(),
        "weights": {"name": "emoji3d", "sha256": "ab" * 32, "network": facts},
        "identity": settings.identity(network),
        "input": {"name": "fox.png", "sha256": "cd" * 32},
        "sample": 1,
        "run": {"device": "cpu", "precision": "fp32", "torch": "2"},
    }


def picture(text: str, path: Path) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("ilvrctl", text)
    Image.new("RGB", (1, 1)).save(path, pnginfo=info)
    return path.read_bytes()


@pytest.mark.parametrize("key", ["file", "files", "sources", "bundled", "format", "zzz"])
@pytest.mark.parametrize("part", ["weights", "source"])
def test_a_record_does_not_say_where_weights_are(part: str, key: str, tmp_path: Path) -> None:
    record = record_of("ilvr")
    record["source"] = {**record["weights"], "domain": "cat", "network": {**record["weights"]["network"]}}
    value = {"file": "/etc/passwd", "files": ["a"], "sources": ["https://a"], "bundled": True}.get(key, "vgg")

    def read() -> Recipe:
        network = {"weights": "ab" * 32, **record["weights"]["network"]}
        network["source"] = {"weights": "ab" * 32, **record["source"]["network"]}
        record["identity"] = identity_of(record["settings"], network)
        return Recipe.read(picture(json.dumps(record), tmp_path / "in.png"), "in.png")

    assert read().source is not None
    record[part]["network"][key] = value
    with pytest.raises(InputError, match="record cannot be read"):
        read()


@pytest.mark.parametrize("depth", [50, 500, 900, 5000])
def test_a_record_without_end_is_refused(depth: int, tmp_path: Path) -> None:
    text = json.dumps(record_of("ilvr")).replace('"energies": {}', f'"energies": {"[" * depth}{"]" * depth}')
    with pytest.raises(InputError, match="record cannot be read"):
        Recipe.read(picture(text, tmp_path / "in.png"), "in.png")


JUNK: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        1,
        10**30,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "x" * 5000,
        "os:getcwd",
        "/dev/zero",
    ),
    *([], {}, [1, 2, 3], [1.0, 0.2], {"name": "ilvr"}, {"call": "os:getcwd"}, {"model": "a.pt"}, "\x1b[2J"),
]


def places(value: Any) -> Iterator[tuple[dict[str, Any], str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key
            yield from places(inner)


def changed(record: dict[str, Any], rng: random.Random) -> str:
    """The text of a record of which a byte, a key or a value was changed."""
    text = json.dumps(record, sort_keys=True)
    if rng.random() < 0.4:
        at = rng.randrange(len(text))
        return text[:at] + chr(rng.randrange(1, 128)) + text[at + rng.randrange(2) :]
    copy = json.loads(text)
    parent, key = rng.choice(list(places(copy)))
    if rng.random() < 0.3:
        parent[rng.choice([f"{key}x", "call", "model", "os:getcwd", "energies", ""])] = parent.pop(key)
    else:
        parent[key] = rng.choice(JUNK)
    return json.dumps(copy)


@pytest.mark.parametrize("part", range(5))
def test_of_500_changed_records_each_gives_the_sound_settings_or_one_line(part: int, tmp_path: Path) -> None:
    rng = random.Random(part)
    refused = 0
    for n in range(100):
        name = ("ilvr", "sddm", "egsde", "sdedit", "cyclediffusion")[n % 5]
        record = record_of(name)
        text = changed(record, rng)
        try:
            recipe = Recipe.read(picture(text, tmp_path / "in.png"), "in.png")
            found = build_settings(Layer.of("in.png", recipe.settings, trusted=False))
        except IlvrctlError as error:
            refused += 1
            assert "\n" not in error.message and len(error.message) < 1500
            continue
        assert found.record() == record["settings"], text
        assert dict(recipe.facts) == record["weights"]["network"], text
    assert refused > 30


def test_pictures_with_changed_records_can_be_evaluated(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = [changed(record_of(name), rng) for name in ("ilvr", "egsde") for _ in range(100)]
    texts += ["5", "null", '"sheet_of"', "[" * 5000, json.dumps({**record_of("ilvr"), "sample": math.inf})]
    for n, text in enumerate(texts):
        picture(text, tmp_path / f"{n}.png")
    found = pictures_of(tmp_path)
    assert len(found) == len(texts)
    for one in found:
        Protocol().fit_of(one, "source")
        assert factor_of([[Partners(one, one.stem, 1)]]) > 0


@pytest.mark.parametrize("part", range(5))
def test_of_500_records_changed_by_someone_who_makes_their_identity_anew_none_does_harm(part: int) -> None:
    rng = random.Random(part)
    for n in range(100):
        name = ("ilvr", "sddm", "egsde", "sdedit", "cyclediffusion")[n % 5]
        try:
            settings = json.loads(changed(sound(name), rng))
            assert isinstance(settings, dict)
        except (ValueError, AssertionError):
            continue
        try:
            found = build_settings(Layer.of("in.png", settings, trusted=False))
            found.check(Schedule.named("linear"), 64)
            found.network_calls(Schedule.named("linear"))
        except IlvrctlError as error:
            assert "\n" not in error.message
            continue
        assert not [kind for _, kind, value in named(found) if not is_model(value)]


def is_model(name: str) -> bool:
    return name in load_models()
