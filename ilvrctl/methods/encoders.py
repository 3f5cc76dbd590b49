"""Encoders: a picture as noise, by the model of its own kind, to be decoded by that of the target's.

Both models see ``x_t = alpha_t x0 + sigma_t eps`` at the same levels t. With one model on both sides the picture
comes back: exactly from the noises, and up to the error of the steps from the DDIM encoding.

Each encoder's ``sampler`` is the published one, used unless another is asked for. What an encoder has found is an
:class:`Inversion`, which can be kept, and ``given`` to another target, or to a method that finds none itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ilvrctl.devices import pins, uploaded
from ilvrctl.diffusion.denoiser import Prediction
from ilvrctl.errors import UsageError
from ilvrctl.fields import LATER

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ilvrctl.diffusion.denoiser import Denoise
    from ilvrctl.diffusion.noise import Noise
    from ilvrctl.diffusion.samplers import Ahead, Sampler
    from ilvrctl.diffusion.schedule import Step
    from ilvrctl.methods.base import Context


@dataclass(frozen=True)
class Surprise:
    """What the source's model did not foresee in one step of the reference's path: ``x_s - mean``, and the standard
    deviation of the step, which is 0 at the last one.
    """

    deviation: Tensor
    std: Tensor


@dataclass
class Inversion:
    """Pictures as noise: ``x`` (B, C, H, W) at the level of the first step, and where an encoder finds noises what
    the source's model did not foresee at every step.
    """

    x: Tensor | None = None
    surprises: list[Surprise] = field(default_factory=list)

    def of(self, b: int) -> Inversion:
        """That of one picture, (C, H, W), in main memory."""
        assert self.x is not None
        x = self.x[b].cpu()  # waits for the device, and so for the copies of all that was found before
        return Inversion(x, [Surprise(one.deviation[b], one.std[b]) for one in self.surprises])

    @classmethod
    def together(cls, several: Sequence[Inversion | None], device: torch.device) -> Inversion:
        """Those of the pictures of a batch. UsageError where one has none."""
        import torch

        here = [one for one in several if one is not None]
        if len(here) < len(several):
            raise UsageError("this method starts from noise, and was given none", hint="--from-noise FOLDER")
        x = [one.x for one in here if one.x is not None]
        told = [
            Surprise(
                uploaded(torch.stack([one.deviation for one in step]), device),
                uploaded(torch.stack([one.std for one in step]), device),
            )
            for step in zip(*(one.surprises for one in here), strict=True)
        ]
        return cls(uploaded(torch.stack(x), device), told)


@dataclass(frozen=True)
class NoEncoder:
    """One model only: the sampling starts from noise, or from the noised reference.

    ``given``: it starts from noise that was found before; then no encoder needs a second model.
    """

    name: ClassVar[str] = "none"
    sampler: ClassVar[Mapping[str, Any]] = {}
    finds: ClassVar[Literal["nothing", "noise", "noises"]] = "nothing"
    given: bool = field(default=False, metadata=LATER)

    @property
    def models(self) -> int:
        """How many there are."""
        return 1 if self.given or self.finds == "nothing" else 2

    @property
    def climbs(self) -> bool:
        """Whether it walks up from the references."""
        return False

    def check(self, sampler: Sampler) -> None:
        """UsageError for a sampler that it does not go with."""

    def encode(self, context: Context, steps: Sequence[Step]) -> Iterator[tuple[Step, Tensor, Tensor]]:
        """The way up from the references where it ``climbs``: step, sample at its level t, clean estimate."""
        return iter(())

    def begin(self, context: Context, first: Step, x0: Tensor, e: Tensor) -> Tensor | None:
        """The sample to begin with at the level first.t; None leaves it to the method. ``x0``: what was encoded."""
        x = _given(context) if self.given else self.start(context, first, x0, e)
        if context.found is not None:
            context.found.x = x
        return x

    def start(self, context: Context, first: Step, x0: Tensor, e: Tensor) -> Tensor | None:
        """The same where it is found."""
        return None

    def path(
        self, context: Context, steps: Sequence[Step], sampler: Sampler, x: Tensor
    ) -> Iterator[Surprise] | None:
        """What the source's model tells in every step on the way down from x, if anything."""
        return None

    def step(
        self,
        sampler: Sampler,
        x: Tensor,
        prediction: Prediction,
        k: Step,
        noise: Noise,
        carry: Any,
        ahead: Ahead,
        path: Iterator[Surprise] | None,
    ) -> tuple[Tensor, Any]:
        """The sampler's step, ``path`` being that of the pass."""
        return sampler.advance(x, prediction, k, noise, carry, ahead)


