"""The straightforward network to measure against: the published arithmetic, written as the published code does it.

NCHW float32, ``nn.GroupNorm``, SiLU and scale-shift as separate operations, the time embedding in
every call, skip connections joined by ``torch.cat``, attention by explicit matrix products. Only for benchmarks.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.cpu.convolution import Convolution
from ilvrctl.models.layers import AttentionBlock, Downsample, ResBlock, StemConvolution, Upsample
from ilvrctl.models.trunk_network import timestep_embedding


class PlainUNet(nn.Module):
    """Calls the layers of ``network``, whose weights it copies as NCHW float32, in the plainest way."""

    def __init__(self, network: AdmUNet) -> None:
        super().__init__()
        import copy

        self.network = copy.deepcopy(network).to_precision(torch.float32)
        for parameter in self.network.parameters():
            parameter.data = parameter.data.contiguous(memory_format=torch.contiguous_format)
        for module in self.network.modules():
            if type(module) is Convolution:
                module.__class__ = nn.Conv2d

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """As :meth:`AdmUNet.forward`."""
        net = self.network
        emb = net.time_embed(timestep_embedding(t, net.trunk.model_channels, net.trunk.conventions))
        if net.label_emb is not None and y is not None:
            emb = emb + net.label_emb(y)
        h, skips = x, []
        for block in net.input_blocks:
            h = _block(block, h, emb)
            skips.append(h)
        h = _block(net.middle_block, h, emb)
        for block in net.output_blocks:
            h = _block(block, torch.cat([h, skips.pop()], dim=1), emb)
        out: Tensor = net.out(h)
        return out


def _block(block: Any, h: Tensor, emb: Tensor) -> Tensor:
    for layer in block:
        h = _layer(layer, h, emb)
    return h


def _layer(layer: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
    if isinstance(layer, ResBlock):
        return _residual(layer, h, emb)
    if isinstance(layer, AttentionBlock):
        return _attention(layer, h)
    if isinstance(layer, StemConvolution):
        return F.conv2d(h, layer.weight, layer.bias, padding=1)
    if isinstance(layer, Upsample):
        h = F.interpolate(h, scale_factor=2, mode="nearest")
        return h if layer.conv is None else layer.conv(h)
    assert isinstance(layer, Downsample)
    if layer.op is None:
        return F.avg_pool2d(h, 2)
    return layer.op(F.pad(h, (0, 1, 0, 1)) if layer.pads_after else h)


def _residual(layer: ResBlock, x: Tensor, emb: Tensor) -> Tensor:
    h = F.silu(layer.in_layers[0](x))
    if layer.resample == "up":
        h, x = (F.interpolate(v, scale_factor=2, mode="nearest") for v in (h, x))
    elif layer.resample == "down":
        h, x = (F.avg_pool2d(v, 2) for v in (h, x))
    h = layer.in_layers[2](h)
    signal = layer.emb_layers(emb)[:, :, None, None]
    if layer.scale_shift:
        scale, shift = signal.chunk(2, dim=1)
        h = layer.out_layers[0](h) * (1 + scale) + shift
    else:
        h = layer.out_layers[0](h + signal)
    return layer.skip_connection(x) + layer.out_layers[3](F.silu(h))


def _attention(layer: AttentionBlock, x: Tensor) -> Tensor:
    B, C, H, W = x.shape
    flat = x.reshape(B, C, -1)
    qkv = layer.qkv(
        F.group_norm(flat, layer.norm.num_groups, layer.norm.weight, layer.norm.bias, layer.norm.eps)
    )
    heads, d = layer.heads, C // layer.heads
    if layer.new_order:
        q, k, v = (part.reshape(B * heads, d, -1) for part in qkv.chunk(3, dim=1))
    else:
        q, k, v = qkv.reshape(B * heads, 3 * d, -1).split(d, dim=1)
    scale = 1 / math.sqrt(math.sqrt(d))
    weight = torch.einsum("bct,bcs->bts", q * scale, k * scale).softmax(dim=-1)
    a = torch.einsum("bts,bcs->bct", weight, v).reshape(B, C, -1)
    return (flat + layer.proj_out(a)).reshape(B, C, H, W)
