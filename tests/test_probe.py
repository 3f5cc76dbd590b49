"""The probe finds what the tensors hide, whatever the answer is, and does not guess where there is none."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from checkpoints import random_state_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from retrained import Retrained, drawings, shipped, two_drawings
from torch import Tensor

from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.unet import AdmArchitecture
from ilvrctl.probe import Findings, Point, Timing, Trial, guess_image_size, probe
from ilvrctl.probe.curve import EXACT, fits, next_level, point_of
from ilvrctl.probe.findings import Row, conclude
from ilvrctl.probe.readings import ENDS, NAMED, STEPS, Attention, attention_readings, timings
from ilvrctl.probe.trials import STRENGTHS, Network, noised

CPU = torch.device("cpu")
HEADS = 4
"""Of the shipped model."""


def qkv(network: AdmUNet) -> list[tuple[Tensor, Tensor]]:
    """Weight (3 C, C) and bias of the attention layers."""
    modules = [module for name, module in network.named_modules() if name.endswith(".qkv")]
    assert modules
    return [(module.weight[:, :, 0], module.bias) for module in modules]  # type: ignore[misc, index]


def found(network: Network, pictures: Tensor | None = None, trials: list[Trial] | None = None) -> Findings:
    """What the probe finds on the drawings (or others); its ``trials`` go into that list."""
    if pictures is None:
        pictures, names = two_drawings(64)
    else:
        names = [str(n) for n in range(len(pictures))]
    *made, findings = probe(network, pictures, names)
    assert all(isinstance(trial, Trial) for trial in made)
    assert isinstance(findings, Findings)
    if trials is not None:
        trials += made  # type: ignore[arg-type]
    return findings


def test_one_picture_tells_what_is_best_and_decides_nothing() -> None:
    attention = Attention(HiddenFlags(num_head_channels=32), (HEADS,))
    rows = [Row(attention, None, predicts, {3: [log]}) for predicts, log in (("v", -4.0), ("eps", -2.0))]
    found = conclude(rows, {3: [0.0]}, (), (), ["one"]).of("predicts")
    assert (found.best, found.next_best, found.status) == ("v", "eps", "undecided")
    assert found.margin == pytest.approx(math.e**2)


@pytest.mark.slow
def test_the_shipped_model() -> None:
    trials: list[Trial] = []
    findings = found(shipped(), trials=trials)
    assert len(trials) <= 90
    assert findings.facts == {
        "num_head_channels": 32,
        "use_new_attention_order": False,
        "noise_schedule": "linear",
        "diffusion_steps": 1000,
        "predicts": "v",
    }
    assert {f.status for f in findings.findings} == {"decided"}
    assert min(f.margin for f in findings.findings if f.fact != "schedule") > 2
    assert findings.possible == (Timing("linear", 1000),)
    for point in findings.curve:
        assert point.level == pytest.approx(Timing("linear", 1000).level(point.abar), rel=0.08)


@pytest.mark.slow
def test_the_same_network_in_the_new_attention_order() -> None:
    """Rows of qkv: legacy (head, q|k|v, channel), new (q|k|v, head, channel)."""
    network = shipped()
    for weight, bias in qkv(network):
        for tensor in (weight, bias):
            tensor.copy_(tensor.clone().unflatten(0, (HEADS, 3, -1)).transpose(0, 1).flatten(0, 2))
    facts = found(network, drawings(64)[0]).facts  # all drawings: eight heads are only 2 % worse
    assert facts["use_new_attention_order"] is True
    assert facts["num_head_channels"] == 32


def halved(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Nearly the same attention with twice the heads of half the width: two heads for each, with half of its v
    and, for both, the best approximation of its q k^T by as few channels (a singular value decomposition).
    """
    q, k, v = weight.unflatten(0, (HEADS, 3, -1)).unbind(1)
    q_bias, _, v_bias = bias.unflatten(0, (HEADS, 3, -1)).unbind(1)
    whole = q.shape[1]
    half = whole // 2
    # logits of a query are the same up to a constant without the bias of k
    product = torch.cat([q, q_bias[:, :, None]], 2).transpose(1, 2) @ k
    u, s, vt = torch.linalg.svd(product, full_matrices=False)
    root = s[:, :half].sqrt() * (half / whole) ** 0.25  # the logits are divided by sqrt(channels)
    left = (u[:, :, :half] * root[:, None]).transpose(1, 2)
    right = root[:, :, None] * vt[:, :half]
    parts = [
        torch.stack([left[:, :, :-1], right, v[:, rows]], 1) for rows in (slice(half), slice(half, whole))
    ]
    biases = [
        torch.stack([left[:, :, -1], torch.zeros_like(right[:, :, 0]), v_bias[:, rows]], 1)
        for rows in (slice(half), slice(half, whole))
    ]
    return torch.stack(parts, 1).flatten(0, 3), torch.stack(biases, 1).flatten()


