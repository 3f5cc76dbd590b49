"""The convolution of the networks: the same sums, computed the way that is fastest on this machine."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ilvrctl.models.cpu import strips, winograd
from ilvrctl.models.cpu.norm import wants_grad


class Convolution(nn.Conv2d):
    """A 2D convolution (B, C, H, W) to (B, O, H', W'); on a CPU, without gradients, by Winograd's method where that
    pays, and in float32 where bfloat16 would be emulated.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The result, in the input's precision."""
        if x.device.type != "cpu" or torch.compiler.is_compiling() or wants_grad(x, self.weight):
            return super().forward(x)
        if winograd.pays(self, x.dtype, *x.shape[2:]):
            return strips.convolve(strips.Plain(x), self)
        dtype = strips.computing_dtype(self.weight)
        weight, bias = self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)
        if self.kernel_size == (1, 1):  # a matrix product needs no memory of its own
            found = F.linear(x.permute(0, 2, 3, 1).to(dtype), weight[:, :, 0, 0], bias).permute(0, 3, 1, 2)
        else:
            found = F.conv2d(x.to(dtype), weight, bias, self.stride, self.padding)
        return found.to(x.dtype)
