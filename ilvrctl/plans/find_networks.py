"""Where the networks and the starting settings come from: a target, a weights file, or an earlier result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.config import Layer
from ilvrctl.errors import ConfigError, InputError, UsageError, WeightsError
from ilvrctl.events import Note, Noted
from ilvrctl.plans.facts import facts_about
from ilvrctl.presets import (
    ModelPreset,
    TargetPreset,
    find_model,
    find_target,
    load_models,
    override_model,
    require_weights,
)

if TYPE_CHECKING:
    from ilvrctl.plans.record import Recipe


@dataclass(frozen=True)
class FoundNetwork:
    """A network: its ``domain`` as ``--to`` or ``--from`` names it, its facts and its checkpoint, which is there.

    ``origins``: where facts that are not a preset's come from. ``made_with``: sha256 of the weights of an earlier
    result. ``notes``: what people should know. ``expects``: as the target's preset says.
    """

    domain: str | None
    model: ModelPreset
    weights: Path
    made_with: str | None = None
    notes: tuple[Note, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    expects: str = ""


@dataclass(frozen=True)
class FoundNetworks:
    """What ``--to``, ``--weights`` or ``--from-image`` bring: the ``target``'s network and the settings to start from,
    and what ``--from`` brings as ``encoder``, the model of the inputs' own kind.

    ``samples``: the numbers of those of an earlier result.
    """

    target: FoundNetwork
    settings: Layer
    encoder: FoundNetwork | None = None
    samples: tuple[int, ...] | None = None


@dataclass(frozen=True)
class NetworksAsked:
    """What names networks: ``--to``, ``--weights``, ``--from-image``, ``--from`` and ``--from-weights``, and the facts
    of ``--set model.*`` and ``--set source.*``.
    """

    to: str | None = None
    weights: Path | None = None
    from_image: Path | None = None
    from_: str | None = None
    from_weights: Path | None = None
    facts: Layer = field(default_factory=lambda: Layer({}))


def find_networks(asked: NetworksAsked) -> FoundNetworks:
    """The networks that are named, with single facts of them replaced.

    UsageError when nothing is named or too much; WeightsError when the weights are not there, or are no
    checkpoint at first sight.
    """
    if asked.from_image is not None:
        found = _replay(asked.from_image, asked)
    elif asked.to is not None:
        target, settings = find_target(asked.to)
        found = FoundNetworks(_of_target(target, asked.weights), settings, _encoder(asked))
    elif asked.weights is not None:
        found = FoundNetworks(_of_file(asked.weights), Layer({}), _encoder(asked))
    else:
        source = "" if asked.from_ is None else f"; --from {asked.from_} says what they are"
        direction = "--to emoji3d" if asked.from_ is None else f"--from {asked.from_} --to TARGET"
        raise UsageError(
            f"no target: --to says what the pictures become{source}",
            hint=f"{direction}, or see: ilvrctl presets",
        )
    facts, new = asked.facts, asked.from_image is None
    encoder = found.encoder
    if encoder is not None:
        encoder = _with_facts(encoder, facts, "source", asked.from_weights is None, new)
    return replace(
        found, target=_with_facts(found.target, facts, "model", asked.weights is None, new), encoder=encoder
    )


def _of_target(target: TargetPreset, weights: Path | None) -> FoundNetwork:
    model = find_model(target.model)
    place = weights or require_weights(model, target.name)
    return FoundNetwork(target.name, model, place, expects=target.expects)


def _of_file(weights: Path) -> FoundNetwork:
    """A checkpoint (file or folder) by itself, with the facts that are known of it."""
    from ilvrctl.models.files.container import sniff
    from ilvrctl.models.files.diffusers_folder import weights_file

    sniff(weights_file(weights))
    known = facts_about(weights)
    return FoundNetwork(None, known.model, weights, notes=known.notes, origins=known.origins)


def _encoder(asked: NetworksAsked) -> FoundNetwork | None:
    """The model of the inputs' own kind that ``--from`` and ``--from-weights`` name, if any."""
    if asked.from_ is not None:
        return _of_target(find_target(asked.from_)[0], asked.from_weights)
    return None if asked.from_weights is None else _of_file(asked.from_weights)


