"""Two models: pictures encoded with one and decoded with the other come back when both are one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ilvrctl.diffusion.denoiser import Denoise, Denoiser, Prediction
from ilvrctl.diffusion.samplers import DDIM, DDPM, Sampler
from ilvrctl.diffusion.schedule import Schedule, Step, spread_levels
from ilvrctl.errors import UsageError
from ilvrctl.methods.encoders import DDIMEncoder, NoiseEncoder, encode_ddim, follow, surprises

SCHEDULE = Schedule.named("linear", 1000)
SHAPE = (2, 3, 8, 8)


def chain(n: int) -> list[Step]:
    return SCHEDULE.steps(spread_levels(1000, n))


def drawn(seed: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def picture(seed: int = 1) -> Tensor:
    return torch.tanh(drawn(seed)())


def rough(x: Tensor, k: Step) -> Prediction:
    """A network that knows little: its estimate turns with the sample and the level."""
    x0 = torch.tanh(x.roll(1, -1) * 0.7 + k.t / 1000)
    return Prediction(x0, (x - k.alpha_t * x0) / k.sigma_t)


def gaussian(x: Tensor, k: Step) -> Prediction:
    """The best network for pictures that are Gaussian noise of deviation 0.5."""
    x0 = k.alpha_t * 0.25 / (k.alpha_t**2 * 0.25 + k.sigma_t**2) * x
    return Prediction(x0, (x - k.alpha_t * x0) / k.sigma_t)


def knowing(y: Tensor) -> Denoise:
    return lambda x, k: Prediction(y, (x - k.alpha_t * y) / k.sigma_t)


def learned(x: Tensor, k: Step) -> Prediction:
    """The rough network with a variance of its own."""
    found = rough(x, k)
    return Prediction(found.x0, found.eps, None if k.s < 0 else torch.tanh(x) - 4)


def decoded(target: Denoise, x: Tensor, steps: Sequence[Step]) -> Tensor:
    for k in steps:
        x, _ = DDIM().step(x, target(x, k), k, drawn(0), None)
    return x


def ddib(source: Denoise, target: Denoise, y: Tensor, n: int) -> Tensor:
    *_, (_, x, _) = encode_ddim(source, y, chain(n))
    return decoded(target, x, chain(n))


def cycle(
    source: Denoise, target: Denoise, y: Tensor, n: int, sampler: Sampler, residual: bool = True
) -> Tensor:
    steps, noise = chain(n), drawn(7)
    x = steps[0].alpha_t * y + steps[0].sigma_t * noise()
    carry: Any = None
    for k, told in zip(steps, surprises(source, y, x, steps, sampler, noise), strict=True):
        x, carry = follow(sampler, x, target(x, k), k, carry, told, residual)
    return x


STEPS = [1, 2, 5, 20]
NOISY = [DDIM(0.1), DDIM(1.0), DDIM(0.001), DDPM(), DDPM("fixed_large")]


@pytest.mark.parametrize("n", STEPS)
def test_ddib_with_perfect_models_goes_from_picture_to_picture(n: int) -> None:
    a, b = picture(1), picture(2)
    assert torch.allclose(ddib(knowing(a), knowing(a), a, n), a, atol=1e-9)
    assert torch.allclose(ddib(knowing(a), knowing(b), a, n), b, atol=1e-9)


def test_ddib_returns_the_picture_the_nearer_the_more_steps() -> None:
    y = picture() * 0.5
    errors = [(ddib(gaussian, gaussian, y, n) - y).abs().max().item() for n in (10, 40, 160, 640)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 < errors[0]


def test_a_source_that_has_learned_its_variance_encodes_as_one_that_has_not() -> None:
    def network(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return 0.1 * x

    def learning(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return torch.cat((network(x, t, y), x), 1)

    y, steps = picture(), chain(5)
    plain, learned = (list(encode_ddim(Denoiser(one), y, steps)) for one in (network, learning))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(plain, learned, strict=True))


def test_the_encoding_walks_the_same_chain_upwards() -> None:
    steps = chain(5)
    levels: list[int] = []

    def noted(x: Tensor, k: Step) -> Prediction:
        levels.append(k.t)
        return rough(x, k)

    walked = [k for k, _, _ in encode_ddim(noted, picture(), steps)]
    assert walked == steps[::-1]
    # The clean picture is given at the lowest level, each later sample at its own.
    assert levels == [0, 0, 250, 500, 749]


@pytest.mark.parametrize("sampler", NOISY, ids=str)
@pytest.mark.parametrize("n", STEPS)
@pytest.mark.parametrize("model", [rough, learned])
def test_the_noises_of_one_model_return_the_picture_exactly(model: Denoise, n: int, sampler: Sampler) -> None:
    y = picture()
    assert torch.allclose(cycle(model, model, y, n, sampler), y, atol=1e-9)


@pytest.mark.parametrize("sampler", NOISY, ids=str)
def test_without_the_residual_the_last_step_is_the_targets_own(sampler: Sampler) -> None:
    y = picture()
    out = cycle(rough, rough, y, 20, sampler, residual=False)
    last = chain(20)[-1]
    error = (out - y).abs().max().item()
    assert 0 < error <= 2.01  # all that is lost is what the model misses at level 0
    assert torch.allclose(cycle(knowing(y), knowing(y), y, 20, sampler, residual=False), y, atol=1e-6)
    assert last.t == 0


@pytest.mark.parametrize("n", STEPS)
def test_perfect_models_hand_over_no_more_than_noise(n: int) -> None:
    a, b = picture(1), picture(2)
    assert torch.allclose(cycle(knowing(a), knowing(b), a, n, DDPM()), b, atol=1e-9)


def test_perfect_models_surprise_by_standard_normals() -> None:
    y, steps = picture(), chain(50)
    told = list(surprises(knowing(y), y, drawn(1)(), steps, DDPM(), drawn(2)))
    z = torch.stack([s.deviation / s.std for s in told[:-1]])
    assert abs(z.mean().item()) < 0.02
    assert abs(z.std().item() - 1) < 0.02
    assert not told[-1].std.any()


def test_the_target_gets_the_noise_in_its_own_measure() -> None:
    """z is handed over, not the deviation: where the target's variance is larger, so is the step."""
    y, steps = picture(), chain(3)
    told = next(surprises(rough, y, drawn(1)(), steps, DDPM(), drawn(2)))
    x, k = drawn(3)(), steps[0]
    found = rough(x, k)
    wide = Prediction(found.x0, found.eps, torch.full(SHAPE, -0.5, dtype=torch.float64))
    mean, _ = DDPM().step(x, found, k, lambda: torch.zeros(SHAPE, dtype=torch.float64), None)
    out, _ = follow(DDPM(), x, wide, k, None, told, True)
    z = told.deviation / told.std
    assert torch.allclose(out, mean + torch.tensor(-0.25).exp() * z)


