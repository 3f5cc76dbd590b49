"""How far a device is from the published code: networks and whole runs against the recorded vectors, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from conftest import GOLDEN, golden, recorded
from torch import Tensor

from ilvrctl.arithmetic import EXACT, each_stated
from ilvrctl.config import Layer
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.methods import Context
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.files.loading import load_classifier, load_network
from ilvrctl.sampling import sample
from ilvrctl.settings import build_settings

BOUND = 1e-4
"""Of the largest value, as the CPU keeps it."""
_NETWORKS = (
    "unet_adm_learned_sigma",
    "unet_adm_fixed_sigma_two_res_blocks",
    "unet_class_conditional_new_attention_order",
    "unet_plain_updown_four_heads",
    "ddpm_model",
)
_ILVR = {"ilvr_12steps_N4_range3": "auto", "ilvr_8steps_N8_range0_fixed_sigma": "fixed_large"}
_EGSDE = ("egsde_last_levels", "egsde_from_the_middle")


def errors(device: torch.device) -> Iterator[tuple[str, float]]:
    """What was compared, and the largest difference, of the largest value."""
    for name in _NETWORKS:
        yield name, _network(name, device)
    yield "dse", _extractor(device)
    for name, variance in _ILVR.items():
        yield name, _ilvr(golden(f"{name}.pt"), variance, device)
    for name in _EGSDE:
        yield name, _egsde(golden(f"{name}.pt"), device)


def _far(found: Tensor, expected: Tensor) -> float:
    return float((found.cpu() - expected).abs().max() / expected.abs().max())


def _hidden(flags: dict[str, Any]) -> HiddenFlags:
    names = ("num_heads", "num_head_channels", "use_new_attention_order")
    return HiddenFlags(**{name: flags[name] for name in names if name in flags})


@torch.no_grad()
def _network(name: str, device: torch.device) -> float:
    case = golden(f"{name}.io.pt")
    network = load_network(GOLDEN / f"{name}.pt", _hidden(case.get("flags", {})), device=device)
    classes = () if case.get("y") is None else (case["y"].to(device),)
    with EXACT.stated(device):
        return _far(network(case["x"].to(device), case["t"].to(device), *classes), case["out"])


@torch.no_grad()
def _extractor(device: torch.device) -> float:
    case = golden("dse.io.pt")
    network = load_classifier(GOLDEN / "dse.pt", HiddenFlags(num_head_channels=16), device=device)
    with EXACT.stated(device):
        return _far(network.features(case["x"].to(device), case["t"].to(device)), case["features"])


def _ilvr(case: dict[str, Any], variance: str, device: torch.device) -> float:
    settings = {
        "method": {"name": "ilvr", "N": case["N"], "range_t": case["range_t"]},
        "sampler": {"name": "ddpm", "variance": variance},
        "timestep_respacing": case["timestep_respacing"],
    }
    return _run(case, "ilvr_adm", settings, case["reference"], case["noise"], slice(None), device)


def _egsde(case: dict[str, Any], device: torch.device) -> float:
    dse = {"weight": case["lambda_s"], "model": str(GOLDEN / case["dse"]), "num_head_channels": 16}
    low_pass = {"weight": case["lambda_i"], "N": case["N"], "kernel": case["kernel"]}
    method = {"name": "egsde", "start": case["start_level"], "energies": {"dse": dse, "low_pass": low_pass}}
    noise = [case["start_noise"], *case["step_noise"]]
    steps = slice(0, case["start_level"] - case["stop_level"])
    return _run(case, "egsde", {"method": method}, case["source"], noise, steps, device)


def _run(
    case: dict[str, Any],
    compat: str,
    values: dict[str, Any],
    reference: Tensor,
    noise: list[Tensor],
    steps: slice,
    device: torch.device,
) -> float:
    settings = build_settings(Layer({"compat": compat}), overrides=[Layer(values)])
    schedule = Schedule.named("linear")
    network = load_network(GOLDEN / case["checkpoint"], _hidden(case.get("flags", {})), device=device)
    context = Context(
        reference.to(device),
        schedule,
        recorded([e.to(device) for e in noise]),
        networks=settings.method.load(device),
    )
    chain = settings.chain(schedule)[steps]
    denoiser = Denoiser(network, clip_denoised=settings.clip_denoised)
    made = sample(denoiser, context, chain, settings.method, settings.sampler)
    *_, last = each_stated(made, device)
    return _far(last.x, case["out"])
