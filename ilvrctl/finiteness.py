"""Which samples of a batch are lost, and since when, found without making the device wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ilvrctl.devices import pins
from ilvrctl.errors import NonFiniteError

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.diffusion.schedule import Step

EVERY = 10
"""Steps between two looks at whether anything of a batch is left."""


class Finiteness:
    """The first step at which each sample of a batch was NaN or infinite.

    All is kept on the device. Every :data:`EVERY` steps it tells the host, in pinned memory and without a wait,
    whether all are lost; the host looks at what has arrived by then, which at worst is old. Devices that have no such
    memory are asked at the end alone.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self._first = torch.full((count,), -1, device=device)
        self._device = device
        self._told = torch.zeros((), dtype=torch.bool, pin_memory=pins(device))

    def all_lost(self, x: Tensor, i: int) -> bool:
        """Whether no sample is left, as far as is known; x (B, C, H, W): the samples after step ``i``, from 0."""
        lost = ~x.isfinite().flatten(1).all(1)
        self._first = torch.where((self._first < 0) & lost, i, self._first)
        if i % EVERY or not (pins(self._device) or self._device.type == "cpu"):
            return False
        self._told.copy_((self._first >= 0).all(), non_blocking=True)
        return bool(self._told)

    def first(self) -> list[int]:
        """For each sample the first step at which it was lost; -1 for one that is finite. Waits for the device."""
        found: list[int] = self._first.cpu().tolist()
        return found


def lost_at(k: Step, precision: str) -> NonFiniteError:
    """The error of a sample that was lost at step k."""
    return NonFiniteError(
        f"the sample became NaN or infinite at step {k.i + 1} of {k.n} (level {k.t}) in {precision}",
        hint="--precision fp32"
        if precision != "fp32"
        else "ilvrctl inspect FILE: are heads and schedule right?",
    )
