"""Where training starts: from nothing, or from the weights of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ilvrctl.errors import UsageError
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags
from ilvrctl.models.files.loading import load_unet
from ilvrctl.presets import ModelPreset, load_models, require_weights, resolve_model
from ilvrctl.training.recipe import Recipe, check_size


@dataclass(frozen=True)
class Start:
    """A network to train, float32 on the CPU, and the facts that its tensors will not tell.

    ``recipe`` has the schedule of the model that training starts from.
    """

    network: AdmUNet
    recipe: Recipe
    rescale_timesteps: bool = False

    @property
    def architecture(self) -> AdmArchitecture:
        """That of the network."""
        return self.network.architecture

    @property
    def time_scale(self) -> float:
        """What levels are multiplied with before the network gets them."""
        return 1000 / self.recipe.diffusion_steps if self.rescale_timesteps else 1.0


def find_init(name_or_file: str, recipe: Recipe) -> tuple[ModelPreset, Path]:
    """The model that ``--init`` means: a name, or a file with the facts of a published one of its name.

    UsageError for one that cannot be trained on, WeightsError when its weights are not here.
    """
    path = Path(name_or_file)
    if path.suffix in (".pt", ".pth", ".ckpt", ".safetensors"):
        known = [model for model in load_models().values() if model.file == path.name]
        heads = None if known else recipe.network.head_channels
        model = known[0] if known else ModelPreset(name=path.stem, num_head_channels=heads)
    else:
        model = resolve_model(name_or_file)
        path = require_weights(model, model.name)
    if model.predicts != "eps":
        raise UsageError(f"{model.name} predicts {model.predicts}; only eps prediction can be trained on")
    return model, path


def begin(recipe: Recipe) -> Start:
    """The network that the recipe starts from. UsageError when it cannot work at the recipe's size."""
    if recipe.init is None:
        architecture = recipe.network.unet(recipe.size, 6 if recipe.learn_variance else 3)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(recipe.seed)
            return Start(AdmUNet(architecture), recipe)
    model, path = find_init(recipe.init, recipe)
    hidden = HiddenFlags(
        num_heads=model.num_heads,
        num_head_channels=model.num_head_channels,
        num_heads_upsample=model.num_heads_upsample,
        use_new_attention_order=model.use_new_attention_order,
    )
    network = load_unet(path, hidden, device=torch.device("cpu"), which=model.weights)
    if network.architecture.num_classes is not None:
        raise UsageError(f"{path.name} was trained with classes; a target's model has none")
    check_size(recipe.size, network.architecture.levels)
    network = _with_variance(network, recipe.learn_variance).requires_grad_(True)
    if model.noise_schedule != "linear" and model.noise_schedule != "cosine":
        raise UsageError(
            f"{model.name} has the noise schedule {model.noise_schedule}; training knows others only"
        )
    recipe = replace(recipe, noise_schedule=model.noise_schedule, diffusion_steps=model.diffusion_steps)
    return Start(network, recipe, model.rescale_timesteps)


def _with_variance(network: AdmUNet, learn: bool | None) -> AdmUNet:
    """The network with or without the outputs for a variance, as ``learn`` says; None leaves it as it is."""
    before = network.architecture
    if learn is None or learn == before.learns_variance:
        return network
    channels = before.in_channels
    tensors = dict(network.state_dict())
    for key in ("out.2.weight", "out.2.bias"):
        tensors[key] = _resized(tensors[key], channels, 2 * channels if learn else channels)
    changed = AdmUNet(replace(before, out_channels=2 * channels if learn else channels))
    changed.load_state_dict(tensors)
    return changed


def _resized(x: Tensor, kept: int, rows: int) -> Tensor:
    """The first ``kept`` rows of ``x``, and zeros up to ``rows``."""
    out = x.new_zeros(rows, *x.shape[1:])
    out[:kept] = x[:kept]
    return out
