"""What needs no network does not wait for torch: help, version, presets, plans, and mistakes."""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from checkpoints import random_state_dict
from commands import FOX, QUICK, command, environment
from conftest import GOLDEN

from ilvrctl import __version__
from ilvrctl.cli.app import SUMMARIES, build
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags
from ilvrctl.models.files.facts_header import facts_note
from ilvrctl.models.files.saving import save_safetensors

SMALL = AdmArchitecture(3, 3, 32, (32, 64), 1, (False, True), hidden=HiddenFlags(num_heads=2))

WITHOUT_TORCH = """
import sys
from ilvrctl.cli.app import main
try:
    main()
finally:
    heavy = sorted({"torch", "numpy", "safetensors"} & set(sys.modules))
    print("heavy:", heavy, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["translate", "-h"], 0),
        (["eval", "--help"], 0),
        (["eval", str(FOX.parent)], 2),
        (["eval", str(FOX.parent), "--protocol", "egdse"], 2),
        (["presets"], 0),
        (["presets", "--json"], 0),
        (["presets", "show", "dog"], 0),
        (["translate", "--examples", "--dry-run"], 0),
        (["translate", "--examples", "--dry-run", "--json", "--sheet", "sheet.png", "--gif"], 0),
        (["translate", str(FOX), "--nonsense"], 2),
        (["nonsense"], 2),
        (["translate", str(FOX), "--to", "nonsense"], 2),
        (["translate", str(FOX), *QUICK, "--N", "7"], 2),
        (["translate", str(FOX), *QUICK, "--set", "nonsense=1"], 2),
        (["translate", str(FOX), "--to", "dog"], 3),
        (["translate", str(FOX), "--weights", __file__], 3),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_torch_is_not_imported(args: list[str], code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *args],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert "heavy: []" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["safetensors", "lucidrains_trainer"])
def test_a_first_plan_with_a_file_of_ones_own_needs_no_torch(kind: str, tmp_path: Path) -> None:
    own, flags = tmp_path / f"{kind}.pt", ["--set", "model.image_size=32"]
    if kind == "safetensors":
        own, flags = tmp_path / "own.safetensors", []
        facts = {"image_size": 64, "num_heads": 2, "predicts": "v"}
        save_safetensors(own, random_state_dict(SMALL), facts_note(facts))
    else:
        own.write_bytes(lzma.decompress((GOLDEN / f"{kind}.pt.xz").read_bytes()))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "translate", FOX, "--weights", own, *flags, "--dry-run"],
        cwd=tmp_path,
        env=environment(ILVRCTL_CACHE=str(tmp_path / "cache")),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stderr


def processor_seconds(*words: str) -> float:
    """Of a command: the least of several, as the machine may be busy with something else."""
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run(words, env=environment(), capture_output=True, check=True)
        after = os.times()
        user = after.children_user - before.children_user
        times.append(user + after.children_system - before.children_system)
    return min(times)


def test_help_takes_little_more_than_the_library_that_draws_it() -> None:
    drawing = "import typer.main, typer.rich_utils, rich.markdown"
    assert processor_seconds(*command("--help")) < 1.5 * processor_seconds(sys.executable, "-c", drawing)


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_summary_of_a_command_is_the_first_sentence_of_its_help(name: str) -> None:
    assert list(whole(build([name]))) == [name]
    assert whole(build([name]))[name].partition("\n")[0] == SUMMARIES[name]


def test_a_shell_that_completes_sees_every_command_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not whole(build([]))
    monkeypatch.setenv("_ILVRCTL_COMPLETE", "complete_bash")
    assert whole(build([])).keys() == SUMMARIES.keys()


def whole(app: typer.Typer) -> dict[str, str]:
    """The commands that are more than a name and a summary, with their help."""
    found = {
        str(info.name): str(info.callback.__doc__) for info in app.registered_commands if not info.help
    }  # a stand-in is given its summary, a command has a docstring
    return found | {
        str(info.name): str(info.typer_instance.info.help)
        for info in app.registered_groups
        if info.typer_instance
    }


def test_version_and_help_go_to_stdout() -> None:
    done = subprocess.run(command("--version"), env=environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"ilvrctl {__version__}\n", "")
    for flag in ("-h", "--help"):
        done = subprocess.run(command("translate", flag), env=environment(), capture_output=True, text=True)
        assert done.returncode == 0
        assert done.stderr == ""
        for text in [
            "Common options",
            "Examples:",
            "ilvrctl translate cats/ --to dog --N 32",
            "--from-file - -0",
        ]:
            assert text in done.stdout


def test_help_loads_neither_markdown_nor_tracebacks(tmp_path: Path) -> None:
    """They were a third of its time. What stood in for them is gone afterwards."""
    tell = (
        "print([name for name in ('markdown_it', 'rich.traceback', 'rich.markdown') if name in sys.modules])"
    )
    script = WITHOUT_TORCH.replace('print("heavy:"', f"{tell}; print('heavy:'").replace(
        '"heavy:"', "'heavy:'"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--help"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Usage: " in done.stdout
