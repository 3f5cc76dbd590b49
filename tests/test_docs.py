"""``ilvrctl docs``, and the pages that are made out of the program."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import generated_docs
import pytest
from commands import command, environment, ilvrctl, terminal

from ilvrctl import paths
from ilvrctl.plans.parameters import TABLE
from ilvrctl.plans.screen import SCREEN

TOPICS = sorted(page.stem for page in paths.docs_dir().glob("*.md"))


def flags(page: str) -> dict[str, set[str]]:
    """The flags under each heading."""
    _, *parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    return {
        name: set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text))
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.mark.parametrize("name", ["commands.md", "parameters.md"])
def test_pages_made_out_of_the_program_are_current(name: str) -> None:
    text = (paths.docs_dir() / name).read_text(encoding="utf-8")
    now = generated_docs.pages()[name]
    assert flags(text) == flags(now), "python tests/generated_docs.py"
    if name != "commands.md" or generated_docs.DRAWN_BY in text:
        assert text.split() == now.split(), "python tests/generated_docs.py"


def test_every_parameter_is_in_the_table() -> None:
    text = (paths.docs_dir() / "parameters.md").read_text(encoding="utf-8")
    for row in (*TABLE, *SCREEN):
        [line] = re.findall(rf"^\| `{re.escape(row.name)}` \|.*$", text, re.MULTILINE)
        assert f"`{row.spellings[0].partition('/')[0]}`" in line


def test_pages_are_listed_with_what_they_are_about() -> None:
    ran = ilvrctl("docs")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.lines] == TOPICS
    assert all(len(line.split()) > 4 for line in ran.lines)
    abouts = [json.loads(line) for line in ilvrctl("docs", "--json").lines]
    assert [about["topic"] for about in abouts] == TOPICS
    assert all(about["title"] and about["summary"].endswith(".") for about in abouts)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_is_printed_as_it_stands_in_a_pipe(topic: str) -> None:
    text = (paths.docs_dir() / f"{topic}.md").read_text(encoding="utf-8")
    ran = ilvrctl("docs", topic)
    assert (ran.code, ran.out.decode(), ran.err) == (0, text, "")
    assert json.loads(ilvrctl("docs", topic, "--json").out)["text"] == text


def test_a_page_is_drawn_on_a_terminal() -> None:
    with terminal() as (end, written):
        done = subprocess.run(
            command("docs", "methods"), stdout=end, stderr=subprocess.PIPE, env=environment(COLUMNS="60")
        )
    drawn = b"".join(written).decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\x1b[" in drawn and "## " not in drawn and "```" not in drawn
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn)
    assert "Out of pieces" in plain and max(map(len, plain.splitlines())) <= 60


def test_an_unknown_page_is_answered_with_a_known_one() -> None:
    ran = ilvrctl("docs", "method")
    assert ran.code == 2 and "did you mean 'methods'?" in ran.err
    ran = ilvrctl("docs", "zzz")
    assert ran.code == 2 and all(topic in ran.err for topic in TOPICS)


def test_docs_load_no_torch() -> None:
    check = "import sys\nfrom ilvrctl.cli.app import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    found = subprocess.run(
        [*command()[:1], "-c", check, "docs", "usage"],
        env={**os.environ, **environment()},
        capture_output=True,
    )
    assert (found.returncode, found.stderr) == (0, b"")


def test_the_checkout_holds_what_belongs_there_and_nothing_beside_it() -> None:
    """What lies about in the top folder is not committed by an ``add`` of everything."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no checkout, or no git")
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"git does not tell: {listed.stderr}")
    found = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    rooms = {
        "ilvrctl",
        "tests",
        "presets",
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "NOTICE",
    }
    assert {name for name in found if not name.startswith(".")} == rooms
