"""The layers of an ADM or DDPM U-Net, with the tensor names of the guided-diffusion format.

Each layer takes a list that holds its input alone and empties it: so the input is freed as soon as the layer
is done with it, not when the caller's frame lets go. A residual block may be given its input in several parts,
to be joined along channels. Features are (B, C, H, W) in channels_last memory.
Source: Dhariwal & Nichol 2021 (ADM), section 3 and appendix A.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ilvrctl.models.architecture.blocks import Attention, Conventions, Down, Layer, Res, Stem, Up
from ilvrctl.models.cpu import strips
from ilvrctl.models.cpu.choice import layout_for
from ilvrctl.models.cpu.convolution import Convolution
from ilvrctl.models.cpu.norm import affine, normalise, wants_grad


class Feature(nn.Module):
    """Base of the layers: ``held`` is a list of one (B, C, H, W) tensor, emptied; ``emb``: (B, E) float32."""

    def forward(self, held: list[Tensor], emb: Tensor) -> Tensor:
        """The layer's output (B, C', H', W')."""
        raise NotImplementedError


class ResBlock(Feature):
    """Two normalised convolutions with the time embedding between them, beside a skip connection.

    ``fresh_input`` says that nobody else needs the input, so that its memory may be reused.
    """

    def __init__(
        self, plan: Res, embedding: int, scale_shift: bool, conventions: Conventions, *, fresh_input: bool
    ) -> None:
        super().__init__()
        into, out = plan.in_channels, plan.out_channels
        self.resample = plan.resample
        self.fresh_input = fresh_input
        self.scale_shift = scale_shift
        self.in_layers = nn.Sequential(
            group_norm(into, conventions), nn.SiLU(), Convolution(into, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out if scale_shift else out))
        self.out_layers = nn.Sequential(
            group_norm(out, conventions),
            nn.SiLU(),
            nn.Identity(),
            zeroed(Convolution(out, out, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if into == out else Convolution(into, out, 1)

    def forward(self, held: list[Tensor], emb: Tensor) -> Tensor:
        """``held``: the input, or parts of it to be joined along channels; ``emb``: SiLU of the embedding, (B, E)
        float32.
        """
        parts = held.copy()
        held.clear()
        signal: Tensor = self.emb_layers[1](emb)
        if strips.pays(parts, self._convolution(self.in_layers)):
            return self._in_strips(parts, signal)
        x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        parts.clear()
        skip = x if self.resample == "up" else self.skip_connection(_halve(x, self.resample))
        h = normalise(x, self._norm(self.in_layers), overwrite=self.fresh_input and skip is not x)
        del x
        h = _twice(h) if self.resample == "up" else _halve(h, self.resample)
        h = self._convolution(self.in_layers)(h)
        if not self.scale_shift:
            h = _add(h, signal[:, :, None, None].to(h.dtype))
        h = normalise(h, self._norm(self.out_layers), self._scale_shift(signal), overwrite=True)
        h = self._convolution(self.out_layers)(h)
        return _add_twice(h, skip) if self.resample == "up" else _add(h, skip)

    def _in_strips(self, parts: list[Tensor], signal: Tensor) -> Tensor:
        """As :meth:`forward`, without the joined, normalised and enlarged maps."""
        first, second = self._convolution(self.in_layers), self._convolution(self.out_layers)
        bias = None if self.scale_shift else cast(Tensor, first.bias) + signal
        rows: strips.Rows = strips.Normalised(parts, *affine(parts, self._norm(self.in_layers)))
        sums = torch.empty(2, len(signal), first.out_channels, dtype=torch.float64)
        if self.resample == "up":
            (skip,) = parts
            h = strips.convolve(strips.Twice(rows), first, bias=bias, sums=sums)
        else:
            if self.resample == "down":
                rows = strips.Plain(strips.halved(rows, first))
                parts = [strips.halved(strips.Plain(part), first) for part in parts]
            skip, h = self._skip_and_first(rows, parts, bias, sums)
        parts.clear()
        norm = self._norm(self.out_layers)
        rows = strips.Normalised([h], *affine([h], norm, self._scale_shift(signal), sums))
        return strips.convolve(rows, second, addend=skip, out=h)

    def _skip_and_first(
        self, rows: strips.Rows, parts: list[Tensor], bias: Tensor | None, sums: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The skip connection of ``parts`` and the first convolution of ``rows`` with its ``sums``, in their memory
        where it fits.
        """
        first = self._convolution(self.in_layers)
        if isinstance(self.skip_connection, nn.Identity):
            skip = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            return skip, strips.convolve(rows, first, bias=bias, sums=sums)
        layer = cast(nn.Conv2d, self.skip_connection)
        free = [part for part in parts if self.fresh_input and part.shape[1] == layer.out_channels]
        if len(free) < 2:
            skip = strips.pointwise(parts, layer)
            return skip, strips.convolve(rows, first, bias=bias, out=free[0] if free else None, sums=sums)
        skip, h = free

        def write(i: int, top: int, bottom: int) -> None:
            strips.pointwise_rows(parts, layer, i, top, bottom, skip)

        return skip, strips.convolve(rows, first, bias=bias, out=h, beside=write, sums=sums)

    def _scale_shift(self, signal: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.scale_shift:
            return None
        scale, shift = signal.chunk(2, dim=1)
        return scale, shift

    @staticmethod
    def _norm(layers: nn.Sequential) -> nn.GroupNorm:
        return cast(nn.GroupNorm, layers[0])

    @staticmethod
    def _convolution(layers: nn.Sequential) -> Convolution:
        return cast(Convolution, layers[-1])


class AttentionBlock(Feature):
    """Self-attention over all pixels with a skip connection; ``new_order``: ``use_new_attention_order``."""

    def __init__(self, plan: Attention, conventions: Conventions, *, new_order: bool) -> None:
        super().__init__()
        self.heads = plan.heads
        self.new_order = new_order
        self.scale = (
            plan.channels**-0.5 if conventions.whole_width else None
        )  # None: the root of a head's channels
        self.norm = group_norm(plan.channels, conventions)
        self.qkv = nn.Conv1d(plan.channels, 3 * plan.channels, 1)
        self.proj_out = zeroed(nn.Conv1d(plan.channels, plan.channels, 1))

    def forward(self, held: list[Tensor], emb: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(channels of a head)) v for each head, then ``proj_out``; ``emb`` is unused."""
        x = held.pop()
        B, C, H, W = x.shape
        h = normalise(x, self.norm, silu=False)
        tokens = h.permute(0, 2, 3, 1).reshape(B, H * W, C)
        qkv = F.linear(tokens, self.qkv.weight[:, :, 0], self.qkv.bias)
        del h, tokens
        # channels of qkv: legacy (head, q|k|v, channel), new (q|k|v, head, channel)
        if self.new_order:
            q, k, v = qkv.view(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = qkv.view(B, H * W, self.heads, 3, -1).permute(3, 0, 2, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).reshape(B, H * W, C)
        a = F.linear(a, self.proj_out.weight[:, :, 0], self.proj_out.bias)
        return _add(a.view(B, H, W, C).permute(0, 3, 1, 2), x)


class StemConvolution(Convolution):
    """The first convolution: ``weight`` and ``bias`` have no further name."""

    def forward(self, held: list[Tensor], emb: Tensor) -> Tensor:  # type: ignore[override]
        """Picture to features, laid out in memory as those who read them like it; ``emb`` is unused."""
        x = held.pop()
        if self.without_gradients(x):
            layout = layout_for(self.out_channels, self.weight.dtype, *x.shape[2:])
            if layout == torch.contiguous_format:
                return self.in_strips(x, layout)
        return super().forward(x)


class Downsample(Feature):
    """Half the size: convolution ``op`` of stride 2, or the mean of 2x2 pixels."""

    def __init__(self, plan: Down, conventions: Conventions) -> None:
        super().__init__()
        self.pads_after = conventions.pads_after
        padding = 0 if self.pads_after else 1
        self.op = (
            Convolution(plan.channels, plan.channels, 3, stride=2, padding=padding)
            if plan.convolution
            else None
        )

    def forward(self, held: list[Tensor], emb: Tensor) -> Tensor:
        """``emb`` is unused."""
        x = held.pop()
        if self.op is None:
            return _halve(x, "down")
        return cast(Tensor, self.op(F.pad(x, (0, 1, 0, 1)) if self.pads_after else x))


class Upsample(Feature):
    """Twice the size by repeating pixels, then the convolution ``conv`` if there is one."""

    def __init__(self, plan: Up) -> None:
        super().__init__()
        self.conv = Convolution(plan.channels, plan.channels, 3, padding=1) if plan.convolution else None

    def forward(self, held: list[Tensor], emb: Tensor) -> Tensor:
        """``emb`` is unused."""
        x = _twice(held.pop())
        return x if self.conv is None else cast(Tensor, self.conv(x))


def build_layer(
    plan: Layer,
    embedding: int,
    conventions: Conventions,
    *,
    scale_shift: bool,
    new_order: bool,
    fresh_input: bool,
) -> nn.Module:
    """The module of one planned layer; ``embedding`` is the width of the time embedding."""
    match plan:
        case Stem():
            return StemConvolution(plan.in_channels, plan.out_channels, 3, padding=1)
        case Res():
            return ResBlock(plan, embedding, scale_shift, conventions, fresh_input=fresh_input)
        case Attention():
            return AttentionBlock(plan, conventions, new_order=new_order)
        case Down():
            return Downsample(plan, conventions)
        case Up():
            return Upsample(plan)


def zeroed(layer: nn.Conv2d | nn.Conv1d) -> nn.Conv2d | nn.Conv1d:
    """``layer`` with zero weights: an untrained network starts as its skip connections (ADM's code)."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int, conventions: Conventions) -> nn.GroupNorm:
    """The normalisation of ``channels``."""
    return nn.GroupNorm(conventions.groups, channels, eps=conventions.eps)


def _halve(x: Tensor, resample: str) -> Tensor:
    return F.avg_pool2d(x, 2) if resample == "down" else x


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _add(h: Tensor, x: Tensor) -> Tensor:
    """``h + x``; takes the memory of ``h``, which must be fresh, when no gradient is needed."""
    return h + x if wants_grad(h, x) else h.add_(x)


def _add_twice(h: Tensor, x: Tensor) -> Tensor:
    """``h`` plus ``x`` at twice its size; without gradients the larger ``x`` is never made."""
    if wants_grad(h, x) or torch.compiler.is_compiling():
        return h + _twice(x)
    return strips.add_twice(h, x)
