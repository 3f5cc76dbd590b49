"""Guidance by a classifier of noised pictures, against the two algorithms of Dhariwal & Nichol 2021 written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import FOX, difference, ilvrctl
from test_engine_loop import Fake, engine, reference, results
from test_models_classifier import build, small
from torch import Tensor

from ilvrctl.config import Layer
from ilvrctl.diffusion.denoiser import Prediction
from ilvrctl.diffusion.noise import NoiseStream
from ilvrctl.diffusion.samplers import DDIM, DDPM, Sampler
from ilvrctl.diffusion.schedule import Schedule, Step
from ilvrctl.errors import UsageError
from ilvrctl.methods import Context, Method
from ilvrctl.methods.energies import ClassifierEnergy
from ilvrctl.sampling import sample
from ilvrctl.settings import build_settings

SCHEDULE = Schedule.named("linear")
CHAIN = SCHEDULE.steps([0, 250, 500, 750, 999])
LABEL, SCALE = 2, 3.0
CLASSIFIER = build(small("adaptive"), seed=3)
SHAPE = (2, 3, 16, 16)


def stream() -> NoiseStream:
    return NoiseStream([7, 8], SHAPE[1:], torch.device("cpu"))


def crude(x: Tensor, k: Step) -> Prediction:
    x0 = (x + x.roll(1, -1)).tanh()
    return Prediction(x0, (x - k.alpha_t * x0) / k.sigma_t)


def learned(x: Tensor, k: Step) -> Prediction:
    return replace(crude(x, k), log_variance=None if k.s < 0 else x.tanh() - 3)


def gradient(x: Tensor, k: Step) -> Tensor:
    """Of log p(LABEL | x_t)."""
    leaf = x.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = CLASSIFIER(leaf, torch.full((len(x),), float(k.t)))
        (g,) = torch.autograd.grad(logits.log_softmax(1)[:, LABEL].sum(), leaf)
    return g


def run(energy: ClassifierEnergy, sampler: Sampler, denoise: Any, class_label: int | None = None) -> Tensor:
    context = Context(
        torch.zeros(SHAPE), SCHEDULE, stream(), networks={"classifier": CLASSIFIER}, class_label=class_label
    )
    *_, last = sample(denoise, context, CHAIN, Method(energies={"classifier": energy}), sampler)
    return last.x


@pytest.mark.parametrize("denoise", [crude, learned])
def test_the_mean_moves_by_the_variance_of_the_step(denoise: Any) -> None:
    noise = stream()
    x = noise()
    for k in CHAIN:
        found = denoise(x, k)
        mean = k.posterior_x0 * found.x0 + k.posterior_x_t * x
        z = noise()
        if k.s >= 0:
            small_variance = torch.tensor(k.posterior_variance)
            variance = small_variance if found.log_variance is None else found.log_variance.exp()
            mean = mean + SCALE * variance * gradient(x, k) + variance.sqrt() * z
        x = mean
    guided = run(ClassifierEnergy(weight=SCALE, label=LABEL), DDPM("auto"), denoise)
    torch.testing.assert_close(guided, x, atol=1e-4, rtol=1e-4)
    plain = run(ClassifierEnergy(weight=0, label=LABEL), DDPM("auto"), denoise)
    assert (guided - plain).abs().max() > 1e-3


def test_the_score_moves_for_ddim() -> None:
    x = stream()()
    for k in CHAIN:
        found = crude(x, k)
        eps = found.eps - (k.sigma_t * SCALE * gradient(x, k) if k.s >= 0 else 0)
        x = k.alpha_s * (x - k.sigma_t * eps) / k.alpha_t + k.sigma_s * eps
    guided = run(ClassifierEnergy(weight=SCALE, label=LABEL, shift="score"), DDIM(), crude)
    torch.testing.assert_close(guided, x, atol=1e-4, rtol=1e-4)


def test_the_label_is_that_of_the_settings_unless_it_has_its_own() -> None:
    own = run(ClassifierEnergy(label=LABEL), DDPM(), crude)
    assert torch.equal(run(ClassifierEnergy(), DDPM(), crude, LABEL), own)
    assert torch.equal(run(ClassifierEnergy(label=LABEL), DDPM(), crude, 1), own)
    with pytest.raises(UsageError, match="class label 5 is not among the 5 classes"):
        run(ClassifierEnergy(label=5), DDPM(), crude)


def test_from_a_file_by_settings(tmp_path: Path) -> None:
    torch.save(CLASSIFIER.state_dict(), tmp_path / "classifier.pt")

    def made(**energy: Any) -> Tensor:
        facts = {"model": str(tmp_path / "classifier.pt"), "num_head_channels": 16, **energy}
        layer = {"steps": 5, "method": {"N": 4, "energies": {"classifier": facts}}}
        chosen = build_settings(Layer.of("test", layer))
        [x] = results(list(engine(Fake()).translate([reference(1)], chosen))).values()
        return x

    assert (made(label=LABEL, weight=20) - made(label=LABEL, weight=0)).abs().max() > 1e-3
    with pytest.raises(UsageError, match="needs the class to guide to"):
        made()
    with pytest.raises(UsageError, match="a classifier of noised pictures, and none is named"):
        made(model="", label=LABEL)


def test_the_flags_and_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(CLASSIFIER.state_dict(), tmp_path / "classifier.pt")
    args = ["translate", FOX, "--to", "emoji3d", "--steps", "5", "--precision", "fp32"]
    guided = [*args, "--guide", "classifier.pt", "--guide-scale", "1000"]
    ran = ilvrctl(*guided)
    assert ran.code == 2
    assert "needs the class to guide to" in ran.err
    own = ["--set", "energies.classifier.num_head_channels=16", "--set", "energies.classifier.label=2"]
    assert ilvrctl(*args, "-o", "plain").code == 0
    ran = ilvrctl(*guided, *own)
    assert ran.code == 0, ran.err
    assert "nothing to do" in ilvrctl(*guided, *own).err
    assert difference(Path("out/fox.png"), Path("plain/fox.png"))[1] > 1
    ran = ilvrctl(*args, "--class-label", "golden retriever", "-o", "other")
    assert "trained without classes" in ran.err
    ran = ilvrctl(*args, "--guide-scale", "2", "-o", "other")
    assert "and none is named" in ran.err
