"""Energies: what the sample should be near to or far from, as functions whose gradient pushes it there.

None is differentiated through the denoising network: the gradient is that with respect to the energy's own input,
the sample x_t (as published) or the clean estimate x0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ilvrctl.choices import ClassLabel
from ilvrctl.devices import uploaded
from ilvrctl.diffusion.lowpass import Kernel, LowPass, check_factor
from ilvrctl.errors import UsageError
from ilvrctl.fields import Between, Code, File
from ilvrctl.methods.base import Context, EnergyOf
from ilvrctl.methods.blocks import Grid, Statistics, block_adain, check_blocks
from ilvrctl.methods.networks import NetworkFile, load_noisy_classifier, load_vgg, user_energy, weights_of
from ilvrctl.sizes import Size

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from ilvrctl.diffusion.denoiser import Prediction
    from ilvrctl.diffusion.schedule import Step

Where = Literal["range", "everywhere"]
Argument = Literal["x_t", "x0"]

BLOCKS = 16
"""Blocks a side, where the constraint has none: SDDM's."""


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What all energies share. Its part of the step is ``-weight beta / sqrt(1 - beta) grad E``.

    ``weight``: 0 leaves the energy out. ``relative``: the gradient is first brought to the length of the score's
    part, per image and channel (SDDM), so that the weight has no unit. ``where``: ``range``, merged with the other
    parts while the method conditions, and left out elsewhere; ``everywhere``, also added as a plain sum below it.
    ``gradient``: with respect to ``x_t`` (published), or to the clean estimate ``x0``, which is compared with the
    clean reference (as MPGD does; He et al., ICLR 2024).
    """

    name: ClassVar[str] = ""
    uses_noised: ClassVar[bool] = False
    """Whether the reference is wanted noised to the sample's level."""

    weight: float = 1.0
    relative: bool = False
    where: Where = "everywhere"
    gradient: Argument = "x_t"

    @property
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of."""
        return 1

    @property
    def low_pass(self) -> LowPass | None:
        """The filter that the reference is seen through, if any."""
        return None

    def check(self, size: Size) -> None:
        """UsageError when the energy cannot work for pictures of ``size`` pixels."""

    def check_label(self, class_label: ClassLabel) -> None:
        """UsageError when the energy needs a class, and neither it nor the settings name one."""

    def strength(self, prediction: Prediction, k: Step) -> float | Tensor:
        """What ``-grad E`` is multiplied by in step k."""
        return self.weight * k.beta / (k.alpha_t / k.alpha_s)

    def weights(self) -> Path | None:
        """The file of the network that the energy needs, if any; WeightsError (exit code 3) when it is not here."""

    def load(self, device: torch.device) -> Any:
        """What :meth:`bind` wants as ``network``: the energy's network on the device, or None."""
        return None

    def bind(self, context: Context, network: Any, blocks: Grid | None) -> EnergyOf:
        """The energy for the references of a batch; ``blocks`` of the method's constraint, if it has any."""
        raise NotImplementedError

    def describe(self) -> str:
        """For instance ``dse 500``."""
        return f"{self.name} {self.weight:g}"


@dataclass(frozen=True, kw_only=True)
class LowPassEnergy(Energy):
    """EGSDE's faithfulness ``|| phi_N(x_t) - phi_N(y_t) ||^2`` (Zhao et al., NeurIPS 2022, section 3.3).

    The norm is over all pixels and channels; phi as published has the linear kernel.
    """

    name: ClassVar[str] = "low_pass"
    uses_noised: ClassVar[bool] = True
    weight: float = 2.0
    N: Annotated[int, Between(1)] = 32
    kernel: Kernel = "linear"

    @property
    def multiple(self) -> int:
        return self.N

    @property
    def low_pass(self) -> LowPass:
        return LowPass(self.N, self.kernel)

    def check(self, size: Size) -> None:
        check_factor(self.N, size)

    def bind(self, context: Context, network: Any, blocks: Grid | None) -> EnergyOf:
        """One application of phi: it is linear."""
        phi = self.low_pass
        return lambda x, y_t, t: phi(x - y_t).square().flatten(1).sum(1)

    def describe(self) -> str:
        return f"low-pass {self.weight:g} (N={self.N})"


