"""Where the network and the starting settings come from: a target, a weights file, or an earlier result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.config import Layer
from ilvrctl.errors import ConfigError, InputError, UsageError, WeightsError
from ilvrctl.presets import (
    ModelPreset,
    find_model,
    find_target,
    load_models,
    override_model,
    require_weights,
)

if TYPE_CHECKING:
    from ilvrctl.jobs.record import Recipe


@dataclass(frozen=True)
class Source:
    """What ``--to``, ``--weights`` or ``--from-image`` bring.

    ``weights``: the checkpoint, which is there. ``samples`` and ``made_with`` (sha256 of the weights) are
    those of the earlier result. ``note``: something that people should know.
    """

    target: str | None
    model: ModelPreset
    settings: Layer
    weights: Path
    samples: tuple[int, ...] | None = None
    made_with: str | None = None
    note: str | None = None


def find_source(to: str | None, weights: Path | None, from_image: Path | None, model_facts: Layer) -> Source:
    """The source that the flags name, with single facts of its network replaced by ``model_facts``.

    UsageError when nothing is named or too much; WeightsError when the weights are not there, or are no
    checkpoint at first sight.
    """
    from ilvrctl.models.folder import stated_facts, weights_file
    from ilvrctl.models.sniff import sniff

    if from_image is not None:
        source = _replay(from_image, to, weights)
    elif to is not None:
        target, settings = find_target(to)
        model = find_model(target.model)
        source = Source(target.name, model, settings, weights or require_weights(model, target.name))
    elif weights is not None:
        source = _from_file(weights)
    else:
        raise UsageError(
            "no target: --to says what the pictures become", hint="--to emoji3d, or see: ilvrctl presets"
        )
    sniff(weights_file(source.weights))
    if source.made_with is None:
        facts = stated_facts(source.weights)
        if weights is None:  # the preset was written for these weights
            facts = {
                key: facts[key] for key in ("image_size",) if key in facts and source.model.image_size is None
            }
        source = replace(source, model=replace(source.model, **facts))
    if not isinstance(model_facts.values, Mapping):
        raise ConfigError(
            f"model is a mapping of facts, not {model_facts.values!r}", hint="--set model.num_heads=4"
        )
    return replace(source, model=override_model(source.model, model_facts)) if model_facts.values else source


def _from_file(weights: Path) -> Source:
    """A checkpoint (file or folder) by itself; one that has the name of a published file has its facts."""
    for model in load_models().values():
        if model.file == weights.name:
            note = f"{weights.name} is known as {model.name}: using its facts"
            return Source(None, model, Layer({}), weights, note=note)
    return Source(None, ModelPreset(name=weights.resolve().stem), Layer({}), weights)


def _replay(result: Path, to: str | None, weights: Path | None) -> Source:
    """What made an earlier result, from the record in its file; its precision is the one that was used."""
    from ilvrctl.images.io import read_bytes
    from ilvrctl.jobs.record import Recipe

    if to is not None:
        raise UsageError("--from-image brings its own target", hint="leave out --to")
    try:
        recipe = Recipe.read(read_bytes(result), str(result))
    except InputError as error:
        raise UsageError(error.message, hint=error.hint) from error
    known = load_models().get(recipe.model)
    model = override_model(known or ModelPreset(name=recipe.model), _facts(recipe, result.name))
    return Source(
        target=recipe.target,
        model=model,
        settings=Layer.of(result.name, {**without_code(recipe.settings), "precision": recipe.precision}),
        weights=weights or _weights_of(recipe, model, known is not None),
        samples=(recipe.sample,),
        made_with=recipe.weights_sha256,
    )


def without_code(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a record, without the functions that its energies call: a picture may run no code."""
    method = settings.get("method", {})
    energies = method.get("energies", {}) if isinstance(method, Mapping) else {}
    if not isinstance(energies, Mapping):
        return dict(settings)
    safe = {
        name: {key: value for key, value in energy.items() if key != "call"}
        for name, energy in energies.items()
        if isinstance(energy, Mapping)
    }
    return {**settings, "method": {**method, "energies": safe}} if energies else dict(settings)


def _facts(recipe: Recipe, origin: str) -> Layer:
    return Layer(recipe.facts, Layer.of(origin, {"model": recipe.facts}).origins)


def _weights_of(recipe: Recipe, model: ModelPreset, known: bool) -> Path:
    """The weights that a result was made with, where they have a known place."""
    if known:
        return require_weights(model, recipe.target or recipe.model)
    raise WeightsError(
        f"the picture was made with the weights {recipe.model!r} (sha256 {recipe.weights_sha256[:12]}...), "
        "which have no known place",
        hint="give the file: --weights FILE",
    )
