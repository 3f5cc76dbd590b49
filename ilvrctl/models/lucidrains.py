"""The U-Net of lucidrains' denoising-diffusion-pytorch from 2.0 on, under the names of its files.

The first convolution's output joins the end again, each level has two skip connections, the picture is halved by
moving 2x2 pixels into channels, and attention is linear in the pixels but for the levels with full attention.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ilvrctl.errors import UsageError
from ilvrctl.models.architecture.blocks import Conventions
from ilvrctl.models.architecture.lucidrains import Attends, LucidrainsArchitecture
from ilvrctl.models.trunk_network import HalfPrecision, timestep_embedding

_EMBEDDING = Conventions(sine_first=True, frequency_shift=1.0)


class RMSNorm(nn.Module):
    """Each pixel's channels over the root of their mean square, times ``g`` (Zhang and Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), and the same."""
        g: Tensor = self.g * self.g.shape[1] ** 0.5
        return F.normalize(x, dim=1) * g.to(x.dtype)


class Block(nn.Module):
    """A convolution, normalised, scaled and shifted by the level, and SiLU."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(into, out, 3, padding=1)
        self.norm = RMSNorm(out)

    def forward(self, x: Tensor, signal: Tensor | None = None) -> Tensor:
        """``signal``: (B, 2 C), scale and shift."""
        h = self.norm(self.proj(x))
        if signal is not None:
            scale, shift = signal[:, :, None, None].to(h.dtype).chunk(2, dim=1)
            h = h * (scale + 1) + shift
        return F.silu(h)


class ResBlock(nn.Module):
    """Two blocks, the first told the level, beside a skip connection."""

    def __init__(self, into: int, out: int, embedding: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out))
        self.block1, self.block2 = Block(into, out), Block(out, out)
        self.res_conv = nn.Identity() if into == out else nn.Conv2d(into, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """``emb``: (B, E), the embedding of the level."""
        h: Tensor = self.block2(self.block1(x, self.mlp(emb)))
        return h + cast(Tensor, self.res_conv(x))


class Attention(nn.Module):
    """Attention with a skip connection, linear or full."""

    def __init__(self, width: int, plan: Attends) -> None:
        super().__init__()
        self.plan, inside = plan, plan.heads * plan.channels
        size = (plan.memory, plan.channels) if plan.full else (plan.channels, plan.memory)
        self.norm = RMSNorm(width)
        self.mem_kv = nn.Parameter(torch.randn(2, plan.heads, *size))
        self.to_qkv = nn.Conv2d(width, 3 * inside, 1, bias=False)
        out = nn.Conv2d(inside, width, 1)
        self.to_out: nn.Module = out if plan.full else nn.Sequential(out, RMSNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), and the same."""
        B, _, H, W = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(B, 3, self.plan.heads, self.plan.channels, H * W)
        q, k, v = (part.transpose(2, 3) for part in qkv.unbind(1))  # (B, heads, pixels, channels)
        memory = self.mem_kv if self.plan.full else self.mem_kv.transpose(2, 3)
        mk, mv = memory.to(q.dtype)[:, None].expand(-1, B, -1, -1, -1)
        k, v = torch.cat((mk, k), dim=2), torch.cat((mv, v), dim=2)
        if self.plan.full:
            a = F.scaled_dot_product_attention(q, k, v)
        else:
            context = k.float().softmax(dim=2).to(q.dtype).transpose(2, 3) @ v
            a = q.softmax(dim=3) * self.plan.channels**-0.5 @ context
        return x + cast(Tensor, self.to_out(a.transpose(2, 3).reshape(B, -1, H, W)))


class LucidrainsUnet(HalfPrecision):
    """The network of a :class:`LucidrainsArchitecture`, weights at torch's defaults."""

    HALF = LucidrainsArchitecture.HALF

    def __init__(self, architecture: LucidrainsArchitecture) -> None:
        super().__init__()
        self.architecture, self.dtype = architecture, torch.float32
        first, embedding = architecture.widths[0], 4 * architecture.width
        self.init_conv = nn.Conv2d(architecture.in_channels, first, 7, padding=3)
        self.time_mlp = nn.Sequential(
            nn.Identity(),
            nn.Linear(architecture.width, embedding),
            nn.GELU(),
            nn.Linear(embedding, embedding),
        )
        steps = list(
            zip(architecture.widths[:-1], architecture.widths[1:], architecture.attention, strict=True)
        )
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for i, (into, out, plan) in enumerate(steps):
            half: nn.Module = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * into, out, 1))
            step = half if i < len(steps) - 1 else nn.Conv2d(into, out, 3, padding=1)
            blocks = (ResBlock(into, into, embedding) for _ in range(2))
            self.downs.append(nn.ModuleList([*blocks, Attention(into, plan), step]))
        middle = architecture.widths[-1]
        self.mid_block1 = ResBlock(middle, middle, embedding)
        self.mid_attn = Attention(middle, architecture.middle)
        self.mid_block2 = ResBlock(middle, middle, embedding)
        for i, (into, out, plan) in reversed(list(enumerate(steps))):
            conv = nn.Conv2d(out, into, 3, padding=1)
            step = nn.Sequential(nn.Upsample(scale_factor=2), conv) if i > 0 else conv
            blocks = (ResBlock(out + into, out, embedding) for _ in range(2))
            self.ups.append(nn.ModuleList([*blocks, Attention(out, plan), step]))
        self.final_res_block = ResBlock(2 * first, first, embedding)
        self.final_conv = nn.Conv2d(first, architecture.out_channels, 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, before: Tensor | None = None) -> Tensor:
        """What the network predicts, (B, C or 2 C, H, W) float32.

        ``x``: (B, C, H, W) pictures in [-1, 1] plus noise, H and W multiples of ``downsample_factor``; ``t``: (B,)
        levels; ``y``: no classes, so None; ``before``: the last clean estimate, for networks with self-conditioning
        (zeros where there is none). UsageError for a size that does not fit.
        """
        factor = self.architecture.downsample_factor
        if x.shape[2] % factor or x.shape[3] % factor:
            raise UsageError(
                f"this network takes pictures whose sides are multiples of {factor} pixels, "
                f"not {x.shape[3]}x{x.shape[2]}"
            )
        if self.architecture.self_condition:
            x = torch.cat((torch.zeros_like(x) if before is None else before, x), dim=1)
        emb: Tensor = self.time_mlp(
            timestep_embedding(t, self.architecture.width, _EMBEDDING, self.architecture.theta)
        )
        stem = self.init_conv(x.contiguous(memory_format=torch.channels_last))
        h = self._middle(stem.to(self.dtype), emb).float()
        h = self.final_res_block(torch.cat((h, stem), dim=1), emb)
        return cast(Tensor, self.final_conv(h))

    def _middle(self, h: Tensor, emb: Tensor) -> Tensor:
        """All but the stem and the head, which stay in float32."""
        skips = []
        for first, second, attention, down in cast("list[list[nn.Module]]", self.downs):
            skips.append(first(h, emb))
            skips.append(attention(second(skips[-1], emb)))
            h = down(skips[-1])
        h = self.mid_block2(self.mid_attn(self.mid_block1(h, emb)), emb)
        for first, second, attention, up in cast("list[list[nn.Module]]", self.ups):
            h = first(torch.cat((h, skips.pop()), dim=1), emb)
            h = second(torch.cat((h, skips.pop()), dim=1), emb)
            h = up(attention(h))
        return h
