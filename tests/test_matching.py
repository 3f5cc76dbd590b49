"""Two networks with levels of their own on one chain: asked at the same noise, whatever its number is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from test_engine_loop import engine, reference, results
from test_two_models import Warm, settings
from torch import Tensor

from ilvrctl.diffusion.matching import NEAR_ALPHA, check_match, match_levels
from ilvrctl.diffusion.schedule import NOISE_SCHEDULES, Schedule
from ilvrctl.errors import UsageError

LINEAR = Schedule.named("linear", 1000)
NAMED = [name for name in NOISE_SCHEDULES if name != "betas"]
SCHEDULES = st.builds(Schedule.named, st.sampled_from(NAMED), st.sampled_from([30, 50, 500, 1000, 4000]))


def kept(schedule: Schedule, every: int) -> Schedule:
    """A schedule of every so many levels of another."""
    return Schedule(schedule.alphas_cumprod[every - 1 :: every])


def noisiness(schedule: Schedule, t: float) -> float:
    """Of a level that may lie between two: log (1 - abar) / abar, linear between them."""
    low = min(int(t), schedule.T - 1)
    high = min(low + 1, schedule.T - 1)
    a, b = (math.log((1 - abar) / abar) for abar in (schedule.alphas_cumprod[i] for i in (low, high)))
    return a + (t - low) * (b - a)


def knows(schedule: Schedule) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The best network for pictures that are Gaussian noise of deviation 0.5, trained on a schedule."""

    def network(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        abar = 1 / (1 + math.exp(noisiness(schedule, t[0].item())))
        alpha, sigma = math.sqrt(abar), math.sqrt(1 - abar)
        return sigma / (alpha**2 * 0.25 + sigma**2) * x

    return network


def made(source: Schedule, target: Schedule, name: str, start: float) -> Tensor:
    one = replace(engine(knows(target)), schedule=target)
    pair = one.with_source(replace(engine(knows(source)), schedule=source))
    chosen = settings(name, method={"name": name, "start": start}, clip_denoised=False)
    [x] = results(list(pair.translate([reference(1)], chosen))).values()
    return x


@examples(max_examples=60, deadline=None)
@given(SCHEDULES, SCHEDULES)
def test_matched_levels_are_as_noisy(source: Schedule, target: Schedule) -> None:
    levels = match_levels(source, target)
    if levels is None:
        assert source.alphas_cumprod == pytest.approx(target.alphas_cumprod, abs=1e-6)
        return
    assert list(levels) == sorted(levels)
    for t, level in enumerate(levels):
        asked, own = noisiness(target, t), noisiness(source, level)
        if 0 < level < source.T - 1:
            assert own == pytest.approx(asked, rel=1e-9, abs=1e-9)
        elif level == 0:
            assert asked <= own + 1e-9
        else:
            assert target.level(t)[0] >= NEAR_ALPHA * source.level(source.T - 1)[0]
    for t in range(len(levels), target.T):
        assert target.level(t)[0] < NEAR_ALPHA * source.level(source.T - 1)[0]


@given(st.sampled_from(NAMED), st.sampled_from([2, 4, 10]))
@examples(max_examples=20, deadline=None)
def test_levels_that_both_have_are_found_exactly(name: str, every: int) -> None:
    schedule = Schedule.named(name, 1000)
    assert match_levels(schedule, kept(schedule, every)) == tuple(range(every - 1, 1000, every))


def test_one_schedule_is_matched_by_number() -> None:
    assert match_levels(LINEAR, LINEAR) is None
    nearly = Schedule(tuple(abar + 5e-7 for abar in LINEAR.alphas_cumprod))
    assert match_levels(nearly, LINEAR) is None


@pytest.mark.parametrize("name", ["ddib", "cyclediffusion"])
@pytest.mark.parametrize("start", [1.0, 0.5])
def test_a_network_trained_on_some_of_the_levels_makes_the_same(name: str, start: float) -> None:
    some = Schedule(LINEAR.alphas_cumprod[::3])
    assert some.alphas_cumprod[-1] == LINEAR.alphas_cumprod[-1]
    for source, target in ((LINEAR, some), (some, LINEAR)):
        found, expected = made(source, target, name, start), made(target, target, name, start)
        assert torch.allclose(found, expected, atol=1e-5)
    shifted = Schedule(LINEAR.alphas_cumprod[::3], offset=1)
    assert torch.equal(made(shifted, some, name, start), made(some, some, name, start))


@pytest.mark.parametrize("name", ["ddib", "cyclediffusion"])
@pytest.mark.parametrize("other", [Schedule.named("cosine", 1000), Schedule.named("linear", 4000)])
def test_a_network_trained_on_another_schedule_makes_nearly_the_same(name: str, other: Schedule) -> None:
    """Nearly: the lowest levels differ, and the clean picture is given at that."""
    for source, target in ((LINEAR, other), (other, LINEAR)):
        found, expected = made(source, target, name, 0.9), made(target, target, name, 0.9)
        assert (found - expected).norm() < 0.04 * expected.norm()


def test_a_network_with_rescaled_levels_is_told_its_own() -> None:
    network = Warm()
    source = replace(engine(network), schedule=kept(LINEAR, 4))
    source = replace(source, denoiser=replace(source.denoiser, time_scale=1000 / 250))
    pair = engine(Warm()).with_source(source)
    chosen = settings("cyclediffusion", method={"name": "cyclediffusion", "start": 1.0})
    list(pair.translate([reference(1)], chosen))
    own = [4 * (t - 3) / 4 for t in (999, 749, 500, 250, 0)]
    assert network.levels == pytest.approx([*own[:-1], 0.0], abs=0.05)


def test_a_sample_noisier_than_all_that_the_source_knows_is_refused() -> None:
    weak = Schedule.named("linear", 1000, 1e-4, 0.01)
    levels = match_levels(weak, LINEAR)
    assert levels is not None
    assert 700 < len(levels) < 800
    check_match(levels, LINEAR.steps([0, len(levels) - 1]))
    with pytest.raises(UsageError, match="noisier"):
        check_match(levels, LINEAR.steps([0, len(levels)]))
    none = match_levels(Schedule.of_betas([1e-9]), Schedule.of_betas([0.9, 0.9]))
    with pytest.raises(UsageError) as refused:
        check_match(none, LINEAR.steps([0]))
    assert "no level in common" in str(refused.value.hint)


def test_an_engine_takes_pictures_that_both_networks_can() -> None:
    one = engine(Warm(), multiple=4)
    assert one.with_source(engine(Warm(), multiple=6)).multiple == 12
