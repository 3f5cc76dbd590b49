"""Where training starts: from nothing, or from the weights of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.errors import UsageError
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.blocks import Shape
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.classifier import AdmClassifier
from ilvrctl.models.files.facts_header import header_facts, with_header_facts
from ilvrctl.models.files.loading import load_classifier, load_unet
from ilvrctl.models.trunk_network import AdmTrunk
from ilvrctl.presets import (
    WEIGHT_SUFFIXES,
    ModelPreset,
    require_single,
    require_weights,
    resolve_model,
    single_models,
)
from ilvrctl.training.recipe import AnyRecipe, DomainRecipe, Recipe, check_size

R = TypeVar("R", bound=AnyRecipe)


@dataclass(frozen=True)
class Start(Generic[R]):
    """A network to train, float32 on the CPU, and the facts that its tensors will not tell.

    ``recipe`` has in it what the model that training starts from decides. ``time_scale``: what levels are
    multiplied with before the network gets them. ``remarks`` are for people, and ``digest`` stands for the
    weights.
    """

    network: AdmTrunk
    recipe: R
    time_scale: float = 1.0
    remarks: tuple[str, ...] = ()
    digest: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What a model preset says of how the network is called."""
        hidden = self.network.trunk.hidden
        facts = {
            "image_size": self.recipe.size,
            "num_heads": hidden.num_heads,
            "num_head_channels": hidden.num_head_channels,
            "num_heads_upsample": hidden.num_heads_upsample,
            "use_new_attention_order": hidden.use_new_attention_order,
            "noise_schedule": self.recipe.noise_schedule,
            "diffusion_steps": self.recipe.diffusion_steps,
            "rescale_timesteps": self.time_scale != 1.0,
            "channels": self.recipe.channels if self.recipe.channels != 3 else None,
        }
        return {key: value for key, value in facts.items() if value is not None}


def begin(recipe: Recipe) -> Start[Recipe]:
    """The denoiser that the recipe starts from. UsageError when it cannot work at the recipe's size or shape."""
    channels = recipe.channels
    out = 2 * channels if recipe.learn_variance else channels
    if recipe.init is None:
        architecture = recipe.network.unet(recipe.size, out, channels)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(recipe.seed)
            return Start(AdmUNet(architecture), _resolved(recipe, ModelPreset(), []))
    model, path, remarks = find_network(recipe.init, recipe)
    _check_followed(model)
    network = load_unet(path, HiddenFlags.of(model), device=torch.device("cpu"), which=model.weights)
    if network.architecture.num_classes is not None:
        raise UsageError(f"{path.name} was trained with classes; a target's model has none")
    check_channels(network.architecture.channels, channels, path)
    check_size(recipe.size, network.architecture.levels)
    if recipe.network != Recipe().network:
        asked = recipe.network.unet(recipe.size, out, channels).parameter_shapes()
        _check_shape(asked, network.architecture.parameter_shapes(), path)
    return _start(_with_variance(network, recipe.learn_variance), recipe, model, remarks)


def check_channels(own: int, asked: int, path: Path) -> None:
    """UsageError for a network of pictures of other channels than are learned."""
    if own != asked:
        raise UsageError(
            f"{path.name} is for pictures of {own} channels, and those of {asked} are learned",
            f"--channels {own}",
        )


def _check_followed(model: ModelPreset) -> None:
    """UsageError for a model whose levels or prediction no training here goes on with."""
    for what, value, known in (
        ("noise schedule", model.noise_schedule, ("linear", "cosine")),
        ("prediction", model.predicts, ("eps", "x0", "v")),
    ):
        if value not in known:
            raise UsageError(f"{model.name} has the {what} {value}; training knows {', '.join(known)}")


def begin_classifier(recipe: DomainRecipe) -> Start[DomainRecipe]:
    """The classifier of two domains that the recipe starts from; errors as :func:`begin`."""
    architecture = recipe.network.classifier(recipe.size, 2, recipe.channels)
    if recipe.init is None:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(recipe.seed)
            network = AdmClassifier(architecture)
            _wake(network)
        return Start(network, _resolved(recipe, ModelPreset(), []))
    model, path, remarks = find_network(recipe.init, recipe)
    network = load_classifier(path, HiddenFlags.of(model), device=torch.device("cpu"))
    _check_shape(architecture.parameter_shapes(), network.architecture.parameter_shapes(), path)
    return _start(network, recipe, model, remarks)


