"""A frozen network whose clean estimate is learned instead of the picture, below a level.

Its estimate is the mean of all pictures that could be under the noise, which is what the student has to learn; a
single picture is only a sample of them. So a good teacher teaches faster than pictures, and up to its own errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ilvrctl.errors import UsageError
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.files.loading import load_network
from ilvrctl.training.batches import Noised
from ilvrctl.training.loss import Lesson, Levels, weights
from ilvrctl.training.recipe import Recipe
from ilvrctl.training.start import check_channels, find_network, fingerprint, schedule_of, time_scale

MOST = 25.0
"""Where the teacher teaches, the weight is cut above this, not the recipe's gamma: an estimate has no noise."""


@dataclass(frozen=True)
class Teacher:
    """``network(x_t, t)`` teaches below the level ``below`` before step ``steps``; ``weight`` (T,) counts there.

    ``levels`` are those of the teacher's own prediction, on the student's schedule.
    """

    network: nn.Module
    levels: Levels
    weight: Tensor
    below: int
    steps: float = math.inf
    time_scale: float = 1.0
    digest: str = ""

    @torch.no_grad()
    def lesson(self, batch: Noised, step: int, weight: Tensor) -> Lesson | None:
        """What the batch teaches at ``step``; ``weight`` (T,) counts from the level ``below`` on."""
        if step >= self.steps:
            return None
        taught = batch.t < self.below
        at, t = taught.nonzero()[:, 0], batch.t[taught]
        x0, eps = batch.x0.clone(), batch.eps.clone()
        if len(t):
            x_t = batch.x_t[at].contiguous(memory_format=torch.channels_last)
            out = self.network(x_t, t.float() * self.time_scale)[:, : x_t.shape[1]].float()
            x0[at] = self.levels.clean(out, x_t, t).clamp(-1, 1)
            eps[at] = self.levels.noise_in(x_t, x0[at], t)
        return Lesson(x0, eps, torch.where(taught, self.weight[batch.t], weight[batch.t]))


def find_teacher(recipe: Recipe, levels: Levels, dtype: torch.dtype) -> Teacher | None:
    """The recipe's teacher, of any prediction; None where it has none. UsageError when its levels are others."""
    if recipe.teacher is None or recipe.teacher_below is None:
        return None
    model, path, _ = find_network(recipe.teacher, Recipe(network=recipe.network))
    if schedule_of(model) != recipe.schedule:
        raise UsageError(
            f"the teacher {model.name} knows {model.diffusion_steps} levels of the {model.noise_schedule} "
            f"schedule, and {recipe.schedule.T} of {recipe.noise_schedule} are learned",
            f"--schedule {model.noise_schedule} --set diffusion_steps={model.diffusion_steps}",
        )
    if model.predicts == "edm" or model.predicts == "unknown":
        raise UsageError(
            f"the teacher {model.name} predicts {model.predicts}; eps, x0 and v can be learned from"
        )
    network = load_network(
        path, HiddenFlags.of(model), dtype=dtype, device=levels.alpha.device, which=model.weights
    )
    check_channels(network.architecture.channels, recipe.channels, path)
    weight = weights(replace(recipe, weighting="min-snr", gamma=MOST), recipe.schedule)
    return Teacher(
        network,
        replace(levels, predicts=model.predicts),
        weight.to(levels.alpha.device),
        recipe.teacher_below,
        math.inf if recipe.teacher_steps is None else recipe.teacher_steps,
        time_scale(model),
        fingerprint(model.name, network),
    )
