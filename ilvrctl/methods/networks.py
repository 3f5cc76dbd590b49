"""The networks that energies bring: where their weights are, and loading them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.errors import UsageError, WeightsError, did_you_mean
from ilvrctl.presets import (
    WEIGHT_SUFFIXES,
    ModelPreset,
    load_models,
    require_weights,
    resolve_model,
    single_models,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class NetworkFile:
    """A network of an energy: its file, which is there, and the facts that its tensors hide."""

    path: Path
    model: ModelPreset


def is_file(name_or_file: str) -> bool:
    """Whether it names a file, and nothing of the registry."""
    return Path(name_or_file).suffix.lower() in WEIGHT_SUFFIXES


def weights_of(name_or_file: str, format_: str) -> NetworkFile:
    """The network called ``name_or_file`` in the registry, or a file; one with a known name has its facts.

    UsageError for an unknown name or a network of another format; WeightsError (exit code 3), with the command that
    gets it, when the weights are not here.
    """
    path = Path(name_or_file).expanduser()
    if is_file(name_or_file):
        if not path.is_file():
            raise WeightsError(
                f"the weights {name_or_file} are not here", hint="give a file that is there, or a name"
            )
        known = (model for model in single_models() if model.file == path.name)
        return NetworkFile(path, next(known, ModelPreset(name=path.stem, format="other")))
    model = resolve_model(name_or_file)
    if model.format != format_:
        fitting = ", ".join(m.name for m in load_models().values() if m.format == format_)
        raise UsageError(
            f"{name_or_file!r} is {model.title or model.format}, and the energy needs a {format_}",
            hint=f"one of {fitting}, or a file",
        )
    return NetworkFile(require_weights(model, model.name), model)


def load_noisy_classifier(network: NetworkFile, num_head_channels: int | None, device: torch.device) -> Any:
    """The classifier of the file, float32, with its ``features(x, t)``; WeightsError for another file."""
    from ilvrctl.models.architecture.hidden_flags import HiddenFlags
    from ilvrctl.models.files.loading import load_classifier

    model = network.model
    width = num_head_channels or model.num_head_channels or (None if model.num_heads else 64)
    hidden = replace(HiddenFlags.of(model), num_head_channels=width)
    return load_classifier(network.path, hidden, device=device)


def load_vgg(network: NetworkFile, device: torch.device) -> Any:
    """The encoder up to relu1_1: (B, 3, H, W) on [0, 1] to (B, 64, H, W). WeightsError for another file."""
    from ilvrctl.models.vgg import load_relu1_1

    return load_relu1_1(network.path, device=device)


def user_energy(call: str) -> Any:
    """The function that ``module:function`` names; UsageError when it cannot be imported or is none."""
    module_name, _, function = call.partition(":")
    if not module_name or not function:
        raise UsageError(
            f"{call!r} does not name a function", hint="call: module:function, for example mine:energy"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"cannot import {module_name!r} for the energy {call}: {error}",
            hint="is its folder on PYTHONPATH? for example PYTHONPATH=. ilvrctl translate ...",
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        names = [name for name in vars(module) if not name.startswith("_")]
        raise UsageError(f"{module_name} has no function {function!r}", hint=did_you_mean(function, names))
    return found
