"""What the one training loop asks of that which is trained, a denoiser or a classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor, nn

from ilvrctl.events import Warned
from ilvrctl.training.batches import mapped
from ilvrctl.training.draws import Draw, draw
from ilvrctl.training.events import TrainingEvent
from ilvrctl.training.job import Data, Job
from ilvrctl.training.loss import Levels
from ilvrctl.training.start import R, Start

Forward = Callable[[Tensor, Tensor], Tensor]


class Task(ABC, Generic[R]):
    """One kind of training: its loss, what it is judged by, and what its presets say.

    ``format`` is the published one of its weights. ``pixels`` and ``held_out``: the pictures of each folder, (N, H,
    W, C) uint8, to learn from and kept aside.
    """

    format: str

    def __init__(self, job: Job, start: Start[R], device: torch.device) -> None:
        self.job = job
        self.start = start
        self.recipe: R = start.recipe
        self.levels = Levels.of(self.recipe.schedule, self.recipe, device)
        self.pixels: tuple[Tensor, ...] = ()
        self.held_out: tuple[Tensor, ...] = ()

    def remarks(self) -> Iterator[Warned]:
        """What people should know before anything is read."""
        yield from map(Warned, self.start.remarks)

    def take(self, data: tuple[Data, ...]) -> None:
        """Map the pictures."""
        self.pixels = tuple(mapped(part.pictures)[list(part.train)] for part in data)
        self.held_out = tuple(mapped(part.validation)[list(part.held_out)] for part in data)

    @property
    def teacher_digest(self) -> str:
        """What stands for other weights that it learns from."""
        return ""

    @abstractmethod
    def loss(self, forward: Forward, step: int, share: float, mine: slice) -> Tensor:
        """The mean loss of the part ``mine`` of the batch number ``step``, when ``share`` of the whole is done."""

    @abstractmethod
    def verdict_on(self, network: nn.Module, images: int) -> Iterator[TrainingEvent]:
        """What the averaged ``network`` is worth on the pictures kept aside, if there are any."""

    @abstractmethod
    def model_facts(self) -> dict[str, Any]:
        """The model preset: what the tensors do not tell."""

    def target_facts(self) -> dict[str, Any] | None:
        """The target preset, if it is one."""
        return None

    def draw_sheet(self, weights: Path, picture: Path, images: int) -> bool:
        """Show on a ``picture`` how far it is; False where there is nothing to show."""
        return False

    def draw(self, step: int) -> Draw:
        """The random part of a step."""
        recipe, alpha = self.recipe, self.levels.alpha
        return draw(
            recipe.seed,
            step,
            recipe.batch_size,
            recipe.size,
            len(alpha),
            recipe.shift,
            alpha.device,
            recipe.lower,
            recipe.channels,
        )
