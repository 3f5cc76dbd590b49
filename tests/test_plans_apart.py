"""Results of several targets do not mix in the usual folder, and what was made there before is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import FOX

from ilvrctl.events import Noted
from ilvrctl.plans import request
from ilvrctl.plans.asked import asked_by_values
from ilvrctl.plans.outputs import Destination
from ilvrctl.plans.plan import Plan
from ilvrctl.plans.record import Made


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Results in ``out``, and of which target each was made; what is in the mapping is looked at."""
    made: dict[str, str] = {}
    monkeypatch.chdir(tmp_path)
    real = request.made_from
    monkeypatch.setattr(
        request,
        "made_from",
        lambda path: Made("", 1, "", "", made[path.name]) if path.name in made else real(path),
    )
    return made


def plan_of(out: str | None = None) -> Plan:
    asked = asked_by_values("translate", {"to": "emoji3d", "steps": 4})
    return request.translation(asked, [str(FOX)], Destination.asked(out))


def where(plan: Plan) -> str:
    [output] = plan.outputs
    assert output.path is not None
    return output.path.as_posix()


def put(*names: str) -> None:
    Path("out").mkdir(exist_ok=True)
    for name in names:
        shutil.copy(FOX, Path("out", name))


def test_a_folder_of_ones_own_beside_results_of_another_target(earlier: dict[str, str]) -> None:
    assert where(plan_of()) == "out/fox.png"
    put("a.png", "b.png")
    assert where(plan_of()) == "out/fox.png", "pictures of somebody else tell nothing"
    earlier["a.png"] = "dog"
    plan = plan_of()
    assert where(plan) == "out/emoji3d/fox.png"
    assert plan.notes == (
        Noted("out holds results of dog: those of emoji3d go to out/emoji3d; -o chooses another"),
    )


def test_what_was_made_there_before_is_known_there(earlier: dict[str, str]) -> None:
    put("a.png", "b.png")
    earlier |= {"a.png": "dog", "b.png": "emoji3d"}
    plan = plan_of()
    assert where(plan) == "out/fox.png" and plan.notes == ()


def test_a_place_that_was_chosen_is_left_as_it_is(earlier: dict[str, str]) -> None:
    put("a.png")
    earlier["a.png"] = "dog"
    assert where(plan_of("out")) == "out/fox.png"
    assert where(plan_of("other")) == "other/fox.png"
