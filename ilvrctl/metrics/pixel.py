"""Pixel metrics of pairs of pictures: tensors (B, 3, H, W) in [0, 1], one number a pair, (B,).

Definitions of EGSDE's protocol (arXiv 2207.06635): everything on [0, 1], per RGB channel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference over channels and pixels."""
    return (a - b).square().flatten(1).mean(1)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, ``-10 log10 MSE``; infinite for equal pictures."""
    return -10 * mse(a, b).log10()


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean norm of the difference of the pictures; grows with the size of the picture."""
    return (a - b).square().flatten(1).sum(1).sqrt()


def ssim(a: Tensor, b: Tensor, sigma: float = 1.5, window: int = 11) -> Tensor:
    """Structural similarity (Wang et al. 2004): Gaussian window 11x11, K = 0.01 and 0.03, mean over pixels and RGB.

    Only windows that lie inside the picture count. Raises ValueError for pictures smaller than the window.
    """
    if min(a.shape[-2:]) < window:
        raise ValueError(f"SSIM needs pictures of at least {window} pixels a side")
    offsets = torch.arange(window, dtype=a.dtype, device=a.device) - window // 2
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()

    def blur(x: Tensor) -> Tensor:
        flat = x.reshape(-1, 1, *x.shape[-2:])
        rows = F.conv2d(flat, kernel.view(1, 1, -1, 1))
        return F.conv2d(rows, kernel.view(1, 1, 1, -1)).view(
            *x.shape[:2], *(n - window + 1 for n in x.shape[-2:])
        )

    mean_a, mean_b = blur(a), blur(b)
    var_a = blur(a * a) - mean_a.square()
    var_b = blur(b * b) - mean_b.square()
    cov = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * cov + c2) / (var_a + var_b + c2)
    return (luminance * structure).flatten(1).mean(1)
