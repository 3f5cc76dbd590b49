"""A team of Ray actors, on one machine or a cluster. The driver sends pictures, so that no files are shared but the
weights, which must be at the same place on every node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ilvrctl.errors import IlvrctlError, UsageError
from ilvrctl.work.processes import Machine, results

if TYPE_CHECKING:
    from ilvrctl.plans.grid import Variant
    from ilvrctl.plans.plan import Networks
    from ilvrctl.work.batches import Order
    from ilvrctl.work.worker import Facts
    from ilvrctl.work.workers import Message


class Actor:
    """What a Ray actor holds: a bench with the networks."""

    def __init__(self, machine: Machine, networks: Networks, variants: Sequence[Variant]) -> None:
        self._wanted = machine, networks, variants

    def begin(self) -> Facts | IlvrctlError:
        """Load the networks; an error that a person can act on is given back."""
        machine, networks, variants = self._wanted
        try:
            self._bench = machine.bench(networks, variants)
        except IlvrctlError as error:
            return IlvrctlError(error.message, error.hint)
        return self._bench.facts()

    def perform(self, order: Order) -> list[Any] | IlvrctlError:
        """What the order came to."""
        try:
            return results(self._bench, order)
        except IlvrctlError as error:
            return IlvrctlError(error.message, error.hint)


class Cluster:
    """Actors on the Ray cluster at ``address`` (None: that of the environment, else one on this machine).

    ``count``: how many, by default one a GPU of the cluster, one a CPU where it has no GPUs. A lost actor is
    replaced where the cluster has room. UsageError when Ray is not installed.
    """

    def __init__(self, machine: Machine, address: str | None = None, count: int | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise UsageError("--engine ray needs Ray", hint="pip install 'ilvrctl[ray]'") from error
        self._ray: Any = ray
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
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

    def send(self, worker: int, order: Order) -> None:
        """Give an actor another order."""
        if worker in self._actors:
            self._waiting[self._actors[worker].perform.remote(order)] = worker, "done"

    def receive(self) -> list[Message]:
        """Wait for an actor that has something to tell, or is lost."""
        [ref], _ = self._ray.wait(list(self._waiting), num_returns=1)
        worker, what = self._waiting.pop(ref)
        try:
            value = self._ray.get(ref)
        except self._ray.exceptions.RayActorError as error:
            return [self._lost(worker, type(error).__name__)]
        return [(worker, "error" if isinstance(value, IlvrctlError) else what, value)]

    def _lost(self, worker: int, reason: str) -> Message:
        self._actors.pop(worker, None)
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
