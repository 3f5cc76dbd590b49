"""A batch that is killed, divided, or spread over processes and machines leaves the bytes of one quiet run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from checkpoints import write_small_target
from commands import PATIENCE, Ran, command, copies, environment, leftovers, process, tree

JOBS = """
defaults: {weights: small.safetensors, steps: 20, precision: fp32}
jobs:
  - {name: one, inputs: in, samples: 2}
  - {name: sweep, inputs: in, matrix: {N: [2, 8]}}
"""
SIZE = ("--batch-size", "3")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs, a jobs file, and what a quiet run makes of them in ``quiet``."""
    folder = tmp_path_factory.mktemp("batch")
    copies(folder, [f"in/{n}.png" for n in range(8)])
    write_small_target(folder / "small.safetensors")
    (folder / "jobs.yaml").write_text(JOBS)
    ran = batch(folder, "-o", "quiet")
    assert ran.code == 0, ran.err
    return folder


def batch(place: Path, *args: str) -> Ran:
    return process("batch", "jobs.yaml", *SIZE, *args, cwd=place)


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in tree(folder) if name.endswith(".png")}


def made(folder: Path) -> list[str]:
    """The outputs of all lines of the manifests: an output that was made twice is there twice."""
    lines = [json.loads(line) for file in folder.glob("manifest*") for line in file.read_text().splitlines()]
    return sorted(line["output"] for line in lines if line["kind"] == "item")


def killed(place: Path, out: str, kills: int, number: int) -> list[str]:
    """Exit codes of the runs that ended before, or because of, a signal."""
    (place / out).mkdir()
    script = Path(__file__).parent / "kills.py"
    words = ["batch", "jobs.yaml", *SIZE, "-o", out]
    return subprocess.run(
        [sys.executable, str(script), str(kills), str(int(number)), *words],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE,
    ).stdout.split()


def runs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def test_twenty_kills_lose_nothing_and_change_nothing(place: Path) -> None:
    assert set(killed(place, "killed", 20, signal.SIGKILL)) <= {"0"}
    quiet = results(place / "quiet")
    for run in runs(place / "killed"):
        assert batch(place, "-o", f"killed/{run.name}").code == 0
        assert results(run) == quiet
        assert leftovers(run) == []
        assert made(run) == sorted(set(quiet) - {"sweep/sheet.png"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_clean_at_once(number: int, place: Path) -> None:
    name = f"interrupted-{int(number)}"
    codes = killed(place, name, 2, number)
    ended = str(128 + number)
    assert ended in codes
    assert set(codes) <= {ended, "0"}
    for run in runs(place / name):
        assert leftovers(run) == []
        assert made(run) == sorted(set(results(run)) - {"sweep/sheet.png"})  # every result has its line
        assert batch(place, "-o", f"{name}/{run.name}").code == 0
        assert results(run) == results(place / "quiet")


def test_shards_at_the_same_time_make_the_same_bytes(place: Path) -> None:
    words = command("batch", "jobs.yaml", *SIZE, "-o", "shards")
    parts = [
        forked.Popen([*words, "--shard", f"{n}/2"], cwd=place, env=environment(), stdout=subprocess.DEVNULL)
        for n in (1, 2)
    ]
    assert [part.wait(100) for part in parts] == [0, 0]
    assert results(place / "shards") == results(place / "quiet")


def test_two_processes_make_the_same_bytes(place: Path) -> None:
    ran = batch(place, "-o", "processes", "--devices", "cpu,cpu")
    assert ran.code == 0, ran.err
    assert results(place / "processes") == results(place / "quiet")


RAY = """
import os, signal, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from ilvrctl.cli.app import main

what, out = sys.argv.pop(1), Path(sys.argv[sys.argv.index("-o") + 1])
here = 1 if what == "node" else 2
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": here, "include_dashboard": False})
second = cluster.add_node(num_cpus=1) if what == "node" else None
ray.init(address=cluster.address, log_to_driver=False)

def actors():
    known = {str(os.getpid())}
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[status.parent.name] = status.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
    while more := {pid for pid, parent in parents.items() if parent in known} - known:
        known |= more
    return [int(pid) for pid in known if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Actor")]

def kill():
    manifest = out / "manifest.jsonl"
    while not manifest.exists() or manifest.read_bytes().count(b'"item"') < 9:
        time.sleep(0.02)
    if what == "node":
        cluster.remove_node(second, allow_graceful=False)
    else:
        os.kill(actors()[0], signal.SIGKILL)
    print("killed", file=sys.stderr, flush=True)

threading.Thread(target=kill, daemon=True).start()
main()
"""


@pytest.mark.parametrize(
    ("lost", "workers"),
    [("node", "2"), ("worker", "3")],
    ids=["a node", "a worker, and one that never comes"],
)
def test_a_cluster_that_loses_some_of_it_makes_the_same_bytes(lost: str, workers: str, place: Path) -> None:
    pytest.importorskip("ray")
    out = f"ray-{lost}"
    args = ("batch", "jobs.yaml", *SIZE, "-o", out, "--engine", "ray", "--workers", workers)
    done = subprocess.run(
        [sys.executable, "-c", RAY, lost, *args],
        cwd=place,
        env=environment(RAY_USAGE_STATS_ENABLED="0"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "killed" in done.stderr
    assert results(place / out) == results(place / "quiet")
    assert made(place / out) == made(place / "quiet")
