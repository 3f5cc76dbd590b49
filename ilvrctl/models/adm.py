"""The ADM U-Net: estimates the noise in a picture, and its variance if it has learned that.

Source: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis"; tensor names as in the
published checkpoints (guided-diffusion format).
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from ilvrctl.errors import UsageError
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.unet import AdmArchitecture
from ilvrctl.models.cpu import strips
from ilvrctl.models.cpu.convolution import Convolution
from ilvrctl.models.cpu.memory import release_freed
from ilvrctl.models.cpu.norm import LARGE, affine, normalise, wants_grad
from ilvrctl.models.cpu.threads import release_threads
from ilvrctl.models.layers import AttentionBlock, group_norm, zeroed
from ilvrctl.models.trunk_network import AdmTrunk, run


class AdmUNet(AdmTrunk):
    """The network of an :class:`AdmArchitecture`, weights at torch's defaults (zero where ADM's are)."""

    HALF = AdmArchitecture.HALF

    def __init__(self, architecture: AdmArchitecture) -> None:
        super().__init__(architecture)
        self.architecture = architecture
        first = architecture.widths[0]
        self.label_emb: nn.Embedding | None = None
        if architecture.num_classes is not None:
            self.label_emb = nn.Embedding(architecture.num_classes, architecture.embedding_width)
        # the decoder joins its input with a skip connection, and nobody else needs either
        self.output_blocks = self.build_blocks(architecture.decoder(), fresh_input=True)
        # the decoder block whose output is the first of the finest level
        self._finest_output = max(0, len(self.output_blocks) - architecture.num_res_blocks - 2)
        self.out = nn.Sequential(
            group_norm(first, architecture.conventions),
            nn.SiLU(),
            zeroed(Convolution(first, architecture.out_channels, 3, padding=1)),
        )

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The estimate of the noise, and after it the variance's interpolation if learned.

        ``x``: (B, 3, H, W) pictures in [-1, 1] plus noise, H and W multiples of ``downsample_factor``.
        ``t``: (B,) levels of the original chain (0..999; fractions allowed). ``y``: (B,) int64 classes, for
        class-conditional networks only. Returns (B, 3 or 6, H, W) float32, channels_last.
        Raises :class:`UsageError` for a size or a class argument that does not fit the network.
        """
        return self.keeping(x, t, y, 0)[0]

    def keeping(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, blocks: int = 1
    ) -> tuple[Tensor, Tensor | None]:
        """As :meth:`forward`, and what goes into the last ``blocks`` blocks of the decoder (None for 0 of them).

        That is what the deep part of the network found, for :meth:`shallow`.
        """
        self.check_size(x)
        self._check_class(y)
        emb = self._embedded(t, y)
        x = self._folded(x).to(self.dtype, memory_format=torch.channels_last)
        thrifty = self._thrifty(x)
        held = [x]
        skips = self._encode(held, emb, len(self.input_blocks), thrifty)
        run(self.middle_block, held, emb)
        deep = self._decode(held, skips, emb, thrifty, kept=blocks)
        return self._output(held), deep

    def shallow(self, x: Tensor, t: Tensor, y: Tensor | None, deep: Tensor, blocks: int = 1) -> Tensor:
        """As :meth:`forward` with the deep part left out: its result ``deep`` is that of an earlier level.

        The first ``blocks`` blocks of the encoder and the last of the decoder are run. Source: Ma et al., CVPR
        2024, "DeepCache", section 3.2.
        """
        emb = self._embedded(t, y)
        held = [self._folded(x).to(self.dtype, memory_format=torch.channels_last)]
        skips = self._encode(held, emb, blocks)
        held[0] = deep.clone()
        for block in self.output_blocks[len(self.output_blocks) - blocks :]:
            held.append(skips.pop())
            run(block, held, emb)
        return self._output(held)

    def reread(self, hidden: HiddenFlags) -> AdmUNet:
        """Read the attention tensors as ``hidden`` says, in place; returns itself.

        Raises :class:`WeightsError` for heads that do not divide a layer.
        """
        self.architecture = self.trunk = replace(self.architecture, hidden=hidden)
        for name, module in self.named_modules():
            if isinstance(module, AttentionBlock):
                width = module.norm.num_channels
                module.heads = hidden.heads(width, decoder=name.startswith("output_blocks."))
                module.new_order = hidden.use_new_attention_order
        return self

    def _embedded(self, t: Tensor, y: Tensor | None) -> Tensor:
        label = self.label_emb(y) if self.label_emb is not None and y is not None else None
        return self.embedding(t, label)

    def _encode(self, held: list[Tensor], emb: Tensor, blocks: int, thrifty: bool = False) -> list[Tensor]:
        """Run the first ``blocks`` blocks of the encoder on ``held``; their outputs, the skip connections.

        A thrifty call keeps the picture in the place of the first, which is cheaper made twice than kept: 1 % of
        the time.
        """
        skips: list[Tensor] = held.copy() if thrifty else []
        for i, block in enumerate(self.input_blocks[:blocks]):
            run(block, held, emb)
            if i > 0 or not thrifty:
                skips.append(held[0])
        return skips

    def _decode(
        self, held: list[Tensor], skips: list[Tensor], emb: Tensor, thrifty: bool, kept: int
    ) -> Tensor | None:
        """Run ``output_blocks`` on ``held``, each joined with the newest of ``skips``, which is let go.

        Returns what went into the last ``kept`` blocks.
        """
        deep: Tensor | None = None
        for i, block in enumerate(self.output_blocks):
            if thrifty and len(skips) == 1:
                run(self.input_blocks[0], skips, emb)
            if len(skips) == kept:
                deep = held[0].clone()
            held.append(skips.pop())
            # from here on the maps are the largest, and the deep ones are freed
            largest = i >= self._finest_output - 2
            if thrifty and i == self._finest_output - 2:
                release_threads()  # and what NNPACK keeps for them since the deep levels
            run(block, held, emb, release_freed if thrifty and largest else None)
        return deep

    def _output(self, held: list[Tensor]) -> Tensor:
        norm, convolution = cast(nn.GroupNorm, self.out[0]), cast(Convolution, self.out[2])
        if strips.pays(held, convolution):
            out = strips.convolve(strips.Normalised(held, *affine(held, norm)), convolution)
            held.clear()
        else:
            out = cast(Tensor, convolution(normalise(held.pop().float(), norm, overwrite=True)))
        fold = self.architecture.conventions.fold
        out = nn.functional.pixel_shuffle(out, fold) if fold > 1 else out
        return out.contiguous(memory_format=torch.channels_last)

    def _folded(self, x: Tensor) -> Tensor:
        fold = self.architecture.conventions.fold
        return nn.functional.pixel_unshuffle(x, fold) if fold > 1 else x

    def _thrifty(self, x: Tensor) -> bool:
        """Whether to trade 3 % of the time for memory: on a CPU, for large pictures, without gradients."""
        finest = x.shape[0] * x.shape[2] * x.shape[3] * self.architecture.widths[0]
        if x.device.type != "cpu" or finest < 2 * LARGE or torch.compiler.is_compiling():
            return False
        return not wants_grad(x, *self.parameters())

    def _check_class(self, y: Tensor | None) -> None:
        if (y is None) != (self.label_emb is None):
            takes = f"a class of {self.architecture.num_classes}" if self.label_emb else "no class"
            raise UsageError(f"this network takes {takes}, and was given {'none' if y is None else 'one'}")