@dataclass(frozen=True)
class DDIMEncoder(NoEncoder):
    """DDIB: up the ODE with the source's model, down with the target's (Su et al., ICLR 2023, arXiv 2203.08382)."""

    name: ClassVar[str] = "ddim"
    sampler: ClassVar[Mapping[str, Any]] = {"name": "ddim"}
    finds: ClassVar[Literal["nothing", "noise", "noises"]] = "noise"

    @property
    def climbs(self) -> bool:
        return not self.given

    def check(self, sampler: Sampler) -> None:
        """UsageError for a sampler that adds noise: it would leave the path of the ODE."""
        if sampler.stochastic:
            raise UsageError(
                f"the encoding by DDIM needs a sampler that adds no noise, which {sampler.name} does",
                hint="--sampler ddim --eta 0",
            )

    def encode(self, context: Context, steps: Sequence[Step]) -> Iterator[tuple[Step, Tensor, Tensor]]:
        return iter(()) if self.given else encode_ddim(_source(context), context.reference, steps)

    def start(self, context: Context, first: Step, x0: Tensor, e: Tensor) -> Tensor | None:
        return x0


@dataclass(frozen=True)
class NoiseEncoder(NoEncoder):
    """CycleDiffusion: the noises with which the source's model would have made the picture, given to the target's
    (Wu and De la Torre, ICCV 2023, arXiv 2210.05559, DPM-Encoder). Both ways go down side by side, so that no noise
    is kept.

    ``residual``: the last step adds no noise; what the source's model misses of the picture there is given on too,
    so that one model on both sides returns it exactly. The published code leaves it out.
    """

    name: ClassVar[str] = "noises"
    sampler: ClassVar[Mapping[str, Any]] = {"name": "ddim", "eta": 0.1}
    finds: ClassVar[Literal["nothing", "noise", "noises"]] = "noises"
    residual: bool = True

    def check(self, sampler: Sampler) -> None:
        """UsageError for a sampler that adds no noise: there would be nothing to give on."""
        if not sampler.stochastic:
            raise UsageError(
                f"the encoding by noises needs a sampler that adds noise, which {sampler.name} does not",
                hint="--sampler ddim --eta 0.1",
            )

    def start(self, context: Context, first: Step, x0: Tensor, e: Tensor) -> Tensor | None:
        """Drawn from q(x_t | y), at the highest level too."""
        return context.reference_at(first.t, e)

    def path(
        self, context: Context, steps: Sequence[Step], sampler: Sampler, x: Tensor
    ) -> Iterator[Surprise] | None:
        if self.given:
            return iter(_noises(context, len(steps)))
        found = surprises(_source(context), context.reference, x, steps, sampler, context.noise)
        return found if context.found is None else _keeping(found, context.found)

    def step(
        self,
        sampler: Sampler,
        x: Tensor,
        prediction: Prediction,
        k: Step,
        noise: Noise,
        carry: Any,
        ahead: Ahead,
        path: Iterator[Surprise] | None,
    ) -> tuple[Tensor, Any]:
        if path is None:
            return sampler.advance(x, prediction, k, noise, carry, ahead)
        return follow(sampler, x, prediction, k, carry, next(path), self.residual)


ENCODERS: dict[str, type[NoEncoder]] = {
    "none": NoEncoder,
    "ddim": DDIMEncoder,
    "noises": NoiseEncoder,
}


def no_source(what: str) -> UsageError:
    """The error of a method or encoder whose second model was not given."""
    return UsageError(
        f"{what} needs a model of the inputs' own kind",
        hint="--from NAME (see: ilvrctl presets), or --from-weights FILE",
    )


