"""The encoder and the middle block that all networks share, with the time embedding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ilvrctl.errors import UsageError
from ilvrctl.models.architecture.blocks import ADM, Block, Conventions
from ilvrctl.models.architecture.half import convolutions_in
from ilvrctl.models.architecture.trunk import TrunkArchitecture
from ilvrctl.models.layers import build_layer

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_PERIOD = 10_000.0  # longest wavelength of the timestep embedding, in levels


def timestep_embedding(
    t: Tensor, width: int, conventions: Conventions = ADM, theta: float = MAX_PERIOD
) -> Tensor:
    """Cosines and sines of ``t`` (B,) at ``width // 2`` frequencies from 1 down to (nearly) 1 / ``theta``.

    Returns (B, width) float32; an odd width ends with zero. Source: Vaswani et al. 2017; ADM puts the cosines
    first, Ho et al. 2020 the sines, whose last frequency is just 1 / theta.
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    frequencies = torch.exp(-math.log(theta) / (half - conventions.frequency_shift) * steps)
    angles = t.float()[:, None] * frequencies
    parts = [angles.sin(), angles.cos()] if conventions.sine_first else [angles.cos(), angles.sin()]
    if width % 2:
        parts.append(torch.zeros_like(angles[:, :1]))
    return torch.cat(parts, dim=1)


def as_weight(x: Tensor, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """``x`` in ``dtype``, channels_last if it has four dimensions: 3 % faster than NCHW weights on a CPU."""
    layout = torch.channels_last if x.ndim == 4 else torch.preserve_format
    return x.to(device=device, dtype=dtype, memory_format=layout)


class HalfPrecision(nn.Module):
    """A network of which some parts can be cast to half precision; ``dtype`` is that of its convolutions."""

    HALF: tuple[str, ...] = ()
    dtype: torch.dtype

    def to_precision(self, dtype: torch.dtype) -> Self:
        """Cast the convolutions of the parts in ``HALF`` to ``dtype``, once and in place; returns itself.

        Normalisation, the embeddings with their linear layers, and the output head stay in float32, as in the
        published half-precision networks. Going back to float32 does not bring the lost digits back.
        """
        for parameter in self.convolution_parameters().values():
            parameter.data = as_weight(parameter.data, dtype)
        self.dtype = dtype
        return self

    def convolution_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that :meth:`to_precision` casts, by name."""
        parameters = dict(self.named_parameters())
        shapes = {name: tuple(x.shape) for name, x in parameters.items()}
        return {name: parameters[name] for name in convolutions_in(shapes, self.HALF)}


class AdmTrunk(HalfPrecision):
    """Base of the networks: time embedding, ``input_blocks`` and ``middle_block`` of an architecture."""

    HALF = TrunkArchitecture.HALF

    def __init__(self, architecture: TrunkArchitecture) -> None:
        super().__init__()
        self.trunk = architecture
        self.dtype = torch.float32
        width = architecture.embedding_width
        self.time_embed = nn.Sequential(
            nn.Linear(architecture.model_channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.input_blocks = self.build_blocks(architecture.encoder())
        self.middle_block = self._layers(architecture.middle(), fresh_input=False)

    def embedding(self, t: Tensor, more: Tensor | None = None) -> Tensor:
        """SiLU of the time embedding plus ``more``: every residual block begins with it. (B, E) float32."""
        emb: Tensor = self.time_embed(
            timestep_embedding(t, self.trunk.model_channels, self.trunk.conventions)
        )
        return nn.functional.silu(emb if more is None else emb + more)

    def check_size(self, x: Tensor) -> None:
        """UsageError for pictures (B, C, H, W) that cannot be halved often enough."""
        factor = self.trunk.downsample_factor
        if x.shape[2] % factor or x.shape[3] % factor:
            raise UsageError(
                f"this network takes pictures whose sides are multiples of {factor} pixels, "
                f"not {x.shape[3]}x{x.shape[2]}"
            )

    def build_blocks(self, blocks: Iterable[Block], *, fresh_input: bool = False) -> nn.ModuleList:
        """The modules of planned blocks; ``fresh_input``: nobody else needs what goes into their first layers."""
        return nn.ModuleList(self._layers(block, fresh_input=fresh_input) for block in blocks)

    def _layers(self, block: Block, *, fresh_input: bool) -> nn.ModuleList:
        return nn.ModuleList(
            build_layer(
                plan,
                self.trunk.embedding_width,
                self.trunk.conventions,
                scale_shift=self.trunk.use_scale_shift_norm,
                new_order=self.trunk.hidden.use_new_attention_order,
                fresh_input=fresh_input and j == 0,
            )
            for j, plan in enumerate(block)
        )


def run(block: nn.Module, held: list[Tensor], emb: Tensor, before: Callable[[], None] | None = None) -> None:
    """Replace the tensors in ``held`` by the output of the block's layers, calling ``before`` ahead of each."""
    for layer in block.children():
        if before is not None:
            before()
        held.append(layer(held, emb))
