"""What people type wrong is answered with what to type instead: a row a mistake."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import CUP, FOX, QUICK, copies, ilvrctl, json_lines, tree

EMOJI = ("--to", "emoji3d")
LOST_INDENTATION = "jobs:\n  - name: a\n   inputs: cats\n"
TOO_DEEP = "jobs:\n  - name: a\n    inputs: cats\n      N: 4\n"
TABS = "jobs:\n\t- name: a\n"

MISTAKES = {
    "only --from": (["translate", "cats/", "--from", "cat"], 2, "--from cat says what they are", "--from cat --to "),
    "no command": (["cats/", "--to", "dog"], 2, "no such command 'cats/'", "ilvrctl translate cats/ --to dog"),
    "flags first": (["--to=dog", "cats/"], 2, "no such option", "ilvrctl translate --to=dog cats/"),
    "flags before the command": (
        ["-t", "dog", "translate", "my cats/"],
        2,
        "no such option: -t",
        "ilvrctl translate -t dog 'my cats/'",
    ),
    "a misspelt command": (["trnslate", "cats/"], 2, "no such command 'trnslate'", "ilvrctl translate cats/"),
    "a picture alone": (["a.png"], 2, "no such command", "ilvrctl translate a.png"),
    "a jobs file alone": (["jobs.yaml", "--dry-run"], 2, "no such command", "ilvrctl batch jobs.yaml --dry-run"),
    "a word alone": (["nonsense"], 2, "no such command 'nonsense'", "ilvrctl --help"),
    "a flag nobody knows": (["--nonsense"], 2, "no such option: --nonsense", "ilvrctl --help"),
    "an address": (
        ["translate", "https://example.com/my/cat.png?size=1", *EMOJI],
        2,
        "is an address",
        "curl -L -o cat.png 'https://example.com/my/cat.png?size=1'",
    ),
    "an address of a site": (["translate", "http://example.com", *EMOJI], 2, "is an address", "curl -L -o picture "),
    "an address of a file": (["translate", "file:///home/me/a.png", *EMOJI], 2, "address", "file://: /home/me/a.png"),
    "an address to edit": (["edit", "a.png", "https://x.org/b.png", *EMOJI], 2, "is an address", "curl -L -o b.png "),
    "a folder that is not there": (["translate", "nosuch/", *EMOJI], 2, "the folder nosuch/ does", "check the path"),
    "the same, tried": (["translate", "nosuch/", *EMOJI, "--dry-run"], 2, "nosuch/ does not exist", "check the path"),
    "a folder misspelt": (["translate", "cast/", *EMOJI, "--dry-run"], 2, "cast/ does not", "did you mean cats/?"),
    "a folder to edit": (["edit", "cats/", *EMOJI], 2, "one picture is edited at a time", "ilvrctl translate cats/"),
    "a setting unknown": (
        ["translate", "a.png", *EMOJI, "--set", "method.M=2"],
        2,
        "unknown key 'method.M'",
        "for example --set method.N=4",
    ),
    "a setting misspelt": (
        ["translate", "a.png", *EMOJI, "--set", "method.kernl=box"],
        2,
        "unknown key 'method.kernl'",
        "did you mean 'kernel'?",
    ),
    "a precision unknown": (
        ["translate", "a.png", *EMOJI, "--precision", "fp64"],
        2,
        "precision must be auto or fp32 or bf16 or fp16, not 'fp64'",
        "did you mean 'fp32'?",
    ),
    "a picture inspected": (["inspect", "a.png"], 3, "a.png: a PNG picture, not", "ilvrctl translate a.png --to "),
    "a preset unknown": (["presets", "show", "nosuch"], 2, "is called 'nosuch'", "ilvrctl presets"),
    "a preset misspelt": (["presets", "show", "emoji3"], 2, "is called 'emoji3'", "did you mean 'emoji3d'?"),
    "lost indentation": (["batch", "lost.yaml"], 2, "lost.yaml, line 3: not valid YAML", "begins in one column"),
    "too deep": (["batch", "deep.yaml"], 2, "line 4: not valid YAML: mapping values are", "begins in one column"),
    "tabs": (["batch", "tabs.yaml"], 2, "tabs.yaml, line 2: not valid YAML", "after spaces"),
    "an address in a jobs file": (["batch", "far.yaml"], 2, "far.yaml, line 3: http://x.org/a is an", "curl -L -o a "),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copies(tmp_path, ["cats/a.png", "cats/b.png", "a.png"])
    for name, text in {
        "lost": LOST_INDENTATION,
        "deep": TOO_DEEP,
        "tabs": TABS,
        "far": "jobs:\n  - name: a\n    inputs: http://x.org/a\n    to: emoji3d\n",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_what_to_type_instead(mistake: str, tmp_path: Path) -> None:
    words, code, what, instead = MISTAKES[mistake]
    before = tree(tmp_path)
    ran = ilvrctl(*words)
    assert ran.code == code, ran.err
    error, hint = ran.err.splitlines()
    assert error.startswith("error: ") and what in error
    assert hint.startswith("hint: ") and instead in hint
    assert len(ran.err) < 600, "nobody reads more"
    assert tree(tmp_path) == before


@pytest.mark.parametrize("words", [["cats/", "--json"], ["translate", "nosuch/", *EMOJI, "--json"]])
def test_programs_get_the_same_answer(words: list[str]) -> None:
    ran = ilvrctl(*words)
    [line] = json_lines(ran)
    assert line["event"] == "error" and line["exit_code"] == ran.code == 2
    assert line["hint"] and line["hint"] in ran.err


def test_the_column_of_a_mistake_in_yaml_is_told() -> None:
    assert "(column 4)" in ilvrctl("batch", "lost.yaml").err
    assert "(column 8)" in ilvrctl("batch", "deep.yaml").err


def test_a_dry_run_of_what_may_be_a_folder_and_is_not_there_fails() -> None:
    for words, code in ((["nosuch"], 1), ([FOX, "nosuch"], 1), ([FOX], 0)):
        ran = ilvrctl("translate", *words, *QUICK, "--dry-run")
        assert ran.code == code, words
        assert ("does not exist" in ran.err) == bool(code)


def test_cuda_with_a_build_of_torch_for_the_cpu_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: False)
    monkeypatch.setattr("sys.platform", "linux")
    ran = ilvrctl("translate", CUP, *QUICK, "--device", "cuda", "--dry-run")
    assert ran.code == 1
    assert "is a build for the CPU" in ran.err
    assert (
        "-m pip install --force-reinstall torch==" in ran.err
        and "--index-url https://pypi.org/simple" in ran.err
    )
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: True)
    ran = ilvrctl("translate", CUP, *QUICK, "--device", "cuda:3", "--dry-run")
    assert ran.code == 1
    assert "torch sees 0 CUDA devices" in ran.err and "pip install" not in ran.err


def test_a_folder_of_the_name_of_a_command_is_no_forgotten_command(tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "cats", tmp_path / "edit")
    ran = ilvrctl("translate", "edit/", *QUICK, "--dry-run")
    assert ran.code == 0 and "2 results" in ran.err
