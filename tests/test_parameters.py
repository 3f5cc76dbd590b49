"""The table of parameters: one row is a flag, a key of jobs files, an argument in Python, and a line of the help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from commands import FOX, environment, ilvrctl

from ilvrctl.errors import UsageError
from ilvrctl.plans.asked import asked_by_flags, asked_by_values
from ilvrctl.plans.parameter import Command, Parameter
from ilvrctl.plans.parameters import TABLE, parameters_of
from ilvrctl.plans.screen import SCREEN

WITH_A_ROW = """
import sys
from ilvrctl.plans import parameters
from ilvrctl.plans.parameter import Parameter
from ilvrctl.plans.values import whole
row = Parameter("reuse", "Run the deep part of the network at every so many steps.", whole(1, 9), "reuse")
parameters.TABLE = (*parameters.TABLE, row)
from ilvrctl.cli.app import main
main()
"""


def with_a_row(*args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", WITH_A_ROW, *map(str, args)]
    env = environment(COLUMNS="200", NO_COLOR="1")
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=env, check=False)


def test_a_new_row_is_a_flag_a_key_of_jobs_files_in_the_schema_and_in_the_help(tmp_path: Path) -> None:
    for command in ("translate", "edit"):
        shown = with_a_row(command, "--help", cwd=tmp_path)
        assert "--reuse" in shown.stdout and "Run the deep part" in shown.stdout, shown.stderr
    grid = ["translate", FOX, "--to", "emoji3d", "--steps", "4", "--dry-run", "--reuse"]
    ran = with_a_row(*grid, "1,2", cwd=tmp_path)
    assert ran.stdout.split() == ["out/reuse=1/fox.png", "out/reuse=2/fox.png"], ran.stderr
    assert "--reuse must be from 1 to 9, not 10" in with_a_row(*grid, "10", cwd=tmp_path).stderr
    schema = json.loads(with_a_row("batch", "--schema", cwd=tmp_path).stdout)
    job = schema["properties"]["jobs"]["items"]["properties"]
    assert job["reuse"] == {"type": "integer", "minimum": 1, "maximum": 9}
    assert job["matrix"]["properties"]["reuse"]["items"] == job["reuse"]
    jobs = f"jobs:\n  - inputs: {FOX}\n    to: emoji3d\n    steps: 4\n    matrix: {{reuse: [1, 2]}}\n"
    (tmp_path / "jobs.yaml").write_text(jobs)
    ran = with_a_row("batch", "jobs.yaml", "--dry-run", "--json", cwd=tmp_path)
    assert json.loads(ran.stdout)["settings"] == [{"reuse": 1}, {"reuse": 2}], ran.stderr


@pytest.mark.parametrize("command", [c for c in get_args(Command) if c in {"translate", "edit"}])
def test_every_row_of_a_command_is_in_its_help(command: Command) -> None:
    shown = ilvrctl(command, "--help", COLUMNS="200").out.decode()
    for row in (*parameters_of(command).values(), *SCREEN):
        assert all(name in shown for spelling in row.spellings for name in spelling.split("/")), row.name


def test_rows_have_names_and_flags_of_their_own() -> None:
    for command in get_args(Command):
        rows = parameters_of(command).values()
        spellings = [s for row in (*rows, *SCREEN) for s in row.spellings]
        assert len(set(spellings)) == len(spellings)
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert {row.rival[0] for row in TABLE if row.rival} <= {row.name for row in TABLE}


def asked(**values: Any) -> dict[str, Any]:
    return {
        choice.key: [o.value for o in choice.options]
        for choice in asked_by_values("translate", values).choices
    }


def test_python_gives_text_as_flags_do_values_as_they_are_and_lists_for_several() -> None:
    assert asked(N=4) == asked(N="4") == {"method.N": [4]}
    assert asked(N=[2, 4]) == asked(N="2,4") == {"method.N": [2, 4]}
    assert asked(range=(1.0, 0.2)) == asked(range="1.0:0.2") == {"method.range": [[1.0, 0.2]]}
    both = {"method.range": [[1.0, 0.2], [1.0, 0.5]]}
    assert asked(range=[(1.0, 0.2), (1.0, 0.5)]) == asked(range="1.0:0.2,1.0:0.5") == both
    assert asked(clip=False, fit="pad") == {"clip_denoised": [False], "fit": ["pad"]}
    assert asked(set={"energies": {"dse": {"weight": 5}}, "seed": 3}) == {
        "energies.dse.weight": [5],
        "seed": [3],
    }
    assert list(asked(seed=[1, 2], N=[2, 4])) == ["method.N", "seed"]
    [choice] = asked_by_flags("edit", {"no_mask": True}).choices
    assert (choice.key, choice.options[0].value) == ("edit.mask", False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stepz": 3}, "unknown parameter 'stepz'"),
        (
            {"steps": 3, "timestep_respacing": "3"},
            "steps and timestep_respacing both say how many steps there are",
        ),
        ({"range": (1.0, 0.2), "range_t": 3}, "range and range_t both say what is conditioned"),
        ({"N": [2, 2]}, "N=: N names 2 twice"),
        ({"N": "x"}, "--N takes a whole number, not 'x'"),
    ],
)
def test_python_is_refused_what_flags_are(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        asked(**values)


def test_a_value_of_a_kind_is_checked_in_a_jobs_file_whatever_the_row(tmp_path: Path) -> None:
    wrong = {str: "[3]", int: "x", bool: "x"}
    for row in parameters_of("jobs").values():
        if row.key:
            continue
        kind = {Path: str}.get(row.kind.type, row.kind.type)
        jobs = f'jobs:\n  - inputs: {FOX}\n    "{row.name}": {wrong[kind]}\n'
        (tmp_path / "jobs.yaml").write_text(jobs)
        ran = ilvrctl("batch", tmp_path / "jobs.yaml", "--dry-run")
        assert ran.code == 2
        assert f"{row.name} must be" in ran.err, ran.err


def test_a_preset_file_of_a_job_lies_beside_the_jobs_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "mine.yaml").write_text("steps: 7\n")
    (elsewhere / "mine.yaml").write_text("steps: 9\n")
    (tmp_path / "jobs.yaml").write_text(f"jobs:\n  - inputs: {FOX}\n    to: emoji3d\n    preset: mine.yaml\n")
    monkeypatch.chdir(elsewhere)
    ran = ilvrctl("batch", tmp_path / "jobs.yaml", "--dry-run", "--json")
    assert json.loads(ran.lines[0])["network_calls"] == 2 * 3, ran.err


def test_a_row_needs_no_flag_of_its_own() -> None:
    assert Parameter("some_thing", "").spellings == ("--some-thing",)
