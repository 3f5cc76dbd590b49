"""Identities of the samplers and of ILVR, with a perfect denoiser in the place of a network."""

from __future__ import annotations

import pytest
import torch
from conftest import method, recorded

from ilvrctl.diffusion.denoiser import Denoise, Denoiser, Prediction
from ilvrctl.diffusion.lowpass import LowPass
from ilvrctl.diffusion.noise import NoiseStream, noise_seed
from ilvrctl.diffusion.samplers import DDIM, DDPM, SAMPLERS, DPMSolver2M, DPMSolver2MSDE, Heun, Sampler
from ilvrctl.diffusion.schedule import Schedule, Step, spread_levels
from ilvrctl.errors import UsageError
from ilvrctl.methods import Context, Method
from ilvrctl.sampling import sample
from ilvrctl.settings import Settings

SCHEDULE = Schedule.named("linear")
CPU = torch.device("cpu")
X0 = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1


def stream(seed: int = 0) -> NoiseStream:
    return NoiseStream([seed, seed + 1], (3, 16, 16), CPU)


def perfect(x: torch.Tensor, k: Step) -> Prediction:
    """The denoiser that knows the clean picture."""
    return Prediction(X0, (x - k.alpha_t * X0) / k.sigma_t)


CASES = [
    DDPM(),
    DDPM("fixed_large"),
    DDIM(),
    DDIM(0.5),
    DDIM(1.0),
    DPMSolver2M(),
    DPMSolver2MSDE(),
    Heun(),
]
EGSDE = {"energies": {"dse": 0, "low_pass": {"N": 4}}, "range": (1.0, 0.0)}
METHODS = {
    "plain": Method(),
    "ilvr": method(N=4),
    "ilvr-to-the-end": method(N=4, range_t=-1),
    "ilvr-compat": method(N=2, reference_level="t"),
    "ilvr-early": method(N=4, start=0.8),
    "means": method(constraint={"name": "block_statistics", "size": 4, "order": 1}),
    "sddm": method("sddm", blocks=4),
    "sddm-to-the-end": method("sddm", blocks=4, range_t=-1, merge={"over": "block"}),
    "sdedit-twice": method("sdedit", repeats=2),
    "egsde": method("egsde", **EGSDE),
    "egsde-clean": method("egsde", energies={"dse": 0, "low_pass": {"N": 4, "gradient": "x0"}}),
    "sddm+egsde": method("sddm+egsde", blocks=4, energies=EGSDE["energies"]),
}


def chain(chosen: Method, steps: int) -> list[Step]:
    return Settings(chosen, steps=steps).chain(SCHEDULE)


