"""Grids: comma lists multiplied out, without a network."""

from __future__ import annotations

from itertools import product

import pytest

from ilvrctl.config import Layer
from ilvrctl.errors import ConfigError, ForeignSettingError, UsageError
from ilvrctl.plans.grid import Choice, Picked, Variant, expand
from ilvrctl.plans.values import (
    bounds,
    decimal,
    flag_choices,
    set_choices,
    split,
    whole,
    word,
)
from ilvrctl.plans.values import (
    comma_list as several,
)
from ilvrctl.settings import Settings, build_settings
from ilvrctl.work.sheet import common


def build(picked: Picked) -> Settings:
    return build_settings(overrides=[option.layer for _, option in picked])


def grid(*assignments: str, **flags: str) -> list[Variant]:
    keys = {"method": "method.name", "sampler": "sampler.name", "N": "method.N", "eta": "sampler.eta"}
    readers = {"N": whole(1), "eta": decimal(0, 1), "steps": whole(1), "seed": whole(), "range": bounds}
    given = {
        f"--{name}": (
            keys.get(name, f"method.{name}" if name == "range" else name),
            text,
            readers.get(name, word),
        )
        for name, text in flags.items()
    }
    return expand([*flag_choices(given), *set_choices(assignments)[0]], build)


def folders(variants: list[Variant]) -> list[str]:
    return [variant.folder for variant in variants]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("4", ["4"]),
        ("2, 4", ["2", "4"]),
        ("rgb(1,2,3),white", ["rgb(1,2,3)", "white"]),
        ("[1.0,0.2],[1.0, 0.5]", ["[1.0,0.2]", "[1.0, 0.5]"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("{name: ilvr, N: 4}", ["{name: ilvr, N: 4}"]),
        ("1),2", ["1)", "2"]),
        ("", [""]),
    ],
)
def test_commas_outside_of_brackets_and_quotes_part_a_list(text: str, parts: list[str]) -> None:
    assert split(text) == parts


def test_one_value_each_is_no_grid() -> None:
    [only] = grid("sampler=ddim", N="4")
    assert (only.folder, only.label, only.changes) == ("", "", {})
    assert only.settings.record()["method"]["constraint"]["N"] == 4


def test_every_combination_named_by_what_differs() -> None:
    found = grid(N="2,4", steps="5,10", seed="3")
    assert folders(found) == ["N=2_steps=5", "N=2_steps=10", "N=4_steps=5", "N=4_steps=10"]
    assert found[0].label == "N=2, steps=5"
    assert found[1].changes == {"N": 2, "steps": 10}
    values = [
        (v.settings.record()["method"]["constraint"]["N"], v.settings.steps, v.settings.seed) for v in found
    ]
    assert values == [(N, steps, 3) for N, steps in product((2, 4), (5, 10))]


def test_assignments_make_a_grid_too_and_yaml_lists_are_one_value() -> None:
    assert folders(grid("method.N=2,4")) == ["N=2", "N=4"]
    found = grid("method.range=[1.0, 0.2],[1.0, 0.5]")
    assert [v.settings.record()["method"]["range"] for v in found] == [[1.0, 0.2], [1.0, 0.5]]
    assert folders(grid("method.range=[1.0, 0.2]")) == [""]
    [published] = grid("timestep_respacing=10,15,20")
    assert published.settings.timestep_respacing == "10,15,20"
    assert folders(grid("method.N=2,4", "method.N=8")) == [""]


def test_the_later_word_wins_in_a_grid_as_outside() -> None:
    choices, _ = set_choices(["method.N=2,4"])
    flags = flag_choices({"--N": ("method.N", "8", whole(1))})
    found = expand([*choices, *flags], build)
    assert [variant.settings.record()["method"]["constraint"]["N"] for variant in found] == [8]


def test_a_flag_applies_where_it_belongs_and_gives_one_cell_elsewhere() -> None:
    found = grid(sampler="ddpm,ddim", eta="0,0.5")
    assert folders(found) == ["ddpm", "ddim_eta=0", "ddim_eta=0.5"]
    assert found[0].changes == {"sampler": "ddpm"}
    one = grid(sampler="ddpm,ddim", eta="0.5")
    assert folders(one) == ["ddpm", "ddim"]
    assert one[1].settings.record()["sampler"]["eta"] == 0.5


