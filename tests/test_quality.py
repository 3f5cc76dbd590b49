"""The papers' settings by one flag, and figures in presets that are of the weights that ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import FOX, ilvrctl, json_lines
from test_experts import write

from ilvrctl import paths
from ilvrctl.errors import ConfigError, UsageError
from ilvrctl.images.metadata import read_record
from ilvrctl.plans.asked import asked_by_values
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.plans.find_networks import NetworksAsked, find_networks
from ilvrctl.presets import ModelPreset, find_model, find_target, load_targets
from ilvrctl.quality import Measured, Quality
from ilvrctl.settings import Settings

TUNED: dict[str, Any] = {
    "model": "emoji3d-64",
    "settings": {
        "steps": 20,
        "sampler": "ddim",
        "method": {"name": "ilvr", "N": 2, "start": 0.5},
        "methods": {"sddm": {"range": [1.0, 0.1]}},
    },
    "published": {"steps": 100, "method": {"name": "ilvr", "N": 4, "range": [1.0, 0.2]}},
}
QUALITY = {
    "set": "65 characters",
    "n": 65,
    "weights": ["a" * 64],
    "command": "python tests/benchmarks/emoji_table.py WORK",
    "rows": [
        {
            "name": "the input itself",
            "calls": 0,
            "psnr": [19.6, 19, 20.25],
            "ssim": [0.734, 0.7, 0.77],
            "kid": [43, 30, 56],
        },
        {"name": "unconditional", "calls": 100, "kid": [206, 180.4, 230]},
    ],
}


def chosen(to: str, **values: Any) -> Settings:
    [variant] = asked_by_values("translate", values).variants(find_networks(NetworksAsked(to=to)))
    return variant.settings


def test_as_published_begins_from_the_papers_settings() -> None:
    write("tuned", TUNED, "targets")
    write("plain", {**TUNED, "published": {}}, "targets")
    best, papers = chosen("tuned"), chosen("tuned", as_published=True)
    assert (best.steps, best.sampler.name, best.method.start) == (20, "ddim", 0.5)
    assert (papers.steps, papers.sampler.name, papers.method.start) == (100, "ddpm", 1.0)
    assert papers.method.describe() == "ILVR N=4, levels 1.0 to 0.2"
    assert chosen("tuned", as_published=True, steps=10, N=8).steps == 10
    sddm = chosen("tuned", as_published=True, method="sddm")
    assert (sddm.method.range, sddm.method.refinements) == ((1.0, 0.5), 4)
    assert chosen("tuned", method="sddm").method.range == (1.0, 0.1)
    assert chosen("plain", as_published=True) == chosen("plain")
    assert (
        chosen("dog", as_published=True) == chosen("dog") if find_model("afhq_dog_4m").installed() else True
    )


def test_as_published_is_a_flag_and_a_key_of_jobs_files(tmp_path: Path) -> None:
    write("tuned", TUNED, "targets")
    ran = ilvrctl("translate", FOX, "--to", "tuned", "--as-published", "--steps", "2", "-o", tmp_path)
    assert ran.code == 0, ran.err
    settings = json.loads(read_record((tmp_path / "fox.png").read_bytes(), "fox.png"))["settings"]
    assert (settings["steps"], settings["method"]["range"]) == (2, [1.0, 0.2])
    (tmp_path / "jobs.yaml").write_text(
        f"jobs:\n  - {{inputs: {FOX}, to: tuned, name: a}}\n"
        f"  - {{inputs: {FOX}, to: tuned, name: b, as_published: true}}\n"
    )
    rows = json_lines(ilvrctl("batch", tmp_path / "jobs.yaml", "--dry-run", "--json"))
    assert [row["network_calls"] for row in rows if row["event"] == "planned"] == [10, 100]
    with pytest.raises(UsageError, match="as_published and from_image both say the settings"):
        asked_by_values("translate", {"as_published": True, "from_image": FOX})


def test_the_table_of_a_target() -> None:
    write("tuned", {**TUNED, "quality": QUALITY}, "targets")
    ran = ilvrctl("presets", "show", "tuned")
    assert ran.lines[-6:] == [
        "#",
        "# measured on 65 characters, n = 65; [95 % interval]; KID x1000 of EfficientNet-Lite0",
        "#                   calls                  PSNR                  SSIM             KID",
        "# the input itself      0  19.60 [19.00, 20.25]  0.734 [0.700, 0.770]     43 [30, 56]",
        "# unconditional       100                     -                     -  206 [180, 230]",
        "# made by: python tests/benchmarks/emoji_table.py WORK",
    ]
    assert yaml.safe_load(ran.out) == TUNED


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"n": "many"}, "quality.n must be a whole number"),
        ({"weights": "a"}, "quality.weights must be a list of text"),
        (
            {"rows": [{"name": "x", "calls": 1, "psnr": [1, 2]}]},
            "psnr must be a list of 3 times a number",
        ),
        ({"rows": [{"name": "x", "calls": 1, "fid": [1, 2, 3]}]}, "unknown key 'quality.rows.1.fid'"),
        ({"rows": [{"name": "x"}]}, "missing key"),
        ({"when": "today"}, "unknown key 'quality.when'"),
    ],
)
def test_a_wrong_table_is_refused(change: dict[str, Any], wrong: str) -> None:
    write("tuned", {**TUNED, "quality": {**QUALITY, **change}}, "targets")
    with pytest.raises(ConfigError, match=wrong):
        find_target("tuned")


def stale(quality: Quality, model: ModelPreset) -> bool:
    return list(quality.weights) != [weights_sha256(part.path()) for part in model.parts]


def test_no_figure_is_older_than_the_weights() -> None:
    for target in load_targets().values():
        if target.quality is not None:
            model = find_model(target.model)
            assert model.installed(), f"{target.name}: figures of weights that do not ship"
            assert not stale(target.quality, model), f"{target.name}: its figures are of other weights"
    old = Quality("x", 1, ("a" * 64,), "x", (Measured("x", 1),))
    assert stale(old, find_model("emoji3d-64"))
    assert paths.DATA / find_model("emoji3d-64").file == find_model("emoji3d-64").path()
