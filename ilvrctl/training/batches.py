"""From decoded pictures to batches of noised float pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ilvrctl.models.trunk_network import as_weight
from ilvrctl.training.draws import Draw
from ilvrctl.training.loss import Levels
from ilvrctl.training.pictures import Pictures

N = TypeVar("N", bound=nn.Module)


def as_channels_last(network: N, device: torch.device) -> N:
    """``network`` on ``device``, its convolutions in channels_last memory."""
    for parameter in network.parameters():
        parameter.data = as_weight(parameter.data, parameter.dtype, device)
    return network


def mapped(pictures: Pictures) -> Tensor:
    """All pictures, (N, H, W, C) uint8, mapped from their file: read when used."""
    shape = (pictures.count, pictures.size, pictures.size, pictures.channels)
    count = math.prod(shape)
    return torch.from_file(str(pictures.file), shared=False, size=count, dtype=torch.uint8).view(shape)


def floats(pixels: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """(B, H, W, C) uint8 as (B, C, H, W) float32 in [-1, 1], channels_last."""
    return pixels.to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def augmented(x: Tensor, flip: Tensor | None, shift: Tensor | None) -> Tensor:
    """``x`` (B, H, W, C) uint8 with pictures flipped where ``flip`` (B,) and moved by ``shift`` (B, 2) pixels.

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


@dataclass(frozen=True)
class Noised:
    """A batch on the device: pictures x0, noise eps and ``x_t``, each (B, C, H, W), at levels t (B,) int64."""

    x0: Tensor
    eps: Tensor
    t: Tensor
    x_t: Tensor


def noised(pixels: Tensor, random: Draw, mine: slice, flip: bool, levels: Levels) -> Noised:
    """``pixels`` (B, H, W, C) uint8, the part ``mine`` of a batch, changed and noised as ``random`` says."""
    changed = augmented(pixels, random.flip[mine] if flip else None, random.shift[mine])
    x0, t, eps = floats(changed, levels.alpha.device), random.t[mine], random.eps[mine]
    return Noised(x0, eps, t, levels.noised(x0, t, eps))