def test_a_flag_that_applies_nowhere_is_refused() -> None:
    with pytest.raises(ForeignSettingError, match="the sampler ddpm has no 'eta'"):
        grid(N="2,4", eta="0.5")
    with pytest.raises(ForeignSettingError, match="the sampler ddpm has no 'eta'"):
        grid(eta="0.5")


def test_a_combination_that_cannot_be_is_named() -> None:
    with pytest.raises(UsageError, match=r"^ddmp, N=2: --sampler: unknown sampler 'ddmp'"):
        grid(sampler="ddpm,ddmp", N="2,4")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"N": "2,"}, "--N '2,' has an empty place"),
        ({"N": "2,x"}, "--N takes a whole number, not 'x'"),
        ({"N": "2,2"}, "--N '2,2' names 2 twice"),
        ({"N": "0"}, "--N must be at least 1, not 0"),
        ({"eta": "0,2"}, "--eta must be from 0 to 1, not 2"),
        ({"eta": "nan"}, "--eta must be from 0 to 1, not nan"),
        ({"range": "1.0:0.2,5"}, "--range '5' is not of the form HIGH:LOW"),
    ],
)
def test_lists_that_make_no_sense(flags: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        grid(**flags)


def test_equal_settings_come_once() -> None:
    assert folders(grid(sampler="ddim", eta="0,0.0,1")) == ["eta=0", "eta=1"]


def test_folders_are_names_on_every_file_system() -> None:
    assert folders(grid(range="1.0:0.2,1.0:0.5")) == ["range=1.0-0.2", "range=1.0-0.5"]

    def plain(_: Picked) -> Settings:
        return build_settings(overrides=[Layer({"seed": next(seeds)})])

    seeds = iter(range(9))
    texts = ["../a", "..-A", "b/c", "x" * 300, "x" * 299 + "y", "-", " ", "é"]
    options = flag_choices({"--preset": ("preset", "p", word)})[0].options
    choice = Choice("preset", tuple(type(options[0])(t, t, Layer({})) for t in texts))
    found = folders(expand([choice], plain))
    assert found[:3] == ["a", "A~2", "b-c"]
    assert len({name.casefold() for name in found}) == len(texts)
    assert max(map(len, found)) <= 125
    assert all(name.isascii() and "/" not in name and name[0] not in ".-" for name in found)


def test_short_names_grow_until_they_differ() -> None:
    found = grid("sampler.eta=0,1", "sampler.name=ddim")
    assert folders(found) == ["eta=0", "eta=1"]
    choices = [
        Choice(key, flag_choices({"--x": (key, "1,2", whole())})[0].options)
        for key in ("energies.dse.weight", "energies.lowpass.weight")
    ]
    seeds = iter(range(4))
    found = expand(choices, lambda _: build_settings(Layer({"seed": next(seeds)})))
    assert folders(found)[0] == "dse.weight=1_lowpass.weight=1"


def test_a_list_names_no_value_twice() -> None:
    assert several("--N", "4") == ["4"]
    with pytest.raises(UsageError):
        several("--N", "4,8,4")


def test_facts_of_the_network_make_no_grid() -> None:
    choices, facts = set_choices(["model.num_heads=2", "model.image_size=64", "seed=1"])
    assert facts.values == {"model": {"num_heads": 2, "image_size": 64}}
    assert [choice.key for choice in choices] == ["seed"]
    with pytest.raises(ConfigError, match="not of the form key=value"):
        set_choices(["seed"])


def test_a_caption_tells_what_all_variants_agree_on() -> None:
    def told(**flags: str) -> str:
        return " / ".join(common([variant.settings for variant in grid(N="4", **flags)])[1:])

    assert told(sampler="ddim", steps="10") == "ddim, 10 steps / seed 0"
    assert told(sampler="ddim", steps="10,20") == "ddim / seed 0"
    assert told(sampler="ddim,ddpm", steps="10", seed="1,2") == "10 steps / "