@dataclass(frozen=True, kw_only=True)
class PictureEnergy(Energy):
    """SDDM's energy on the picture itself: ``sum (x_t - BAdaIN(x_t, y))^2``, with the clean reference's statistics.

    Independent of the level, as published; the target moves with x and is differentiated too. ``blocks`` a side:
    unless given those of the constraint, or 16. In every block its gradient is a multiple of ``x - mean`` plus a
    constant, so on the manifold of the same blocks it has no part along the constraint and does nothing: it acts in
    the rounds of refinement, and with blocks of its own.
    """

    name: ClassVar[str] = "picture"
    weight: float = 25.0
    relative: bool = True
    where: Where = "range"
    blocks: Annotated[int, Between(1)] | None = None

    @property
    def multiple(self) -> int:
        return 2 * (self.blocks or BLOCKS)

    def check(self, size: Size) -> None:
        if self.blocks is not None:
            check_blocks(self.blocks, size)

    def features(self, x: Tensor, network: Any) -> Tensor:
        """F(x), of which the statistics are compared."""
        return x

    def bind(self, context: Context, network: Any, blocks: Grid | None) -> EnergyOf:
        """``sum (F(x) - BAdaIN(F(x), F(y)))^2``."""
        asked = Statistics.of(self.features(context.reference, network), self.blocks or blocks or BLOCKS)

        def energy(x: Tensor, y_t: Tensor, t: int) -> Tensor:
            found = self.features(x, network)
            return (found - block_adain(found, asked)).square().flatten(1).sum(1)

        return energy


@dataclass(frozen=True, kw_only=True)
class VggEnergy(PictureEnergy):
    """SDDM's energy as published: F is relu1_1 of the VGG-19 that was normalised for AdaIN style transfer.

    Its weights: ``ilvrctl download vgg_normalised``; ``model`` is a name of the registry or a file.
    """

    name: ClassVar[str] = "vgg"
    model: File = "vgg_normalised"

    def weights(self) -> Path:
        return weights_of(self.model, "vgg").path

    def load(self, device: torch.device) -> Any:
        return load_vgg(weights_of(self.model, "vgg"), device)

    def features(self, x: Tensor, network: Any) -> Tensor:
        """relu1_1 of the picture on [0, 1], of its colours: (B, 64, H, W)."""
        from ilvrctl.images.tensors import in_colours

        features: Tensor = network(in_colours((x + 1) / 2))
        return features


@dataclass(frozen=True, kw_only=True)
class NoisyClassifierEnergy(Energy):
    """What energies share whose network is a classifier of guided-diffusion that knows the level.

    ``model``: a name of the registry or a file; ``num_head_channels`` where the registry does not know the file's
    attention (published: 64).
    """

    wanted: ClassVar[str] = ""
    """The classifier that is needed, in words."""

    model: File = ""
    num_head_channels: Annotated[int, Between(1)] | None = None

    @property
    def multiple(self) -> int:
        """The published classifiers halve a picture five times."""
        return 32

    def weights(self) -> Path:
        return self._file().path

    def check_channels(self, context: Context, network: Any) -> None:
        """UsageError unless the classifier sees pictures of as many channels as the model makes."""
        own, made = network.architecture.in_channels, context.reference.shape[1]
        if own != made:
            raise UsageError(
                f"the classifier of the energy {self.name} sees pictures of {own} channels, and the model makes them "
                f"of {made}",
                hint=f"{self.wanted}, trained on pictures of {made} channels",
            )

    def _file(self) -> NetworkFile:
        if not self.model:
            raise UsageError(
                f"the energy {self.name} needs {self.wanted}, and none is named",
                hint=f"--set energies.{self.name}.model=NAME or FILE (ilvrctl download --list), or without it: "
                f"--set energies.{self.name}=0",
            )
        return weights_of(self.model, "guided-diffusion-classifier")

    def load(self, device: torch.device) -> Any:
        return load_noisy_classifier(self._file(), self.num_head_channels, device)


@dataclass(frozen=True, kw_only=True)
class DseEnergy(NoisyClassifierEnergy):
    """EGSDE's realism: the mean over pixels of the cosine of domain features of x_t and y_t (section 3.2).

    ``model``: the domain-specific extractor, a classifier of source against target, which targets name for the
    source they are made for. Its middle features of the sample are pushed away from those of the reference.
    """

    name: ClassVar[str] = "dse"
    wanted: ClassVar[str] = "a classifier of the input's domain against the target's"
    uses_noised: ClassVar[bool] = True
    weight: float = 500.0

    def bind(self, context: Context, network: Any, blocks: Grid | None) -> EnergyOf:
        """``mean_hw cos_c(D(x_t, t), D(y_t, t))``."""
        import torch

        self.check_channels(context, network)

        def energy(x: Tensor, y_t: Tensor, t: int) -> Tensor:
            levels = x.new_full((len(x),), max(t, 0))
            with torch.no_grad():
                source = network.features(y_t, levels)
            found = network.features(x, levels)
            return torch.cosine_similarity(found, source, dim=1).flatten(1).mean(1)

        return energy


