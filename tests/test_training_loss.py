"""The losses against hand-computed values and an independent float64 computation."""

from __future__ import annotations

import math

import pytest
import torch

from ilvrctl.diffusion.schedule import Schedule, linear_betas
from ilvrctl.training.batches import Noised
from ilvrctl.training.course import average_decay, rate_at
from ilvrctl.training.loss import Lesson, Levels, bound, log_likelihood, loss_of, weights
from ilvrctl.training.recipe import Recipe
from ilvrctl.training.teacher import MOST, Teacher

CPU = torch.device("cpu")


def test_min_snr_and_p2_weights_by_hand() -> None:
    schedule = Schedule((0.96, 0.5, 0.2))  # SNR 24, 1, 1/4
    assert weights(Recipe(gamma=5.0), schedule).tolist() == pytest.approx([5 / 24, 1.0, 1.0])
    assert weights(Recipe(weighting="p2"), schedule).tolist() == pytest.approx([1 / 25, 1 / 2, 4 / 5])
    assert weights(Recipe(weighting="p2", p2_gamma=0.5), schedule).tolist() == pytest.approx(
        [1 / 5, 1 / math.sqrt(2), math.sqrt(4 / 5)]
    )
    assert weights(Recipe(weighting="none"), schedule).tolist() == [1.0, 1.0, 1.0]


def test_weights_of_v_and_x0_by_hand() -> None:
    schedule = Schedule((0.96, 0.5, 0.2))  # SNR + 1 is 25, 2, 5/4
    assert weights(Recipe(predicts="v"), schedule).tolist() == pytest.approx([5 / 25, 1.0, 1.0])
    assert weights(Recipe(predicts="v", gamma=1.5), schedule).tolist() == pytest.approx([1.5 / 25, 0.75, 1.0])
    assert weights(Recipe(predicts="x0"), schedule).tolist() == pytest.approx([5.0, 2.0, 5 / 4])
    p2 = Recipe(predicts="v", weighting="p2")
    assert weights(p2, schedule).tolist() == pytest.approx([1 / 25 * 24 / 25, 1 / 4, 4 / 5 * 1 / 5])
    p2 = Recipe(predicts="x0", weighting="p2")
    assert weights(p2, schedule).tolist() == pytest.approx([24 / 25, 1 / 2, 1 / 5])
    assert weights(Recipe(predicts="v", weighting="none"), schedule).tolist() == [1.0, 1.0, 1.0]


def a_batch(predicts: str) -> tuple[Levels, Noised]:
    levels = Levels.of(Schedule.named("linear", 100), Recipe(predicts=predicts), CPU)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    x0 = torch.rand(5, 3, 4, 4, generator=generator) * 2 - 1
    eps = torch.randn(x0.shape, generator=generator)
    t = torch.tensor([0, 5, 30, 70, 99])
    return levels, Noised(x0, eps, t, levels.noised(x0, t, eps))


@pytest.mark.parametrize("predicts", ["eps", "v", "x0"])
def test_a_perfect_network_of_any_kind_has_the_same_estimates_and_no_loss(predicts: str) -> None:
    levels, b = a_batch(predicts)
    out = levels.target(b.x0, b.eps, b.t)
    assert torch.allclose(
        levels.clean(out, b.x_t, b.t), b.x0, atol=2e-3
    )  # 1 / alpha of the last level is 150
    assert torch.allclose(levels.noise(out, b.x_t, b.t), b.eps, atol=2e-4)  # 1 / sigma of the first is 30
    assert float(loss_of(out, b.x0, b.x_t, b.eps, b.t, levels, 0.001).max()) == 0.0
    both = torch.cat((out, torch.zeros_like(out)), dim=1)
    learned = loss_of(both, b.x0, b.x_t, b.eps, b.t, levels, 0.001)
    again = bound(b.eps, torch.zeros_like(out), b.x0, b.x_t, b.t, levels)
    assert torch.allclose(learned, 0.001 * 100 * again, rtol=1e-2, atol=1e-4)


def test_the_losses_of_the_three_kinds_weigh_the_clean_estimate_alike() -> None:
    """An estimate that is off by d costs d^2 min(SNR + 1, gamma) of v and x0, and min(SNR, gamma) of eps."""
    d = 0.1
    for predicts, more in (("eps", 0.0), ("v", 1.0), ("x0", 1.0)):
        levels, b = a_batch(predicts)
        wrong = b.x0 + d
        out = levels.target(wrong, levels.noise_in(b.x_t, wrong, b.t), b.t)
        snr = (levels.alpha / levels.sigma).square()[b.t]
        expected = d**2 * (snr + more).clamp(max=5)
        assert torch.allclose(loss_of(out, b.x0, b.x_t, b.eps, b.t, levels, 0.0), expected, rtol=1e-2), (
            predicts
        )


class Perfect(torch.nn.Module):
    """A network that knows the answer."""

    def __init__(self, levels: Levels, b: Noised) -> None:
        super().__init__()
        self.out, self.times = levels.target(b.x0, b.eps, b.t), b.t

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.out[[int((self.times == level).nonzero()) for level in t]]


@pytest.mark.parametrize("predicts", ["eps", "v", "x0"])
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_a_perfect_teacher_leaves_a_perfect_student_alone(kind: str, predicts: str) -> None:
    levels, b = a_batch(predicts)
    teachers, _ = a_batch(kind)
    teacher = Teacher(Perfect(teachers, b), teachers, torch.full((100,), 7.0), below=40, steps=3)
    lesson = teacher.lesson(b, 2, levels.weight)
    assert isinstance(lesson, Lesson)
    assert lesson.weight.tolist() == [7.0, 7.0, 7.0, *levels.weight[b.t[3:]].tolist()]
    assert torch.equal(lesson.x0[3:], b.x0[3:])
    assert torch.equal(lesson.eps[3:], b.eps[3:])
    out = levels.target(b.x0, b.eps, b.t).requires_grad_()
    loss_of(out, b.x0, b.x_t, b.eps, b.t, levels, 0.0, lesson).sum().backward()
    assert out.grad is not None
    assert float(out.grad.abs().max()) < 1e-3
    worse = (out.detach() + 0.1).requires_grad_()
    loss_of(worse, b.x0, b.x_t, b.eps, b.t, levels, 0.0, lesson).sum().backward()
    assert worse.grad is not None
    assert float(worse.grad[:3].abs().min()) > 1e-2
    assert teacher.lesson(b, 3, levels.weight) is None  # its time is over


def test_a_teachers_estimate_is_clamped_and_the_noise_agrees_with_it() -> None:
    levels, b = a_batch("v")
    far = Noised(b.x0 + 3.0, b.eps, b.t, levels.noised(b.x0 + 3.0, b.t, b.eps))
    lesson = Teacher(Perfect(levels, far), levels, levels.weight, below=101).lesson(far, 0, levels.weight)
    assert lesson is not None
    assert torch.equal(lesson.x0, torch.ones_like(b.x0))
    assert torch.allclose(levels.noised(lesson.x0, b.t, lesson.eps), far.x_t, atol=1e-5)


def test_the_weight_under_a_teacher_is_cut_at_25() -> None:
    schedule = Schedule((0.99, 0.5))  # SNR + 1 is 100 and 2
    recipe = Recipe(predicts="v", gamma=MOST)
    assert weights(recipe, schedule).tolist() == pytest.approx([25 / 100, 1.0])


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
