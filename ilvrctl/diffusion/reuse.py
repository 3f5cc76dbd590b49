"""Reuse of deep features: the coarse part of the network is run at every n-th step and kept for those between."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from ilvrctl.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.diffusion.denoiser import Denoiser, Prediction
    from ilvrctl.diffusion.schedule import Step


class Splits(Protocol):
    """A network whose deep part can be left out: see :class:`ilvrctl.models.adm.AdmUNet`."""

    def keeping(self, x: Tensor, t: Tensor, y: Tensor | None, blocks: int) -> tuple[Tensor, Tensor | None]:
        """The whole network's output, and what its deep part found."""

    def shallow(self, x: Tensor, t: Tensor, y: Tensor | None, deep: Tensor, blocks: int) -> Tensor:
        """The output with what the deep part found at an earlier level."""


@dataclass
class _Kept:
    """What the deep part of which network found last, and the number of the last step."""

    network: Splits | None = None
    deep: Tensor | None = None
    i: int = -1


@dataclass(frozen=True)
class Reusing:
    """``(x_t, Step) -> Prediction`` for one batch, with the deep part of the network at every ``every``-th step.

    ``network`` is the denoiser's own. ``blocks`` of the decoder (and as many of the encoder) are run at every step.
    Which steps are whole ones depends on their numbers in the chain alone, so a picture's result does not depend on
    others; a step back up the chain (resampling) is a whole one, as what is kept is of a lower level, and so is the
    first of another expert. Make one for each batch.
    Source: Ma et al., CVPR 2024, "DeepCache" (uniform interval N = ``every``).
    """

    denoiser: Denoiser
    network: Splits
    every: int
    blocks: int = 1
    _kept: _Kept = field(default_factory=_Kept, init=False, repr=False, compare=False)

    def __call__(self, x: Tensor, k: Step) -> Prediction:
        """The prediction at x = x_t."""
        one, kept = self.denoiser.at(k), self._kept
        own = one.network is self.denoiser.network
        network: Splits = self.network if own else cast("Splits", one.network)
        same = kept.network is network and kept.deep is not None
        whole = k.i % self.every == 0 or k.i < kept.i or not same
        kept.i, kept.network = k.i, network
        return replace(one, network=self._whole if whole else self._shallow)(x, k)

    def _whole(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        assert self._kept.network is not None
        out, self._kept.deep = self._kept.network.keeping(x, t, y, self.blocks)
        return out

    def _shallow(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        assert self._kept.network is not None and self._kept.deep is not None
        return self._kept.network.shallow(x, t, y, self._kept.deep, self.blocks)


def splitting(network: Any, blocks: int) -> Splits:
    """The network, known to have a deep part besides ``blocks`` of its decoder. UsageError when it has none."""
    count = len(getattr(network, "output_blocks", ()))
    if not hasattr(network, "shallow") or count <= blocks:
        raise UsageError(
            f"deep features cannot be reused: this network has {count} decoder blocks, and {blocks} of them "
            "are to be run at every step",
            hint="--set reuse=1 reuses nothing",
        )
    found: Splits = network
    return found