@dataclass(frozen=True, kw_only=True)
class ClassifierEnergy(NoisyClassifierEnergy):
    """Classifier guidance: ``-log p(label | x_t)`` (Dhariwal & Nichol 2021, section 4.1).

    ``label``: the class; None is the ``class_label`` of the settings, that of the network. ``shift``: what is moved
    by the gradient, ``mean``, by the variance of the step (algorithm 1; the lower bound of it, beta~, where the
    network has learned none), or ``score`` (algorithm 2, which is made for the ddim sampler).
    """

    name: ClassVar[str] = "classifier"
    wanted: ClassVar[str] = "a classifier of noised pictures"
    label: Annotated[int, Between(0)] | None = None
    shift: Literal["mean", "score"] = "mean"

    def check_label(self, class_label: ClassLabel) -> None:
        if self.label is None and class_label in (None, "none"):
            raise UsageError(
                "the energy classifier needs the class to guide to",
                hint="--class-label N where the network has classes, else --set energies.classifier.label=N",
            )

    def strength(self, prediction: Prediction, k: Step) -> float | Tensor:
        if self.shift == "score":
            return super().strength(prediction, k)
        learned = prediction.log_variance
        return self.weight * (k.posterior_variance if learned is None else learned.exp())

    def bind(self, context: Context, network: Any, blocks: Grid | None) -> EnergyOf:
        """``-log softmax(C(x_t, t))`` of the class."""
        import torch

        self.check_channels(context, network)
        labels, count = self._labels(context), network.architecture.out_channels
        if (label := max(labels)) >= count:
            raise UsageError(
                f"class label {label} is not among the {count} classes of the classifier",
                hint=f"--set energies.classifier.label=0 to {count - 1}",
            )

        wanted = uploaded(torch.tensor(labels), context.reference.device)

        def energy(x: Tensor, y_t: Tensor, t: int) -> Tensor:
            logits: Tensor = network(x, x.new_full((len(x),), max(t, 0)))
            return -logits.log_softmax(1)[torch.arange(len(x), device=x.device), wanted]

        return energy

    def _labels(self, context: Context) -> tuple[int, ...]:
        label = context.class_label if self.label is None else self.label
        if isinstance(label, tuple):
            return label
        self.check_label(label)
        assert label is not None
        return (label,) * len(context.reference)


@dataclass(frozen=True, kw_only=True)
class UserEnergy(Energy):
    """An energy of your own: ``call`` is ``module:function`` of a module that Python can import (PYTHONPATH).

    The function is called as ``function(x, y, t)`` with the sample and the reference (B, C, H, W) at the level t,
    both noised (or both clean and t = -1 with ``gradient: x0``), pictures in [-1, 1]; it returns (B,), lower is
    better, differentiable in x. It is imported only when the method is run, and never because the record in a
    picture asks for it (:mod:`ilvrctl.trust`).
    """

    name: ClassVar[str] = "module:function"
    uses_noised: ClassVar[bool] = True
    call: Code

    def load(self, device: torch.device) -> Any:
        """The function. UsageError when there is none of that name."""
        return user_energy(self.call)

    def bind(self, context: Context, network: Any, blocks: Grid | None) -> EnergyOf:
        """The function as it is, with its result checked."""

        def energy(x: Tensor, y_t: Tensor, t: int) -> Tensor:
            value: Tensor = network(x, y_t, t)
            if tuple(value.shape) != (len(x),):
                raise UsageError(
                    f"{self.call} must return one number an image, ({len(x)},), not {tuple(value.shape)}"
                )
            return value

        return energy

    def describe(self) -> str:
        return f"{self.call} {self.weight:g}"


ENERGIES: dict[str, type[Energy]] = {
    "low_pass": LowPassEnergy,
    "picture": PictureEnergy,
    "vgg": VggEnergy,
    "dse": DseEnergy,
    "classifier": ClassifierEnergy,
}
