"""Names of results: none is taken from another input, none is made twice, whatever comes beside it, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from commands import FOX, QUICK, copies, ilvrctl, json_lines, tree
from hypothesis import given
from hypothesis import strategies as st

from ilvrctl.plans.inputs import Item
from ilvrctl.plans.names import Earlier, named

pytestmark = pytest.mark.usefixtures("stand_ins")

NAMES = [f"{stem}{suffix}" for stem in ("a", "A", "a-jpg", "b.c") for suffix in (".jpg", ".JPG", ".png", "")]


@dataclass
class Disk(Earlier):
    """A folder of results in memory, ``made``: of which input each is."""

    made: dict[str, str] = field(default_factory=dict)

    def inputs_of(self, stem: str) -> Iterator[tuple[str, bool]]:
        if stem in self.made:
            yield self.made[stem], True


def items_of(*names: str) -> list[Item]:
    return [Item(name, Path(name).stem, Path("in", name)) for name in names]


def stems(*names: str, made: dict[str, str] | None = None) -> list[str]:
    return [item.stem for item in named(items_of(*names), Disk(lambda stem: (), made=made or {}))]


RUNS = st.lists(
    st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), min_size=1), min_size=1, max_size=5
)


@given(RUNS)
def test_no_orphan_no_second_making_no_overwriting(runs: list[list[tuple[str, bool]]]) -> None:
    disk = Disk(lambda stem: ())
    for run in runs:
        finished = dict(run)  # what is not finished was interrupted, or failed
        items = named(items_of(*finished), disk)
        assert len({item.stem.casefold() for item in items}) == len(items)
        for item in items:
            assert disk.made.get(item.stem, item.name) == item.name, "the result of another input"
            if finished[item.name]:
                disk.made[item.stem] = item.name
        assert len(set(disk.made.values())) == len(disk.made), "an input has two results"
    again = named(items_of(*disk.made.values()), disk)
    assert {item.stem: item.name for item in again} == disk.made


def test_usual_names_are_those_that_they_were() -> None:
    assert stems("photo.jpg", "other.PNG", "none") == ["photo", "other", "none"]
    assert stems("cat.png", "cat.jpg", "dog.png") == ["cat-png", "cat-jpg", "dog"]
    assert stems("Cat.jpg", "cat.png") == ["Cat-jpg", "cat-png"]
    assert stems("cat-jpg.png", "cat.jpg") == ["cat-jpg", "cat"]


def test_names_that_differ_in_capitals_alone_have_digits_of_their_own() -> None:
    first, second = stems("a.jpg", "a.JPG")
    assert first.startswith("a-jpg-") and second.startswith("a-jpg-") and first != second
    assert stems("a.JPG", "a.jpg") == [second, first]


def test_a_result_keeps_its_name_and_its_rival_gets_another() -> None:
    assert stems("1.png", "1.jpg", made={"1": "1.png"}) == ["1", "1-jpg"]
    assert stems("1.jpg", made={"1": "1.png"}) == ["1-jpg"]
    assert stems("1.jpg", made={"1-jpg": "1.jpg", "1-png": "1.png"}) == ["1-jpg"]


@pytest.fixture
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_in_tmp_path")
def test_a_rival_that_comes_later_changes_no_name_and_eval_pairs_them(tmp_path: Path) -> None:
    copies(tmp_path, ["in/1.png", "in/2.png"])
    assert ilvrctl("translate", "in", *QUICK).code == 0
    copies(tmp_path, ["in/1.jpg", "in/1.JPG"], source=FOX.with_name("cup.png"))
    ran = ilvrctl("translate", "in", *QUICK)
    assert "2 translated, 2 there already" in ran.err
    names = tree(tmp_path / "out")
    assert len(names) == 4 and names[-2:] == ["1.png", "2.png"], names
    assert "nothing to do: all 4 results are there already" in ilvrctl("translate", "in", *QUICK).err
    assert tree(tmp_path / "out") == names
    (tmp_path / "in/1.png").unlink()
    assert len(ilvrctl("translate", "in", *QUICK, "--dry-run").lines) == 0
    copies(tmp_path, ["in/1.png", "in/2.png"])
    [line] = json_lines(ilvrctl("eval", "out", "--source", "in", "--json"))
    assert (line["runs"][0]["pictures"], line["runs"][0]["inputs"]) == (4, 4)


@pytest.mark.usefixtures("_in_tmp_path")
def test_a_manifest_tells_whose_a_result_is(tmp_path: Path) -> None:
    copies(tmp_path, ["in/1.png"])
    job = "jobs:\n  - {name: j, inputs: in, to: emoji3d, steps: 3, precision: fp32}\n"
    (tmp_path / "jobs.yaml").write_text(job)
    assert ilvrctl("batch", "jobs.yaml").code == 0
    copies(tmp_path, ["in/1.webp"], source=FOX.with_name("cup.png"))
    assert ilvrctl("batch", "jobs.yaml").code == 0
    assert tree(tmp_path / "out/j") == ["1-webp.png", "1.png"]
    assert "2 there already" in ilvrctl("batch", "jobs.yaml", "--dry-run").out.decode()
