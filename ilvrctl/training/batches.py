"""From decoded pictures to batches of noised float pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ilvrctl.devices import uploaded
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


def floats(pixels: Tensor) -> Tensor:
    """(B, H, W, C) uint8 as (B, C, H, W) float32 in [-1, 1], channels_last."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def augmented(x: Tensor, flip: Tensor | None, shift: Tensor) -> Tensor:
    """``x`` (B, H, W, C) with pictures flipped where ``flip`` (B,) and moved by ``shift`` (B, 2) pixels.

    Pixels that a shift brings in repeat the edge.
    """
    picture = torch.arange(len(x), device=x.device)[:, None]
    rows, columns = (
        (torch.arange(size, device=x.device) + shift[:, n, None]).clamp(0, size - 1)
        for n, size in enumerate(x.shape[1:3])
    )
    if flip is not None:
        columns = torch.where(flip[:, None], x.shape[2] - 1 - columns, columns)
    return x[picture[..., None], rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True)
class Noised:
    """A batch on the device: pictures x0, noise eps and ``x_t``, each (B, C, H, W), at levels t (B,) int64."""

    x0: Tensor
    eps: Tensor
    t: Tensor
    x_t: Tensor


def noised(pixels: Tensor, random: Draw, mine: slice, flip: bool, levels: Levels) -> Noised:
    """``pixels`` (B, H, W, C) uint8, the part ``mine`` of a batch, changed and noised as ``random`` says."""
    seen = uploaded(pixels, levels.alpha.device)
    x0 = floats(augmented(seen, random.flip[mine] if flip else None, random.shift[mine]))
    t, eps = random.t[mine], random.eps[mine]
    return Noised(x0, eps, t, levels.noised(x0, t, eps))
