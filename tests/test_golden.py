"""Whole runs of the published ILVR code, with its recorded noise, through the engine's own loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import GOLDEN, golden, recorded
from torch import nn

from ilvrctl.config import Layer
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.methods import Context
from ilvrctl.models.architecture.unet import HiddenFlags
from ilvrctl.models.cpu import choice, kernels, strips, winograd
from ilvrctl.models.files.loading import load_network
from ilvrctl.sampling import sample
from ilvrctl.settings import build_settings

RUNS = {"ilvr_12steps_N4_range3.pt": "auto", "ilvr_8steps_N8_range0_fixed_sigma.pt": "fixed_large"}
"""Published default for networks without a learned variance: fixed_large."""


def translated(
    case: dict[str, Any], variance: str, noise: list[torch.Tensor], **method: object
) -> torch.Tensor:
    flags = case["flags"]
    hidden = HiddenFlags(
        num_heads=flags["num_heads"],
        num_head_channels=flags["num_head_channels"],
        use_new_attention_order=flags["use_new_attention_order"],
    )
    network = load_network(GOLDEN / case["checkpoint"], hidden, device=torch.device("cpu"))
    published = {
        "compat": "ilvr_adm",
        "method": {"name": "ilvr", "N": case["N"], "range_t": case["range_t"]},
        "sampler": {"name": "ddpm", "variance": variance},
        "timestep_respacing": case["timestep_respacing"],
    }
    settings = build_settings(Layer(published), overrides=[Layer({"method": method})])
    schedule = Schedule.named(flags["noise_schedule"], flags["diffusion_steps"])
    context = Context(case["reference"], schedule, recorded(noise))
    *_, last = sample(Denoiser(network), context, settings.chain(schedule), settings.method, settings.sampler)
    return last.x


@pytest.mark.parametrize("name", RUNS)
def test_compat_ilvr_adm_equals_the_published_run_within_1e_4(name: str) -> None:
    case = golden(name)
    out = translated(case, RUNS[name], case["noise"])
    torch.testing.assert_close(out, case["out"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("way", ["direct", "nnpack", "winograd"])
def test_so_does_it_in_strips_by_every_way_of_convolving(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All layers that keep the size, however small their maps are."""
    monkeypatch.setattr(strips, "LARGE", 1)
    monkeypatch.setattr(kernels.Nnpack, "MIN_WORK", 1)
    monkeypatch.setattr(kernels.Nnpack, "MIN_CHANNELS", 1)
    for limit in ("MIN_SIDE", "MIN_CHANNELS"):
        monkeypatch.setattr(winograd, limit, 4)
    monkeypatch.setattr(winograd, "MAX_PAIRS", 1 << 20)
    if way == "nnpack" and not kernels._has_nnpack():
        pytest.skip("this PyTorch has no NNPACK")
    assert choice.KERNELS[way].fits(nn.Conv2d(32, 32, 3, padding=1), torch.float32, 32, 32)
    case = golden(name)
    with choice.forced(way):
        out = translated(case, RUNS[name], case["noise"])
    torch.testing.assert_close(out, case["out"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", RUNS)
def test_every_recorded_draw_is_used(name: str) -> None:
    case = golden(name)
    with pytest.raises((StopIteration, RuntimeError)):
        translated(case, RUNS[name], case["noise"][:-1])


def test_the_published_level_is_not_the_default() -> None:
    case = golden("ilvr_12steps_N4_range3.pt")
    out = translated(case, "auto", case["noise"], reference_level="s")
    assert (out - case["out"]).abs().max() > 0.01
