"""One method out of pieces: constraint, energies, merge, start, range, refinement rounds, repeats.

With :class:`BlockStatistics` this is SDDM, with energies and no constraint EGSDE, with a low-pass constraint and no
energies ILVR, with neither SDEdit. At x = x_t, with the mean of p(x_s | x_t) split at its scaled input,

    ``dg = mean - x / sqrt(1 - beta)``,   ``dg = dg_m + dg_o`` along the constraint and across it,
    ``g_j = -weight_j beta / sqrt(1 - beta) grad E_j``, its part along the constraint,
    ``d = merge(dg_m, g_1, g_2, ...)``,   ``mean <- x / sqrt(1 - beta) + d + dg_o = mean + (d - dg_m)``;

then the sampler steps, and the constraint moves the sample (SDDM, Algorithm 1; ``beta`` of the walked chain).
With few steps beta is large: the sum of the shifts over the chain stays the same, its single parts grow. A gradient
of Lipschitz constant L is followed stably while ``weight beta L / sqrt(1 - beta) < 2`` (L = 2 for ``low_pass``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ilvrctl.diffusion.denoiser import Prediction
from ilvrctl.diffusion.resampling import check_resampling, resampled
from ilvrctl.errors import UsageError
from ilvrctl.fields import Between, recorded
from ilvrctl.methods.base import Context, EnergyOf, ancestral_mean, shift_mean, with_mean_of
from ilvrctl.methods.constraints import Constraint, Filter, LowPassConstraint, Unconstrained
from ilvrctl.methods.encoders import NoEncoder, Surprise
from ilvrctl.methods.energies import Energy
from ilvrctl.methods.levels import Level, check_level, check_order, level_of
from ilvrctl.methods.merge import MinNorm, Pair, Sum
from ilvrctl.presets import method_title
from ilvrctl.sizes import AnySize, Size

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from ilvrctl.diffusion.denoiser import Denoise
    from ilvrctl.diffusion.samplers import Ahead, Sampler
    from ilvrctl.diffusion.schedule import Step

MOST_CALLS = 1_000_000
"""Of the network, for one picture: a day and more on the fastest machine."""

ROUNDING = 1e-5
"""Of the length of a vector: what float32 leaves of it where it should be 0 (1e-7 seen, 1e-1 where it is not)."""


@dataclass(frozen=True)
class Memory:
    """What a pass over the chain keeps: ``e``, the noise it began with, the energies bound to the references, and
    what the source's model tells on its way down, if there is one.
    """

    e: Tensor
    energies: Mapping[str, EnergyOf]
    path: Iterator[Surprise] | None = None


@dataclass(frozen=True)
class Method:
    """How the references steer the sampling. As it stands: not at all.

    ``constraint``, ``energies`` by name (in the order of their names, which the rounding of a merge depends on) and
    ``merge``: the pieces. ``encoder``: how a second model, of the references' own kind, gives the noise to begin
    with or to go on with.

    ``start``: where the sampling begins; a whole number is a level, a number with a decimal point a fraction of T.
    1.0 is pure noise; below that the first sample is the noised reference (early start of ILVR, 0.8: CCDF, Chung et
    al., CVPR 2022; SDEdit and EGSDE: 0.5).

    ``range``: samples at levels ``high > s >= low`` are conditioned: constrained, energies merged. Whole numbers
    are original levels, numbers with a decimal point are fractions of T, so ``(1.0, 0.2)`` stops at level 200 of
    1000 however many steps there are. Where the steps are so few that the first one jumps over ``low``, that one is
    conditioned, since the reference would not count otherwise; not under ``compat: ilvr_adm``.
    ``range_t``: the same in respaced steps, as the published flag counts them: the steps with more than
    ``range_t`` steps to go. Takes the place of ``range`` where it is given; -1 conditions the last too.

    ``refinements``: before the last conditioned step the sample is replaced this many times by its guided mean,
    with another call of the network each (SDDM: 4). ``refinement``: ``retracted`` puts it back onto the
    constraint's manifold at t each time and the step then calls the network at the new sample, as the paper's text
    has it;
    ``stale``, the published code (``compat: sddm``), does neither: the step uses the last round's output.
    ``noise_on_manifold``: pure noise is first moved onto the constraint's manifold, as in the text of SDDM; the
    published code starts from plain noise.

    ``resample``: jump and times. The last ``jump`` steps are walked ``times`` times each, with noise added back in
    between, so that what is painted into a masked reference fits its surroundings (RePaint).
    ``repeats``: passes, each begun from the noised output of the last (SDEdit's and EGSDE's K).
    ``reference_noise``: energies see the reference with noise that is ``fresh`` at every step (EGSDE, Algorithm 1),
    or with the one ``fixed`` that the pass began with (the published code, ``compat: egsde``).
    ``guide_last``: energies also shift the step that ends at the clean picture, as the published code does; there
    nothing is left that would smooth what they do, and with few steps its beta is near 1.
    """

    name: str = "plain"
    constraint: Constraint = field(default_factory=Unconstrained)
    energies: Mapping[str, Energy] = field(default_factory=dict)
    merge: Sum | MinNorm | Pair = field(default_factory=Sum)
    encoder: NoEncoder = field(default_factory=NoEncoder)
    start: Level = 1.0
    range: tuple[Level, Level] = (1.0, 0.0)
    range_t: Annotated[int, Between(-1)] | None = None
    refinements: Annotated[int, Between(0)] = 0
    refinement: Literal["retracted", "stale"] = "retracted"
    noise_on_manifold: bool = False
    repeats: Annotated[int, Between(1)] = 1
    resample: tuple[int, int] = (10, 1)
    reference_noise: Literal["fresh", "fixed"] = "fresh"
    guide_last: bool = False

    # --- what is walked ------------------------------------------------------------------------------------

    def levels(self, T: int) -> int:
        """How many of the T levels are walked: those below the start."""
        return max(0, min(round(level_of(self.start, T)), T))

    def conditions(self, k: Step, T: int) -> bool:
        """Whether step k is conditioned, on a schedule of T levels."""
        if self.range_t is not None:
            return k.remaining > self.range_t
        high, low = (level_of(bound, T) for bound in self.range)
        jumps_over = k.i == 0 and k.s < low <= k.t and not self.constraint.published_level
        return low <= k.s < high or jumps_over

    @property
    def multiple(self) -> int:
        """What the sides of a picture of any size must be multiples of."""
        return math.lcm(self.constraint.multiple, *(energy.multiple for energy in self.acting.values()))

    @property
    def two_models(self) -> bool:
        """Whether a model of the references' own kind encodes them."""
        return self.encoder.models == 2

    def rounds(self, steps: Sequence[Step], T: int) -> list[int]:
        """Extra calls of the network before each step."""
        inside = [k.i for k in steps if self.conditions(k, T)]
        return [self.refinements if inside and k.i == inside[-1] else 0 for k in steps]

    def walk(self, steps: Sequence[Step]) -> list[tuple[Step, Step | None]]:
        """The steps of a pass as they are walked, each with the one to go back to after it, if any."""
        return resampled(steps, *self.resample)

    def network_calls(self, steps: Sequence[Step], T: int, sampler: Sampler) -> int:
        """Calls of the denoising networks for one batch."""
        rounds, walk = self.rounds(steps, T), self.walk(steps)
        extra = [rounds[k.i] for k, _ in walk]
        stale = self.refinement == "stale"
        ahead = sum(sampler.calls - 1 for k, _ in walk if k.s >= 0)
        own = self.repeats * (sum(count if stale and count else 1 + count for count in extra) + ahead)
        return own + (self.encoder.models - 1) * len(steps)

    def check_levels(self, T: int) -> None:
        """UsageError for a start or a range that a model of T levels does not have."""
        check_level("start", self.start, T)
        for bound in self.range:
            check_level("range", bound, T)
        check_order("range", self.range, T)

    def check_effort(self, steps: int) -> None:
        """UsageError for more calls than anybody waits for, before a list of them is made."""
        calls = self.repeats * max(1, self.resample[1]) * (steps + self.refinements)
        if calls > MOST_CALLS:
            raise UsageError(
                f"{steps} steps, {self.repeats} times, resampled {self.resample[1]} times, with "
                f"{self.refinements} refinements are over {MOST_CALLS:,} calls of the network for one picture",
                hint="--steps 100 --repeats 1 --resample 10x1 are usual",
            )

    def check(self, size: AnySize, steps: Sequence[Step], T: int) -> None:
        """UsageError when the pieces do not fit the size, or the references would not be used at all."""
        if (self.two_models or self.encoder.given) and self.repeats > 1:
            what = "starts from noise that is given" if self.encoder.given else "encodes once"
            raise UsageError(f"{self.name} {what} and makes one pass", hint="leave out --repeats")
        check_resampling(*self.resample, len(steps))
        if self.two_models and self.resample[1] > 1:
            raise UsageError(f"{self.name} walks its path once", hint="leave out --resample")
        self.constraint.check(Size.of(size))
        for energy in self.acting.values():
            energy.check(Size.of(size))
        anywhere = any(energy.where == "everywhere" for energy in self.acting.values())
        if (
            self.name == "plain"
            or anywhere
            or self.two_models
            or self.encoder.given
            or (not self._needs_range and self.levels(T) < T)
        ):
            return
        if not any(self.conditions(k, T) for k in steps):
            what = f"range_t = {self.range_t}" if self.range_t is not None else f"range {self.range}"
            raise UsageError(
                f"{what} leaves none of the {len(steps)} steps conditioned, so the input would not be used",
                hint="--range-t -1 conditions every step; with more --steps, --range 1.0:0.2 the first 80 %",
            )

    @property
    def _needs_range(self) -> bool:
        """Whether some piece acts in the range alone."""
        return bool(self.acting) or self.constraint.acts

    # --- networks of energies ------------------------------------------------------------------------------

    @property
    def acting(self) -> dict[str, Energy]:
        """The energies with a weight."""
        return {name: energy for name, energy in self.energies.items() if energy.weight != 0}

    def weights(self) -> dict[str, Path]:
        """The files that the energies need, by the energy's name. WeightsError for one that is not here."""
        found = {name: energy.weights() for name, energy in self.acting.items()}
        return {name: path for name, path in found.items() if path is not None}

    def load(self, device: torch.device) -> dict[str, Any]:
        """The networks of the energies, on the device, for :class:`Context`."""
        return {name: energy.load(device) for name, energy in self.acting.items()}

    # --- the hooks of the sampling loop --------------------------------------------------------------------

    def begin(
        self, context: Context, steps: Sequence[Step], sampler: Sampler, x0: Tensor
    ) -> tuple[Tensor, Memory]:
        """The sample at the level of the first step that a pass begins with, and the memory of the pass.

        ``x0`` (B, 3, H, W): the reference, encoded where the encoder climbs, or the output of the pass before.
        """
        e, first = context.noise(), steps[0]
        encoded = self.encoder.begin(context, first, x0, e)
        if encoded is not None:
            x = encoded
        elif self.levels(context.schedule.T) < context.schedule.T:
            x = context.noised(x0, first.t, e)
        else:
            x = self.constraint.retract(context, e, first.t) if self.noise_on_manifold else e
        x = context.kept(x, first.t, e)
        blocks = self.constraint.count(context.reference)
        bound = {
            name: energy.bind(context, context.networks.get(name), blocks)
            for name, energy in self.acting.items()
        }
        return x, Memory(e, bound, self.encoder.path(context, steps, sampler, x))

    def predict(
        self, denoise: Denoise, context: Context, x: Tensor, k: Step, rounds: int, memory: Memory
    ) -> tuple[Tensor, Prediction]:
        """The guided prediction of step k and the sample it belongs to: x, unless rounds of refinement moved it."""
        last: tuple[Tensor, Prediction] | None = None
        for _ in range(rounds):
            last = x, denoise(x, k)
            x = ancestral_mean(self.guide(context, x, last[1], k, memory), x, k)
            if self.refinement == "retracted":
                x = self.constraint.retract(context, x, k.t)
            x = context.kept(x, k.t, memory.e)
        raw = with_mean_of(last, x, k) if last and self.refinement == "stale" else denoise(x, k)
        return x, self.guide(context, x, raw, k, memory)

    def ahead(
        self, denoise: Denoise, context: Context, steps: Sequence[Step], k: Step, memory: Memory
    ) -> Ahead:
        """The guided prediction at the end of step k, for samplers that ask for it: that of the step after it."""

        def predict(x: Tensor) -> Prediction:
            after = steps[k.i + 1]
            return self.guide(context, x, denoise(x, after), after, memory)

        return predict

    def guide(
        self, context: Context, x: Tensor, prediction: Prediction, k: Step, memory: Memory
    ) -> Prediction:
        """The prediction at x = x_t, shifted by what acts at step k. Nothing is computed where nothing acts."""
        inside = self.conditions(k, context.schedule.T)
        acting = {name: e for name, e in self.acting.items() if inside or e.where == "everywhere"}
        if not acting or (k.s < 0 and not self.guide_last):
            return prediction
        mean = ancestral_mean(prediction, x, k)
        root = k.alpha_t / k.alpha_s
        along = self.constraint.tangent(context, x, mean - x / root, k.t) if inside else mean - x / root
        pulls = []
        for name, g in self._gradients(context, x, prediction, k, memory, acting).items():
            part = _without_rounding(self.constraint.tangent(context, x, -g, k.t), g) if inside else -g
            scale = acting[name].strength(prediction, k)
            pulls.append(part * (scale * _length_ratio(along, part) if acting[name].relative else scale))
        if not inside:
            return shift_mean(prediction, x, sum(pulls[1:], start=pulls[0]), k)
        merged = self.merge([along, *pulls], self.constraint.count(x) or 1)
        return shift_mean(prediction, x, merged - along, k)

    def _gradients(
        self,
        context: Context,
        x: Tensor,
        prediction: Prediction,
        k: Step,
        memory: Memory,
        acting: Mapping[str, Energy],
    ) -> dict[str, Tensor]:
        """The gradient of every acting energy with respect to its own input; recorded nowhere else."""
        import torch

        y_t = context.reference
        if any(energy.uses_noised and energy.gradient == "x_t" for energy in acting.values()):
            e = memory.e if self.reference_noise == "fixed" else context.noise()
            y_t = context.reference_at(k.t, e)
        found = {}
        for name, energy in acting.items():
            noisy = energy.gradient == "x_t"
            with torch.enable_grad(), context.arithmetic.stated(x.device):
                at = (x if noisy else prediction.x0).detach().requires_grad_(True)
                value = memory.energies[name](at, y_t if noisy else context.reference, k.t if noisy else -1)
                (found[name],) = torch.autograd.grad(value.sum(), at)
        return found

    def project(
        self, context: Context, x: Tensor, prediction: Prediction, k: Step, e: Tensor | None = None
    ) -> Tensor:
        """The sample after step k, x = x_s, where the constraint wants it, with the kept pixels of the reference.

        x itself outside the range where all pixels are free. The kept pixels and the constraint see one noised
        reference, so that they agree: noise drawn anew, or ``e``, with which the pass began, where the sampler adds
        none and follows one path.
        """
        inside = self.conditions(k, context.schedule.T)
        if context.free is not None:
            eps = e if e is not None and not context.fresh_noise else context.noise()
            x = context.kept(x, k.s, eps)
            if inside:
                x = self.constraint.project(context.drawing(eps), x, prediction, k)
            return context.kept(x, k.s, eps)
        return self.constraint.project(context, x, prediction, k) if inside else x

    # --- for people and records ----------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """All pieces as plain values, from which the same method can be built."""
        return dict(recorded(self))

    @property
    def _shown(self) -> Constraint:
        """What tells people how the reference is seen: the constraint, or the filter of an energy in its place."""
        filters = (energy.low_pass for energy in self.acting.values() if not self.constraint.acts)
        phi = next((phi for phi in filters if phi is not None), None)
        return self.constraint if phi is None else LowPassConstraint(phi.N, phi.kernel)

    def seen(self, size: AnySize) -> Filter | None:
        """The filter that a reference of this size is seen through, if any."""
        return self._shown.seen(Size.of(size))

    def preview(self, reference: Tensor) -> Tensor | None:
        """What is taken from the reference (3, H, W), as a picture for people; None when there is no such thing."""
        return self._shown.preview(reference)

    def preview_title(self) -> str:
        """What :meth:`preview` shows, for the head of a column."""
        return self._shown.preview_title()

    def describe(self) -> str:
        """The settings in a few words, for instance ``ILVR N=4, levels 1.0 to 0.2``."""
        pieces = [self.constraint.describe(), " + ".join(e.describe() for e in self.acting.values())]
        if len(self.acting) > 0:
            pieces.append(self.merge.describe())
        if self._needs_range and (self.constraint.acts or self.merge.describe()):
            until = "levels {} to {}".format(*self.range)
            pieces.append(until if self.range_t is None else f"range_t {self.range_t}")
        pieces.append("" if self.start == 1.0 else f"from {self.start}")
        pieces.append(f"{self.repeats} times" if self.repeats > 1 else "")
        pieces.append("resampled {}x{}".format(*self.resample) if self.resample[1] > 1 else "")
        title = method_title(self.name)
        text = ", ".join(piece for piece in pieces if piece)
        return f"{title} {text}" if text else title


def _without_rounding(part: Tensor, g: Tensor) -> Tensor:
    """``part``, the part of the gradient g along a constraint; 0 where it is nothing but rounding.

    The gradient of the picture energy lies across the manifold of the same blocks: on it, nothing but 1e-7 of |g|
    is left, which the published code scales up to the length of the score's part.
    """
    import torch

    length, whole = (torch.linalg.vector_norm(v, dim=(-2, -1), keepdim=True) for v in (part, g))
    return torch.where(length > ROUNDING * whole, part, torch.zeros_like(part))


def _length_ratio(along: Tensor, part: Tensor) -> Tensor:
    """``|along| / |part|`` per image and channel, (B, C, 1, 1); 0 where there is no part."""
    import torch

    a, b = (torch.linalg.vector_norm(v, dim=(-2, -1), keepdim=True) for v in (along, part))
    return torch.where(b > 0, a / b, torch.zeros_like(b))
