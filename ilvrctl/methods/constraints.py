"""Constraints: where every sample of the range is moved to. They hold what the reference gives, and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from ilvrctl.diffusion.lowpass import Kernel, LowPass, check_factor
from ilvrctl.errors import UsageError
from ilvrctl.fields import LATER, Between
from ilvrctl.methods.base import Context
from ilvrctl.methods.blocks import Grid, Statistics, block_adain, block_means, check_blocks, join, tangent
from ilvrctl.methods.levels import Level, level_of, mistake
from ilvrctl.sizes import Size

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.diffusion.denoiser import Prediction
    from ilvrctl.diffusion.schedule import Step

StepEnd = Literal["s", "t"]
Filter = tuple[tuple[int, int], Kernel]
"""A low-pass filter: its factors down and across, and its kernel."""


@dataclass(frozen=True)
class Constraint:
    """What all constraints share; as it stands no sample is moved and every direction is free.

    ``acts``: whether it holds anything. ``has_blocks``: whether a merge per block can take its blocks.
    """

    name: ClassVar[str] = ""
    acts: ClassVar[bool] = True
    has_blocks: ClassVar[bool] = False

    @property
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of."""
        return 1

    @property
    def published_level(self) -> bool:
        """Whether the reference is noised one level too high, as the published code of ILVR does."""
        return False

    def count(self, x: Tensor) -> Grid | None:
        """Blocks of pictures x (..., H, W); None without blocks."""
        return None

    def check(self, size: Size) -> None:
        """UsageError when it cannot work for pictures of this size."""

    def seen(self, size: Size) -> Filter | None:
        """The filter that a reference of this size is seen through, if any."""
        return None

    def retract(self, context: Context, x: Tensor, t: int) -> Tensor:
        """x = x_t (B, 3, H, W) on the manifold of level t."""
        return x

    def tangent(self, context: Context, x: Tensor, v: Tensor, t: int) -> Tensor:
        """The part of v (B, 3, H, W) that is free at x = x_t."""
        return v

    def project(self, context: Context, x: Tensor, prediction: Prediction, k: Step) -> Tensor:
        """x = x_s, the sample after step k, where the constraint wants it."""
        return x

    def preview(self, reference: Tensor) -> Tensor | None:
        """What is taken from the reference (3, H, W), as a picture for people; None when there is no such thing."""
        return None

    def describe(self) -> str:
        """The settings in a few words."""
        return ""

    def preview_title(self) -> str:
        """What :meth:`preview` shows, for the head of a column."""
        return ""


@dataclass(frozen=True)
class Unconstrained(Constraint):
    """No constraint."""

    name: ClassVar[str] = "none"
    acts: ClassVar[bool] = False


@dataclass(frozen=True)
class LowPassConstraint(Constraint):
    """ILVR: the low frequencies of every sample are those of the noised reference (Algorithm 1).

        ``x_s = x'_s + phi_N(y_s - x'_s)``,   ``x'_s ~ p(. | x_t)``,   ``y_s ~ q(. | y)``

    ``N``: the factor of phi; small stays close to the reference, large takes over only its colours and layout.
    ``N_above``: other factors at high levels, ``[[0.5, 8]]`` is N = 8 from half of the levels up and ``N`` below;
    of several, the one of the highest level that is reached. Levels as in the method's ``range``.
    ``kernel``: of phi, ``cubic`` as published; also ``linear``, ``box``, ``lanczos3``, ``gaussian``.
    ``reference_level``: the reference is noised to ``s``, the level of the sample, as in the paper; the published
    code (``compat: ilvr_adm``) noises it to ``t``, one level too high, which lowers its contrast by 0.2 % at 1000
    steps, 2.1 % at 100 and 9.4 % at 25.
    ``noise`` in y_s: ``fresh`` as published, or the ``network``'s own eps, which is the refinement of the clean
    estimate ``x0 + phi(y - x0)`` with eps *kept* (with eps recomputed to fit x_t, the usual way, the change of x0
    would be taken back from the noise, which then no longer has unit variance, and the picture stays noisy).
    ``auto``: fresh under samplers that add noise themselves, and where ``start`` is below 1. Under the others (ddim
    with eta = 0, dpmpp_2m) the high frequencies are those of the first noise, carried along a path that new low
    frequencies break at every step; where that path begins with pure noise the network's eps keeps it, where it
    begins with the noised reference there is little to break. Measured with earlier weights (65 pictures, ddim,
    N = 4): at 20 steps from 1.0 the feature distance to the truth is 86 fresh and 58 with the network's eps, at 10
    calls from 0.5 it is 37 and 60.
    """

    name: ClassVar[str] = "low_pass"
    N: Annotated[int, Between(1)] = 8
    kernel: Kernel = "cubic"
    reference_level: StepEnd = "s"
    noise: Literal["auto", "fresh", "network"] = "auto"
    N_above: tuple[tuple[Level, Annotated[int, Between(1)]], ...] = field(default=(), metadata=LATER)

    @property
    def phi(self) -> LowPass:
        return LowPass(self.N, self.kernel)

    def phi_at(self, t: int, T: int) -> LowPass:
        """phi for samples of level t, of T."""
        reached = [(level_of(level, T), N) for level, N in self.N_above if t >= level_of(level, T)]
        return LowPass(max(reached)[1], self.kernel) if reached else self.phi

    @property
    def multiple(self) -> int:
        return math.lcm(self.N, *(N for _, N in self.N_above))

    @property
    def published_level(self) -> bool:
        return self.reference_level == "t"

    def check(self, size: Size) -> None:
        for N in (self.N, *(N for _, N in self.N_above)):
            check_factor(N, size)
        for level, _ in self.N_above:
            if wrong := mistake(level):
                raise UsageError(
                    f"N_above: {wrong}", hint="--set N_above=[[0.5,8]]: N = 8 from half of the levels up"
                )

    def seen(self, size: Size) -> Filter:
        return (self.N, self.N), self.kernel

    def retract(self, context: Context, x: Tensor, t: int) -> Tensor:
        """Plain noise, as published: at the highest level nothing of the reference is left."""
        return x

    def tangent(self, context: Context, x: Tensor, v: Tensor, t: int) -> Tensor:
        """The part of v that phi does not hold: ``v - phi(v)``."""
        return v - self.phi_at(t, context.schedule.T)(v)

    def project(self, context: Context, x: Tensor, prediction: Prediction, k: Step) -> Tensor:
        """``x + phi(y_s - x)``: phi is linear, so one application does."""
        y_s = noised_reference(context, prediction, k, self.reference_level, self.noise)
        return x + self.phi_at(k.s, context.schedule.T)(y_s - x)

    def preview(self, reference: Tensor) -> Tensor | None:
        return self.phi(reference)

    def describe(self) -> str:
        kernel = "" if self.kernel == "cubic" else f", {self.kernel}"
        noise = "" if self.noise == "auto" else f", {self.noise} noise"
        above = "".join(f", {N} from level {level} up" for level, N in self.N_above)
        return f"N={self.N}{above}{kernel}{noise}" + (
            ", reference at t" if self.reference_level == "t" else ""
        )

    def preview_title(self) -> str:
        return f"low-pass N={self.N}"


