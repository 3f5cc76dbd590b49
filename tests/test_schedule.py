from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from typing import Any

import pytest
from conftest import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from ilvrctl.diffusion.schedule import (
    HAVE_ENDS,
    LEAST_ABAR,
    Schedule,
    cosine_betas,
    linear_betas,
    recognise,
    space_timesteps,
    spread_levels,
)
from ilvrctl.errors import UsageError
from ilvrctl.presets import ModelPreset

REFERENCE = json.loads((GOLDEN / "schedules.json").read_text())


def entries(kind: str) -> list[str]:
    return [key for key in REFERENCE if key.startswith(f"{kind}/")]


@pytest.mark.parametrize("key", entries("betas"))
def test_betas_equal_the_published_ones(key: str) -> None:
    _, name, T = key.split("/")
    betas = {"linear": linear_betas, "cosine": cosine_betas}[name](int(T))
    assert len(betas) == int(T)
    assert betas[:5] + betas[-5:] == pytest.approx(REFERENCE[key], abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("key", entries("respacing"))
def test_respacing_equals_the_published_one(key: str) -> None:
    _, T, respacing = key.split("/")
    assert space_timesteps(int(T), respacing) == REFERENCE[key]


@pytest.mark.parametrize("key", entries("spaced"))
def test_respaced_chain_equals_the_published_one_within_1e_12(key: str) -> None:
    _, T, respacing = key.split("/")
    expected = REFERENCE[key]
    levels = space_timesteps(int(T), respacing)
    chain = Schedule.named("linear", int(T)).steps(levels)[::-1]
    assert [k.t for k in chain] == expected["timestep_map"]
    assert [k.beta for k in chain] == pytest.approx(expected["betas"], abs=1e-12)
    assert [k.alpha_t**2 for k in chain] == pytest.approx(expected["alphas_cumprod"], abs=1e-12)
    assert [k.posterior_variance for k in chain] == pytest.approx(expected["posterior_variance"], abs=1e-12)
    logs = [math.log(k.posterior_variance) for k in chain[1:]]
    assert logs == pytest.approx(expected["posterior_log_variance_clipped"][1:], abs=1e-12)


@given(T=st.sampled_from([1, 2, 7, 100, 1000]), data=st.data())
def test_spread_levels_give_exactly_the_steps_asked_for_and_start_from_noise(
    T: int, data: st.DataObject
) -> None:
    steps = data.draw(st.integers(1, T))
    levels = spread_levels(T, steps)
    assert len(levels) == steps
    assert levels[-1] == T - 1
    assert levels == sorted(set(levels))


@given(steps=st.integers(2, 1000))
def test_spread_levels_are_the_published_respacing_from_two_steps_on(steps: int) -> None:
    assert spread_levels(1000, steps) == space_timesteps(1000, str(steps))


@given(steps=st.integers(1, 60), name=st.sampled_from(["linear", "cosine"]))
def test_a_chain_ends_clean_and_its_posterior_means_add_up(steps: int, name: str) -> None:
    schedule = Schedule.named(name)
    chain = schedule.steps(spread_levels(1000, steps))
    assert chain[-1].s == -1
    assert (chain[-1].alpha_s, chain[-1].sigma_s) == (1.0, 0.0)
    for k in chain:
        # E[x_s] = alpha_s x0 for x_t = alpha_t x0 + sigma_t eps
        assert k.posterior_x0 + k.posterior_x_t * k.alpha_t == pytest.approx(k.alpha_s, rel=1e-9)
        assert k.alpha_t**2 + k.sigma_t**2 == pytest.approx(1)
        assert k.remaining == k.n - 1 - k.i


@pytest.mark.parametrize("bad", ["", "0", "1001", "ddim", "ddim999", "10,,5", "ten", "-3", "900,900"])
def test_a_bad_respacing_is_a_usage_error_with_a_hint(bad: str) -> None:
    with pytest.raises(UsageError) as error:
        space_timesteps(1000, bad)
    assert error.value.hint


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_out_of_range_are_a_usage_error(steps: int) -> None:
    with pytest.raises(UsageError, match="1 to 1000"):
        spread_levels(1000, steps)


def test_an_unknown_schedule_is_a_usage_error_that_knows_the_right_name() -> None:
    with pytest.raises(UsageError) as error:
        Schedule.named("cosin")
    assert error.value.hint == "did you mean 'cosine'?"


@given(
    name=st.sampled_from(["linear", "quad", "sigmoid_beta", "cosine", "sigmoid"]),
    T=st.integers(40, 2000),
    ends=st.none() | st.tuples(st.floats(1e-5, 1e-3), st.floats(2e-3, 0.2)),
)
def test_betas_of_single_precision_are_recognised(
    name: str, T: int, ends: tuple[float, float] | None
) -> None:
    first, last = ends if ends is not None and name in HAVE_ENDS else (None, None)
    schedule = Schedule.named(name, T, first, last)
    before = [1.0, *schedule.alphas_cumprod[:-1]]
    betas = [1 - a / b for a, b in zip(schedule.alphas_cumprod, before, strict=True)]
    single = struct.unpack(f"{T}f", struct.pack(f"{T}f", *betas))
    found = recognise(single)
    again = Schedule.of(replace(ModelPreset(), **found))
    assert again.alphas_cumprod == pytest.approx(schedule.alphas_cumprod, abs=1e-5, rel=1e-2)
    if ends is None:
        assert found == {"noise_schedule": name, "diffusion_steps": T}


@given(betas=st.lists(st.floats(1e-6, 0.9), min_size=1, max_size=50))
def test_any_betas_are_a_schedule(betas: list[float]) -> None:
    schedule = Schedule.of(replace(ModelPreset(), **recognise(betas)))
    product = 1.0
    for beta, abar in zip(betas, schedule.alphas_cumprod, strict=True):
        product *= 1 - beta
        assert abar == pytest.approx(max(product, LEAST_ABAR), rel=1e-4, abs=1e-12)
    for steps in {1, len(betas)}:
        assert schedule.steps(schedule.spread(steps))[-1].s == -1


@pytest.mark.parametrize("betas", [[], [0.0, 0.1], [0.1, 1.5], [0.1, -0.1], [1.0]])
def test_numbers_that_are_no_schedule_are_a_usage_error(betas: list[float]) -> None:
    with pytest.raises(UsageError, match="no noise schedule"):
        Schedule.of_betas(betas)


@pytest.mark.parametrize("facts", [{"diffusion_steps": 0}, {"beta_end": 3.0}, {"diffusion_steps": 10}])
def test_facts_that_mean_no_schedule_are_a_usage_error(facts: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        Schedule.of(replace(ModelPreset(), **facts))
    assert "--set model." in str(error.value.hint)


def test_a_schedule_that_nobody_knows_is_asked_for() -> None:
    with pytest.raises(UsageError, match="nobody knows"):
        Schedule.of(ModelPreset(noise_schedule="unknown"))


def test_noise_alone_at_the_end_divides_by_nothing() -> None:
    schedule = Schedule.of(ModelPreset(zero_snr=True, predicts="v"))
    first = Schedule.of(ModelPreset()).alphas_cumprod[0]
    assert schedule.alphas_cumprod[0] == pytest.approx(first)
    assert schedule.alphas_cumprod[-1] == LEAST_ABAR
    for k in schedule.steps(schedule.spread(20)):
        assert k.alpha_t > 0
        assert 0 < k.beta <= 1