def _source(context: Context) -> Denoise:
    if context.source is None:
        raise no_source("the encoding")
    return context.source


def _given(context: Context) -> Tensor:
    if context.given is None or context.given.x is None:
        raise UsageError("no noise was given to start from", hint="--from-noise FOLDER")
    return context.given.x


def _noises(context: Context, steps: int) -> list[Surprise]:
    found = [] if context.given is None else context.given.surprises
    if len(found) != steps:
        raise UsageError(
            f"{len(found)} noises were given, and there are {steps} steps",
            hint="as many --steps, or --method ddib",
        )
    return found


def _keeping(found: Iterator[Surprise], inversion: Inversion) -> Iterator[Surprise]:
    """The same, kept off the device; the copies may still be on their way."""
    for told in found:
        wait = not pins(told.std.device)
        kept = (part.to("cpu", non_blocking=not wait) for part in (told.deviation, told.std))
        inversion.surprises.append(Surprise(*kept))
        yield told


def encode_ddim(source: Denoise, x: Tensor, steps: Sequence[Step]) -> Iterator[tuple[Step, Tensor, Tensor]]:
    """The chain walked upwards, from the clean x (B, 3, H, W): every step with the sample at its level t and the
    clean estimate that it was made from.

        ``x_t = alpha_t x0(x_s) + sigma_t eps(x_s)``

    The network is asked at the level of the sample it is given, s; the clean picture, which has none, is given to
    it at the lowest level, as in guided-diffusion's ``ddim_reverse_sample``. That code's chain ends one level above
    the one that its decoder starts from; here both are the same.
    """
    for k in reversed(steps):
        at = k if k.s < 0 else replace(k, t=k.s, alpha_t=k.alpha_s, sigma_t=k.sigma_s)
        prediction = source(x, at)
        x = k.alpha_t * prediction.x0 + k.sigma_t * prediction.eps
        yield k, x, prediction.x0


def surprises(
    source: Denoise, y: Tensor, x: Tensor, steps: Sequence[Step], sampler: Sampler, noise: Noise
) -> Iterator[Surprise]:
    """The reference y's path down from x ~ q(x_t | y), and at every step the source's surprise.

    The path is drawn from q(x_s | x_t, y), which is the sampler's own step from a prediction that knows y.
    """
    path: Any = None
    history: Any = None
    for k in steps:
        known = Prediction(y, (x - k.alpha_t * y) / k.sigma_t)
        x_s, path = sampler.truthful.step(x, known, k, noise, path)
        mean, std, history = _moments(sampler, x, source(x, k), k, history)
        yield Surprise(x_s - mean, std)
        x = x_s


def follow(
    sampler: Sampler, x: Tensor, prediction: Prediction, k: Step, carry: Any, told: Surprise, residual: bool
) -> tuple[Tensor, Any]:
    """The target's step with the source's noise: ``mean + std z``, z = deviation / std of the source.

    ``residual`` as in :class:`NoiseEncoder`.
    """
    mean, std, carry = _moments(sampler, x, prediction, k, carry)
    if k.s < 0:
        return (mean + told.deviation if residual else mean), carry
    return mean + std / told.std * told.deviation, carry


def _moments(
    sampler: Sampler, x: Tensor, prediction: Prediction, k: Step, carry: Any
) -> tuple[Tensor, Tensor, Any]:
    """Mean and standard deviation of a sampler's step, which is affine in its noise, and its carry."""
    import torch

    zero, one = torch.zeros_like(x), torch.ones_like(x)
    mean, after = sampler.step(x, prediction, k, lambda: zero, carry)
    above, _ = sampler.step(zero, _at_zero(prediction), k, lambda: one, None)
    return mean, above, after


def _at_zero(prediction: Prediction) -> Prediction:
    """A prediction of nothing with the same variance: what a step from it gives is the noise alone."""
    import torch

    nothing = torch.zeros_like(prediction.x0)
    return Prediction(nothing, nothing, prediction.log_variance)
