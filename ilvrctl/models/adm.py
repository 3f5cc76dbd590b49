"""The ADM U-Net: estimates the noise in a picture, and its variance if it has learned that.

Source: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis"; tensor names as in the
published checkpoints (guided-diffusion format).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ilvrctl.errors import UsageError
from ilvrctl.models.architecture import AdmArchitecture
from ilvrctl.models.encoder import AdmTrunk, run
from ilvrctl.models.layers import zeroed
from ilvrctl.models.memory import release_freed
from ilvrctl.models.norm import LARGE, normalise, wants_grad
from ilvrctl.models.plan import NORM_GROUPS


class AdmUNet(AdmTrunk):
    """The network of an :class:`AdmArchitecture`, weights at torch's defaults (zero where ADM's are)."""

    HALF = (*AdmTrunk.HALF, "output_blocks")

    def __init__(self, architecture: AdmArchitecture) -> None:
        super().__init__(architecture)
        self.architecture = architecture
        first = architecture.widths[0]
        self.label_emb: nn.Embedding | None = None
        if architecture.num_classes is not None:
            self.label_emb = nn.Embedding(architecture.num_classes, architecture.embedding_width)
        # the decoder joins its input with a skip connection: a copy
        self.output_blocks = self.build_blocks(architecture.decoder(), fresh_input=True)
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
        self.check_size(x)
        self._check_class(y)
        emb = self.embedding(t, self.label_emb(y) if self.label_emb is not None and y is not None else None)
        x = x.to(self.dtype, memory_format=torch.channels_last)
        thrifty = self._thrifty(x)
        held = [x]
        skips: list[Tensor] = []
        for block in self.input_blocks:
            run(block, held, emb)
            skips.append(held[0])
        if thrifty:
            skips[0] = x  # its first convolution is cheaper done twice than kept: 1 % of the time
        run(self.middle_block, held, emb)
        self._decode(held, skips, emb, thrifty)
        return self._output(held)

    def _decode(self, held: list[Tensor], skips: list[Tensor], emb: Tensor, thrifty: bool) -> None:
        """Run ``output_blocks`` on ``held``, each joined with the newest of ``skips``, which is let go."""
        for i, block in enumerate(self.output_blocks):
            if thrifty and i >= self._finest_output:
                release_freed()
            if thrifty and len(skips) == 1:
                run(self.input_blocks[0], skips, emb)
            held[0] = torch.cat((held[0], skips.pop()), dim=1)
            run(block, held, emb)

    def _output(self, held: list[Tensor]) -> Tensor:
        h = normalise(held.pop().float(), cast(nn.GroupNorm, self.out[0]), overwrite=True)
        return cast(Tensor, self.out[2](h)).contiguous(memory_format=torch.channels_last)

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