def test_what_one_picture_becomes_does_not_depend_on_the_others() -> None:
    y = picture()
    noise = drawn(5)()

    def run(part: Tensor, e: Tensor) -> Tensor:
        steps = chain(4)
        x = steps[0].alpha_t * part + steps[0].sigma_t * e
        for k, told in zip(steps, surprises(rough, part, x, steps, DDIM(0.5), lambda: e), strict=True):
            x, _ = follow(DDIM(0.5), x, gaussian(x, k), k, None, told, True)
        return x

    both = run(y, noise)
    for b in range(2):
        assert torch.equal(run(y[b : b + 1], noise[b : b + 1])[0], both[b])
    both = ddib(rough, gaussian, y, 4)
    assert torch.equal(ddib(rough, gaussian, y[1:], 4)[0], both[1])


def test_the_encoders_want_their_samplers() -> None:
    DDIMEncoder().check(DDIM())
    NoiseEncoder().check(DDPM())
    for encoder, sampler, words in [
        (DDIMEncoder(), DDPM(), "needs a sampler that adds no noise, which ddpm does"),
        (DDIMEncoder(), DDIM(0.1), "needs a sampler that adds no noise"),
        (NoiseEncoder(), DDIM(), "needs a sampler that adds noise, which ddim does not"),
    ]:
        with pytest.raises(UsageError, match=words):
            encoder.check(sampler)  # type: ignore[attr-defined]


def test_a_network_in_single_precision_returns_the_picture_too() -> None:
    y = picture().float()
    network = Denoiser(lambda x, t, _: torch.tanh(x * 0.3 + t[:, None, None, None] / 1000))
    noise = lambda: drawn(3)().float()  # noqa: E731
    steps = chain(20)
    x = steps[0].alpha_t * y + steps[0].sigma_t * noise()
    for k, told in zip(steps, surprises(network, y, x, steps, DDIM(0.1), noise), strict=True):
        x, _ = follow(DDIM(0.1), x, network(x, k), k, None, told, True)
    assert (x - y).abs().max() < 1e-5
