from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from ilvrctl.diffusion.lowpass import KERNELS, LowPass, check_factor, resize_weights
from ilvrctl.errors import UsageError

CASES = golden("lowpass.pt")
SIZES_AND_FACTORS = [(48, 1), (48, 2), (48, 3), (48, 6), (60, 5), (64, 8), (36, 36)]


def picture(size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['size']}-N{c['N']}-{c['kernel']}")
def test_phi_equals_the_published_resizer_within_1e_5(case: dict[str, Any]) -> None:
    x = case["x"]
    if x is None:  # the large pictures are stored as their seed
        x = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(case["x_seed"]))
    phi = LowPass(case["N"], case["kernel"])
    rows, columns = case["up"].shape[-2:]
    torch.testing.assert_close(phi.down(x), case["down"], atol=1e-5, rtol=0)
    torch.testing.assert_close(phi(x)[..., :rows, :columns], case["up"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "N"), SIZES_AND_FACTORS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_phi_is_linear_and_keeps_constants(size: int, N: int, kernel: str) -> None:
    phi = LowPass(N, kernel)
    x, y = picture(size, 1), picture(size, 2)
    torch.testing.assert_close(phi(2 * x - 3 * y), 2 * phi(x) - 3 * phi(y), atol=1e-4, rtol=0)
    torch.testing.assert_close(phi(torch.full_like(x, 0.7)), torch.full_like(x, 0.7), atol=1e-5, rtol=0)


@pytest.mark.parametrize("N", [2, 3, 5, 10])
def test_the_box_kernel_takes_block_means_and_is_a_projection(N: int) -> None:
    phi, x = LowPass(N, "box"), picture(30)
    means = torch.nn.functional.avg_pool2d(x, N)
    torch.testing.assert_close(phi.down(x), means, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        phi(x), means.repeat_interleave(N, -1).repeat_interleave(N, -2), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(phi(phi(x)), phi(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", ["cubic", "linear", "lanczos3", "gaussian"])
def test_the_smooth_kernels_are_no_projections(kernel: str) -> None:
    phi, x = LowPass(4, kernel), picture(64)
    assert (phi(phi(x)) - phi(x)).abs().max() > 0.01


def test_the_gaussian_has_no_weight_below_0_and_half_a_coarse_pixel_of_deviation() -> None:
    point = torch.zeros(1, 1, 64, 64)
    point[..., 30, 30] = 1
    assert float(LowPass(4, "gaussian")(point).min()) >= 0
    assert float(LowPass(4, "cubic")(point).min()) < 0
    weights = torch.tensor(resize_weights(64, 8, "gaussian")[4])  # around pixel 35.5, 4 pixels of deviation
    place = torch.arange(64) - 35.5
    torch.testing.assert_close(float((weights * place.square()).sum().sqrt()), 4.0, atol=0.1, rtol=0)


def test_phi_works_on_each_axis_by_itself() -> None:
    x = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    assert LowPass(4)(x).shape == x.shape
    torch.testing.assert_close(LowPass(4)(x.mT), LowPass(4)(x).mT, atol=1e-6, rtol=0)


@given(N=st.integers(1, 40), size=st.integers(1, 80))
@settings(max_examples=60)
def test_a_factor_is_taken_exactly_when_it_divides_the_size(N: int, size: int) -> None:
    if size % N == 0:
        check_factor(N, size)
        x = torch.full((1, 1, size, size), 0.5)
        torch.testing.assert_close(LowPass(N)(x), x, atol=1e-5, rtol=0)
    else:
        with pytest.raises(UsageError) as error:
            check_factor(N, size)
        assert str(size) in (error.value.hint or "")


def test_an_unknown_kernel_is_a_usage_error_that_knows_the_right_name() -> None:
    with pytest.raises(UsageError) as error:
        LowPass(4, "lanczos")(picture(32))
    assert error.value.hint == "did you mean 'lanczos3'?"