@pytest.mark.slow
def test_the_same_network_with_eight_heads() -> None:
    network = shipped()
    for weight, bias in qkv(network):
        new_weight, new_bias = halved(weight, bias)
        weight.copy_(new_weight)
        bias.copy_(new_bias)
    findings = found(network)
    assert findings.facts["num_head_channels"] == 16
    assert findings.facts["use_new_attention_order"] is False
    assert findings.of("heads").next_best == "4 heads"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("timing", "predicts"),
    [(Timing("cosine", 1000), "v"), (Timing("linear", 4000), "x0"), (Timing("cosine", 4000), "eps")],
    ids=str,
)
def test_other_levels_and_predictions(timing: Timing, predicts: str) -> None:
    facts = found(Retrained(timing, predicts)).facts
    assert facts == {
        "num_head_channels": 32,
        "use_new_attention_order": False,
        **timing.facts,
        "predicts": predicts,
    }


TRUTHS = [Timing(name, T) for T in STEPS for name in NAMED]
TRUTHS += [Timing(name, T, *ends) for T in STEPS for name, *ends in ENDS]
QUICK = [Timing("linear", 2000), Timing("linear", 500), Timing("quad", 1000), Timing("cosine", 100)]
ODD = [
    Timing("linear", 1000, 0.0001, 0.03),
    Timing("linear", 1200),
    Timing("linear", 1500),
    Timing("cosine", 3000),
]
CASES = [
    pytest.param(t, False, marks=[] if t in QUICK else pytest.mark.slow, id=str(t)) for t in TRUTHS + ODD
]
CASES += [
    pytest.param(t, True, marks=pytest.mark.slow, id=f"{t}, beyond")
    for t in TRUTHS
    if t.diffusion_steps != 250  # linear with betas up to 0.02 goes on as linear with 500 levels does
]


@pytest.mark.slow
@pytest.mark.parametrize(("truth", "beyond"), CASES)
def test_a_schedule_is_right_or_undecided(truth: Timing, beyond: bool) -> None:
    """Over all schedules, and some that nobody knows; ``beyond``: levels that are too high mean more noise."""
    findings = found(Retrained(truth, beyond=beyond))
    schedule = findings.of("schedule")
    facts = findings.facts
    assert facts["num_head_channels"] == 32
    if schedule.status == "decided":
        levels = Timing(**{k: v for k, v in facts.items() if k in vars(truth)}).schedule.alphas_cumprod
        assert levels == truth.schedule.alphas_cumprod
    else:
        assert not {"noise_schedule", "diffusion_steps", "beta_start", "beta_end"} & set(facts)
    for point in findings.curve:
        level = truth.level(point.abar)
        if level is not None and level > 20:
            assert point.level == pytest.approx(level, rel=0.12)


def dead_attention(network: AdmUNet) -> None:
    for name, parameter in network.named_parameters():
        if "proj_out" in name:
            parameter.zero_()


def dead_time(network: AdmUNet) -> None:
    network.time_embed[0].weight.zero_()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kill", "undecided"),
    [
        (dead_attention, {"heads", "attention order"}),
        pytest.param(dead_time, {"schedule"}, marks=pytest.mark.slow),
    ],
)
def test_facts_are_decided_one_by_one(kill: Callable[[AdmUNet], None], undecided: set[str]) -> None:
    """A network whose output does not depend on a fact tells nothing about it: the values do equally well."""
    network = shipped()
    kill(network)
    findings = found(network, two_drawings(64)[0][:, :, 8:56, 8:56])
    for finding in findings.findings:
        if finding.fact in undecided:
            assert finding.status == "undecided"
            assert finding.margin == pytest.approx(1)
    names = {"heads": "num_head_channels", "schedule": "noise_schedule"}
    assert not {names.get(fact, "use_new_attention_order") for fact in undecided} & set(findings.facts)


@pytest.mark.parametrize("seed", range(3))
def test_random_networks_are_undecided(seed: int) -> None:
    network = AdmUNet(shipped().architecture).requires_grad_(False)
    network.load_state_dict(random_state_dict(network.architecture, seed))
    findings = found(network, two_drawings(64)[0][:, :, ::4, ::4])
    assert not findings.trained
    assert findings.facts == {}
    assert {f.status for f in findings.findings} == {"undecided"}


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_constant_and_broken_outputs_are_undecided(value: float) -> None:
    network = shipped()
    network.out[2].weight.fill_(value)  # type: ignore[operator]
    network.out[2].bias.fill_(value)  # type: ignore[operator]
    findings = found(network, two_drawings(64)[0][:, :, ::4, ::4])
    assert findings.facts == {}
    assert {f.status for f in findings.findings} == {"undecided"}


