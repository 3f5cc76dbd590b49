"""The ADM U-Net: estimates the noise in a picture, and its variance if it has learned that.

Source: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis"; tensor names as in the
published checkpoints (guided-diffusion format).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from ilvrctl.errors import UsageError
from ilvrctl.models.architecture import AdmArchitecture, HiddenFlags
from ilvrctl.models.layers import AttentionBlock, build_layer, zeroed
from ilvrctl.models.memory import release_freed
from ilvrctl.models.norm import LARGE, normalise, wants_grad
from ilvrctl.models.plan import NORM_GROUPS, Block

MAX_PERIOD = 10_000.0  # longest wavelength of the timestep embedding, in levels


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of ``t`` (B,) at ``width // 2`` frequencies from 1 down to nearly 1/10000.

    Returns (B, width) float32; an odd width ends with zero. Source: Vaswani et al. 2017, in ADM's order.
    """
    half = width // 2
    frequencies = torch.exp(
        -math.log(MAX_PERIOD) / half * torch.arange(half, dtype=torch.float32, device=t.device)
    )
    angles = t.float()[:, None] * frequencies
    parts = [angles.cos(), angles.sin()]
    if width % 2:
        parts.append(torch.zeros_like(angles[:, :1]))
    return torch.cat(parts, dim=1)


