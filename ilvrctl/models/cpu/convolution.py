"""The convolution of the networks: the same sums, computed the way that is fastest on this machine."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ilvrctl.models.cpu import strips
from ilvrctl.models.cpu.choice import kernel_for
from ilvrctl.models.cpu.kernels import Direct, computing_dtype
from ilvrctl.models.cpu.norm import wants_grad


class Convolution(nn.Conv2d):
    """A 2D convolution (B, C, H, W) to (B, O, H', W'); on a CPU, without gradients, in the way that is fastest
    there, and in float32 where bfloat16 would be emulated.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The result, in the input's precision."""
        if not self.without_gradients(x):
            return super().forward(x)
        if kernel_for(self, self.weight.dtype, *x.shape[2:]) is not Direct:
            return self.in_strips(x, strips.layout_of(x))
        dtype = computing_dtype(self.weight)
        weight, bias = self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)
        if self.kernel_size == (1, 1):  # a matrix product needs no memory of its own
            found = F.linear(x.permute(0, 2, 3, 1).to(dtype), weight[:, :, 0, 0], bias).permute(0, 3, 1, 2)
        else:
            found = F.conv2d(x.to(dtype), weight, bias, self.stride, self.padding)
        return found.to(x.dtype)

    def without_gradients(self, x: Tensor) -> bool:
        """Whether ``x`` is on a CPU, and nobody will ask for gradients or compile this."""
        return x.device.type == "cpu" and not torch.compiler.is_compiling() and not wants_grad(x, self.weight)

    def in_strips(self, x: Tensor, layout: torch.memory_format) -> Tensor:
        """The result of a layer that keeps the size, in the input's precision and in this memory layout."""
        shape = (len(x), self.out_channels, *x.shape[2:])
        out = torch.empty(shape, dtype=self.weight.dtype, memory_format=layout)
        return strips.convolve(strips.Plain(x), self, out=out).to(x.dtype)
