"""Signals as a shell, a terminal and a job scheduler send them, to real processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
from checkpoints import write_small_target
from commands import CUP, FOX, PATIENCE, QUICK, command, copies, environment, leftovers

from ilvrctl.cli import signals

pytestmark = pytest.mark.usefixtures("stand_ins")

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SCRIPT = """
import os, re, sys
from ilvrctl.cli import signals
listen = signals.listen
told = []
signals.listen = lambda: (listen(), told or told.append(os.write({fd}, b"x")))
from ilvrctl.cli.start import main
main()
"""
"""The console script, as pip writes it, but that it tells when its handlers stand."""
LONG = ("--to", "emoji3d", "--steps", "400", "--precision", "fp32", "--batch-size", "1")


def begun(*args: str | Path, cwd: Path, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """``ilvrctl`` as a process, at the moment its handlers stand; what came before is Python's."""
    read, write = os.pipe()
    run = subprocess.Popen(
        [*before, sys.executable, "-c", SCRIPT.format(fd=write), *map(str, args)],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[write],
    )
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.close(read)
    return run


def ended(run: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = run.communicate(timeout=PATIENCE)
    return run.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_at_any_time_of_the_start_is_a_word_and_a_code(
    number: signal.Signals, tmp_path: Path
) -> None:
    chance = random.Random(int(number))
    for limit in (0.0, 0.03, 0.1, 0.3, 1.0, 1.5):
        run = begun("translate", FOX, *LONG, "-o", f"out-{limit}", cwd=tmp_path)
        time.sleep(limit * chance.random())
        run.send_signal(number)
        code, _, err = ended(run)
        assert code == CODES[number], (limit, err)
        assert "Traceback" not in err and "Exception" not in err, (limit, err)
        assert "interrupted" in err.splitlines()[-1], (limit, err)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_of_which_an_import_makes_something_else(number: signal.Signals) -> None:
    """As Python before 3.12 does while a class is made."""
    program = f"""
import os
from ilvrctl.cli import complete
def answer():
    try:
        os.kill(os.getpid(), {int(number)})
    except KeyboardInterrupt as interrupt:
        raise RuntimeError("Error calling __set_name__") from interrupt
complete.answer = answer
from ilvrctl.cli.start import main
main()
"""
    run = [sys.executable, "-c", program]
    done = forked.run(run, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (CODES[number], "interrupted\n")


STOPPED_WHILE_IT_TELLS = """
import os, signal
from ilvrctl.cli import show
from ilvrctl.events import Written
view = show.job_view
def job_view(event, tally):
    if isinstance(event, Written):
        os.kill(os.getpid(), signal.SIGINT)
    return view(event, tally)
show.job_view = job_view
from ilvrctl.cli.start import main
main()
"""


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_signal_between_what_is_counted_and_what_is_told(flags: tuple[str, ...], tmp_path: Path) -> None:
    """Every result that is said to be saved has its line on stdout."""
    words = ("translate", FOX, CUP, *QUICK, "--batch-size", "1", *flags)
    run = [sys.executable, "-c", STOPPED_WHILE_IT_TELLS, *map(str, words)]
    done = forked.run(run, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    saved = sorted(path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".png")
    assert saved
    assert done.returncode == 130
    assert f"interrupted: {len(saved)} of 2 results are saved" in done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()] if flags else []
    lines = (
        [line["output"] for line in told if line["event"] == "done"] if flags else done.stdout.splitlines()
    )
    assert sorted(Path(line).name for line in lines) == saved


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_run_that_is_ended_tells_where_it_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    names = copies(tmp_path, [f"{n}.png" for n in range(30)])
    run = begun("translate", *names, *LONG[:2], "--steps", "20", "--batch-size", "1", cwd=tmp_path)
    assert run.stdout is not None
    run.stdout.readline()
    run.send_signal(number)
    code, _, err = ended(run)
    saved = len(list((tmp_path / "out").iterdir()))
    assert code == CODES[number]
    assert f"interrupted: {saved} of 30 results are saved; the same command goes on from there" in err
    assert leftovers(tmp_path) == []


def test_a_second_signal_ends_at_once_and_one_told_twice_is_one(tmp_path: Path) -> None:
    slow = (
        "import time, signal; from ilvrctl.cli import signals; signals.SAME = {same}; signals.listen()\n"
        "try:\n    print('ready', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('first', flush=True); time.sleep({rest})\n"
        "    print('finished', flush=True)"
    )
    words = [sys.executable, "-c"]
    for same, rest, told, code in ((signals.SAME, 60, "", 143), (60, 0.5, "finished\n", 0)):
        program = slow.format(same=same, rest=rest)
        run = subprocess.Popen([*words, program], env=environment(), stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGINT)
        assert run.stdout.readline() == "first\n"
        if code:
            time.sleep(3 * same)
        run.send_signal(signal.SIGTERM if code else signal.SIGINT)
        assert (run.stdout.read(), run.wait(PATIENCE)) == (told, code)


def test_what_is_ignored_from_the_start_stays_so(tmp_path: Path) -> None:
    run = begun("translate", FOX, *LONG[:2], "--steps", "60", cwd=tmp_path, before=("nohup",))
    for _ in range(5):
        time.sleep(0.2)
        run.send_signal(signal.SIGHUP)
    assert ended(run)[0] == 0
    assert (tmp_path / "out/fox.png").is_file()


def test_work_that_saves_first_asks_whether_to_stop() -> None:
    with signals.listening():
        with signals.noted() as stop:
            assert not stop()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop()
            assert signals.exit_code() == 143
        with pytest.raises(KeyboardInterrupt):
            signals.check()
    assert signals.received() is None
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_signal_within_code_that_is_run_by_exec_keeps_its_exit_code() -> None:
    inner = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    program = (
        "import sys; from ilvrctl.cli import signals; signals.listen()\n"
        f"try:\n    exec({inner!r})\nexcept KeyboardInterrupt:\n    sys.exit(signals.exit_code())"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True)
    assert (done.returncode, done.stderr) == (143, b"")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_to_all_processes_of_a_run_loses_nothing_that_is_made(
    number: signal.Signals, tmp_path: Path
) -> None:
    copies(tmp_path, [f"in/{n}.png" for n in range(40)])
    write_small_target(tmp_path / "small.safetensors")
    (tmp_path / "jobs.yaml").write_text(
        "jobs: [{name: a, inputs: in, weights: small.safetensors, steps: 100, precision: fp32}]"
    )
    run = subprocess.Popen(
        command("batch", "jobs.yaml", "--devices", "cpu,cpu", "--batch-size", "1", "-o", "out"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert run.stdout is not None
    run.stdout.readline()
    os.killpg(run.pid, number)
    code, _, err = ended(run)
    saved = len(list((tmp_path / "out").rglob("*.png")))
    assert code == CODES[number], err
    assert f"interrupted: {saved} of 40 results are saved" in err
    assert "lost" not in err and "Traceback" not in err, err
    assert leftovers(tmp_path) == []
    with pytest.raises(ProcessLookupError):  # nobody of it is left
        for _ in range(200):
            os.killpg(run.pid, 0)
            time.sleep(0.1)


LOST = """
import os, signal, sys, weakref
from ilvrctl.cli import signals
signals.listen()
class Thing: pass
thing = Thing()
watch = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
del thing  # the handler's exception is raised in the callback, where Python can only ignore it
try:
    signals.let_go()
except KeyboardInterrupt:
    print("raised later", signals.exit_code())
"""


def test_a_signal_whose_exception_is_lost_is_raised_later_and_leaves_no_trace() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOST], env=environment(), capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == ("raised later 143\n", "")
