"""The first layers of the normalised VGG-19 of AdaIN style transfer (Huang and Belongie 2017; pytorch-AdaIN)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ilvrctl.errors import WeightsError
from ilvrctl.models.files.checkpoint import read_state_dict

_SHAPES = {"0.weight": (3, 3, 1, 1), "0.bias": (3,), "2.weight": (64, 3, 3, 3), "2.bias": (64,)}


class Relu11(nn.Sequential):
    """relu1_1: (B, 3, H, W) RGB on [0, 1] to (B, 64, H, W) >= 0; the 1x1 layer does the mean and the channel order.

    The places of the layers are those of the published ``nn.Sequential``.
    """

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 3, 1), nn.ReflectionPad2d(1), nn.Conv2d(3, 64, 3), nn.ReLU())


def load_relu1_1(path: Path, *, device: torch.device) -> Relu11:
    """The layers up to relu1_1 of ``vgg_normalised.pth`` (what follows is left out), float32, without gradients.

    WeightsError when the file is another network.
    """
    tensors = read_state_dict(path, dtype=torch.float32, only=_SHAPES)
    found: dict[str, Tensor] = {name: tensors[name] for name in _SHAPES if name in tensors}
    if {name: tuple(x.shape) for name, x in found.items()} != _SHAPES:
        raise WeightsError(
            f"{path}: not the normalised VGG encoder (layers 0 and 2 of vgg_normalised.pth are not there)",
            "ilvrctl download vgg_normalised",
        )
    with torch.device("meta"):
        network = Relu11()
    network.load_state_dict({name: x.to(device) for name, x in found.items()}, strict=True, assign=True)
    return network.requires_grad_(False).eval()
