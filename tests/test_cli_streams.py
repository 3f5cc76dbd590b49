"""What a terminal, a pipe, a disk or a locale can do to the output of a command: real processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from commands import (
    FOX,
    PATIENCE,
    QUICK,
    Ran,
    command,
    copies,
    environment,
    json_lines,
    on_terminal,
    process,
    tree,
)

from ilvrctl import paths
from ilvrctl.cli import app

pytestmark = pytest.mark.usefixtures("stand_ins")

TRANSLATE = ("translate", str(FOX), *QUICK)
COMMANDS = [
    ["--help"],
    ["--version"],
    ["translate", "--help"],
    ["presets"],
    ["presets", "--json"],
    ["presets", "show", "dog"],
    ["doctor"],
    ["download", "--list"],
    ["batch", "--schema"],
    ["batch", "--init"],
    [*TRANSLATE, "--dry-run"],
    [*TRANSLATE, "--json"],
    [*TRANSLATE, "-o", "-"],
    ["eval", "results", "--source", "inputs", "--truth", "inputs"],
    ["edit", "inputs/a.png", "inputs/b.png", *QUICK, "--dry-run"],
    ["train", "inputs", "--name", "mine", "--size", "64", "--dry-run"],
    ["inspect", str(paths.DATA / "emoji3d-64.safetensors")],
    ["convert", str(paths.DATA / "emoji3d-64.safetensors"), "converted.safetensors", "--json"],
    ["cache", "--help"],
    ["docs"],
    ["draw", "--help"],
]
HOSTILE = ["a\x1b[31mred.png", "b\nline.png", "c\u202egnp.png", "d\x07\x9b31m.png", "\u2028e\x7f.png"]
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves a cursor or turns the direction of writing; a line's end and a tabulator aside."""


