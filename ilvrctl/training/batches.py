"""From decoded pictures to batches of float pictures."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ilvrctl.models.trunk_network import as_weight
from ilvrctl.training.pictures import Pictures

N = TypeVar("N", bound=nn.Module)


def as_channels_last(network: N, device: torch.device) -> N:
    """``network`` on ``device``, its convolutions in channels_last memory."""
    for parameter in network.parameters():
        parameter.data = as_weight(parameter.data, parameter.dtype, device)
    return network


def mapped(pictures: Pictures) -> Tensor:
    """All pictures, (N, H, W, 3) uint8, mapped from their file: read when used."""
    shape = (pictures.count, pictures.size, pictures.size, 3)
    count = shape[0] * shape[1] * shape[2] * 3
    return torch.from_file(str(pictures.file), shared=False, size=count, dtype=torch.uint8).view(shape)


def floats(pixels: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """(B, H, W, 3) uint8 as (B, 3, H, W) float32 in [-1, 1], channels_last."""
    return pixels.to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def augmented(x: Tensor, flip: Tensor | None, shift: Tensor | None) -> Tensor:
    """``x`` (B, H, W, 3) uint8 with pictures flipped where ``flip`` (B,) and moved by ``shift`` (B, 2) pixels.

    Pixels that a shift brings in repeat the edge.
    """
    if flip is not None:
        x = torch.where(flip[:, None, None, None], x.flip(2), x)
    if shift is None or not shift.any():
        return x
    n = int(shift.abs().max())
    size = x.shape[1]
    planes = x.permute(0, 3, 1, 2).float()
    padded = F.pad(planes, (n, n, n, n), mode="replicate").to(torch.uint8).permute(0, 2, 3, 1)
    corners = (shift + n).tolist()
    return torch.stack(
        [
            picture[top : top + size, left : left + size]
            for picture, (top, left) in zip(padded, corners, strict=True)
        ]
    )
