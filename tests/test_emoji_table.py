"""The benchmark that rebuilds the table of quality: which pictures, which rows, and the figures that it writes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import yaml
from commands import pixels
from conftest import EMOJI, TESTS
from PIL import Image

from ilvrctl.config import Layer, build
from ilvrctl.errors import UsageError
from ilvrctl.plans.find_networks import NetworksAsked, find_networks
from ilvrctl.quality import Quality


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TESTS / "benchmarks"))
    import emoji_table

    return emoji_table


def test_characters_of_both_styles_are_matched_by_code_point(table: ModuleType, tmp_path: Path) -> None:
    given, work = tmp_path / "given", tmp_path / "work"
    for style, names in (
        ("flat", ("1f600_a", "1F601", "1f602")),
        ("3d", ("1f600", "1f601_b", "1f603", "1f302")),
    ):
        (given / style).mkdir(parents=True)
        for n, name in enumerate(names):
            Image.new("RGB", (8, 8), (n, 0, len(style))).save(given / style / f"{name}.png")
    assert table.put_pictures(work, given, None, without={"1f302"}) == 2
    assert sorted(p.name for p in (work / "3d").iterdir()) == ["1f600.png", "1f601.png"]
    assert pixels(work / "flat" / "1f601.png") == pixels(given / "flat" / "1F601.png")
    assert table.put_pictures(work, given, 1, without=set()) == 1
    [one] = (work / "flat").iterdir()
    assert [p.name for p in (work / "3d").iterdir()] == [one.name]
    with pytest.raises(SystemExit, match="no character"):
        table.put_pictures(work, given, None, without={"1f600", "1f601"})
    assert table.put_pictures(work, EMOJI, 3, without=set()) == 3


def test_rows_have_the_most_steps_that_their_calls_allow(table: ModuleType) -> None:
    networks = find_networks(NetworksAsked(to="emoji3d"))
    way, back = table.directions(None)
    assert (way.to, back.to) == ("emoji3d", "emoji-flat")
    for name, row, calls in table.rows_of(way):
        found, needed = table.with_calls(networks, row, calls)
        assert needed == table.calls_of(networks, found)
        assert calls is None or needed in (calls - 1, calls), name
    assert table.with_calls(networks, {"method": "sdedit"}, 10)[0]["steps"] >= 20
    with pytest.raises(UsageError, match="no number of steps"):
        table.with_calls(networks, {"method": "sddm"}, 1)
    assert [way.to for way in table.directions(["mine"])] == ["mine"]


@pytest.mark.slow
def test_one_command_makes_the_table_and_goes_on(
    table: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = "quick: {method: sdedit, steps: 4}"
    words = [str(tmp_path), "--number", "4", "--only", "quick", "--row", row]
    table.main([*words, "--shard", "1/2"])
    assert len(list(tmp_path.glob("shown/emoji3d-*/quick/*.png"))) == 2
    table.main(words)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shown/emoji3d-*/quick/*.png")}
    first = (tmp_path / "shown" / "table.md").read_text()
    assert len(files) == 4
    assert first in capsys.readouterr().out
    assert [line.split(" |")[0] for line in first.splitlines()[2:4]] == ["| the input itself", "| quick"]
    assert (tmp_path / "shown" / "sheet-emoji3d.png").is_file()
    text = yaml.safe_load((tmp_path / "shown" / "quality-emoji3d.yaml").read_text())
    quality = build(Quality, Layer(text["quality"]))
    assert [(found.name, found.calls) for found in quality.rows] == [("the input itself", 0), ("quick", 2)]
    table.main(words)
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    assert (tmp_path / "shown" / "table.md").read_text() == first
