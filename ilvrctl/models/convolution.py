"""The convolution of the networks: the same sums, computed the way that is fastest on this machine."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ilvrctl.models import winograd
from ilvrctl.models.norm import wants_grad


class Convolution(nn.Conv2d):
    """A 2D convolution (B, C, H, W) to (B, O, H', W'), without gradients by Winograd's method where that pays.

    On a CPU that has no bf16 torch emulates it, eight times slower than float32 on 2 cores with AVX2: there the
    sums are made of float32 copies and rounded once, as the hardware with bf16 does.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The result, in the input's precision."""
        if winograd.pays(x, self):
            return winograd.convolve(x, self)
        if self._emulated(x):
            bias = None if self.bias is None else self.bias.float()
            return F.conv2d(x.float(), self.weight.float(), bias, self.stride, self.padding).to(x.dtype)
        if self.kernel_size == (1, 1) and x.device.type == "cpu":
            # a matrix product needs no memory of its own
            return F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)
        return super().forward(x)

    def _emulated(self, x: Tensor) -> bool:
        half = self.weight.dtype == x.dtype == torch.bfloat16
        return half and x.device.type == "cpu" and _no_bf16() and not wants_grad(x, self.weight)


@cache
def _no_bf16() -> bool:
    return torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")
