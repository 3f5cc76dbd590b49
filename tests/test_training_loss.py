"""The losses against hand-computed values and an independent float64 computation."""

from __future__ import annotations

import math

import pytest
import torch

from ilvrctl.diffusion.schedule import Schedule, linear_betas
from ilvrctl.training.course import average_decay, rate_at
from ilvrctl.training.loss import Levels, bound, log_likelihood, loss_of, weights
from ilvrctl.training.recipe import Recipe

CPU = torch.device("cpu")


def test_min_snr_and_p2_weights_by_hand() -> None:
    schedule = Schedule((0.96, 0.5, 0.2))  # SNR 24, 1, 1/4
    assert weights(Recipe(gamma=5.0), schedule).tolist() == pytest.approx([5 / 24, 1.0, 1.0])
    assert weights(Recipe(weighting="p2"), schedule).tolist() == pytest.approx([1 / 25, 1 / 2, 4 / 5])
    assert weights(Recipe(weighting="p2", p2_gamma=0.5), schedule).tolist() == pytest.approx(
        [1 / 5, 1 / math.sqrt(2), math.sqrt(4 / 5)]
    )
    assert weights(Recipe(weighting="none"), schedule).tolist() == [1.0, 1.0, 1.0]


def independent_bound(eps: float, v: float, x0: float, noise: float, t: int, T: int) -> float:
    """L_t of one pixel in bits from betas alone, in float64: Ho et al. 2020, eq. 5 to 7 and 13."""
    betas = linear_betas(T)
    abar = [math.prod(1 - beta for beta in betas[: i + 1]) for i in range(T)]
    before = abar[t - 1] if t else 1.0
    x_t = math.sqrt(abar[t]) * x0 + math.sqrt(1 - abar[t]) * noise

    def mean(clean: float) -> float:
        return (math.sqrt(before) * betas[t] * clean + math.sqrt(1 - betas[t]) * (1 - before) * x_t) / (
            1 - abar[t]
        )

    first = max(t, 1)
    low = math.log(betas[first] * (1 - abar[first - 1]) / (1 - abar[first]))
    log_variance = (v + 1) / 2 * math.log(betas[t]) + (1 - v) / 2 * low
    mine = mean((x_t - math.sqrt(1 - abar[t]) * eps) / math.sqrt(abar[t]))
    if t:
        kl = 0.5 * (
            log_variance
            - low
            - 1
            + math.exp(low - log_variance)
            + (mean(x0) - mine) ** 2 / math.exp(log_variance)
        )
        return kl / math.log(2)
    std = math.exp(0.5 * log_variance)

    def below(x: float) -> float:
        return 0.5 * (1 + math.erf((x - mine) / std / math.sqrt(2)))

    upper = 1.0 if x0 > 0.999 else below(x0 + 1 / 255)
    lower = 0.0 if x0 < -0.999 else below(x0 - 1 / 255)
    return -math.log(upper - lower) / math.log(2)


@pytest.mark.parametrize("t", [0, 1, 7, 500, 999])
@pytest.mark.parametrize("x0", [-1.0, 51 / 127.5 - 1, 1.0])
def test_the_variational_bound_against_an_independent_computation(t: int, x0: float) -> None:
    levels = Levels.of(Schedule.named("linear"), Recipe(), CPU)
    noise, eps, v = 0.3, 0.35, 0.2

    def full(value: float) -> torch.Tensor:
        return torch.full((1, 3, 2, 2), value)

    at = torch.tensor([t])
    x_t = levels.noised(full(x0), at, full(noise))
    found = bound(full(eps), full(v), full(x0), x_t, at, levels)
    assert float(found) == pytest.approx(independent_bound(eps, v, x0, noise, t, 1000), rel=2e-3, abs=1e-4)


def test_the_hybrid_loss_adds_the_bound_and_leaves_the_mean_to_l_simple() -> None:
    levels = Levels.of(Schedule.named("cosine", 50), Recipe(weighting="none"), CPU)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(4, 3, 4, 4, generator=generator) * 2 - 1
    eps = torch.randn(x0.shape, generator=generator)
    t = torch.tensor([0, 3, 20, 49])
    x_t = levels.noised(x0, t, eps)
    out = torch.randn(4, 6, 4, 4, generator=generator).requires_grad_()
    total = loss_of(out, x0, x_t, eps, t, levels, 0.001)
    simple = (out[:, :3] - eps).square().mean((1, 2, 3))
    expected = simple + 0.001 * 50 * bound(out[:, :3], out[:, 3:], x0, x_t, t, levels)
    assert torch.allclose(total, expected)
    (gradient,) = torch.autograd.grad(total.sum(), out, retain_graph=True)
    (plain,) = torch.autograd.grad(simple.sum(), out)
    assert torch.equal(gradient[:, :3], plain[:, :3])
    assert gradient[:, 3:].abs().sum() > 0
    assert gradient.isfinite().all()


def test_the_likelihoods_of_all_256_values_sum_to_one() -> None:
    x = (torch.arange(256) / 127.5 - 1).double()
    for mean, std in ((0.1, 0.05), (-0.99, 0.3), (0.7, 1.0)):
        mass = log_likelihood(x, torch.full_like(x, mean), torch.full_like(x, math.log(std))).exp().sum()
        assert float(mass) == pytest.approx(1.0, abs=1e-6)


def test_the_learning_rate_rises_and_decays_and_the_average_warms_up() -> None:
    recipe = Recipe(learning_rate=1.0, warmup=160, batch_size=16, final_rate=0.1, ema=0.999)
    assert rate_at(recipe, 0, 0.0) == pytest.approx(0.1)
    assert rate_at(recipe, 144, 0.0) == pytest.approx(1.0)
    assert rate_at(recipe, 10_000, 0.5) == pytest.approx(0.55)
    assert rate_at(recipe, 10_000, 1.0) == pytest.approx(0.1)
    assert [average_decay(recipe, step) for step in (0, 90, 10**6)] == [0.1, 0.91, 0.999]
