"""Pixel metrics of pairs of pictures: tensors (B, 3, H, W) in [0, 1], one number a pair, (B,).

EGSDE's protocol (arXiv 2207.06635) uses ``l2``, ``mse``, ``psnr`` with ``floor=1e-10`` and ``ssim`` at 256 px:
everything on [0, 1], per RGB channel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

WINDOW = 11
"""Pixels a side of the window of SSIM."""
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of MS-SSIM's scales, finest first (Wang, Simoncelli and Bovik 2003)."""
MS_SSIM_SIDE = (WINDOW - 1) * 2 ** (len(SCALES) - 1) + 1
"""The smallest side of a picture that MS-SSIM is defined for: the window must move at the coarsest scale."""


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference over channels and pixels."""
    return (a - b).square().flatten(1).mean(1)


def psnr(a: Tensor, b: Tensor, floor: float = 0.0) -> Tensor:
    """Peak signal-to-noise ratio in dB, ``-10 log10 (MSE + floor)``.

    Infinite for equal pictures; EGSDE's code adds a ``floor`` of 1e-10, which makes that 100 dB.
    """
    return -10 * (mse(a, b) + floor).log10()


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean norm of the difference of the pictures; grows with the size of the picture."""
    return (a - b).square().flatten(1).sum(1).sqrt()


def low_pass_distance(a: Tensor, b: Tensor, phi: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean of ``|phi_N(a) - phi_N(b)|`` in 1/255: how far ILVR's condition (Choi et al. 2021, eq. 6) is left."""
    return 255 * (phi(a) - phi(b)).abs().flatten(1).mean(1)


def ssim(a: Tensor, b: Tensor, sigma: float = 1.5, window: int = WINDOW) -> Tensor:
    """Structural similarity (Wang et al. 2004): Gaussian window 11x11, K = 0.01 and 0.03, mean over pixels and RGB.

    Only windows that lie inside the picture count. Raises ValueError for pictures smaller than the window.
    """
    luminance, structure = _similarity(a, b, sigma, window)
    return (luminance * structure).flatten(1).mean(1)


def ms_ssim(a: Tensor, b: Tensor, sigma: float = 1.5, window: int = WINDOW) -> Tensor:
    """Multi-scale SSIM (Wang et al. 2003): ``prod_j cs_j^w_j`` of five scales, the coarsest with its luminance.

    Means over pixels are clipped at 0 and the product is taken for every channel, then averaged; a scale is the
    2x2 average of the one before. Raises ValueError for pictures below 161 pixels a side.
    """
    if min(a.shape[-2:]) < MS_SSIM_SIDE:
        raise ValueError(f"MS-SSIM needs pictures of at least {MS_SSIM_SIDE} pixels a side")
    product = torch.ones(a.shape[:2], dtype=a.dtype, device=a.device)
    for scale, weight in enumerate(SCALES):
        luminance, structure = _similarity(a, b, sigma, window)
        last = scale == len(SCALES) - 1
        mean = (luminance * structure if last else structure).flatten(2).mean(2)
        product = product * mean.clamp(min=0) ** weight
        if not last:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return product.mean(1)


def _similarity(a: Tensor, b: Tensor, sigma: float, window: int) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast with structure, of every window: two maps (B, 3, H - 10, W - 10)."""
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
    return luminance, structure
