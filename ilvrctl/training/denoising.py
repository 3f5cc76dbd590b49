"""Training a denoiser: a target of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ilvrctl.config import Layer, build
from ilvrctl.diffusion.lowpass import usual_factor
from ilvrctl.events import Warned
from ilvrctl.presets import ModelPreset
from ilvrctl.training.batches import Noised, noised
from ilvrctl.training.draws import order
from ilvrctl.training.events import TrainingEvent, Validated
from ilvrctl.training.job import Job
from ilvrctl.training.loss import loss_of
from ilvrctl.training.recipe import Recipe
from ilvrctl.training.start import Start
from ilvrctl.training.task import Forward, Task
from ilvrctl.training.teacher import find_teacher
from ilvrctl.training.validate import by_level

if TYPE_CHECKING:
    from PIL.Image import Image

LEVELS = 8
MOST = 65  # pictures that it is validated with


class Denoising(Task[Recipe]):
    """A network that finds the noise, the picture or the velocity in noised pictures, and perhaps the variance."""

    format = "guided-diffusion"

    def __init__(self, job: Job, start: Start[Recipe], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(job, start, device)
        self.teacher = find_teacher(self.recipe, self.levels, dtype)
        self.references: list[tuple[str, Image]] = []

    def remarks(self) -> Iterator[Warned]:
        """Those of the start, and of references that the sheets cannot show."""
        yield from super().remarks()
        if self.job.references is not None and self.job.sheet_every:
            from ilvrctl.training.samples import read_references

            self.references, failed = read_references(self.job.references, self.recipe.square)
            yield from (Warned(f"not on the sheets: {why}") for why in failed)

    @property
    def teacher_digest(self) -> str:
        """That of the teacher, if it has one."""
        return self.teacher.digest if self.teacher else ""

    def loss(self, forward: Forward, step: int, share: float, mine: slice) -> Tensor:
        """The weighted error of the prediction, and the bound for a variance (:func:`loss_of`)."""
        recipe, (pixels,) = self.recipe, self.pixels
        chosen = pixels[order(recipe.seed, step, recipe.batch_size, len(pixels))[mine]]
        b = noised(chosen, self.draw(step), mine, recipe.flip, self.levels)
        lesson = self.teacher.lesson(b, step, self.levels.weight) if self.teacher else None
        out = forward(b.x_t, b.t.float() * self.start.time_scale)
        return loss_of(out, b.x0, b.x_t, b.eps, b.t, self.levels, recipe.vlb_weight, lesson).mean()

    def verdict_on(self, network: nn.Module, images: int) -> Iterator[TrainingEvent]:
        """Mean of ``(eps - eps_theta)^2``, not weighted, whatever is predicted."""
        (pixels,) = self.held_out
        if not len(pixels):
            return

        def error(out: Tensor, b: Noised) -> Tensor:
            return (self.levels.noise(out[:, : b.x_t.shape[1]], b.x_t, b.t) - b.eps).square().mean((1, 2, 3))

        batch, scale = self.recipe.batch_size, self.start.time_scale
        found = by_level(network, pixels[:MOST], self.levels, scale, batch, LEVELS, error)
        yield Validated(images, sum(loss for _, loss in found) / len(found), tuple(found))

    def model_facts(self) -> dict[str, Any]:
        """Of a target's model."""
        return {
            "title": self.recipe.title or f"{self.job.name}, {self.recipe.size} px, trained here",
            "domain": self.job.name,
            **self.start.facts,
            "predicts": self.recipe.predicts,
            "variance": "fixed_small",
        }

    def target_facts(self) -> dict[str, Any]:
        """Settings in proportion to those measured for the bundled model."""
        N = usual_factor(self.recipe.size)
        return {
            "title": self.recipe.title or f"{self.job.name} (trained here)",
            "settings": {"steps": 100, "method": {"name": "ilvr", "N": N, "range": [1.0, 0.05]}},
        }

    def draw_sheet(self, weights: Path, picture: Path, images: int) -> bool:
        """Samples, and the references translated."""
        from ilvrctl.training.samples import draw_sheet

        preset = build(ModelPreset, Layer({**self.model_facts(), "name": self.job.name}))
        caption = f"{self.job.name} after {images:,} pictures"
        draw_sheet(preset, weights, self.references, picture, caption, str(self.levels.alpha.device))
        return True
