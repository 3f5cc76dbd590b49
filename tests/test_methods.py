"""The identities that hold between the methods, and the properties of their pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from conftest import method
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ilvrctl.config import Layer
from ilvrctl.diffusion.denoiser import Prediction
from ilvrctl.diffusion.lowpass import LowPass
from ilvrctl.diffusion.noise import NoiseStream
from ilvrctl.diffusion.samplers import DDIM, DDPM, DPMSolver2M, DPMSolver2MSDE, Sampler
from ilvrctl.diffusion.schedule import Schedule, Step, space_timesteps
from ilvrctl.errors import ConfigError, UsageError
from ilvrctl.methods import Context, Method
from ilvrctl.methods.base import ancestral_mean, shift_mean
from ilvrctl.methods.blocks import PIXELS, Statistics, block_adain, join, split, tangent
from ilvrctl.methods.constraints import LowPassConstraint
from ilvrctl.methods.merge import MinNorm, Pair, Sum
from ilvrctl.sampling import sample
from ilvrctl.settings import Settings, build_settings

SCHEDULE = Schedule.named("linear")
CPU = torch.device("cpu")
SAMPLERS: list[Sampler] = [DDPM("fixed_small"), DDIM(), DDIM(0.5), DPMSolver2M(), DPMSolver2MSDE()]


def pictures(seed: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


Y = pictures(5)


def crude(x: Tensor, k: Step) -> Prediction:
    """A denoiser that is wrong, and couples neighbouring pixels."""
    x0 = (x + x.roll(1, -1) + x.roll(1, -2)).tanh()
    return Prediction(x0, (x - k.alpha_t * x0) / k.sigma_t)


def run(
    chosen: Method,
    sampler: Sampler,
    steps: int = 8,
    y: Tensor = Y,
    networks: dict[str, Any] | None = None,
    denoise: Callable[[Tensor, Step], Prediction] = crude,
) -> Tensor:
    stream = NoiseStream(list(range(7, 7 + len(y))), (3, 16, 16), CPU)
    context = Context(y, SCHEDULE, stream, sampler.stochastic, networks or {})
    chain = Settings(chosen, steps=steps).chain(SCHEDULE)
    *_, last = sample(denoise, context, chain, chosen, sampler)
    return last.x


def close(a: Tensor, b: Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


# --- identities ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("N", [2, 4, 8])
def test_block_means_with_blocks_of_n_pixels_are_ilvr_with_a_box_kernel(N: int, sampler: Sampler) -> None:
    means = method(constraint={"name": "block_statistics", "size": N, "order": 1})
    close(run(means, sampler), run(method(N=N, kernel="box"), sampler))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("name", ["ilvr", "sddm", "egsde", "sddm+egsde"])
def test_nothing_with_a_weight_and_no_constraint_is_plain_sampling(name: str, sampler: Sampler) -> None:
    energies = dict.fromkeys(method(name).energies, 0)
    free = method(name, constraint="none", energies=energies, refinements=0, start=1.0)
    close(run(free, sampler), run(Method(), sampler), atol=0)


def test_two_factors_by_level() -> None:
    ddpm, plain = DDPM("fixed_small"), run(method(N=4), DDPM("fixed_small"))
    close(run(method(N=4, N_above=[[0.5, 4]]), ddpm), plain, atol=0)
    close(run(method(N=4, N_above=[[0.0, 8]]), ddpm), run(method(N=8), ddpm), atol=0)
    close(run(method(N=4, N_above=[[1.0, 8]]), ddpm), plain, atol=0)
    both = method(N=2, N_above=[[500, 4], [0.8, 8]]).constraint
    assert isinstance(both, LowPassConstraint)
    assert [both.phi_at(t, 1000).N for t in (999, 800, 799, 500, 499, 0)] == [8, 8, 4, 4, 2, 2]
    assert (both.multiple, both.describe()) == (8, "N=2, 4 from level 500 up, 8 from level 0.8 up")
    for wrong, words in (([[0.5, 3]], "N = 3 does not divide"), ([[2.0, 4]], "N_above: a fraction of T")):
        with pytest.raises(UsageError, match=words):
            method(N=4, N_above=wrong).constraint.check(16)


def test_a_factor_by_level_is_recorded_where_there_is_one() -> None:
    plain, two = Settings(method(N=4)), Settings(method(N=4, N_above=[[0.5, 8], [900, 16]]))
    assert "N_above" not in plain.record()["method"]["constraint"]
    assert build_settings(Layer(two.record())) == two


def test_no_constraint_and_summed_energies_are_egsde() -> None:
    """Written out from the paper, with one noise of the reference and the energies at every step."""
    weight, N = 2.0, 4
    chosen = method(
        "egsde",
        energies={"dse": 0, "low_pass": {"weight": weight, "N": N}},
        reference_noise="fixed",
        guide_last=True,
    )
    noise = NoiseStream([7, 8], (3, 16, 16), CPU)
    e, phi = noise(), LowPass(N, "linear")
    chain = Settings(chosen, steps=20).chain(SCHEDULE)
    x = chain[0].alpha_t * Y + chain[0].sigma_t * e
    for k in chain:
        x_ref = k.alpha_t * Y + k.sigma_t * e
        leaf = x.clone().requires_grad_(True)
        (g,) = torch.autograd.grad((phi(leaf) - phi(x_ref)).square().sum(), leaf)
        mean = (x - k.beta / k.sigma_t * crude(x, k).eps) / (1 - k.beta) ** 0.5
        mean = mean - weight * k.beta / (1 - k.beta) ** 0.5 * g
        x = mean + k.posterior_variance**0.5 * noise()
    close(run(chosen, DDPM("fixed_small"), 20), x)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_sdedit_is_plain_sampling_from_the_noised_reference(sampler: Sampler) -> None:
    noise = NoiseStream([7, 8], (3, 16, 16), CPU)
    context = Context(Y, SCHEDULE, noise, sampler.stochastic)
    chain = Settings(method("sdedit"), steps=10).chain(SCHEDULE)
    assert [chain[0].t, len(chain)] == [499, 5]
    x = context.reference_at(499, noise())
    carry: Any = None
    for k in chain:
        x, carry = sampler.step(x, crude(x, k), k, noise, carry)
    close(run(method("sdedit"), sampler, 10), x)


def test_an_early_start_keeps_the_density_of_the_steps_and_the_published_chain_whole() -> None:
    for start, count in ((0.8, 80), (800, 80), (0.5, 50), (1.0, 100), (0.001, 1)):
        chain = Settings(method(start=start, range_t=-1)).chain(SCHEDULE)
        assert len(chain) == count
        assert chain[0].t == (start if isinstance(start, int) else round(start * 1000)) - 1
    full = Settings(method("egsde", start=500), steps=1000).chain(SCHEDULE)
    assert [k.t for k in full] == list(range(499, -1, -1))
    published = Settings(method("egsde"), timestep_respacing="100").chain(SCHEDULE)
    assert [k.t for k in published] == [t for t in reversed(space_timesteps(1000, "100")) if t < 500]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("name", ["ilvr", "sddm", "egsde", "sdedit", "sddm+egsde"])
def test_a_result_does_not_depend_on_its_neighbours(name: str, sampler: Sampler) -> None:
    changes: dict[str, Any] = {"energies": {key: 0 for key in method(name).energies if key == "dse"}}
    if "sddm" in name:
        changes["blocks"] = 4
        changes["energies"]["picture"] = {"blocks": 8}
    if "egsde" in name:
        changes["energies"]["low_pass"] = {"N": 4}
    chosen = method(name, **changes)
    together = run(chosen, sampler, y=pictures(5, 3))
    close(together[:1], run(chosen, sampler, y=pictures(5, 3)[:1]))


# --- the one shift of the mean ------------------------------------------------------------------------------


def test_a_shift_moves_the_ancestral_mean_and_keeps_the_prediction_consistent() -> None:
    for k in SCHEDULE.steps([999, 500, 20, 0]):
        x, shift = pictures(1), 0.01 * pictures(2)
        before = crude(x, k)
        after = shift_mean(before, x, shift, k)
        close(ancestral_mean(after, x, k) - ancestral_mean(before, x, k), shift, 1e-4)
        close(k.alpha_t * after.x0 + k.sigma_t * after.eps, x, 1e-4)
        close(after.eps - before.eps, -shift * (k.alpha_t / k.alpha_s) * k.sigma_t / k.beta, 1e-4)


# --- blocks -------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 999))
def test_block_adain_has_the_asked_statistics(blocks: int, seed: int) -> None:
    asked = Statistics.of(pictures(seed), blocks).at(0.6, 0.8)
    found = Statistics.of(block_adain(3 * pictures(seed + 1) + 1, asked), blocks)
    close(found.mean, asked.mean, 1e-4)
    torch.testing.assert_close(found.std, asked.std, atol=1e-3, rtol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2]), st.integers(0, 999))
def test_on_the_manifold_tangent_parts_are_orthogonal_to_the_constants_and_to_x_minus_mu(
    blocks: int, order: int, seed: int
) -> None:
    x, v = pictures(seed), pictures(seed + 1)
    asked = Statistics.of(pictures(seed + 2), blocks).at(0.6, 0.8)
    x = block_adain(x, asked)
    along = split(tangent(x, v, asked.mean, order), blocks)
    assert along.mean(PIXELS).abs().max() < 1e-5
    if order == 2:
        assert (along * (split(x, blocks) - asked.mean)).mean(PIXELS).abs().max() < 1e-5


def test_split_and_join_are_inverse_and_blocks_are_where_they_look() -> None:
    x = pictures(3)
    assert torch.equal(join(split(x, 4)), x)
    assert torch.equal(split(x, 4)[:, :, 1, 2], x[:, :, 4:8, 8:12])


# --- merges -------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.sampled_from(["image", "channel", "block"]), st.integers(0, 999))
def test_the_min_norm_result_is_no_longer_than_any_part_and_works_against_none(
    n: int, over: Any, seed: int
) -> None:
    parts = [pictures(seed + i) * (1 + 3 * i) + 0.3 * i for i in range(n)]
    blocks = 4 if over == "block" else 1
    dims = (-3, -2, -1) if over == "image" else PIXELS
    d = MinNorm(over)(parts, blocks)

    def seen(v: Tensor) -> Tensor:
        return split(v, blocks) if over == "block" else v

    length = seen(d).square().sum(dims)
    for part in parts:
        assert (length <= seen(part).square().sum(dims) * (1 + 1e-4) + 1e-6).all()
        # twenty rounds of Frank-Wolfe end within a few hundredths of the optimum when there are more than two
        slack = 1e-4 if n == 2 else 0.05
        assert ((seen(d) * seen(part)).sum(dims) >= -slack * seen(part).square().sum(dims)).all()


@pytest.mark.parametrize("merge", [Sum(), MinNorm(), MinNorm("image"), Pair()], ids=str)
def test_a_single_part_is_itself_and_one_of_no_length_changes_nothing(merge: Any) -> None:
    d = pictures(1)
    close(merge([d, torch.zeros_like(d)], 1), d, 1e-6)
    if not isinstance(merge, Pair):
        close(merge([d], 1), d, 0)


def test_the_older_rule_adds_at_most_thirty_times_the_second_part() -> None:
    d1 = pictures(1)
    close(Pair()([d1, 1e-3 * d1], 1), d1 * 1.03, 1e-5)


# --- what is computed, and when -----------------------------------------------------------------------------


class Counted:
    """The number of calls, with what each got."""

    def __init__(self) -> None:
        self.levels: list[int] = []

    def __call__(self, x: Tensor, y: Tensor, t: int) -> Tensor:
        assert torch.is_grad_enabled()
        assert x.requires_grad
        self.levels.append(t)
        return (x - y).square().flatten(1).sum(1)


def levels_of(**changes: Any) -> list[int]:
    counted = Counted()
    mine: dict[str, Any] = {"call": "tests:none", "weight": 1e-3, **changes.pop("energy", {})}
    chosen = method(energies={"mine": mine}, **changes)
    run(chosen, DDPM("fixed_small"), 5, networks={"mine": counted})
    return counted.levels


def test_no_energy_is_computed_where_it_does_not_act() -> None:
    assert levels_of() == [999, 749, 500, 250]
    assert levels_of(guide_last=True) == [999, 749, 500, 250, 0]
    assert levels_of(energy={"where": "range"}, range=(1.0, 0.5)) == [999, 749]
    assert levels_of(energy={"weight": 0}) == []
    assert levels_of(energy={"gradient": "x0"}) == [-1] * 4
    assert levels_of(constraint="none", energy={"where": "range"}, range_t=2) == [999, 749]


def test_energies_need_no_backward_pass_through_the_network() -> None:
    modes = []

    def watched(x: Tensor, k: Step) -> Prediction:
        modes.append(torch.is_grad_enabled() or x.requires_grad)
        return crude(x, k)

    out = run(method("egsde", energies={"dse": 0, "low_pass": {"N": 4}}), DDPM(), denoise=watched)
    assert not any(modes)
    assert not out.requires_grad


@pytest.mark.parametrize("gradient", ["x_t", "x0"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_an_energy_is_lowered_under_every_sampler(gradient: str, sampler: Sampler) -> None:
    def distance(weight: float) -> float:
        energies = {"dse": 0, "low_pass": {"N": 4, "weight": weight, "gradient": gradient}}
        return float(LowPass(4)(run(method("egsde", energies=energies), sampler, 20) - Y).square().mean())

    assert distance(1.0) < 0.9 * distance(0.0)


@pytest.mark.parametrize(
    ("chosen", "calls"),
    [
        (method(), 10),
        (method("sddm", blocks=4), 14),
        (method("sddm", blocks=4, refinement="stale"), 13),
        (method("sdedit", repeats=3), 15),
        (method("sddm+egsde", blocks=4, energies={"dse": 0, "low_pass": {"N": 4}}), 10),
        (method(start=0.8), 8),
    ],
    ids=lambda v: v.describe() if isinstance(v, Method) else str(v),
)
def test_network_calls_are_counted_as_they_are_made(chosen: Method, calls: int) -> None:
    made: list[int] = []

    def counted(x: Tensor, k: Step) -> Prediction:
        made.append(k.t)
        return crude(x, k)

    run(chosen, DDPM(), 10, denoise=counted)
    assert len(made) == Settings(chosen, steps=10).network_calls(SCHEDULE) == calls


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "sddm", "N": 8}, ["the method sddm has no 'N': it has no low-pass filter", "--blocks"]),
        ({"name": "ilvr", "blocks": 8}, ["the method ilvr has no 'blocks'", "--N says how much it keeps"]),
        ({"name": "egsde", "reference_level": "t"}, ["the method egsde has no 'reference_level'"]),
        (
            {"energies": {"dsee": 5}},
            ["unknown energy 'dsee'; known: low_pass, picture, vgg, dse, classifier", "'dse'?"],
        ),
        ({"energies": {"sharp": 5}}, ["unknown energy 'sharp'", "energies.sharp.call=module:function"]),
        ({"energies": {"dse": "x"}}, ["method.energies.dse must be a weight or a mapping, not 'x'"]),
        ({"energies": {"dse": {"wieght": 5}}}, ["unknown key 'method.energies.dse.wieght'", "'weight'?"]),
        ({"energies": 5}, ["energies must be a mapping"]),
        ({"constraint": "lowpass"}, ["unknown constraint 'lowpass'; known: none, low_pass", "'low_pass'?"]),
        (
            {"merge": {"name": "sum", "over": "image"}},
            ["the merge sum has no 'over'; it belongs to min_norm"],
        ),
        (
            {"merge": {"name": "min_norm", "over": "block"}},
            ["a merge per block needs a constraint with blocks"],
        ),
        ({"start": 0.0}, ["method.start must be above 0"]),
        ({"repeats": 0}, ["method.repeats must be at least 1"]),
        ({"name": "paint+"}, ["unknown method 'paint+'", "sddm"]),
        ({"name": "ilvr_adm"}, ["'ilvr_adm' is more than a method", "--preset ilvr_adm"]),
    ],
    ids=str,
)
def test_mistakes_say_what_was_meant(changes: dict[str, Any], words: Sequence[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        method(**{"name": "ilvr", **changes})
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("blocks", [3, 16, 32])
def test_blocks_that_do_not_fit_are_a_usage_error(blocks: int) -> None:
    with pytest.raises(UsageError, match="do not cut a picture of 16 pixels"):
        Settings(method("sddm", blocks=blocks)).check(SCHEDULE, 16)
