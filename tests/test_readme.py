"""The README and the documentation: every command is run as it stands, by this test or by `.ci/run`, and links hold."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import forked
import pytest
from conftest import EMOJI
from hugging import HuggingFace, real_environment, small_networks
from PIL import Image, ImageChops, ImageStat

from ilvrctl import paths
from ilvrctl.paths import DATA

ROOT = Path(__file__).parents[1]
SHOWN = ROOT / ".github" / "readme"
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
MADE = {"commands", "parameters"}
"""Pages that are made out of the program: tests/test_docs.py."""
PAGES = {"README": ROOT / "README.md", **{page.stem: page for page in sorted(paths.docs_dir().glob("*.md"))}}
FURTHER = (ROOT / ".github" / "CONTRIBUTING.md", ROOT / "tests" / "benchmarks" / "RESULTS.md")
LANGUAGES = {
    "sh": "a command a line",
    "bash": "a script",
    "python": "a program",
    "yaml": "a file",
    "text": "",
}
SERVING = ("--draw", "ilvrctl draw")
MISSING_WEIGHTS = ("--to dog", "--to face", "--from cat ")


@dataclass(frozen=True)
class Section:
    """What is run in a place of its own: the blocks of code under one heading, in their order."""

    page: str
    title: str
    blocks: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.title}"


def sections() -> Iterator[Section]:
    for name in PAGES.keys() - MADE:
        text = PAGES[name].read_text(encoding="utf-8")
        parts = re.split(r"^##+ (.*)$", text, flags=re.MULTILINE)
        for title, body in zip(parts[1::2], parts[2::2], strict=True):
            blocks = re.findall(r"^```(\w*)\n(.*?)^```", body, flags=re.DOTALL | re.MULTILINE)
            if any(language != "text" for language, _ in blocks):
                yield Section(name, title, tuple(blocks))


SECTIONS = sorted(sections(), key=str)
START = next(section for section in SECTIONS if str(section) == "README: Start")


def lines(block: str) -> list[str]:
    return [line for line in block.splitlines() if line.strip()]


def test_the_commands_that_need_a_new_environment_are_run_by_ci() -> None:
    main, tests, activate = [line for kind, text in START.blocks if kind == "sh" for line in lines(text)]
    assert activate == ". .venv/bin/activate" and '. "$work/venv/bin/activate"' in CI
    for line in (main, tests):
        last = line.split("&&")[-1].strip().removeprefix(".venv/bin/")
        assert last in CI, f".ci/run does not run {last!r}"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [torch] = re.findall(r'^  "(torch>.*?)"', project, re.MULTILINE)
    readme = PAGES["README"].read_text(encoding="utf-8")
    cpu = f".venv/bin/pip install '{torch}' --index-url https://download.pytorch.org/whl/cpu`"
    assert 0 <= readme.index(cpu) < readme.index(main), (
        "what chooses the CPU build comes before what brings CUDA's"
    )
    for section in SECTIONS:
        if section is not START:
            assert not any(".venv" in text for kind, text in section.blocks if kind == "sh"), section


def test_the_readme_is_short() -> None:
    assert len(PAGES["README"].read_text(encoding="utf-8").splitlines()) <= 250
    [python] = [section for section in SECTIONS if str(section) == "README: From Python"]
    assert len(lines(dict(python.blocks)["python"])) <= 12


def test_every_block_says_what_it_is() -> None:
    for section in SECTIONS:
        assert {kind for kind, _ in section.blocks} <= LANGUAGES.keys(), section


@pytest.mark.parametrize("page", [*PAGES.values(), *FURTHER], ids=lambda page: page.stem)
def test_what_a_page_points_to_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        assert file.is_file(), link
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, link
    for name in re.findall(r"`(?:python (?:-m pytest )?)?((?:tests|presets|ilvrctl)/[\w./-]+)", text):
        assert (ROOT / name).exists(), name
    for topic in re.findall(r"`ilvrctl docs (\w+)`", text):
        assert topic in PAGES or topic == "TOPIC", topic


@pytest.mark.parametrize("name", sorted(PAGES.keys() - MADE))
def test_flags_in_the_text_exist(name: str) -> None:
    known = set(re.findall(r"--[\w-]+", PAGES["commands"].read_text(encoding="utf-8")))
    text = re.sub(r"^```.*?^```", "", PAGES[name].read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    if name == "ilvr_adm":
        text = re.sub(r"^\|[^|]*\|", "|", text, flags=re.MULTILINE)  # the published flags
    for span in re.findall(r"`((?:--|ilvrctl )[^`]*)`", text):
        assert set(re.findall(r"--[a-zA-Z][\w-]*", span)) <= known, span


def _same(first: Path, second: Path, most: float) -> None:
    one, other = (Image.open(file).convert("RGB") for file in (first, second))
    assert max(ImageStat.Stat(ImageChops.difference(one, other)).mean) <= most


def _shows_what_it_makes(place: Path) -> None:
    _same(place / "edited.png", SHOWN / "edited.png", 0.1)


def _the_same_again(place: Path) -> None:
    # made alone now, in a batch before: half precision may round differently
    _same(place / "results" / "a_2.png", place / "again" / "a_2.png", 0.5)
    assert (place / "sheet.png").is_file()
    assert (place / "results" / "a_1.gif").is_file()


def _a_picture_came_through(place: Path) -> None:
    with Image.open(place / "b.png") as picture:
        assert picture.size == (32, 32)


def _all_combinations(place: Path) -> None:
    made = {path.parent.name for path in (place / "swept" / "sweep").rglob("a*.png")}
    assert len(made) == 4, made


CHECKS: dict[str, Callable[[Path], None]] = {
    "README: Paint and edit": _shows_what_it_makes,
    "README: In a pipeline": _a_picture_came_through,
    "editing: Scribbles": _shows_what_it_makes,
    "jobs: What stands in it": _all_combinations,
    "usage: Pictures and folders": _the_same_again,
    "usage: Pipes and programs": _a_picture_came_through,
}


SHORTER = {
    "--probe": """