def test_classes_and_a_learned_variance() -> None:
    """Six outputs, of which three are the noise; classes are given, whatever they are."""
    network = shipped()
    learned = AdmUNet(
        AdmArchitecture(
            **{**vars(network.architecture), "out_channels": 6, "num_classes": 5},
        )
    ).requires_grad_(False)
    weights = dict(network.state_dict())
    for name in ("out.2.weight", "out.2.bias"):
        weights[name] = torch.cat([weights[name], torch.randn_like(weights[name])])
    weights["label_emb.weight"] = torch.zeros(5, network.architecture.embedding_width)
    learned.load_state_dict(weights)
    assert found(learned, two_drawings(64)[0][:, :, ::2, ::2]).facts["num_head_channels"] == 32


def architecture(widths: tuple[int, ...], attention: tuple[bool, ...]) -> AdmArchitecture:
    return AdmArchitecture(3, 3, widths[0], widths, 1, attention)


def test_readings_that_are_the_same_are_tried_once() -> None:
    same = attention_readings(architecture((32, 128), (False, True)))
    assert [reading.heads[0] for reading in same] == [1, 2, 2, 4, 4, 8, 8]
    assert len({(reading.heads, reading.order) for reading in same}) == len(same)
    several = attention_readings(architecture((64, 192), (True, True)))
    assert ({64 // 16, 192 // 16}, {4}) == (
        set(next(r for r in several if r.hidden.num_head_channels == 16).heads),
        set(next(r for r in several if r.hidden.num_heads == 4).heads),
    )


def test_the_size_is_guessed_as_the_published_tables_have_it() -> None:
    for size, multipliers in [(64, (1, 2, 3, 4)), (128, (1, 1, 2, 3, 4)), (256, (1, 1, 2, 2, 4, 4))]:
        widths = tuple(32 * m for m in multipliers)
        assert guess_image_size(architecture(widths, (False,) * len(widths))) == size


def test_timings_meet_at_the_same_signal_to_noise_ratio() -> None:
    for timing in timings():
        abars = timing.schedule.alphas_cumprod
        T = timing.diffusion_steps
        for t in (T // 10, T // 2):
            assert timing.level(abars[t]) == pytest.approx(t)
            assert timing.nearest(abars[t]) == t
        between = math.sqrt(abars[T // 2] * abars[T // 2 + 1])
        assert T // 2 < (timing.level(between) or 0) < T // 2 + 1
        assert timing.level(0.999999) == 0
        assert timing.level(abars[-1] / 2) is None


@settings(derandomize=True, max_examples=300, deadline=None)
@given(best=st.floats(0, 8000), start=st.integers(0, 10_000), bend=st.floats(0.1, 100), tilt=st.floats(-2, 2))
def test_the_lowest_level_is_found_from_anywhere(best: float, start: int, bend: float, tilt: float) -> None:
    """Also where the error does not rise evenly on both sides, and where levels are too high to mean anything: here
    from 9500 on, so that the level looked for has both its sides below. No known schedule has more than 4000.
    """

    def error(t: int) -> list[float]:
        u = math.log(min(t, 9500) + 1) - math.log(best + 1)
        return [bend * u * u * math.exp(tilt * math.tanh(u)), bend * u * u - 1]

    tried = {start: error(start)}
    while (level := next_level(tried)) is not None:
        assert level not in tried
        tried[level] = error(level)
    assert len(tried) < 50
    point = point_of(0.9, tried, [math.inf, math.inf])
    assert point.level == pytest.approx(best, rel=0.05, abs=1)


def test_every_schedule_has_its_own_curve() -> None:
    abars = [noised(torch.zeros(1, 3, 8, 8), strength).abar for strength in STRENGTHS]
    for timing in timings():
        levels = [timing.level(abar) for abar in abars]
        last = timing.diffusion_steps - 1
        curve = [
            Point(abar, last if level is None else level, EXACT, level is not None)
            for abar, level in zip(abars, levels, strict=True)
        ]
        best = fits(curve)[0]
        assert best.timing == timing
        assert best.apart == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_levels_that_cannot_be_told_decide_nothing(value: float) -> None:
    tried = {10: [0.0, 0.0], 12: [-1.0, -1.0], 14: [0.0, value]}
    point = point_of(0.5, tried, [1.0, 1.0])
    assert all(fit.off == 0 or fit.off == math.inf for fit in fits([point]))
