"""Workers elsewhere: what is lost is made again, the wait is told and ends, errors keep their kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import still_engine
from commands import PATIENCE, copies, environment, process
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ilvrctl.config import Layer
from ilvrctl.errors import DeviceError, IlvrctlError, UsageError
from ilvrctl.events import SampleFailed
from ilvrctl.plans.grid import Variant
from ilvrctl.plans.plan import Networks
from ilvrctl.presets import find_model
from ilvrctl.settings import build_settings
from ilvrctl.work import cluster, workers
from ilvrctl.work.batches import Batch, Made, PlannedBatch, Slot, Wanted, filled, launched_share
from ilvrctl.work.cluster import Actor, _unheard
from ilvrctl.work.pieces import Piece
from ilvrctl.work.processes import Place, Processes, results
from ilvrctl.work.worker import Worker
from ilvrctl.work.workers import Message, Spread

SETTINGS = build_settings(Layer({"steps": 2, "method": {"N": 4}}))
NETWORKS = Networks(find_model("emoji3d-64"), Path("nowhere"))


def wanted(n: int, place: int = 0) -> Wanted:
    return Wanted(
        Slot(0, n), f"{n}.png", (Piece(Image.new("RGB", (64, 64), (n, 0, 0))),), f"{n}", 1, 0, place
    )


def batches(count: int) -> Iterator[Batch]:
    return (Batch(SETTINGS, (wanted(n),), 1) for n in range(count))


class Fleet:
    """Workers that are named and do as the script says: at each wait one of them tells something."""

    def __init__(self, script: list[str], size: int = 2) -> None:
        self.script, self.size = script, size
        self.queues: dict[str, list[Batch]] = {}
        self.worker = Worker(still_engine())
        self.hired = 0

    def start(self, networks: Networks, variants: Any) -> None:
        self.news: list[Message] = [self._hire() for _ in range(self.size)]

    def _hire(self) -> Message:
        self.hired += 1
        self.queues[f"w{self.hired}"] = []
        return f"w{self.hired}", "ready", self.worker.facts()

    def send(self, worker: Any, batch: Batch) -> None:
        self.queues[worker].append(batch)

    def receive(self, seconds: float) -> list[Message]:
        if self.news:
            return [self.news.pop(0)]
        what = self.script.pop(0) if self.script else "done"
        busy = [name for name, queue in self.queues.items() if queue]
        if what == "silence" or not busy:
            return []
        if what == "lost":
            del self.queues[busy[0]]
            self.news.append(self._hire())
            return [(busy[0], "lost", "killed")]
        return [(busy[0], "done", results(self.worker, self.queues[busy[0]].pop(0)))]

    def stop(self) -> None:
        self.queues = {}


def carried_out(fleet: Fleet, count: int) -> list[Any]:
    spread = Spread(fleet)
    for _ in spread.begin(NETWORKS, []):
        pass
    return list(spread.carry_out(batches(count)))


@settings(deadline=None)
@given(
    script=st.lists(st.sampled_from(["done", "done", "lost", "silence"]), max_size=12),
    count=st.integers(1, 7),
    size=st.integers(1, 3),
)
def test_every_result_comes_once_or_is_told_as_failed(script: list[str], count: int, size: int) -> None:
    events = carried_out(Fleet([*script], size), count)
    made = Counter(event.slot.place for event in events if isinstance(event, Made))
    failed = Counter(event.sample.key.place for event in events if isinstance(event, SampleFailed))  # type: ignore[attr-defined]
    assert made + failed == Counter(range(count))
    if script.count("lost") < workers.TRIES:
        assert not failed


def test_a_batch_that_loses_workers_time_after_time_has_failed() -> None:
    events = carried_out(Fleet(["lost"] * workers.TRIES, size=1), 1)
    [failed] = [event for event in events if isinstance(event, SampleFailed)]
    assert failed.error.message == "3 workers were lost at it"


def test_a_wait_for_workers_is_told_and_ends() -> None:
    class Nobody(Fleet):
        def start(self, networks: Networks, variants: Any) -> None:
            self.news = []

    told = []
    with pytest.raises(DeviceError, match="no worker has come in 10 minutes"):
        for event in Spread(Nobody([])).begin(NETWORKS, []):
            told.append(event)
    assert [event.message for event in told][:2] == [
        "no worker is ready; waited 1 of 10 minutes",
        "no worker is ready; waited 2 of 10 minutes",
    ]
    assert len(told) == 9


def test_a_slow_worker_is_waited_for_as_long_as_it_takes() -> None:
    events = carried_out(Fleet(["silence"] * 50), 1)
    assert [type(event) for event in events] == [Made]


def test_all_workers_gone_in_the_middle_ends_the_wait_too() -> None:
    class Dying(Fleet):
        def _hire(self) -> Message:
            if self.hired:
                return "nobody", "lost", "the node is gone"
            return super()._hire()

    with pytest.raises(DeviceError, match="no worker has come"):
        carried_out(Dying(["lost"], size=1), 3)


def test_errors_of_workers_keep_their_kind(tmp_path: Path) -> None:
    learned = build_settings(Layer({"steps": 2, "sampler": {"name": "ddpm", "variance": "learned"}}))
    model = find_model("emoji3d-64")
    networks = Networks(model, model.path(), "fp32")
    error = Actor(Place("cpu"), networks, [Variant(learned, label="bad")]).begin()
    assert type(error) is UsageError
    assert (error.message, error.exit_code) == ("bad: this network has not learned a variance", 2)
    gone = Actor(Place("cpu"), replace(networks, weights=tmp_path / "gone"), []).begin()
    assert isinstance(gone, IlvrctlError)
    assert gone.exit_code == 3


@pytest.mark.slow
def test_a_mistake_has_one_exit_code_alone_and_under_devices(tmp_path: Path) -> None:
    copies(tmp_path, ["in/a.png"])
    job = "{name: a, inputs: in, to: emoji3d, steps: 2, sampler: ddpm, variance: learned, precision: fp32}"
    (tmp_path / "jobs.yaml").write_text(f"jobs: [{job}]")
    alone = process("batch", "jobs.yaml", cwd=tmp_path)
    spread = process("batch", "jobs.yaml", "--devices", "cpu,cpu", cwd=tmp_path)
    assert (alone.code, spread.code) == (2, 2)
    assert alone.err == spread.err


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, (1, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (1, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}, (3, 4)),
        ({"RANK": "2"}, (1, 1)),
    ],
)
def test_processes_of_torchrun_share_the_work(environment: dict[str, str], share: tuple[int, int]) -> None:
    assert launched_share(environment) == share


@pytest.mark.slow
def test_torchrun_makes_every_picture_once(tmp_path: Path) -> None:
    copies(tmp_path, [f"in/{n}.png" for n in range(5)])
    words = ("translate", "in", "--to", "emoji3d", "--steps", "2", "--precision", "fp32", "--batch-size", "2")
    run = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ilvrctl", *words)
    done = subprocess.run(
        [sys.executable, *run, "--sheet", "sheet.png"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if line) == [f"out/{n}.png" for n in range(5)]
    assert process(*words, "-o", "alone", cwd=tmp_path).code == 0
    for n in range(5):
        assert (tmp_path / f"out/{n}.png").read_bytes() == (tmp_path / f"alone/{n}.png").read_bytes()
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("rank", ["4", "-1", "x"])
def test_a_rank_that_cannot_be(rank: str) -> None:
    with pytest.raises(UsageError, match="no part of a whole"):
        launched_share({"RANK": rank, "WORLD_SIZE": "4"})


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 4))
def test_batches_keep_their_size_and_places_where_inputs_fail(good: list[bool], size: int) -> None:
    whole = len(good) - len(good) % size
    planned = [
        PlannedBatch(0, tuple(Slot(0, n + p) for p in range(width)), tuple(range(width)), width)
        for n, width in [(n, size) for n in range(0, whole, size)] + [(whole, len(good) - whole)]
        if width
    ]
    found = (wanted(n) if ok else None for n, ok in enumerate(good))
    made = list(filled(planned, found, lambda slot: SETTINGS))
    places = {slot: (p, b.size) for b in planned for slot, p in zip(b.slots, b.places, strict=True)}
    for batch in made:
        assert len({one.place for one in batch.wanted}) == len(batch.wanted)
        assert all(places[one.slot] == (one.place, batch.size) for one in batch.wanted)
    assert sorted(one.slot.place for batch in made for one in batch.wanted) == [
        n for n, ok in enumerate(good) if ok
    ]


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_told_in_time(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    copies(tmp_path, ["in/a.png"])
    (tmp_path / "jobs.yaml").write_text("jobs: [{name: a, inputs: in, to: emoji3d, steps: 2}]")
    words = ("batch", "jobs.yaml", "--engine", "ray", "--address", "127.0.0.1:1")
    hasty = (
        "from ilvrctl.work import cluster; cluster.CONNECT = 3.0; from ilvrctl.cli.start import main; main()"
    )
    assert cluster.CONNECT == 30
    start = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", hasty, *words],
        cwd=tmp_path,
        env=environment(RAY_USAGE_STATS_ENABLED="0"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 1
    assert "error: no Ray cluster answers at 127.0.0.1:1: waited 3 s" in ran.stderr
    assert time.monotonic() - start < 70  # by itself Ray tries for minutes
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
def test_what_ends_a_run_is_for_the_driver_which_saves_first() -> None:
    model = find_model("emoji3d-64")
    fleet = Processes([Place("cpu")])
    fleet.start(Networks(model, model.path(), "fp32"), [Variant(SETTINGS)])
    [(number, (worker, _))] = fleet._workers.items()
    try:
        while not (told := fleet.receive(1)):
            pass
        assert told[0][1] == "ready", told
        assert worker.pid is not None
        for name in ("SIGINT", "SIGHUP", "SIGTERM"):
            os.kill(worker.pid, getattr(signal, name))
        fleet.send(number, next(batches(1)))
        while not (told := fleet.receive(1)):
            pass
        [(_, what, [made])] = told
        assert what == "done" and isinstance(made, Made)
    finally:
        fleet.stop()
    assert worker.exitcode == -signal.SIGKILL


@pytest.mark.slow
def test_a_worker_whose_driver_has_gone_ends_in_the_middle_of_a_batch() -> None:
    model = find_model("emoji3d-64")
    fleet = Processes([Place("cpu")])
    fleet.start(Networks(model, model.path(), "fp32"), [Variant(SETTINGS)])
    [(number, (worker, connection))] = fleet._workers.items()
    try:
        while not fleet.receive(1):
            pass
        endless = build_settings(Layer({"steps": 999, "method": {"N": 4}}))
        fleet.send(number, Batch(endless, (wanted(1),), 1))
        time.sleep(0.3)
        connection.close()
        worker.join(20)
        assert worker.exitcode == 0
    finally:
        worker.kill()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of POSIX")
def test_processes_of_a_cluster_do_not_hear_of_a_closed_terminal() -> None:
    with _unheard():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    with child:
        child.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert child.poll() is None
        child.terminate()
        assert child.wait(10) == -signal.SIGTERM
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
