"""Pixel metrics: identities, and agreement with torchmetrics within 1e-5."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ilvrctl.diffusion.lowpass import LowPass
from ilvrctl.metrics.pixel import MS_SSIM_SIDE, SCALES, l2, low_pass_distance, ms_ssim, mse, psnr, ssim

Metric = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    """Two batches of smooth pictures in [0, 1] that are not square."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 3, 25, 22, generator=generator, dtype=torch.float64)
    a, b = (torch.nn.functional.interpolate(x, size=(200, 176), mode="bicubic").clamp(0, 1) for x in coarse)
    return a, (0.7 * a + 0.3 * b)


def similarity(a: Tensor, b: Tensor, *, contrast: bool = False) -> Tensor:
    """SSIM (B,) by torchmetrics, of windows that lie inside: it mirrors the borders, and these are cut off here."""
    if contrast:
        found = structural_similarity_index_measure(
            a, b, data_range=1.0, reduction="none", return_contrast_sensitivity=True
        )
        return torch.as_tensor(found[1])
    found = structural_similarity_index_measure(
        a, b, data_range=1.0, reduction="none", return_full_image=True
    )
    return torch.as_tensor(found[1])[..., 5:-5, 5:-5].flatten(1).mean(1)


def test_ssim_is_that_of_torchmetrics(pair: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(ssim(*pair), similarity(*pair), atol=1e-5, rtol=0)


def test_ms_ssim_is_that_of_torchmetrics(pair: tuple[Tensor, Tensor]) -> None:
    """The parts are theirs, the product is Wang's: theirs keeps the mirrored borders at the coarsest scale."""
    by_channel = []
    for channel in range(3):
        a, b = (x[:, [channel]] for x in pair)
        product = torch.ones(len(a), dtype=torch.float64)
        for scale, weight in enumerate(SCALES):
            product *= similarity(a, b, contrast=scale < len(SCALES) - 1) ** weight
            a, b = (torch.nn.functional.avg_pool2d(x, 2) for x in (a, b))
        by_channel.append(product)
    torch.testing.assert_close(ms_ssim(*pair), torch.stack(by_channel).mean(0), atol=1e-5, rtol=0)


def test_psnr_is_that_of_torchmetrics(pair: tuple[Tensor, Tensor]) -> None:
    for a, b, ours in zip(*pair, psnr(*pair), strict=True):
        assert float(ours) == pytest.approx(float(peak_signal_noise_ratio(a, b, data_range=1.0)), abs=1e-5)


def test_egsde_gives_equal_pictures_100_db(pair: tuple[Tensor, Tensor]) -> None:
    assert float(psnr(pair[0], pair[0], floor=1e-10)[0]) == pytest.approx(100)
    assert float(psnr(pair[0], pair[0])[0]) == float("inf")


def test_l2_and_mse_of_a_known_difference() -> None:
    a = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    b = a + 0.5
    assert float(mse(a, b)) == 0.25
    assert float(l2(a, b)) == pytest.approx(0.5 * (3 * 64) ** 0.5)
    assert float(low_pass_distance(a, b, LowPass(4))) == pytest.approx(127.5, rel=1e-6)


@pytest.mark.parametrize("metric", [mse, l2, psnr, ssim, ms_ssim])
def test_a_metric_is_symmetric_and_does_not_know_the_batch(
    metric: Metric, pair: tuple[Tensor, Tensor]
) -> None:
    a, b = pair
    torch.testing.assert_close(metric(a, b), metric(b, a))
    alone = torch.cat([metric(x[None], y[None]) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(metric(a, b), alone)


@pytest.mark.parametrize(("metric", "best"), [(mse, 0.0), (l2, 0.0), (ssim, 1.0), (ms_ssim, 1.0)])
def test_equal_pictures_are_perfect(metric: Metric, best: float, pair: tuple[Tensor, Tensor]) -> None:
    assert metric(pair[0], pair[0].clone()).tolist() == pytest.approx([best] * 3, abs=1e-12)


def test_pictures_too_small_are_refused() -> None:
    small = torch.zeros(1, 3, 10, 40)
    with pytest.raises(ValueError, match="at least 11"):
        ssim(small, small)
    with pytest.raises(ValueError, match=f"at least {MS_SSIM_SIDE}"):
        ms_ssim(torch.zeros(1, 3, 160, 400), torch.zeros(1, 3, 160, 400))