def into(file: str, *args: str, stderr: str | None = None, cwd: Path) -> Ran:
    """Run with stdout, and if named stderr, open on a file."""
    with Path(file).open("wb") as out, Path(stderr or os.devnull).open("wb") as err:
        done = forked.run(
            command(*args),
            stdout=out,
            stderr=err if stderr else subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            env=environment(),
        )
    return Ran(done.returncode, b"", (done.stderr or b"").decode())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with inputs and results to compare."""
    copies(tmp_path, ["inputs/a.png", "inputs/b.png", "results/a.png", "results/b.png"])
    return tmp_path


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_full_disk_under_stdout_is_one_line_and_exit_code_1(words: list[str], pictures: Path) -> None:
    ran = into("/dev/full", *words, cwd=pictures)
    assert ran.code == 1, ran.err
    assert ran.err.splitlines()[-1] == "error: cannot write to standard output: no space left on device"
    assert "Traceback" not in ran.err and "Exception" not in ran.err
    assert ran.err.count("error: ") == 1


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_reader_that_is_gone_is_no_error_to_talk_about(words: list[str], pictures: Path) -> None:
    run = forked.Popen(
        command(*words), cwd=pictures, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout is not None
    run.stdout.close()
    _, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1
    assert not re.search(rb"Traceback|Exception|[Ee]rror", err), err


def test_stderr_that_takes_nothing_stops_nothing(tmp_path: Path) -> None:
    assert into(os.devnull, *TRANSLATE, stderr="/dev/full", cwd=tmp_path).code == 0
    assert into(os.devnull, *TRANSLATE, "nope.png", stderr="/dev/full", cwd=tmp_path).code == 1
    assert into(os.devnull, "nonsense", stderr="/dev/full", cwd=tmp_path).code == 2
    words = " ".join(f"'{word}'" for word in command(*TRANSLATE, "-o", "other"))
    for closed in ("2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f"{words} --overwrite {closed}"], cwd=tmp_path, env=environment())
        assert done.returncode == 0, closed
    assert tree(tmp_path / "other") == ["fox.png"]


def test_what_is_open_on_a_closed_stream_is_no_file_of_ours(tmp_path: Path) -> None:
    look = (
        "import os; from ilvrctl.cli.output import open_streams; open_streams(); print(os.open('f', 66) > 2)"
    )
    told = f"""'{sys.executable}' -c "{look}; open('told', 'w').write(str(os.open('g', 66)))" >&- <&-"""
    assert subprocess.run(["sh", "-c", told], cwd=tmp_path, env=environment()).returncode == 0
    assert int((tmp_path / "told").read_text()) > 2


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.slow, id="latin-1"),
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow, id="ascii"),
        pytest.param({"LC_ALL": "C"}, marks=pytest.mark.slow, id="C"),
        pytest.param({"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, id="POSIX"),
    ],
)
def test_letters_that_a_locale_has_not_are_told_otherwise(env: dict[str, str], pictures: Path) -> None:
    copies(pictures, ["猫.png"])
    names = ["eval", "results", "--source", "inputs", "--truth", "inputs"]
    for words in (names, ["--help"], ["presets"], ["translate", "inputs", "猫.png", *QUICK, "--json"]):
        done = forked.run(
            command(*words),
            cwd=pictures,
            env=environment(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()][-1] == "summary"


def test_names_that_act_are_seen_and_not_obeyed(tmp_path: Path) -> None:
    copies(tmp_path, [f"in/{name}" for name in HOSTILE])
    (tmp_path / "in/f\x1b]0;title\x07.png").write_text("no picture")
    ran = process("translate", "in", *QUICK, "-v", cwd=tmp_path)
    assert ran.code == 1
    assert not ACTS.search(ran.err)
    assert len(ran.err.splitlines()) == 1 + len(HOSTILE) + 2
    assert ran.out == b"".join(os.fsencode(f"out/{name}\n") for name in sorted(HOSTILE))
    ran = process("translate", "in", *QUICK, "--json", cwd=tmp_path)
    assert not ACTS.search(ran.out.decode())
    assert [line["input"] for line in json_lines(ran)[:-2]] == [f"in/{name}" for name in sorted(HOSTILE)]
    (tmp_path / "in/fine.png").write_bytes(FOX.read_bytes())
    for more in ([], ["-q"], ["-v"]):
        _, screen, _ = on_terminal("translate", "in", *QUICK, *more, "--color", "never", cwd=tmp_path)
        ours = re.sub(r"\x1b\[(\?25[hl]|2K|1A|\d*m|[\d;]*m)|\r", "", screen)
        assert not ACTS.search(ours)
        assert r"out/a\x1b[31mred.png" in ours.splitlines()


@pytest.mark.parametrize(
    "words",
    [
        ["translate", "no\x1b[2J\npe.png", *QUICK],
        ["translate", str(FOX), "--to", "d\x1b[2Jog"],
        ["tr\x1b[2Janslate"],
        ["translate", str(FOX), "--no\x1b[2J\npe"],
        ["presets", "show", "d\u202eog"],
        ["inspect", "d\x9b2Jog"],
        ["download", "d\x1b[2Jog"],
        ["batch", "d\x1b[2Jog"],
    ],
    ids=repr,
)
def test_mistakes_with_names_that_act(words: list[str], tmp_path: Path) -> None:
    ran = process(*words, cwd=tmp_path)
    assert ran.code in (1, 2, 3)
    assert not ACTS.search(ran.err)
    assert "Traceback" not in ran.err
    assert all(re.match(r"(error|hint|failed): |\d+ translated", line) for line in ran.err.splitlines())


def test_mistakes_are_json_where_json_is_asked_for(tmp_path: Path) -> None:
    for words, code, told in [
        (["translate", str(FOX), "--nope", "--json"], 2, "no such option: --nope"),
        (["translate", str(FOX), "--json", "--samples", "x"], 2, "--samples"),
        (["nonsense", "--json"], 2, "no such command 'nonsense'"),
        (["translate", str(FOX), "--to", "dgo", "--json"], 2, "unknown target 'dgo'"),
        (["translate", str(FOX), "--to", "dog", "--json"], 3, "the weights of 'dog' are not here"),
        (["batch", "--json"], 2, "no jobs file"),
        (["download", "--json"], 2, "no model is named"),
    ]:
        ran = process(*words, cwd=tmp_path)
        (line,) = json_lines(ran)
        assert (ran.code, line["event"], line["exit_code"]) == (code, "error", code)
        assert told in line["message"] and told in ran.err
        assert set(line) == {"event", "message", "hint", "exit_code"}
        assert ran.err.startswith(f"error: {line['message']}\n")
    assert process("translate", str(FOX), "--nope", "--", "--json", cwd=tmp_path).out == b""


def test_doctor_tells_programs_data() -> None:
    (facts,) = json_lines(process("doctor", "--json"))
    assert isinstance(facts["threads"], int)
    assert "afhq_dog_4m" in facts["weights_to_get"]
    assert facts["device"] in ("cpu", "mps") or facts["device"].startswith("cuda")
    told = process("doctor").out.decode()
    assert f"weights to get  {len(facts['weights_to_get'])}: ilvrctl download --list" in told


def test_a_probe_whose_reader_goes_away_keeps_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ilvrctl.cli import probing

    order: list[str] = []
    monkeypatch.setattr(probing, "_store", lambda *_, **__: order.append("kept"))
    monkeypatch.setattr(probing, "show_findings", lambda *_: order.append("shown"))
    monkeypatch.setattr(probing, "_record", lambda *_: {})
    monkeypatch.setattr("ilvrctl.models.files.loading.load_unet", lambda *_, **__: _Network())
    monkeypatch.setattr("ilvrctl.probe.guess_image_size", lambda _: 8)
    monkeypatch.setattr("ilvrctl.probe.pictures.probe_pictures", lambda *_: (_Network(), []))
    monkeypatch.setattr("ilvrctl.probe.probe", lambda *_: iter([object()]))
    probing.run_probe(tmp_path / "a.pt", device="cpu", quiet=True, color=False, table=True)
    assert order == ["kept", "shown"]


class _Network:
    channels = 3

    @property
    def architecture(self) -> _Network:
        return self

    def to(self, _: object) -> _Network:
        return self


def test_a_home_that_nobody_knows_is_a_message(tmp_path: Path) -> None:
    nobody = "import pwd; pwd.getpwuid = {}.__getitem__; from ilvrctl.cli.start import main; main()"
    places = {f"ILVRCTL_{name}": str(tmp_path / name) for name in ("CONFIG", "CACHE", "WEIGHTS")}
    for given, words, code in [({}, ["presets"], 2), (places, ["presets"], 0), (places, [*TRANSLATE], 0)]:
        env = {
            key: value for key, value in environment(**given).items() if key != "HOME" and "XDG" not in key
        }
        env = {k: v for k, v in env.items() if not k.startswith("ILVRCTL_") or k in given}
        ran = forked.run(
            [sys.executable, "-c", nobody, *words], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert ran.returncode == code, ran.stderr
        assert "Traceback" not in ran.stderr
        assert given or "hint: " in ran.stderr


def test_every_command_has_its_way_out() -> None:
    named = {word for words in COMMANDS for word in words}
    assert set(app.SUMMARIES) <= named