def _with_facts(
    network: FoundNetwork, facts: Layer, word: str, preset_weights: bool, new: bool
) -> FoundNetwork:
    """With what its file states of itself, unless a result is replayed, and the facts of ``--set``.

    ``preset_weights``: the preset was written for these weights, and knows better than they do.
    """
    from ilvrctl.models.files.container import sniff
    from ilvrctl.models.files.diffusers_folder import weights_file
    from ilvrctl.models.files.facts import FILE, file_facts, weights_note, with_stated

    model, weights = network.model, network.weights
    sniff(weights_file(weights))
    given = facts.values.get(word, {})
    if not isinstance(given, Mapping):
        raise ConfigError(f"{word} is a mapping of facts, not {given!r}", hint=f"--set {word}.num_heads=4")
    stated: dict[str, Any] = {}
    if new:
        if not preset_weights or model.image_size is None:
            stated = file_facts(weights, str(given.get("weights", model.weights)))
        if preset_weights:
            stated = {
                key: stated[key] for key in ("image_size",) if key in stated and model.image_size is None
            }
        model = with_stated(model, stated)
    if given:
        model = override_model(model, Layer(given, facts.origins), word)
    notes, origins = network.notes, network.origins
    if new and not preset_weights:
        origins = {**origins, **dict.fromkeys(stated, FILE), **dict.fromkeys(given, "--set")}
        told = (weights_note(weights, model.weights), _taken_for_granted(weights, model, origins, word))
        notes += tuple(Noted(text) for text in told if text is not None)
    return replace(network, model=model, notes=notes, origins=origins)


def _taken_for_granted(
    weights: Path, model: ModelPreset, origins: Mapping[str, str], word: str
) -> str | None:
    """What nobody knows of a network and is not asked for; what is wrong with its file is told when it is used."""
    from ilvrctl.models.files.contents import contents_of
    from ilvrctl.models.files.facts import facts_of

    try:
        return facts_of(contents_of(weights, model.weights, numbers=False), model, origins).note(word)
    except (WeightsError, UsageError):
        return None


def _replay(result: Path, asked: NetworksAsked) -> FoundNetworks:
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
    target = _made_by(
        recipe.model, recipe.facts, recipe.weights_sha256, recipe.target, asked.weights, result.name
    )
    settings = {**recipe.settings, "precision": recipe.precision}
    return FoundNetworks(
        target,
        Layer.of(result.name, settings, trusted=False),
        _replayed_encoder(recipe, asked.from_weights, result.name),
        (recipe.sample,),
    )


def _replayed_encoder(recipe: Recipe, weights: Path | None, origin: str) -> FoundNetwork | None:
    """The source's model of an earlier result, if it had one."""
    if recipe.source is None:
        return None
    name, facts, sha256, domain = (recipe.source[key] for key in ("name", "network", "sha256", "domain"))
    return _made_by(name, facts, sha256, domain, weights, origin, flag="--from-weights")


def _made_by(
    name: str,
    facts: Mapping[str, Any],
    sha256: str,
    domain: str | None,
    weights: Path | None,
    origin: str,
    *,
    flag: str = "--weights",
) -> FoundNetwork:
    """The network that a result was made with, with its facts of then."""
    known = load_models().get(name)
    layer = Layer(facts, Layer.of(origin, {"model": facts}).origins)
    model = override_model(known or ModelPreset(name=name), layer)
    if weights is None and known is not None:
        weights = require_weights(model, domain or name)
    if weights is not None:
        return FoundNetwork(domain, model, weights, sha256)
    raise WeightsError(
        f"the picture was made with the weights {name!r} (sha256 {sha256[:12]}...), which have no known place",
        hint=f"give the file: {flag} FILE",
    )
