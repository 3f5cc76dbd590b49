"""Where the network and the starting settings come from: a target, a weights file, or an earlier result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.cli.known import known_of
from ilvrctl.config import Layer
from ilvrctl.errors import ConfigError, InputError, UsageError, WeightsError
from ilvrctl.models.files.facts import weights_note
from ilvrctl.presets import (
    ModelPreset,
    find_model,
    find_target,
    load_models,
    override_model,
    require_weights,
)

if TYPE_CHECKING:
    from ilvrctl.plans.record import Recipe


@dataclass(frozen=True)
class Network:
    """The model of the inputs' own kind: ``domain`` as ``--from`` names it, its facts and its checkpoint.

    ``made_with``: sha256 of the weights of an earlier result. ``note`` and ``warning``: what people should know.
    """

    domain: str | None
    model: ModelPreset
    weights: Path
    made_with: str | None = None
    note: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class Source:
    """What ``--to``, ``--weights`` or ``--from-image`` bring, and ``--from`` as ``encoder``.

    ``weights``: the checkpoint, which is there. ``samples`` and ``made_with`` (sha256 of the weights) are
    those of the earlier result. ``note`` and ``warning``: what people should know.
    """

    target: str | None
    model: ModelPreset
    settings: Layer
    weights: Path
    samples: tuple[int, ...] | None = None
    made_with: str | None = None
    note: str | None = None
    warning: str | None = None
    encoder: Network | None = None


@dataclass(frozen=True)
class Asked:
    """The flags that name networks, ``--to``, ``--weights``, ``--from-image``, ``--from`` and ``--from-weights``,
    and the facts of ``--set model.*`` and ``--set source.*``.
    """

    to: str | None = None
    weights: Path | None = None
    from_image: Path | None = None
    from_: str | None = None
    from_weights: Path | None = None
    facts: Layer = field(default_factory=lambda: Layer({}))


def find_source(asked: Asked) -> Source:
    """The source that the flags name, with single facts of its networks replaced.

    UsageError when nothing is named or too much; WeightsError when the weights are not there, or are no
    checkpoint at first sight.
    """
    if asked.from_image is not None:
        source = _replay(asked.from_image, asked)
    elif asked.to is not None:
        target, settings = find_target(asked.to)
        model = find_model(target.model)
        source = Source(target.name, model, settings, asked.weights or require_weights(model, target.name))
    elif asked.weights is not None:
        source = _from_file(asked.weights)
    else:
        raise UsageError(
            "no target: --to says what the pictures become", hint="--to emoji3d, or see: ilvrctl presets"
        )
    new = asked.from_image is None
    source = replace(source, encoder=_encoder(asked) if new else source.encoder)
    model = _known_facts(source.model, source.weights, asked.facts, "model", asked.weights is None, new)
    if (encoder := source.encoder) is not None:
        chosen = asked.from_weights is None
        facts = _known_facts(encoder.model, encoder.weights, asked.facts, "source", chosen, new)
        source = replace(source, encoder=replace(encoder, model=facts))
    choice = weights_note(source.weights, model.weights) if asked.weights is not None else None
    note = "; ".join(text for text in (source.note, choice) if text) or None
    return replace(source, model=model, note=note)


def _encoder(asked: Asked) -> Network | None:
    """The model of the inputs' own kind that ``--from`` and ``--from-weights`` name, if any."""
    weights = asked.from_weights
    if asked.from_ is not None:
        target, _ = find_target(asked.from_)
        model = find_model(target.model)
        return Network(target.name, model, weights or require_weights(model, target.name))
    if weights is None:
        return None
    known = known_of(weights)
    return Network(None, known.model, weights, note=known.note, warning=known.warning)


def _known_facts(
    model: ModelPreset, weights: Path, facts: Layer, word: str, preset_weights: bool, new: bool
) -> ModelPreset:
    """The model with what its file states of itself, unless a result is replayed, and the facts of ``--set``.

    ``preset_weights``: the preset was written for these weights, and knows better than they do.
    """
    from ilvrctl.models.files.container import sniff
    from ilvrctl.models.files.diffusers_folder import weights_file
    from ilvrctl.models.files.facts import file_facts, with_stated

    sniff(weights_file(weights))
    if new:
        given = facts.values.get(word)
        which = given.get("weights", model.weights) if isinstance(given, Mapping) else model.weights
        stated = file_facts(weights, str(which)) if not preset_weights or model.image_size is None else {}
        if preset_weights:
            stated = {
                key: stated[key] for key in ("image_size",) if key in stated and model.image_size is None
            }
        model = with_stated(model, stated)
    given = facts.values.get(word, {})
    if not isinstance(given, Mapping):
        raise ConfigError(f"{word} is a mapping of facts, not {given!r}", hint=f"--set {word}.num_heads=4")
    return override_model(model, Layer(given, facts.origins), word) if given else model


def _from_file(weights: Path) -> Source:
    """A checkpoint (file or folder) by itself, with the facts that are known of it."""
    known = known_of(weights)
    return Source(None, known.model, Layer({}), weights, note=known.note, warning=known.warning)


def _replay(result: Path, asked: Asked) -> Source:
    """What made an earlier result, from the record in its file; its precision is the one that was used."""
    from ilvrctl.images.io import read_bytes
    from ilvrctl.plans.record import Recipe

    for flag, given, what in (("--to", asked.to, "target"), ("--from", asked.from_, "source")):
        if given is not None:
            raise UsageError(f"--from-image brings its own {what}", hint=f"leave out {flag}")
    try:
        recipe = Recipe.read(read_bytes(result), str(result))
    except InputError as error:
        raise UsageError(error.message, hint=error.hint) from error
    model, place = _made_by(
        recipe.model, recipe.facts, recipe.weights_sha256, recipe.target, asked.weights, result.name
    )
    return Source(
        target=recipe.target,
        model=model,
        settings=Layer.of(result.name, {**without_code(recipe.settings), "precision": recipe.precision}),
        weights=place,
        samples=(recipe.sample,),
        made_with=recipe.weights_sha256,
        encoder=_replayed_encoder(recipe, asked.from_weights, result.name),
    )


def _replayed_encoder(recipe: Recipe, weights: Path | None, origin: str) -> Network | None:
    """The source's model of an earlier result, if it had one."""
    if recipe.source is None:
        return None
    name, facts, sha256, domain = (recipe.source[key] for key in ("name", "network", "sha256", "domain"))
    model, place = _made_by(name, facts, sha256, domain, weights, origin, flag="--from-weights")
    return Network(domain, model, place, sha256)


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
