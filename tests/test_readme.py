"""The README's commands are run as they stand, by this test or by `.ci/run`, and its links to files hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EMOJI
from PIL import Image, ImageChops, ImageStat

from ilvrctl.paths import DATA

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
BY_CI = [line for line in LINES if ".venv/bin/" in line]
BY_TEST = [line for line in LINES if line not in BY_CI]
MISSING_WEIGHTS = ("--to dog", "--to face")


def test_the_commands_that_need_a_new_environment_are_run_by_ci() -> None:
    assert len(BY_CI) == 2
    for line in BY_CI:
        last = line.split("&&")[-1].strip().removeprefix(".venv/bin/")
        assert last in CI, f".ci/run does not run {last!r}"


def test_files_that_the_readme_points_to_are_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target
    for name in re.findall(r"`((?:tests|presets|ilvrctl)/[\w./-]+)`", README):
        assert (ROOT / name).exists(), name


@pytest.mark.slow
def test_the_commands_of_the_readme_do_what_they_say(tmp_path: Path) -> None:
    place, environment = _place(tmp_path)
    for line in BY_TEST:
        command = line.replace("FILE", str(DATA / "emoji3d-64.safetensors"))
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=place,
            env=environment,
            capture_output=True,
            check=False,
        )
        expected = 3 if any(target in line for target in MISSING_WEIGHTS) else 0
        assert done.returncode == expected, f"{line}: {done.stderr.decode()}"
        assert b"Traceback" not in done.stderr, line
        if expected == 3:
            assert b"hint: ilvrctl download" in done.stderr
    first = Image.open(place / "results" / "a_2.png").convert("RGB")
    again = Image.open(place / "again" / "a_2.png").convert("RGB")
    # made alone now, in a batch before: half precision may round differently
    assert max(ImageStat.Stat(ImageChops.difference(first, again)).mean) <= 0.5
    assert Image.open(place / "b.png").size == (64, 64)
    assert (place / "sheet.png").is_file()
    assert (place / "results" / "a_1.gif").is_file()
    edited = [Image.open(folder / "edited.png") for folder in (place, ROOT / ".github" / "readme")]
    assert max(ImageStat.Stat(ImageChops.difference(*edited)).mean) <= 0.1  # the README shows what it makes


def _place(folder: Path) -> tuple[Path, dict[str, str]]:
    """A folder with the inputs that the README names, and an environment that finds `ilvrctl` (and `jq`)."""
    place, tools = folder / "place", folder / "tools"
    tools.mkdir()
    (place / "cats").mkdir(parents=True)
    shutil.copytree(EMOJI / "3d", place / "glossy")
    for name in ("photo", "scribbled", "painting"):
        shutil.copy(ROOT / ".github" / "readme" / f"{name}.png", place)
    with Image.open(place / "photo.png") as photo:
        photo.convert("RGB").save(place / "photo.jpg")
        mask = Image.new("L", photo.size)
    mask.paste(255, (60, 120, 120, 160))
    mask.save(place / "mask.png")
    pictures = sorted((EMOJI / "flat").glob("*.png"))[:4]
    shutil.copy(pictures[0], place / "a.png")
    for picture, name in zip(pictures[1:], ("b.jpg", "cats/one.jpg", "cats/two.jpg"), strict=True):
        Image.open(picture).convert("RGB").save(place / name, quality=95)
    shutil.copy(DATA / "emoji3d-64.safetensors", place / "ffhq_10m.pt")  # any network will do
    shutil.copy(DATA / "emoji3d-64.safetensors", place / "model.pt")
    command = tools / "ilvrctl"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ilvrctl "$@"\n')
    command.chmod(0o755)
    if shutil.which("jq") is None:
        jq = tools / "jq"
        jq.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m json.tool --json-lines\n')
        jq.chmod(0o755)
    return place, {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