def _start(network: AdmTrunk, recipe: R, model: ModelPreset, remarks: list[str]) -> Start[R]:
    found = _resolved(recipe, model, remarks)
    digest = fingerprint(str(recipe.init), network)
    if (found.noise_schedule, found.diffusion_steps) != (model.noise_schedule, model.diffusion_steps):
        digest += f":{found.noise_schedule}:{found.diffusion_steps}"
    return Start(network.requires_grad_(True), found, time_scale(model), tuple(remarks), digest)


def find_network(name_or_file: str, recipe: AnyRecipe) -> tuple[ModelPreset, Path, list[str]]:
    """The model that ``--init`` or ``--teacher`` means: its facts, its file, and what had to be taken as given.

    It is a name, or a file with facts in its header, or of the name of a known one; else the recipe's are taken,
    and the remark says so. UsageError for an unknown name, WeightsError when its weights are not here.
    """
    path = Path(name_or_file)
    if path.suffix.lower() not in WEIGHT_SUFFIXES:
        model = require_single(resolve_model(name_or_file))
        return model, require_weights(model, model.name), []
    if header_facts(path):
        return with_header_facts(ModelPreset(name=path.stem), path), path, []
    known = [model for model in single_models() if model.file == path.name]
    if known:
        return known[0], path, []
    model = ModelPreset(name=path.stem, num_head_channels=recipe.network.head_channels)
    taken = {key: value for key in _DECIDED if (value := getattr(recipe, key, None)) is not None}
    model = replace(model, **taken)
    said = ", ".join(str(getattr(model, key)) for key in _DECIDED if hasattr(recipe, key))
    return (
        model,
        path,
        [
            f"{path.name} does not say what it is; taken: {said} levels, {model.num_head_channels} channels a head"
        ],
    )


_DECIDED = ("predicts", "noise_schedule", "diffusion_steps")
"""Parts of a recipe that the model it starts from decides when they are not asked for."""


def _resolved(recipe: R, model: ModelPreset, remarks: list[str]) -> R:
    """The recipe with what the model decides; what is asked for otherwise is remarked on.

    UsageError when levels are drawn, or taught, that there are not.
    """
    for key in _DECIDED:
        if not hasattr(recipe, key):
            continue
        asked, own = getattr(recipe, key), getattr(model, key)
        if asked is None:
            recipe = replace(recipe, **{key: own})
        elif asked != own and recipe.init is not None:
            what = {"predicts": "prediction type", "noise_schedule": "noise schedule"}.get(
                key, "number of levels"
            )
            remarks.append(f"{model.name} has the {what} {own}, and {asked} is learned: the {what} changes")
    highest = max(recipe.lower[1] if recipe.lower else 0, getattr(recipe, "teacher_below", None) or 0)
    if highest > recipe.schedule.T:
        raise UsageError(f"there is no level {highest}: the network knows {recipe.schedule.T}")
    return recipe


def schedule_of(model: ModelPreset) -> Schedule:
    """The levels that a model was trained on."""
    return Schedule.of(model)


def time_scale(model: ModelPreset) -> float:
    """What the model's levels are multiplied with."""
    return 1000 / model.diffusion_steps if model.rescale_timesteps else 1.0


def fingerprint(name: str, network: nn.Module) -> str:
    """Text that stands for the weights of ``network``."""
    total = sum(float(x.double().abs().sum()) for x in network.state_dict().values())
    return f"{name}:{total!r}"


def _check_shape(asked: Mapping[str, Shape], found: Mapping[str, Shape], path: Path) -> None:
    """UsageError that names the first tensor which the recipe's network has otherwise; the output may differ."""
    for name in sorted({*asked, *found}):
        if not name.startswith("out.") and asked.get(name) != found.get(name):
            has, wants = (
                "has no" if shape is None else f"has {'x'.join(map(str, shape))}"
                for shape in (found.get(name), asked.get(name))
            )
            raise UsageError(
                f"{path.name} is no network of the recipe's shape: it {has} {name}, and the recipe {wants}",
                "leave network.* out of the recipe, then the shape is that of the file; or give other weights",
            )


def _wake(network: AdmClassifier) -> None:
    """Ordinary weights where ADM starts with zeros: those of a denoiser wait for its skip connections, but a
    classifier that starts with zeros gives hundreds of steps without a gradient to learn from.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d) and not module.weight.any():
            module.reset_parameters()


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