def run(
    chosen: Method, sampler: Sampler, steps: int, seed: int = 0, denoise: Denoise | None = None
) -> torch.Tensor:
    context = Context(X0, SCHEDULE, stream(seed), sampler.stochastic)
    *_, last = sample(denoise or perfect, context, chain(chosen, steps), chosen, sampler)
    return last.x


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
@pytest.mark.parametrize("sampler", CASES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_a_perfect_denoiser_returns_the_reference(name: str, sampler: Sampler, steps: int) -> None:
    torch.testing.assert_close(run(METHODS[name], sampler, steps), X0, atol=2e-4, rtol=0)


def crude(x: torch.Tensor, k: Step) -> Prediction:
    """A denoiser that is wrong."""
    x0 = x.tanh()
    return Prediction(x0, (x - k.alpha_t * x0) / k.sigma_t)


@pytest.mark.parametrize("steps", [2, 7])
def test_steps_of_first_order_are_ddim_and_ddpm(steps: int) -> None:
    """Those of second order are, as long as nothing is remembered and the network is not asked again."""

    def forgetful(sampler: Sampler) -> torch.Tensor:
        context = Context(X0, SCHEDULE, stream(), sampler.stochastic)
        x = context.noise()
        for k in SCHEDULE.steps(spread_levels(1000, steps)):
            x, _ = sampler.step(x, crude(x, k), k, context.noise, None)
        return x

    pairs = ((DPMSolver2M(), DDIM()), (Heun(), DDIM()), (DPMSolver2MSDE(), DDPM("fixed_small")))
    for second, first in pairs:
        torch.testing.assert_close(forgetful(second), forgetful(first), atol=1e-5, rtol=0)


STD = 0.4


def normal(x: torch.Tensor, k: Step) -> Prediction:
    """The best denoiser for pictures of independent normal pixels."""
    x0 = x * (k.alpha_t * STD**2 / (k.alpha_t**2 * STD**2 + k.sigma_t**2))
    return Prediction(x0, (x - k.alpha_t * x0) / k.sigma_t)


@pytest.mark.parametrize(("second", "steps"), [(DPMSolver2M(), 25), (Heun(), 50)], ids=str)
def test_second_order_ends_nearer_than_ddim_with_as_many_calls(second: Sampler, steps: int) -> None:
    """For such pictures the end of the ODE is known."""
    x_T = stream()()
    alpha_T, sigma_T = SCHEDULE.level(999)
    exact = x_T * STD / (alpha_T**2 * STD**2 + sigma_T**2) ** 0.5

    def error(sampler: Sampler, steps: int) -> float:
        return float((run(Method(), sampler, steps, denoise=normal) - exact).abs().mean())

    calls = Settings(sampler=second, steps=steps).network_calls(SCHEDULE)
    assert error(second, steps) < 0.3 * error(DDIM(), calls)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("sampler", [cls() for cls in SAMPLERS.values()], ids=str)
@pytest.mark.parametrize("name", ["plain", "ilvr-early", "sddm", "sdedit-twice", "egsde", "resampled"])
def test_the_calls_of_the_network_are_those_that_are_counted(name: str, sampler: Sampler, steps: int) -> None:
    chosen = method(resample=(1, 3)) if name == "resampled" else METHODS[name]
    calls = []

    def counted(x: torch.Tensor, k: Step) -> Prediction:
        calls.append(k)
        return perfect(x, k)

    run(chosen, sampler, steps, denoise=counted)
    assert len(calls) == Settings(chosen, sampler, steps=steps).network_calls(SCHEDULE)


def test_what_heun_asks_ahead_is_guided() -> None:
    """Energies shift the estimates at both ends of its steps, so without them it ends elsewhere."""
    weak, none = (method("egsde", energies={"dse": 0, "low_pass": {"N": 4, "weight": w}}) for w in (0.5, 0))
    seen: list[int] = []

    def watched(x: torch.Tensor, k: Step) -> Prediction:
        seen.append(k.t)
        return crude(x, k)

    assert (run(weak, Heun(), 10, denoise=watched) - run(none, Heun(), 10, denoise=crude)).abs().max() > 1e-3
    down = [k.t for k in chain(weak, 10)]
    assert seen == [down[0], *(t for level in down[1:] for t in (level, level))]


def test_history_is_dropped_where_the_method_moves_the_sample() -> None:
    """Within the range both are of first order; after it the first step begins a new history."""
    everywhere, half = method(N=4, range=(1.0, 0.0)), method(N=4, range=(1.0, 0.5))
    same = [run(everywhere, sampler, 10, denoise=crude) for sampler in (DPMSolver2M(), DDIM())]
    torch.testing.assert_close(*same, atol=1e-5, rtol=0)
    free = [run(half, sampler, 10, denoise=crude) for sampler in (DPMSolver2M(), DDIM())]
    assert (free[0] - free[1]).abs().max() > 1e-3


def test_ddim_with_eta_1_is_ddpm_on_the_full_chain() -> None:
    steps = SCHEDULE.steps(range(40))

    results = []
    for sampler in (DDPM("fixed_small"), DDIM(1.0)):
        context = Context(X0, SCHEDULE, stream(), True)
        *_, last = sample(crude, context, steps, Method(), sampler)
        results.append(last.x)
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", ["s", "t"])
def test_ilvr_moves_the_sample_by_phi_of_what_is_missing(level: str) -> None:
    """x' - x == phi(y - x): true also for kernels whose phi is no projection."""
    k = SCHEDULE.steps(spread_levels(1000, 10))[3]
    e, x = stream(1)(), stream(2)()
    chosen = method(N=4, reference_level=level)
    context = Context(X0, SCHEDULE, recorded([e]))
    moved = chosen.project(context, x, perfect(x, k), k)
    y = context.reference_at(k.s if level == "s" else k.t, e)
    torch.testing.assert_close(moved - x, LowPass(4)(y - x), atol=1e-5, rtol=0)


def test_ilvr_with_the_box_kernel_gives_the_sample_the_block_means_of_the_reference() -> None:
    k = SCHEDULE.steps(spread_levels(1000, 10))[3]
    e, x = stream(1)(), stream(2)()
    context = Context(X0, SCHEDULE, recorded([e]))
    moved = method(N=4, kernel="box").project(context, x, perfect(x, k), k)
    pool = torch.nn.functional.avg_pool2d
    torch.testing.assert_close(pool(moved, 4), pool(context.reference_at(k.s, e), 4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("range_t", [-1, 0, 20, 98])
def test_range_t_refines_as_many_steps_as_the_published_loop(range_t: int) -> None:
    steps = SCHEDULE.steps(spread_levels(1000, 100))
    refined = [k.remaining for k in steps if method(range_t=range_t).conditions(k, 1000)]
    assert refined == [i for i in reversed(range(100)) if i > range_t]


@pytest.mark.parametrize("steps", [100, 50, 20, 10])
def test_a_range_in_fractions_is_the_range_in_levels_and_keeps_its_share_of_the_steps(steps: int) -> None:
    chain = SCHEDULE.steps(spread_levels(1000, steps))
    fraction = [k.i for k in chain if method(range=(1.0, 0.2)).conditions(k, 1000)]
    levels = [k.i for k in chain if method(range=(1000, 200)).conditions(k, 1000)]
    published = [k.i for k in chain if k.remaining > steps * 0.2]
    assert fraction == levels == published


def test_the_default_range_leaves_only_the_last_step_free_as_range_t_0() -> None:
    chain = SCHEDULE.steps(spread_levels(1000, 25))
    assert [method().conditions(k, 1000) for k in chain] == [
        method(range_t=0).conditions(k, 1000) for k in chain
    ]


@pytest.mark.parametrize(("steps", "refined"), [(1, [0]), (2, [0]), (3, [0]), (4, [0, 1])])
def test_however_few_the_steps_the_reference_counts(steps: int, refined: list[int]) -> None:
    chain = SCHEDULE.steps(spread_levels(1000, steps))
    assert [k.i for k in chain if method(range=(1.0, 0.2)).conditions(k, 1000)] == refined
    assert not any(method(range=(0.1, 0.05)).conditions(k, 1000) for k in chain[1:])


def test_conditioning_no_step_at_all_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="would not be used"):
        method(range_t=20).check(16, SCHEDULE.steps(spread_levels(1000, 20)), 1000)


def test_clipping_keeps_x0_in_range_and_eps_consistent() -> None:
    k = SCHEDULE.steps(spread_levels(1000, 10))[2]
    x = stream()()
    prediction = Denoiser(lambda x, t, y: torch.zeros_like(x))(x, k)
    assert prediction.x0.abs().max() <= 1
    torch.testing.assert_close(k.alpha_t * prediction.x0 + k.sigma_t * prediction.eps, x)


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_every_parametrization_gives_the_same_prediction(predicts: str) -> None:
    k = SCHEDULE.steps(spread_levels(1000, 10))[4]
    e = stream()()
    x = k.alpha_t * X0 + k.sigma_t * e
    out = {"eps": e, "x0": X0, "v": k.alpha_t * e - k.sigma_t * X0}[predicts]
    prediction = Denoiser(lambda *_: out, predicts=predicts, clip_denoised=False)(x, k)  # type: ignore[arg-type]
    torch.testing.assert_close(prediction.x0, X0, atol=1e-4, rtol=0)
    torch.testing.assert_close(prediction.eps, e, atol=1e-4, rtol=0)


def test_a_learned_variance_lies_between_the_posterior_and_beta() -> None:
    k = SCHEDULE.steps(spread_levels(1000, 10))[4]
    for v, expected in ((-1.0, k.posterior_variance), (1.0, k.beta)):
        out = torch.cat([X0, torch.full_like(X0, v)], dim=1)
        log_variance = Denoiser(lambda *_, out=out: out)(X0, k).log_variance
        assert log_variance is not None
        torch.testing.assert_close(log_variance.exp(), torch.full_like(X0, expected))


def test_noise_belongs_to_the_picture_not_to_the_batch() -> None:
    seeds = [noise_seed(7, digest, 1) for digest in ("a", "b", "c")]
    with NoiseStream(seeds, (3, 8, 8), CPU) as together, NoiseStream(seeds[1:2], (3, 8, 8), CPU) as alone:
        for _ in range(3):
            assert torch.equal(together()[1:2], alone())


def test_seed_input_and_sample_number_each_change_the_noise() -> None:
    seeds = {noise_seed(0, "a", 1), noise_seed(1, "a", 1), noise_seed(0, "b", 1), noise_seed(0, "a", 2)}
    assert len(seeds) == 4
