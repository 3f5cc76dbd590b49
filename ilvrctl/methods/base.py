"""The seam between a paper and the sampling loop: a frozen dataclass with hooks that do nothing by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.diffusion.denoiser import Prediction
    from ilvrctl.diffusion.noise import Noise
    from ilvrctl.diffusion.schedule import Schedule, Step


@dataclass(frozen=True)
class Context:
    """What a method may use: the reference y (B, 3, H, W) in [-1, 1], the levels, and the batch's noise.

    ``stochastic`` tells whether the sampler adds fresh noise at every step.
    """

    reference: Tensor
    schedule: Schedule
    noise: Noise
    stochastic: bool = True

    def reference_at(self, t: int, eps: Tensor) -> Tensor:
        """The reference noised to level t with the given eps: ``alpha_t y + sigma_t eps``."""
        alpha_t, sigma_t = self.schedule.level(t)
        return alpha_t * self.reference + sigma_t * eps


@dataclass(frozen=True)
class Method:
    """No steering at all: plain unconditional sampling. A paper's method overrides what it changes."""

    name: ClassVar[str] = "plain"

    def check(self, size: int, steps: Sequence[Step], T: int) -> None:
        """Raise UsageError when the settings cannot work for pictures of this size and this chain of T levels."""

    def begin(self, context: Context, levels: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        """The first sample and the levels to walk; plain noise and all of them unless overridden."""
        return context.noise(), levels

    def project(self, context: Context, x: Tensor, prediction: Prediction, k: Step) -> Tensor:
        """The sample after the step k, x = x_s, moved to where the method wants it."""
        return x

    def preview(self, reference: Tensor) -> Tensor | None:
        """What the method takes from the reference, as a picture for people; None when there is no such thing."""
        return None

    def describe(self) -> str:
        """The settings in a few words, for captions and plans."""
        return self.name

    def preview_title(self) -> str:
        """What :meth:`preview` shows, for the head of a column."""
        return ""
