"""A fleet of Ray actors, on one machine or a cluster.

The driver sends pictures, so that no files are shared but the weights, which must be at the same place on every
node.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any

from ilvrctl.errors import DeviceError, IlvrctlError, UsageError, item_error
from ilvrctl.work.processes import Place, results

if TYPE_CHECKING:
    from ilvrctl.plans.grid import Variant
    from ilvrctl.plans.plan import Networks
    from ilvrctl.work.batches import Batch
    from ilvrctl.work.worker import Facts, Worker
    from ilvrctl.work.workers import Message


CONNECT = 30.0
"""Seconds in which a cluster that runs somewhere must take us in; Ray itself would try for minutes."""


class Actor:
    """What a Ray actor holds: a worker with the networks. An error that a person can act on is given back."""

    def __init__(self, machine: Place, networks: Networks, variants: Sequence[Variant]) -> None:
        self._wanted = machine, networks, variants
        self._worker: Worker | None = None

    def begin(self) -> Facts | IlvrctlError:
        """Load the networks."""
        machine, networks, variants = self._wanted
        try:
            self._worker = machine.worker(networks, variants)
            return self._worker.facts()
        except IlvrctlError as error:
            return error

    def perform(self, batch: Batch) -> list[Any] | IlvrctlError:
        """What the batch came to."""
        assert self._worker is not None
        try:
            return results(self._worker, batch)
        except IlvrctlError as error:
            return error


class Cluster:
    """Actors on the Ray cluster at ``address`` (None: that of the environment, else one on this machine).

    ``count``: how many, by default one a GPU of the cluster, one a CPU where it has no GPUs. A lost actor is
    replaced where the cluster has room. UsageError when Ray is not installed, DeviceError when no cluster answers.
    """

    def __init__(self, machine: Place, address: str | None = None, count: int | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise UsageError("--engine ray needs Ray", hint="pip install 'ilvrctl[ray]'") from error
        self._ray: Any = ray
        if not ray.is_initialized():
            _connect(ray, address)
        have = ray.cluster_resources()
        self._gpus = int(have.get("GPU", 0))
        self._count = count or self._gpus or max(1, int(have.get("CPU", 1)))
        self._machine = (
            replace(machine, device="cuda") if self._gpus and machine.device == "auto" else machine
        )
        self._actors: dict[int, Any] = {}
        self._waiting: dict[Any, tuple[int, str]] = {}
        self._number = 0

    def start(self, networks: Networks, variants: Sequence[Variant]) -> None:
        """Ask for the actors; each tells when it is ready."""
        self._end()
        self._wanted = networks, variants
        for _ in range(self._count):
            self._hire()

    def _hire(self) -> None:
        kind = self._ray.remote(Actor).options(num_cpus=1, num_gpus=1 if self._gpus else 0, max_restarts=0)
        actor = kind.remote(self._machine, *self._wanted)
        self._number += 1
        self._actors[self._number] = actor
        self._waiting[actor.begin.remote()] = self._number, "ready"

    def send(self, worker: int, batch: Batch) -> None:
        """Give an actor another batch."""
        if worker in self._actors:
            self._waiting[self._actors[worker].perform.remote(batch)] = worker, "done"

    def receive(self, seconds: float) -> list[Message]:
        """Wait for an actor that has something to tell, or is lost, for so long."""
        told, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=seconds)
        return [self._told(ref) for ref in told]

    def _told(self, ref: Any) -> Message:
        """An error that the code of an actor raised ends the run; any other of Ray means that the actor is lost."""
        worker, what = self._waiting.pop(ref)
        try:
            value = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            return worker, "error", item_error(error, "working", "a worker")
        except self._ray.exceptions.RayError as error:
            return self._lost(worker, type(error).__name__)
        return worker, "error" if isinstance(value, IlvrctlError) else what, value

    def _lost(self, worker: int, reason: str) -> Message:
        if worker in self._actors:
            self._ray.kill(self._actors.pop(worker))
        self._waiting = {ref: told for ref, told in self._waiting.items() if told[0] != worker}
        self._hire()
        return worker, "lost", reason

    def stop(self) -> None:
        """End the actors, and leave the cluster."""
        self._end()
        self._ray.shutdown()

    def _end(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors, self._waiting = {}, {}


@contextmanager
def _unheard() -> Iterator[None]:
    """Processes that the block starts never hear of a terminal that is closed; this one does, when it is over.

    Ray itself sees to Ctrl-C. SIGTERM must reach its processes: that is how they are ended.
    """
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _connect(ray: Any, address: str | None) -> None:
    """Join the cluster, or begin one on this machine. DeviceError when it cannot be joined, or does not answer."""
    named = address or os.environ.get("RAY_ADDRESS")
    hint = f"ray status --address {named}; on the head node: ray start --head" if named else "ilvrctl doctor"
    joined: Future[None] = Future()

    def join() -> None:
        try:
            ray.init(address=named or "local", log_to_driver=False, logging_level="ERROR")
            joined.set_result(None)
        except BaseException as error:  # Ray leaves by SystemExit where a cluster does not answer
            joined.set_exception(error)

    if named:
        Thread(target=join, name="join", daemon=True).start()
    else:
        with _unheard():
            join()  # in this thread: the processes of a cluster of one's own end with the thread that began them
    try:
        joined.result(CONNECT)
    except TimeoutError as error:
        raise DeviceError(f"no Ray cluster answers at {named}: waited {CONNECT:.0f} s", hint) from error
    except (Exception, SystemExit) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DeviceError(f"the Ray cluster cannot be joined: {reason}", hint) from error
