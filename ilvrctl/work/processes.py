"""A fleet of processes on this machine, one a device."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from ilvrctl.errors import DeviceError, IlvrctlError, stage
from ilvrctl.events import BatchStarted, StepDone

if TYPE_CHECKING:
    from ilvrctl.plans.grid import Variant
    from ilvrctl.plans.plan import Networks
    from ilvrctl.work.batches import Batch
    from ilvrctl.work.worker import Worker
    from ilvrctl.work.workers import Message


@dataclass(frozen=True)
class Place:
    """Where a worker loads networks: in batches of what size, compiled or not, with how many CPU threads.

    ``decided``: whether a person said if they are compiled. What jobs ask for counts where nothing is said.
    """

    device: str = "auto"
    batch_size: int | None = None
    compiled: bool = False
    threads: int = 1
    decided: bool = False

    def worker(self, networks: Networks, variants: Sequence[Variant]) -> Worker:
        """A worker with the networks, seen to be able to do all variants."""
        import torch

        from ilvrctl.work.worker import Worker

        torch.set_num_threads(self.threads)
        asked = networks.where
        device = self.device if self.device != "auto" else asked.device or "auto"
        size = self.batch_size or (None if asked.batch_size is None else int(asked.batch_size))
        compiled = self.compiled if self.decided or asked.compiled is None else asked.compiled
        with stage("loading", networks.model.name):
            engine = networks.load(device=device, batch_size=size, compiled=compiled)
            worker = Worker(engine)
            worker.check(variants)
        return worker


def results(worker: Worker, batch: Batch, wanted: Callable[[], bool] = lambda: True) -> list[Any]:
    """What a batch came to as long as it is ``wanted``, without what only tells how far it is."""
    events = takewhile(lambda _: wanted(), worker.perform(batch))
    return [event for event in events if not isinstance(event, (BatchStarted, StepDone))]


class Processes:
    """Workers in processes that are started afresh, one for each of ``machines``."""

    def __init__(self, machines: Sequence[Place]) -> None:
        self._machines = machines
        self._workers: dict[int, tuple[BaseProcess, Connection]] = {}

    def start(self, networks: Networks, variants: Sequence[Variant]) -> None:
        """Start the processes; each tells when its networks are loaded."""
        self.stop()
        context = get_context("spawn")
        for number, machine in enumerate(self._machines):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, machine, networks, variants), daemon=True)
            process.start()
            there.close()
            self._workers[number] = process, here

    def send(self, worker: int, batch: Batch) -> None:
        """Give a worker another batch; one that is gone is told of by :meth:`receive`."""
        try:
            self._workers[worker][1].send(batch)
        except OSError:
            return

    def receive(self, seconds: float) -> list[Message]:
        """Wait for a message of any worker, for so long. DeviceError when none is left."""
        if not self._workers:
            raise DeviceError("all workers were lost", hint="run the same command again, with -v")
        told = wait([connection for _, connection in self._workers.values()], seconds)
        return [self._told(n) for n, (_, connection) in list(self._workers.items()) if connection in told]

    def _told(self, number: int) -> Message:
        process, connection = self._workers[number]
        try:
            what, rest = connection.recv()
        except (EOFError, OSError):
            del self._workers[number]
            process.join()
            return number, "lost", f"exit code {process.exitcode}"
        return number, what, rest

    def stop(self) -> None:
        """End all processes. They write nothing, so that nothing is lost with them."""
        for process, connection in self._workers.values():
            process.kill()
            process.join()
            connection.close()
        self._workers = {}


def _serve(connection: Connection, machine: Place, networks: Networks, variants: Sequence[Variant]) -> None:
    """The life of a worker. Ctrl-C, a terminal that is closed and the end of a job on a cluster meet every process
    of a run; they are for the driver, which saves what is made and ends the workers.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        worker = machine.worker(networks, variants)
        connection.send(("ready", worker.facts()))
        gone = threading.Event()
        batches = _batches(connection, gone)
        while (batch := batches.get()) is not None:
            connection.send(("done", results(worker, batch, lambda: not gone.is_set())))
    except IlvrctlError as error:
        connection.send(("error", error))
    except OSError:
        return  # the driver has gone


def _batches(connection: Connection, gone: threading.Event) -> queue.Queue[Batch | None]:
    """Batches as they come, taken by a thread so that the driver never waits for a worker that is busy.

    None, and ``gone`` is set, when the driver has gone.
    """
    found: queue.Queue[Batch | None] = queue.Queue()

    def take() -> None:
        try:
            while True:
                found.put(connection.recv())
        except (EOFError, OSError):
            gone.set()
            found.put(None)

    threading.Thread(target=take, daemon=True).start()
    return found