@dataclass(frozen=True)
class BlockStatistics(Constraint):
    """SDDM: the statistics of every block are those of the noised reference (section 3.2), by block AdaIN.

    ``blocks`` a side: 16, blocks of 16 px at 256 px; few leave much free. ``size``: of the blocks in pixels, in the
    place of ``blocks``. ``order`` 1 holds the means alone: with blocks of N pixels that is ILVR with a box kernel
    of factor N. ``reference``: statistics that are ``expected`` at the level (mu_t and s_t, as published) or those
    of a
    ``drawn`` noised reference, as ILVR does; ``auto`` draws for order 1.
    """

    name: ClassVar[str] = "block_statistics"
    has_blocks: ClassVar[bool] = True
    blocks: Annotated[int, Between(1)] = 16
    size: Annotated[int, Between(1)] | None = None
    order: Literal[1, 2] = 2
    reference: Literal["auto", "expected", "drawn"] = "auto"

    @property
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of, for blocks of 2 px and more."""
        return 2 * self.blocks if self.size is None else self.size

    def count(self, x: Tensor) -> Grid:
        H, W = x.shape[-2:]
        return self.blocks if self.size is None else (H // self.size, W // self.size)

    def check(self, size: Size) -> None:
        if self.size is None:
            check_blocks(self.blocks, size)
            return
        check_factor(self.size, size)
        if self.size == 1 < size.longest:
            raise UsageError("blocks of 1 pixel have no statistics", hint="method.constraint.size from 2 up")

    def seen(self, size: Size) -> Filter:
        """The means of the blocks, as a filter."""
        width, height = size
        own = self.size
        return (own or height // self.blocks, own or width // self.blocks), "box"

    def retract(self, context: Context, x: Tensor, t: int) -> Tensor:
        """Noise mapped onto the manifold of level t, as in the paper's text."""
        return self.moved(x, self.expected(context, t))

    def expected(self, context: Context, t: int) -> Statistics:
        """mu_t and s_t."""
        return context.statistics(self.count(context.reference)).at(*context.schedule.level(t))

    def moved(self, x: Tensor, asked: Statistics) -> Tensor:
        return block_adain(x, asked) if self.order == 2 else block_means(x, asked)

    def tangent(self, context: Context, x: Tensor, v: Tensor, t: int) -> Tensor:
        """The part of v along the manifold of level t at x."""
        return tangent(x, v, self.expected(context, t).mean, self.order)

    def project(self, context: Context, x: Tensor, prediction: Prediction, k: Step) -> Tensor:
        """x on the manifold of level s."""
        if self.reference == "drawn" or (self.reference == "auto" and self.order == 1):
            drawn = noised_reference(context, prediction, k)
            return self.moved(x, Statistics.of(drawn, self.count(x)))
        return self.moved(x, self.expected(context, k.s))

    def preview(self, reference: Tensor) -> Tensor | None:
        import torch

        mean = Statistics.of(reference[None], self.count(reference)).mean
        down, across = mean.shape[2:4]
        H, W = reference.shape[-2:]
        size = H // down, W // across
        return join(mean.expand(*mean.shape[:4], *size).contiguous())[0].to(torch.float32)

    def describe(self) -> str:
        blocks = f"{self.blocks}x{self.blocks} blocks" if self.size is None else f"blocks of {self.size} px"
        reference = "" if self.reference == "auto" else f", {self.reference}"
        return blocks + (", means only" if self.order == 1 else "") + reference

    def preview_title(self) -> str:
        return f"means, {self.describe()}"


CONSTRAINTS: dict[str, type[Constraint]] = {
    "none": Unconstrained,
    "low_pass": LowPassConstraint,
    "block_statistics": BlockStatistics,
}


def noised_reference(
    context: Context,
    prediction: Prediction,
    k: Step,
    level: StepEnd = "s",
    noise: Literal["auto", "fresh", "network"] = "auto",
) -> Tensor:
    """The reference at the level of the new sample, its noise drawn or the network's."""
    fresh = context.fresh_noise if noise == "auto" else noise == "fresh"
    eps = context.noise() if fresh else prediction.eps
    return context.reference_at(k.s if level == "s" else k.t, eps)