def as_weight(x: Tensor, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """``x`` in ``dtype``, channels_last if it has four dimensions: 3 % faster than NCHW weights on a CPU."""
    layout = torch.channels_last if x.ndim == 4 else torch.preserve_format
    return x.to(device=device, dtype=dtype, memory_format=layout)


class AdmUNet(nn.Module):
    """The network of an :class:`AdmArchitecture`, weights at torch's defaults (zero where ADM's are).

    ``dtype`` is the precision of the convolutions; see :meth:`to_precision`.
    """

    def __init__(self, architecture: AdmArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.dtype = torch.float32
        width, first = architecture.embedding_width, architecture.widths[0]
        self.time_embed = nn.Sequential(
            nn.Linear(architecture.model_channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.label_emb: nn.Embedding | None = None
        if architecture.num_classes is not None:
            self.label_emb = nn.Embedding(architecture.num_classes, width)
        self.input_blocks = self._blocks(architecture.encoder())
        self.middle_block = self._layers(architecture.middle())
        self.output_blocks = self._blocks(architecture.decoder(), decoder=True)
        # the decoder block whose output is the first of the finest level
        self._finest_output = max(0, len(self.output_blocks) - architecture.num_res_blocks - 2)
        self.out = nn.Sequential(
            nn.GroupNorm(NORM_GROUPS, first),
            nn.SiLU(),
            zeroed(nn.Conv2d(first, architecture.out_channels, 3, padding=1)),
        )

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The estimate of the noise, and after it the variance's interpolation if learned.

        ``x``: (B, 3, H, W) pictures in [-1, 1] plus noise, H and W multiples of ``downsample_factor``.
        ``t``: (B,) levels of the original chain (0..999; fractions allowed). ``y``: (B,) int64 classes, for
        class-conditional networks only. Returns (B, 3 or 6, H, W) float32, channels_last.
        Raises :class:`UsageError` for a size or a class argument that does not fit the network.
        """
        self._check(x, y)
        emb = self._embedding(t, y)
        x = x.to(self.dtype, memory_format=torch.channels_last)
        thrifty = self._thrifty(x)
        held = [x]
        skips: list[Tensor] = []
        for block in self.input_blocks:
            _run(block, held, emb)
            skips.append(held[0])
        if thrifty:
            skips[0] = x  # its first convolution is cheaper done twice than kept: 1 % of the time
        _run(self.middle_block, held, emb)
        self._decode(held, skips, emb, thrifty)
        return self._output(held)

    def to_precision(self, dtype: torch.dtype) -> AdmUNet:
        """Cast the convolutions of the three block lists to ``dtype``, once and in place; returns itself.

        Normalisation, the embeddings with their linear layers, and the output head stay in float32, as in the
        published half-precision networks. Going back to float32 does not bring the lost digits back.
        """
        for parameter in self.convolution_parameters().values():
            parameter.data = as_weight(parameter.data, dtype)
        self.dtype = dtype
        return self

    def reread(self, hidden: HiddenFlags) -> AdmUNet:
        """Read the attention tensors as ``hidden`` says, in place; returns itself.

        Raises :class:`WeightsError` for heads that do not divide a layer.
        """
        self.architecture = replace(self.architecture, hidden=hidden)
        for name, module in self.named_modules():
            if isinstance(module, AttentionBlock):
                width = module.norm.num_channels
                module.heads = hidden.heads(width, decoder=name.startswith("output_blocks."))
                module.new_order = hidden.use_new_attention_order
        return self

    def convolution_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that :meth:`to_precision` casts, by name."""
        return {
            f"{part}.{name}.{key}": parameter
            for part in ("input_blocks", "middle_block", "output_blocks")
            for name, module in self.get_submodule(part).named_modules()
            if isinstance(module, nn.Conv1d | nn.Conv2d)
            for key, parameter in module.named_parameters(recurse=False)
        }

    def _embedding(self, t: Tensor, y: Tensor | None) -> Tensor:
        emb: Tensor = self.time_embed(timestep_embedding(t, self.architecture.model_channels))
        if self.label_emb is not None and y is not None:
            emb = emb + self.label_emb(y)
        return nn.functional.silu(emb)  # every residual block begins with it

    def _decode(self, held: list[Tensor], skips: list[Tensor], emb: Tensor, thrifty: bool) -> None:
        """Run ``output_blocks`` on ``held``, each joined with the newest of ``skips``, which is let go."""
        for i, block in enumerate(self.output_blocks):
            if thrifty and i >= self._finest_output:
                release_freed()
            if thrifty and len(skips) == 1:
                _run(self.input_blocks[0], skips, emb)
            held[0] = torch.cat((held[0], skips.pop()), dim=1)
            _run(block, held, emb)

    def _output(self, held: list[Tensor]) -> Tensor:
        h = normalise(held.pop().float(), cast(nn.GroupNorm, self.out[0]), overwrite=True)
        return cast(Tensor, self.out[2](h)).contiguous(memory_format=torch.channels_last)

    def _thrifty(self, x: Tensor) -> bool:
        """Whether to trade 3 % of the time for memory: on a CPU, for large pictures, without gradients."""
        finest = x.shape[0] * x.shape[2] * x.shape[3] * self.architecture.widths[0]
        if x.device.type != "cpu" or finest < 2 * LARGE or torch.compiler.is_compiling():
            return False
        return not wants_grad(x, *self.parameters())

    def _check(self, x: Tensor, y: Tensor | None) -> None:
        factor = self.architecture.downsample_factor
        if x.shape[2] % factor or x.shape[3] % factor:
            raise UsageError(
                f"this network takes pictures whose sides are multiples of {factor} pixels, "
                f"not {x.shape[3]}x{x.shape[2]}"
            )
        if (y is None) != (self.label_emb is None):
            takes = f"a class of {self.architecture.num_classes}" if self.label_emb else "no class"
            raise UsageError(f"this network takes {takes}, and was given {'none' if y is None else 'one'}")

    def _blocks(self, blocks: Iterable[Block], *, decoder: bool = False) -> nn.ModuleList:
        return nn.ModuleList(self._layers(block, decoder=decoder) for block in blocks)

    def _layers(self, block: Block, *, decoder: bool = False) -> nn.ModuleList:
        return nn.ModuleList(self._planned(block, decoder))

    def _planned(self, block: Block, decoder: bool) -> Iterator[nn.Module]:
        for j, plan in enumerate(block):
            yield build_layer(
                plan,
                self.architecture.embedding_width,
                scale_shift=self.architecture.use_scale_shift_norm,
                new_order=self.architecture.hidden.use_new_attention_order,
                fresh_input=decoder and j == 0,  # the decoder joins its input with a skip connection: a copy
            )


def _run(block: nn.Module, held: list[Tensor], emb: Tensor) -> None:
    """Replace the tensor in ``held`` by the output of the block's layers."""
    for layer in block.children():
        held.append(layer(held, emb))
