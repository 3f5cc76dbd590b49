"""Commands in a folder that nothing can be written into: one line, exit code 1, nothing left, nothing loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
from commands import FOX, PATIENCE, QUICK, Ran, command, copies, environment, obedient, tree

pytestmark = pytest.mark.usefixtures("stand_ins")

COMMANDS = [
    ["translate", str(FOX), *QUICK],
    ["translate", str(FOX), *QUICK, "-o", "new.png"],
    ["translate", str(FOX), *QUICK, "-o", "sub/folder", "-n", "2", "--gif"],
    ["edit", "inputs/a.png", "inputs/b.png", *QUICK],
    ["batch", "jobs.yaml"],
    ["eval", "inputs", "--truth", "inputs", "--html", "page.html"],
    ["eval", "inputs", "--truth", "inputs", "--csv", "rows.csv"],
    ["train", "inputs", "--name", "mine", "--size", "64"],
    ["download", "dog"],
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    here = tmp_path / "here"
    copies(here, ["inputs/a.png", "inputs/b.png"])
    (here / "jobs.yaml").write_text("jobs: [{name: j, inputs: inputs, to: emoji3d, steps: 3}]")
    here.chmod(0o555)
    yield here
    here.chmod(0o755)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words).replace(str(FOX), "FOX"))
def test_a_folder_that_is_read_only_is_one_line(words: list[str], folder: Path) -> None:
    before = tree(folder)
    done = forked.run(
        obedient(command(*words)),
        cwd=folder,
        env=environment(ILVRCTL_WEIGHTS="weights"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    ran = Ran(done.returncode, done.stdout.encode(), done.stderr)
    assert ran.code == 1, ran.err
    assert "Traceback" not in ran.err
    lines = [line for line in ran.err.splitlines() if line.startswith(("error: ", "failed: "))]
    assert len(lines) == 1, ran.err
    assert "permission denied" in lines[0].lower(), ran.err
    assert tree(folder) == before


def test_what_writes_nothing_runs_there(folder: Path) -> None:
    for words in (["doctor"], ["translate", str(FOX), *QUICK, "-o", "-"]):
        done = forked.run(
            obedient(command(*words)),
            cwd=folder,
            env=environment(),
            capture_output=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout


def test_the_python_of_these_tests_obeys_permissions(folder: Path) -> None:
    done = forked.run(
        obedient([sys.executable, "-c", "open('x', 'w')"]), cwd=folder, env=environment(), capture_output=True
    )
    assert b"PermissionError" in done.stderr
