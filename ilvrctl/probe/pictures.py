"""The pictures that the probe denoises: four photographs, and for small networks drawings too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilvrctl import paths
from ilvrctl.images.channels import in_channels
from ilvrctl.images.geometry import fit_picture
from ilvrctl.images.io import read_bytes, read_picture
from ilvrctl.images.tensors import to_tensor

if TYPE_CHECKING:
    from torch import Tensor

DRAWINGS = ("fox", "cup", "mushroom", "tangerine")
DRAWING_SIZE = 64
"""Pixels of the drawings: blown up they would be a blur, which no network was trained on."""


def probe_pictures(size: int, channels: int = 3) -> tuple[Tensor, tuple[str, ...]]:
    """The pictures (B, channels, size, size) in [-1, 1], and their names."""
    import torch

    files = sorted(paths.PHOTOS.glob("*.jpg"))
    if size <= DRAWING_SIZE:
        files += [paths.EXAMPLES / f"{name}.png" for name in DRAWINGS]
    white = (255, 255, 255)
    read = [read_picture(read_bytes(f), f.name) for f in files]
    taken = [in_channels(one, "", channels, white, grey=True)[0] for one in read]
    images = [fit_picture(one, size, "crop", white) for one in taken]
    return torch.stack([to_tensor(image) for image in images]), tuple(f.stem for f in files)
