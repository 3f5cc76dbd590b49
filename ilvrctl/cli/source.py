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
class Network:
    """The model of the inputs' own kind: ``domain`` as ``--from`` names it, its facts and its checkpoint.

    ``made_with``: sha256 of the weights of an earlier result.
    """

    domain: str | None
    model: ModelPreset
    weights: Path
    made_with: str | None = None


@dataclass(frozen=True)
class Source:
    """What ``--to``, ``--weights`` or ``--from-image`` bring, and ``--from`` as ``encoder``.

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
    encoder: Network | None = None


def find_encoder(from_: str | None, weights: Path | None) -> Network | None:
    """The model of the inputs' own kind that ``--from`` and ``--from-weights`` name, if any; errors as below."""
    from ilvrctl.models.sniff import sniff

    if from_ is not None:
        target, _ = find_target(from_)
        model = find_model(target.model)
        found = Network(target.name, model, weights or require_weights(model, target.name))
    elif weights is not None:
        found = Network(None, _known_as(weights) or ModelPreset(name=weights.stem), weights)
    else:
        return None
    sniff(found.weights)
    return found


def find_source(
    to: str | None,
    weights: Path | None,
    from_image: Path | None,
    model_facts: Layer,
    from_: str | None = None,
    from_weights: Path | None = None,
) -> Source:
    """The source that the flags name, with single facts of its network replaced by ``model_facts``.

    UsageError when nothing is named or too much; WeightsError when the weights are not there, or are no
    checkpoint at first sight.
    """
    from ilvrctl.models.folder import stated_facts, weights_file
    from ilvrctl.models.sniff import sniff

    if from_image is not None:
        source = _replay(from_image, to, weights, from_, from_weights)
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
    if from_image is None:
        source = replace(source, encoder=find_encoder(from_, from_weights))
    if not isinstance(model_facts.values, Mapping):
        raise ConfigError(
            f"model is a mapping of facts, not {model_facts.values!r}", hint="--set model.num_heads=4"
        )
    return replace(source, model=override_model(source.model, model_facts)) if model_facts.values else source


def _from_file(weights: Path) -> Source:
    """A checkpoint (file or folder) by itself; one that has the name of a published file has its facts."""
    model = _known_as(weights)
    if model is None:
        return Source(None, ModelPreset(name=weights.resolve().stem), Layer({}), weights)
    note = f"{weights.name} is known as {model.name}: using its facts"
    return Source(None, model, Layer({}), weights, note=note)


def _known_as(weights: Path) -> ModelPreset | None:
    """The preset of the published file of that name, if any."""
    return next((model for model in load_models().values() if model.file == weights.name), None)


def _replay(
    result: Path, to: str | None, weights: Path | None, from_: str | None, from_weights: Path | None
) -> Source:
    """What made an earlier result, from the record in its file; its precision is the one that was used."""
    from ilvrctl.images.io import read_bytes
    from ilvrctl.jobs.record import Recipe

    for flag, given, what in (("--to", to, "target"), ("--from", from_, "source")):
        if given is not None:
            raise UsageError(f"--from-image brings its own {what}", hint=f"leave out {flag}")
    try:
        recipe = Recipe.read(read_bytes(result), str(result))
    except InputError as error:
        raise UsageError(error.message, hint=error.hint) from error
    model, place = _made_by(
        recipe.model, recipe.facts, recipe.weights_sha256, recipe.target, weights, result.name
    )
    return Source(
        target=recipe.target,
        model=model,
        settings=Layer.of(result.name, {**without_code(recipe.settings), "precision": recipe.precision}),
        weights=place,
        samples=(recipe.sample,),
        made_with=recipe.weights_sha256,
        encoder=_replayed_encoder(recipe, from_weights, result.name),
    )


def _replayed_encoder(recipe: Recipe, weights: Path | None, origin: str) -> Network | None:
    """The source's model of an earlier result, if it had one."""
    if recipe.source is None:
        return None
    name, facts, sha256, domain = (recipe.source[key] for key in ("name", "network", "sha256", "domain"))
    model, place = _made_by(name, facts, sha256, domain, weights, origin, flag="--from-weights")
    return Network(domain, model, place, sha256)


def without_code(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a record, without the functions that energies of one's own call: a picture may run no code."""
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


def _made_by(
    name: str,
    facts: Mapping[str, Any],
    sha256: str,
    domain: str | None,
    weights: Path | None,
    origin: str,
    *,
    flag: str = "--weights",
) -> tuple[ModelPreset, Path]:
    """The model that a result was made with, with its facts of then, and where its weights are."""
    known = load_models().get(name)
    layer = Layer(facts, Layer.of(origin, {"model": facts}).origins)
    model = override_model(known or ModelPreset(name=name), layer)
    if weights is not None:
        return model, weights
    if known is not None:
        return model, require_weights(model, domain or name)
    raise WeightsError(
        f"the picture was made with the weights {name!r} (sha256 {sha256[:12]}...), which have no known place",
        hint=f"give the file: {flag} FILE",
    )