from ilvrctl.probe import pictures
every = pictures.probe_pictures
pictures.probe_pictures = lambda *shape: tuple(some[-2:] for some in every(*shape))
""",
    "ilvrctl train": """
from ilvrctl.training import samples
samples.STEPS = 2
""",
}
"""What commands do less of: two of the probe's drawings tell what the network there is, as eight pictures do in four
times as long, and a sheet of samples is one however rough they are.
"""


def test_every_check_has_its_section() -> None:
    assert CHECKS.keys() <= set(map(str, SECTIONS))


@pytest.fixture
def short() -> Iterator[str]:
    """A folder with a short name, as addresses of sockets must be."""
    with tempfile.TemporaryDirectory(prefix="ilvrctl", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("section", [s for s in SECTIONS if s is not START], ids=str)
def test_commands_do_what_the_page_says(
    section: Section, tmp_path: Path, short: str, request: pytest.FixtureRequest
) -> None:
    check = CHECKS.get(str(section), lambda place: None)
    if check is not _shows_what_it_makes:
        request.getfixturevalue("stand_ins")
    place, environment = _place(tmp_path, section)
    environment["RAY_TMPDIR"] = short  # no cluster of others, living or dead
    with _hugging_face(section, tmp_path) as more:
        _carry_out(section, place, {**environment, **more})
    check(place)


def _carry_out(section: Section, place: Path, environment: dict[str, str]) -> None:
    for kind, text in section.blocks:
        if kind == "yaml":
            (place / text.split()[1]).write_text(text)
        for words in {"sh": lines(text), "bash": [text]}.get(kind, []):
            _run(["bash", "-o", "pipefail", "-c", words.replace("FILE", "model.pt")], place, environment)
        if kind == "python":
            _run([sys.executable, "-c", text], place, environment)


@contextmanager
def _hugging_face(section: Section, folder: Path) -> Iterator[dict[str, str]]:
    """A server in the place of the real one, with the repository that the pages name."""
    if not any("hf:" in text for _, text in section.blocks):
        yield {}
        return
    with HuggingFace() as server:
        server.put("google/ddpm-cat-256", small_networks(folder).folder)
        yield real_environment(server, folder / "huggingface")


def _run(words: list[str], place: Path, environment: dict[str, str]) -> None:
    run = _stopped if any(one in words[-1] for one in SERVING) else _finished
    done = run(words, place, environment)
    command, messages = words[-1], done.stderr.decode()
    missing = any(one in command for one in MISSING_WEIGHTS) and "download" not in command
    assert done.returncode == (3 if missing else 0), f"{command}: {messages}"
    assert "Traceback" not in messages, f"{command}: {messages}"
    if missing:
        assert "hint: ilvrctl download" in messages


def _finished(
    words: list[str], place: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    return forked.run(words, cwd=place, env=environment, capture_output=True, check=False)


def _stopped(
    words: list[str], place: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """What goes on until Ctrl-C, which comes as soon as it is served."""
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=place, env=environment, stdout=pipe, stderr=pipe) as running:
        assert running.stderr is not None
        said = b""
        while line := running.stderr.readline():
            said += line
            if line.startswith(b"http://"):
                running.send_signal(signal.SIGINT)
        return subprocess.CompletedProcess(words, running.wait(), b"", said)


def _place(folder: Path, section: Section) -> tuple[Path, dict[str, str]]:
    """A folder with the inputs that the pages name, and an environment that finds `ilvrctl` (and `jq`)."""
    place, tools = folder / "place", folder / "tools"
    tools.mkdir()
    for name in ("cats", "drawings"):
        (place / name).mkdir(parents=True)
    shutil.copytree(EMOJI / "3d", place / "glossy")
    shutil.copytree(EMOJI / "flat", place / "flat")
    for name in ("photo", "scribbled", "painting"):
        shutil.copy(SHOWN / f"{name}.png", place)
    with Image.open(place / "photo.png") as photo:
        photo.convert("RGB").save(place / "photo.jpg")
        mask = Image.new("L", photo.size)
    mask.paste(255, (60, 120, 120, 160))
    mask.save(place / "mask.png")
    pictures = sorted((EMOJI / "flat").glob("*.png"))[:4]
    shutil.copy(pictures[0], place / "a.png")
    for picture, name in zip(pictures[1:], ("b.jpg", "cats/one.jpg", "drawings/two.jpg"), strict=True):
        Image.open(picture).convert("RGB").save(place / name, quality=95)
    for name in ("ffhq_10m.pt", "model.pt"):  # any network will do
        shutil.copy(DATA / "emoji3d-64.safetensors", place / name)
    if not any("batch --init" in text for _, text in section.blocks):
        (place / "jobs.yaml").write_text("jobs: [{inputs: [cats/, a.png], to: emoji3d, steps: 4}]\n")
    served = any(one in text for _, text in section.blocks for one in SERVING)
    if served or section.page == "clusters" or sys.platform != "linux":
        # a page is stopped by a signal to its own process, and workers begin as their driver has begun
        _program(tools / "ilvrctl", "-m ilvrctl")
    else:
        said = "".join(text for _, text in section.blocks)
        shorter = "".join(less for word, less in SHORTER.items() if word in said)
        forked.write_script(tools / "ilvrctl", f"{shorter}from ilvrctl.cli.start import main; main()")
    if shutil.which("jq") is None:
        _program(tools / "jq", "-m json.tool --json-lines")
    beside = Path(sys.executable).parent  # torchrun
    return place, {
        **os.environ,
        "PATH": f"{tools}:{beside}:{os.environ['PATH']}",
        "SLURM_ARRAY_TASK_ID": "2",
    }


def _program(file: Path, arguments: str) -> None:
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
    file.chmod(0o755)
