"""What shells offer while a command line is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment, ilvrctl

from ilvrctl.cli.complete import answer, offers
from ilvrctl.cli.summaries import SUMMARIES
from ilvrctl.diffusion.samplers import SAMPLERS
from ilvrctl.plans.parameters import TABLE
from ilvrctl.plans.screen import SCREEN
from ilvrctl.presets import preset_files
from ilvrctl.settings import COMPAT

JOBS = "jobs:\n  - {name: cats, inputs: in, to: emoji3d}\n  - {name: cups, inputs: in, to: emoji3d}\n"


def words(line: str) -> list[str] | None:
    """What is offered at the end of a line."""
    *before, last = line.split(" ")
    found = offers(before, last)
    return None if found is None else [word for word, _ in found]


def test_values_are_offered_where_the_table_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobs.yaml").write_text(JOBS)
    targets, methods = [*preset_files("targets")], [*preset_files("methods")]
    for line, found in {
        "": [*SUMMARIES],
        "tr": ["translate", "train"],
        "translate --to ": targets,
        "translate cats/ -t em": ["emoji-flat", "emoji3d"],
        "edit a.png b.png --to e": ["emoji-flat", "emoji3d"],
        "translate --from d": ["dog"],
        "translate --preset ": methods,
        "translate --method sdd": ["sddm", "sddm+egsde"],
        "translate --method ilvr,sde": ["ilvr,sdedit"],
        "translate --sampler ": [*SAMPLERS],
        "translate --sampler=he": ["--sampler=heun"],
        "translate --compat ": [*COMPAT],
        "translate --kernel l": ["linear", "lanczos3"],
        "translate --fit s": ["stretch", "stretch+grey"],
        "translate --precision b": ["bf16"],
        "translate --color a": ["auto", "always"],
        "batch jobs.yaml --device c": ["cpu", "cuda"],
        "batch jobs.yaml --job ": ["cats", "cups"],
        "batch nosuch.yaml --job ": [],
        "download emoji3d-": ["emoji3d-64"],
        "presets show sdd": ["sddm", "sddm+egsde"],
        "translate --N ": [],
        "translate cats/ --ste": ["--steps"],
        "batch --jo": ["--job"],
        "train --ba": ["--batch-size"],
        "translate ca": [],
        "nonsense x": None,
    }.items():
        assert words(line) == found, line


def test_one_of_my_own_presets_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "mine.yaml").write_text("model: emoji3d-64\n")
    monkeypatch.setenv("ILVRCTL_CONFIG", str(tmp_path))
    assert words("translate --to mi") == ["mine"]


def test_every_word_that_is_offered_is_one_that_is_taken() -> None:
    """Each row's words are accepted by the reader of its values, and each flag is one of the command."""
    for row in (*TABLE, *SCREEN):
        for word in row.offered:
            row.kind(row.flag, word)
    flags = {
        flag for row in TABLE if "translate" in row.commands for s in row.spellings for flag in s.split("/")
    }
    offered = words("translate -")
    assert offered is not None and flags <= {*offered}
    help_text = ilvrctl("translate", "--help", COLUMNS="300").out.decode()
    assert all(flag in help_text for flag in offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_own_format(shell: str) -> None:
    line = "ilvrctl translate --ste"
    asked = {"_ILVRCTL_COMPLETE": f"complete_{shell}"}
    typed = {"COMP_WORDS": line, "COMP_CWORD": "2"} if shell == "bash" else {"_TYPER_COMPLETE_ARGS": line}
    told = answer(asked | typed)
    meaning = "Sampling steps, spread evenly over the levels."
    assert (
        told
        == {
            "bash": "--steps",
            "zsh": f'_arguments \'*: :(("--steps":"{meaning}"))\'',
            "fish": f"--steps\t{meaning}",
        }[shell]
    )
    assert answer({}) is None
    assert answer({**asked, "_ILVRCTL_COMPLETE": "source_bash"} | typed) is None


def test_bash_cuts_words_at_an_equals_sign() -> None:
    asked = {
        "_ILVRCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": "ilvrctl translate --to = em",
        "COMP_CWORD": "4",
    }
    assert answer(asked) == "emoji-flat\nemoji3d"
    assert answer({**asked, "COMP_WORDS": "ilvrctl translate --to =", "COMP_CWORD": "3"}).startswith(
        "bedroom"
    )  # type: ignore[union-attr]


def test_a_shell_is_answered_without_torch_and_without_the_reader_of_command_lines() -> None:
    code = (
        "import sys; from ilvrctl.cli.start import main; main(); "
        "heavy = {'torch', 'typer', 'rich', 'PIL', 'pydantic'} & sys.modules.keys(); assert not heavy, heavy"
    )
    asked = {
        "_ILVRCTL_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_ARGS": "ilvrctl translate --method ilvr,sde",
    }
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment(**asked), capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr) == ("ilvr,sdedit\n", "")


def test_only_the_jobs_that_are_named_are_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobs.yaml").write_text(JOBS.replace("inputs: in", "examples: true"))
    ran = ilvrctl("batch", "jobs.yaml", "--job", "cups", "--dry-run", "-q")
    assert ran.code == 0 and [line.partition(":")[0] for line in ran.lines] == ["cups"]
    ran = ilvrctl("batch", "jobs.yaml", "--job", "cup", "--dry-run")
    assert ran.code == 2 and "no job of the file is called 'cup'" in ran.err and "'cups'" in ran.err
