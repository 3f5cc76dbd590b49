"""Where the networks and the starting settings come from: a target, a weights file, or an earlier result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.config import Layer
from ilvrctl.errors import ConfigError, InputError, UsageError, WeightsError
from ilvrctl.events import Note, Noted, Warned
from ilvrctl.hub.address import is_address
from ilvrctl.memory import recalled
from ilvrctl.model_preset import PLACE, Expert
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.plans.facts import FACTS, PROBE, disagreement, facts_about
from ilvrctl.plans.named_weights import NamedWeights, named_weights, own_weights, target_called
from ilvrctl.presets import (
    ModelPreset,
    TargetPreset,
    find_expert,
    find_model,
    load_models,
    override_model,
    require_same,
    require_weights,
)

if TYPE_CHECKING:
    from ilvrctl.plans.record import Recipe


NOT_THE_SAME = "is not the file that the picture was made with; the result will differ"
"""What is said of a replay with other weights, after their file's name."""


NO_TARGET = TargetPreset(name="no target", model="")
"""What a checkpoint without a preset is translated to."""


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
    and what ``--from`` brings as ``encoder``, the model of the inputs' own kind, with ``two_models``, the settings to
    start from beside it.

    ``implied``: nobody asked for the encoder; it is the target's own, for when nothing is said about how to sample.
    ``published``: the settings to start from for ``--as-published``. ``samples``: the numbers of those of
    an earlier result.
    """

    target: FoundNetwork
    settings: Layer
    encoder: FoundNetwork | None = None
    samples: tuple[int, ...] | None = None
    published: Layer = field(default_factory=lambda: Layer({}))
    two_models: Layer = field(default_factory=lambda: NO_TARGET.two_models_layer)
    implied: bool = False


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
    key = repr(
        replace(asked, facts=Layer(asked.facts.values))
    )  # where facts stand is of errors, which are not kept
    return recalled(("networks", key), lambda: _found(asked))


def _found(asked: NetworksAsked) -> FoundNetworks:
    weights = None if asked.weights is None else named_weights(asked.weights)
    from_weights = None if asked.from_weights is None else named_weights(asked.from_weights)
    if asked.from_image is not None:
        found = _replay(asked, weights, from_weights)
    elif asked.to is not None:
        target, settings = target_called(asked.to)
        implied = target.source is not None and {asked.from_, asked.from_weights, asked.weights} == {None}
        weights = weights or own_weights(target)
        found = FoundNetworks(
            _of_target(target, weights),
            settings,
            _encoder(replace(asked, from_=target.source) if implied else asked, from_weights),
            published=target.published_layer(settings),
            two_models=target.two_models_layer,
            implied=implied,
        )
    elif weights is not None:
        found = FoundNetworks(_of_file(weights), Layer({}), _encoder(asked, from_weights))
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
        encoder = _with_facts(encoder, facts, "source", _of_preset(from_weights), new)
    return replace(
        found, target=_with_facts(found.target, facts, "model", _of_preset(weights), new), encoder=encoder
    )


def _of_preset(weights: NamedWeights | None) -> bool:
    """Whether the preset was written for the weights."""
    return weights is None or weights.model is not None


def _of_target(target: TargetPreset, weights: NamedWeights | None) -> FoundNetwork:
    model = find_model(target.model)
    if weights is None:
        return FoundNetwork(target.name, model, require_weights(model, target.name), expects=target.expects)
    if weights.model is not None:
        return replace(_of_file(weights), domain=target.name, expects=target.expects)
    model = replace(_called(model, weights), experts=())  # one file in the place of all its networks
    return FoundNetwork(target.name, model, weights.path, expects=target.expects)


def _of_file(weights: NamedWeights) -> FoundNetwork:
    """A checkpoint (file or folder) by itself, with the facts that are known of it."""
    from ilvrctl.models.files.container import sniff
    from ilvrctl.models.files.diffusers_folder import weights_file

    if weights.model is not None:
        origins = dict.fromkeys(FACTS, f"preset {weights.model.name}")
        return FoundNetwork(None, weights.model, weights.path, origins=origins)
    sniff(weights_file(weights.path))
    known = facts_about(weights.path)
    model = _called(known.model, weights)
    return FoundNetwork(None, model, weights.path, notes=known.notes, origins=known.origins)


def _called(model: ModelPreset, weights: NamedWeights) -> ModelPreset:
    """The facts under the name that records give the weights."""
    return replace(model, name=weights.name) if weights.name else model


def _encoder(asked: NetworksAsked, weights: NamedWeights | None) -> FoundNetwork | None:
    """The model of the inputs' own kind that ``--from`` and ``--from-weights`` name, if any."""
    if asked.from_ is not None:
        return _of_target(target_called(asked.from_)[0], weights)
    return None if weights is None else _of_file(weights)


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
    notes, origins = network.notes, network.origins
    if given:
        probed = {name: getattr(model, name) for name in given if origins.get(name) == PROBE}
        model = override_model(model, Layer(given, facts.origins), word)
        other = disagreement(probed, model, dict.fromkeys(given, "--set")) if new else None
        notes += (Warned(other),) if other is not None else ()
    model, changed = _with_digests(model, network.domain or model.name, new)
    model = _with_channels(model, weights)
    if new and not preset_weights:
        origins = {**origins, **dict.fromkeys(stated, FILE), **dict.fromkeys(given, "--set")}
        told = (weights_note(weights, model.weights), _taken_for_granted(weights, model, origins, word))
        notes += tuple(Noted(text) for text in told if text is not None)
    return replace(network, model=model, notes=notes + changed, origins=origins)


