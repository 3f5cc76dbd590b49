"""Training EGSDE's domain feature extractor D: a classifier of noised pictures (Zhao et al. 2022, section 3.2).

By cross-entropy on ``x_t = alpha_t x0 + sigma_t eps``; half of every batch is of each domain, so that folders of
different sizes weigh the same. Class 0 is the first folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ilvrctl.training.batches import Noised, noised
from ilvrctl.training.draws import order
from ilvrctl.training.events import Graded, TrainingEvent
from ilvrctl.training.recipe import DomainRecipe
from ilvrctl.training.task import Forward, Task
from ilvrctl.training.validate import by_level

GRADED_LEVELS = 10


class Domains(Task[DomainRecipe]):
    """A network that tells two domains apart at any level."""

    format = "guided-diffusion-classifier"

    def loss(self, forward: Forward, step: int, share: float, mine: slice) -> Tensor:
        """Cross-entropy; with a ``rise`` the highest level rises to T over this share of the training."""
        recipe, batch = self.recipe, self.recipe.batch_size
        counts = (batch - batch // 2, batch // 2)
        parts = [
            pixels[order(recipe.seed + n, step, count, len(pixels))]
            for n, (pixels, count) in enumerate(zip(self.pixels, counts, strict=True))
        ]
        rise = min(1.0, (share + batch / recipe.images) / recipe.rise) if recipe.rise else 1.0
        random = self.draw(step)
        random = replace(random, t=(random.t * rise).long())
        b = noised(torch.cat(parts)[mine], random, mine, recipe.flip, self.levels)
        label = torch.tensor([0] * counts[0] + [1] * counts[1], device=b.t.device)[mine]
        return F.cross_entropy(forward(b.x_t, b.t.float() * self.start.time_scale), label)

    def verdict_on(self, network: nn.Module, images: int) -> Iterator[TrainingEvent]:
        """Share of held-out pictures told right, each domain weighing the same."""
        batch, scale = self.recipe.batch_size, self.start.time_scale
        by_domain = []
        for label, pixels in enumerate(self.held_out):

            def right(out: Tensor, _: Noised, label: int = label) -> Tensor:
                return (out.argmax(1) == label).float()

            by_domain.append(by_level(network, pixels, self.levels, scale, batch, GRADED_LEVELS, right))
        found = tuple((t, (a + b) / 2) for (t, a), (_, b) in zip(*by_domain, strict=True))
        yield Graded(images, sum(share for _, share in found) / len(found), found)

    def model_facts(self) -> dict[str, Any]:
        """Of an auxiliary network."""
        first, second = (folder.resolve().name for folder in self.job.folders)
        return {
            "title": self.recipe.title or f"domain classifier, {self.recipe.size} px: {first} or {second}",
            "domain": f"auxiliary: {first} or {second}",
            **self.start.facts,
            "notes": f"for EGSDE's energy of domains; class 0 is {first}",
        }
