"""The classifiers of guided-diffusion: features of a noised picture, and what it shows.

Source: Dhariwal & Nichol 2021 (ADM), section 4; EGSDE (Zhao et al. 2022, section 3.2) compares the features of
the middle block.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ilvrctl.errors import UsageError
from ilvrctl.models.architecture.classifier import ClassifierArchitecture
from ilvrctl.models.cpu.norm import normalise
from ilvrctl.models.layers import group_norm, zeroed
from ilvrctl.models.trunk_network import AdmTrunk, run


class AttentionPool(nn.Module):
    """One vector from features: the attention that their mean pays to each pixel (ADM's code, after CLIP)."""

    def __init__(self, channels: int, positions: int, heads: int, out_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(channels, positions) / channels**0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out_channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out_channels). Only the mean asks; the channels of q are (head, channel)."""
        B, C = h.shape[:2]
        tokens = h.flatten(2).transpose(1, 2)
        tokens = torch.cat((tokens.mean(1, keepdim=True), tokens), dim=1) + self.positional_embedding.T
        qkv = F.linear(tokens, self.qkv_proj.weight[:, :, 0], self.qkv_proj.bias)
        q, k, v = qkv.view(B, -1, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q[:, :, :1], k, v).reshape(B, C)
        return F.linear(a, self.c_proj.weight[:, :, 0], self.c_proj.bias)


class AdmClassifier(AdmTrunk):
    """The network of a :class:`ClassifierArchitecture`, weights at torch's defaults (zero where ADM's are)."""

    def __init__(self, architecture: ClassifierArchitecture) -> None:
        super().__init__(architecture)
        self.architecture = architecture
        self.out = _head(architecture)

    def features(self, x: Tensor, t: Tensor) -> Tensor:
        """The output of the middle block, (B, C, H / f, W / f) float32 with f = ``downsample_factor``.

        ``x``: (B, 3, H, W) pictures in [-1, 1] plus noise; ``t``: (B,) levels of the original chain. UsageError
        for a size that does not fit.
        """
        held, emb = self._start(x, t)
        for block in (*self.input_blocks, self.middle_block):
            run(block, held, emb)
        return held[0].float()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The logits (B, classes) float32; see :meth:`features` for the arguments.

        The attention pool works at the picture size of its training only: UsageError for another.
        """
        if self.architecture.pool.startswith("spatial"):
            return cast(Tensor, self.out(self._means(x, t)))
        h = self.features(x, t)
        if self.architecture.pool == "attention" and h.shape[2] * h.shape[3] + 1 != self.architecture.head:
            raise UsageError(
                f"the head of this classifier takes features of {self.architecture.head - 1} pixels, "
                f"not {h.shape[3]}x{h.shape[2]}"
            )
        h = normalise(h, cast(nn.GroupNorm, self.out[0]))
        return cast(Tensor, self.out[2:](h))

    def _means(self, x: Tensor, t: Tensor) -> Tensor:
        """The means over the pixels of every block's output, joined: (B, ``pooled_width``)."""
        held, emb = self._start(x, t)
        means = []
        for block in (*self.input_blocks, self.middle_block):
            run(block, held, emb)
            means.append(held[0].float().mean((2, 3)))
        return torch.cat(means, dim=1)

    def _start(self, x: Tensor, t: Tensor) -> tuple[list[Tensor], Tensor]:
        self.check_size(x)
        return [x.to(self.dtype, memory_format=torch.channels_last)], self.embedding(t)


def _head(architecture: ClassifierArchitecture) -> nn.Sequential:
    """From features to logits, in the places of the published state dicts."""
    width, classes, size = architecture.pooled_width, architecture.out_channels, architecture.head
    match architecture.pool:
        case "adaptive":
            last = zeroed(nn.Conv2d(width, classes, 1))
            norm = group_norm(width, architecture.conventions)
            return nn.Sequential(norm, nn.SiLU(), nn.AdaptiveAvgPool2d(1), last, nn.Flatten())
        case "attention":
            norm = group_norm(width, architecture.conventions)
            heads = architecture.hidden.heads(width)
            return nn.Sequential(norm, nn.SiLU(), AttentionPool(width, size, heads, classes))
        case "spatial":
            return nn.Sequential(nn.Linear(width, size), nn.ReLU(), nn.Linear(size, classes))
        case "spatial_v2":
            norm = group_norm(size, architecture.conventions)
            return nn.Sequential(nn.Linear(width, size), norm, nn.SiLU(), nn.Linear(size, classes))