def _with_digests(model: ModelPreset, name: str, new: bool) -> tuple[ModelPreset, tuple[Note, ...]]:
    """The model with the digests of its experts' files, and what has changed since a result was made with them.

    WeightsError for a file that is not here, or is not the one that its preset was made for.
    """
    experts, notes = [], list[Note]()
    if model.experts:
        require_weights(model, name)
    for expert in model.experts:
        assert expert.network is not None
        path = expert.network.path()
        digest = weights_sha256(path)
        if new:
            require_same(expert.network, path, digest)
        elif digest != expert.sha256:
            notes.append(Warned(f"{path.name} {NOT_THE_SAME}"))
        experts.append(replace(expert, sha256=digest))
    return replace(model, experts=tuple(experts)), tuple(notes)


def _with_channels(model: ModelPreset, weights: Path) -> ModelPreset:
    """The facts with the channels that the tensors have; what is wrong with the file is told when it is used."""
    from ilvrctl.models.files.contents import contents_of
    from ilvrctl.models.files.info import CHANNELS

    if model.bundled and weights == model.path():
        return model  # known, without a look
    try:
        channels: Any = contents_of(weights, model.weights, numbers=False).facts.get("channels")
    except (WeightsError, UsageError):
        return model
    return replace(model, channels=channels) if channels in CHANNELS else model


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


def _replay(
    asked: NetworksAsked, weights: NamedWeights | None, from_weights: NamedWeights | None
) -> FoundNetworks:
    """What made an earlier result, from the record in its file; its precision is the one that was used."""
    from ilvrctl.images.io import read_bytes
    from ilvrctl.plans.record import Recipe

    result = asked.from_image
    assert result is not None
    for flag, given, what in (("--to", asked.to, "target"), ("--from", asked.from_, "source")):
        if given is not None:
            raise UsageError(f"--from-image brings its own {what}", hint=f"leave out {flag}")
    try:
        recipe = Recipe.read(read_bytes(result), str(result))
    except InputError as error:
        raise UsageError(error.message, hint=error.hint) from error
    target = _made_by(
        recipe.model, recipe.facts, recipe.weights_sha256, recipe.target, _path_of(weights), result.name
    )
    settings = {**recipe.settings, "precision": recipe.precision}
    return FoundNetworks(
        target,
        Layer.of(result.name, settings, trusted=False),
        _replayed_encoder(recipe, _path_of(from_weights), result.name),
        (recipe.sample,),
    )


def _path_of(weights: NamedWeights | None) -> Path | None:
    return None if weights is None else weights.path


def _replayed_encoder(recipe: Recipe, weights: Path | None, origin: str) -> FoundNetwork | None:
    """The source's model of an earlier result, if it had one."""
    if recipe.source is None:
        return None
    name, facts, sha256, domain = (recipe.source[key] for key in ("name", "network", "sha256", "domain"))
    return _made_by(name, facts, sha256, domain, weights, origin, flag="--from-weights")


def _placed(expert: Expert) -> Expert:
    """An expert of an earlier result with the place of its file, as its preset has it, and its facts of then."""
    assert expert.network is not None
    place = find_expert(expert.model)
    kept = {name: getattr(place, name) for name in PLACE}
    return replace(expert, network=replace(expert.network, **kept))


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
    model = override_model(replace(known or ModelPreset(name=name), experts=()), layer)
    model = replace(model, experts=() if weights is not None else tuple(map(_placed, model.experts)))
    if weights is None and known is not None:
        weights = require_weights(model, domain or name)
    if weights is None and is_address(name):
        weights = named_weights(Path(name), stranger=True).path
    if weights is not None:
        return FoundNetwork(domain, model, weights, sha256)
    raise WeightsError(
        f"the picture was made with the weights {name!r} (sha256 {sha256[:12]}...), which have no known place",
        hint=f"give the file: {flag} FILE",
    )
