"""A whole training, from its folders to its presets: what the command line and a notebook call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from typing import Any, TypeVar

from ilvrctl import paths
from ilvrctl.files import make_folder
from ilvrctl.training.disk import alone
from ilvrctl.training.events import TrainingEvent, logged
from ilvrctl.training.job import Job, Reading, forget, read_data
from ilvrctl.training.loop import train
from ilvrctl.training.team import Team, team

T = TypeVar("T")


def run(
    job: Job, stop: Callable[[], bool] = lambda: False, *, overwrite: bool = False
) -> Iterator[TrainingEvent]:
    """Everything that happens, logged in the run's folder, which is locked; of a team only the first process tells.

    Training ends at the job's limits, or saved when ``stop`` says so; the same job goes on from there, unless
    ``overwrite`` says to begin again. Errors as :func:`~ilvrctl.training.loop.train`, and UsageError when another
    training has the folder or the name.
    """
    with team() as members, ExitStack() as held:
        if not members.leads:
            yield from _silent(train(job, members, _in_turn(job, members), stop))
            return
        name = sha256(f"{paths.weights_dir()}:{job.name}".encode()).hexdigest()[:32]
        for path, what in (
            (make_folder(job.run) / ".lock", f"writes into {job.run}"),
            (paths.cache_dir() / "training" / f"name-{name}.lock", f"makes {job.name}"),
        ):
            held.enter_context(
                alone(path, f"another training {what}", "wait for its end, or give another --name and --out")
            )
        if overwrite:
            forget(job)
        yield from logged(train(job, members, _in_turn(job, members), stop), job.run / "log.jsonl")


def _in_turn(job: Job, members: Team) -> Reading:
    """The pictures, decoded by the first process of a team and then found by the others."""
    if members.leads:
        data = yield from read_data(job)
        members.wait()
        return data
    members.wait()
    return (yield from read_data(job))


def _silent(events: Iterator[Any]) -> Iterator[Any]:
    """All of ``events`` happens, and none is told."""
    for _ in events:
        pass
    yield from ()
