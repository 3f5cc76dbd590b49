"""From the preset of a network to the network as the engine asks it, loaded at once or when it is first asked."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from ilvrctl.arithmetic import Arithmetic
from ilvrctl.diffusion.denoiser import Denoiser, Predicts
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.compiled import CompiledNetwork
from ilvrctl.models.files.contents import contents_of
from ilvrctl.models.files.loading import load_network
from ilvrctl.paths import cache_dir

if TYPE_CHECKING:
    from ilvrctl.presets import ModelPreset


def open_network(
    model: ModelPreset, weights: Path, dtype: torch.dtype, device: torch.device, compiled: bool
) -> Any:
    """The network in ``weights``, compiled if asked for. Errors as :func:`load_network` has them."""
    network = load_network(weights, HiddenFlags.of(model), dtype=dtype, device=device, which=model.weights)
    return CompiledNetwork(network, device, cache_dir() / "inductor") if compiled else network


def denoiser_of(
    model: ModelPreset, weights: Path, dtype: torch.dtype, device: torch.device, compiled: bool = False
) -> Denoiser:
    """The network with the facts of its preset; experts are left out. Errors as :func:`load_network` has them."""
    network = open_network(model, weights, dtype, device, compiled)
    architecture = (network.network if compiled else network).architecture
    return _denoiser(model, network, dtype, architecture.self_condition)


def late_denoiser(
    model: ModelPreset, weights: Path, dtype: torch.dtype, device: torch.device, compiled: bool = False
) -> Denoiser:
    """The same, loaded at its first call; until then only what its file tells of it is read."""
    facts = contents_of(weights, model.weights, numbers=False).facts
    late = LateNetwork(model, weights, dtype, device, compiled)
    return _denoiser(model, late, dtype, bool(facts.get("self_condition")))


def _denoiser(model: ModelPreset, network: Any, dtype: torch.dtype, self_condition: bool) -> Denoiser:
    return Denoiser(
        network,
        predicts=cast("Predicts", model.predicts),  # known, as the verdict says
        clip_denoised=model.clip_sample,
        self_condition=self_condition,
        time_scale=1000 / model.diffusion_steps if model.rescale_timesteps else 1.0,
        arithmetic=Arithmetic(half=dtype != torch.float32),
    )


class LateNetwork:
    """A network that is loaded when something is first asked of it; ``how`` is as :func:`open_network` takes it."""

    def __init__(self, *how: Any) -> None:
        self._how = how

    @cached_property
    def loaded(self) -> Any:
        """The network itself."""
        return open_network(*self._how)

    def __call__(self, *arguments: Any) -> Any:
        """Its output."""
        return self.loaded(*arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "loaded":  # which could not be loaded
            raise AttributeError(name)
        return getattr(self.loaded, name)
