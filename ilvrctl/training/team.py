"""Several processes on one model, as torchrun starts them; a single process is a team of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ilvrctl.errors import UsageError

PATIENCE = timedelta(hours=6)  # how long the others wait while the first decodes pictures or draws a sheet


@dataclass(frozen=True)
class Team:
    """This process's ``rank`` among ``size``; ``local_rank`` on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and tells."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """This process's part of a batch. UsageError when it cannot be divided evenly."""
        if batch % self.size:
            raise UsageError(
                f"a batch of {batch} cannot be shared by {self.size} processes",
                f"--batch-size {max(1, round(batch / self.size)) * self.size}",
            )
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def agree(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """The first process's ``values``, for all."""
        if self.size == 1:
            return values
        shared = torch.tensor([float(value) for value in values], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return tuple(shared.tolist())

    def any(self, mine: bool) -> bool:
        """Whether it holds in one of the processes."""
        if self.size == 1:
            return mine
        found = torch.tensor([float(mine)])
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found.item())

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()

    def together(self, network: nn.Module, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """``network``, its gradients averaged over the processes."""
        if self.size == 1:
            return network
        ids = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)


@contextmanager
def team() -> Iterator[Team]:
    """The team that torchrun's variables in the environment name; left at the end."""
    if "LOCAL_RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Team()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Team(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()
