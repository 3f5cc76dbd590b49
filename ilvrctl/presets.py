"""Presets: YAML files that name a model, a target domain with its published settings, or a way of working.

``presets/models/NAME.yaml`` holds the facts of a checkpoint that its tensors do not tell, ``presets/targets`` what
``--to NAME`` means, ``presets/methods`` what ``--preset NAME`` means. Files of the same layout in the user's
configuration folder come first.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from ilvrctl import paths
from ilvrctl.choices import Content as Content
from ilvrctl.choices import Use as Use
from ilvrctl.config import Layer, build, read_yaml, unknown_name
from ilvrctl.errors import ConfigError, UsageError, WeightsError, did_you_mean
from ilvrctl.memory import remembered
from ilvrctl.model_preset import LATER_FACTS as LATER_FACTS
from ilvrctl.model_preset import SHARED, as_one_model, with_experts
from ilvrctl.model_preset import ModelPreset as ModelPreset
from ilvrctl.quality import Quality
from ilvrctl.text import visible

P = TypeVar("P")

Kind = Literal["models", "targets", "methods"]
WEIGHT_SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt", ".bin")
"""How the names of files of weights end."""
PRESET_NAME = re.compile(r"\w[\w.+-]{0,99}(?<!\.)")
"""What a preset can be called: its name is that of a file, too."""
NAME_HINT = "letters, digits, - _ + and . only"
"""The same in words."""
_LARGEST = 1 << 20
"""Bytes of a preset; the longest that ships has two thousand."""
_SOURCE = {"targets": "target", "methods": "preset", "models": "model"}
"""What people call one of a kind."""


TWO_MODELS = "cyclediffusion"
"""The method where a model of the inputs' own kind takes part and none is named."""


@dataclass(frozen=True)
class TargetPreset:
    """A domain to translate to: its model, the settings that are best for it, and what it ``expects`` of inputs.

    ``settings``: measured here, where that could be done, else the papers'. ``published``: the papers', for
    ``--as-published``, where these are others. ``quality``: what was measured.

    ``two_models``: the settings to begin with where a model of the inputs' own kind takes part. ``source``: the
    target whose model that is where nobody says otherwise, neither with ``--from`` nor by how to sample.
    """

    name: str
    model: str
    title: str = ""
    aliases: tuple[str, ...] = ()
    expects: Literal["", "flat drawings on white"] = ""
    notes: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)
    two_models: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    quality: Quality | None = None

    def published_layer(self, settings: Layer) -> Layer:
        """The papers' settings, where the preset's own are ``settings``."""
        return Layer.of(f"{self.name}, published", self.published) if self.published else settings

    @property
    def two_models_layer(self) -> Layer:
        """The settings to begin with beside a model of the inputs' own kind."""
        return Layer.of(f"{self.name}, two models", {"method": {"name": TWO_MODELS}, **self.two_models})


@dataclass(frozen=True)
class MethodPreset:
    """A way of working: settings that do not depend on the target."""

    name: str
    title: str = ""
    notes: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


_CLASSES: dict[Kind, type[Any]] = {"targets": TargetPreset, "methods": MethodPreset, "models": ModelPreset}


@dataclass(frozen=True)
class Broken:
    """A preset file that cannot be used, and why; it hurts no other."""

    kind: Kind
    name: str
    path: Path
    error: ConfigError


@remembered
def preset_files(kind: Kind) -> dict[str, Path]:
    """All preset files of a kind by name; the user's own take the place of shipped ones."""
    found = {}
    for folder in (paths.presets_dir() / kind, paths.config_dir() / kind):
        if os.path.isdir(folder):  # noqa: PTH112  which has no errors
            found.update({path.stem: path for path in sorted(folder.glob("*.yaml"))})
    return dict(sorted(found.items()))


def load_targets() -> dict[str, TargetPreset]:
    """Every sound target preset by name."""
    return _load_all("targets", TargetPreset)[0]


def load_methods() -> dict[str, MethodPreset]:
    """Every sound method preset by name."""
    return _load_all("methods", MethodPreset)[0]


def load_models() -> dict[str, ModelPreset]:
    """Every sound model preset by name."""
    return _load_all("models", ModelPreset)[0]


def single_models() -> list[ModelPreset]:
    """Every sound model preset as that of one file; those that take another's file for one of several come last."""
    return [replace(m, experts=()) for m in sorted(load_models().values(), key=lambda m: bool(m.experts))]


def broken_presets(*kinds: Kind) -> list[Broken]:
    """The preset files of these kinds, or of all, that cannot be used."""
    return [bad for kind in kinds or _CLASSES for bad in _load_all(kind, _CLASSES[kind])[1]]


def _load_all(kind: Kind, cls: type[P]) -> tuple[dict[str, P], list[Broken]]:
    """The sound presets of a kind, and the others."""
    sound: dict[str, P] = {}
    broken: list[Broken] = []
    for name, path in preset_files(kind).items():
        try:
            sound[name] = _load(cls, name, path)[0]
        except ConfigError as error:
            broken.append(Broken(kind, name, path, error))
    return sound, broken


def find_target(name: str) -> tuple[TargetPreset, Layer]:
    """The target preset called ``name`` or having that alias, and its settings with their origins.

    UsageError with the closest name for an unknown one.
    """
    files = preset_files("targets")
    if name in files:
        return _load(TargetPreset, name, files[name])
    targets = load_targets()
    for target in targets.values():
        if name in target.aliases:
            return _load(TargetPreset, target.name, files[target.name])
    names = [alias for target in targets.values() for alias in (target.name, *target.aliases)]
    raise _unknown("targets", name, [*names, *preset_files("models")])


def find_method(name_or_file: str) -> Layer:
    """The settings of a method preset, by name or as a YAML file of settings. UsageError for an unknown name."""
    files = preset_files("methods")
    if name_or_file in files:
        return _load(MethodPreset, name_or_file, files[name_or_file])[1]
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml"):
        return read_yaml(path, limit=_LARGEST)
    raise _unknown("methods", name_or_file, files)


def method_title(name: str) -> str:
    """What a method is called in a line: its preset's title up to the colon, else its name."""
    path = preset_files("methods").get(name)
    return (_short_title(path) if path else "") or name


@functools.cache
def _short_title(path: Path) -> str:
    title, colon, _ = _load(MethodPreset, path.stem, path)[0].title.partition(":")
    return title if colon else ""


def find_model(name: str, overrides: Layer | None = None) -> ModelPreset:
    """The model preset called ``name``, with single facts replaced by ``overrides``."""
    files = preset_files("models")
    if name not in files:
        raise _unknown("models", name, files)
    preset: ModelPreset = _load(ModelPreset, name, files[name])[0]
    return preset if overrides is None else override_model(preset, overrides)


def find_expert(name: str) -> ModelPreset:
    """The model preset called ``name``, as one network of several. ConfigError for one that is several itself."""
    files = preset_files("models")
    if name not in files:
        raise unknown_name("model", name, files, hint="ilvrctl download --list")
    preset: ModelPreset = _read(ModelPreset, name, files[name])[0]
    if preset.experts:
        raise ConfigError(
            f"{name} has experts itself, and an expert is one network", hint="name these one by one"
        )
    return preset


def resolve_model(name: str) -> ModelPreset:
    """The model that ``name`` means: a model's name or alias, or a target's name or alias, in this order.

    Case and ``-`` for ``_`` do not matter. UsageError with the closest name for an unknown one.
    """
    if name in preset_files("models"):
        return find_model(name)
    models = load_models()
    known: dict[str, str] = {}
    for model in models.values():
        for alias in (model.name, *model.aliases):
            known.setdefault(_folded(alias), model.name)
    for target in load_targets().values():
        for alias in (target.name, *target.aliases):
            known.setdefault(_folded(alias), target.model)
    found = models.get(known.get(_folded(name), ""))
    if found is None:
        for bad in broken_presets("models", "targets"):
            if _folded(name) == _folded(bad.name):
                raise bad.error
        close = did_you_mean(_folded(name), known)
        raise UsageError(f"no model or target is called {name!r}", hint=close or "ilvrctl download --list")
    return found


def _folded(name: str) -> str:
    return name.casefold().replace("_", "-")


def override_model(preset: ModelPreset, overrides: Layer, word: str = "model") -> ModelPreset:
    """The preset with the facts in ``overrides`` (paths below ``word``) replaced; ConfigError for a bad one.

    A number of heads takes the place of ``num_head_channels``, which would win over it. What experts share is
    replaced in all of them.
    """
    facts = build(ModelPreset, Layer(overrides.values, overrides.origins), (word,))
    given = {key: getattr(facts, key) for key in overrides.values}
    if given.get("num_heads"):
        given.setdefault("num_head_channels", None)
    model = with_experts(replace(preset, **given), find_expert)
    shared = {name: given[name] for name in given if name in SHARED}
    return replace(
        model,
        experts=tuple(
            replace(e, network=replace(e.network, **shared)) if e.network else e for e in model.experts
        ),
    )


def require_weights(preset: ModelPreset, target: str) -> Path:
    """The path of the weights; WeightsError (exit code 3) with the command that gets them when not there.

    The same for a file that nothing here can use, whatever is there.
    """
    if preset.unsupported:
        raise WeightsError(f"{target!r} cannot be used: {preset.unsupported}", preset.notes or None)
    path = preset.path()
    missing = [part for part in preset.parts if not part.installed()]
    if not missing:
        return path
    first, what = missing[0], f"the weights of {target!r} are not here: "
    whole = "" if preset.experts else "   (or give a file that you have: --weights FILE)"
    if first.bundled:
        raise WeightsError(f"{what}no {first.path()}, which comes with ilvrctl", hint="install ilvrctl again")
    if not first.downloaded:
        raise WeightsError(f"{what}no {first.path()}", hint="" if preset.experts else "--weights FILE")
    by_hand = next((part for part in missing if not part.sources), None)
    get = target if by_hand is None else f"{_own_name(by_hand)} --file FILE"
    names = " and ".join(part.file for part in missing)
    raise WeightsError(
        f"{what}{names} {'is' if len(missing) == 1 else 'are'} not in {paths.weights_dir()}",
        hint=f"ilvrctl download {get}{whole}",
    )


def _own_name(part: ModelPreset) -> str:
    """The name of a network by itself."""
    return next((model.name for model in single_models() if model.file == part.file), part.name)


def require_single(preset: ModelPreset) -> ModelPreset:
    """The preset, where it is one network. UsageError for a model of several."""
    if preset.experts:
        names = [_own_name(part) for part in preset.parts]
        raise UsageError(f"{preset.name} is {len(names)} networks, and one is meant here", " or ".join(names))
    return preset


def require_same(preset: ModelPreset, path: Path, sha256: str) -> None:
    """WeightsError when the file at ``path``, whose hash is ``sha256``, is not the one the preset was made for.

    Its facts (size, heads, schedule) are those of another network then, and the pictures would be wrong.
    """
    known = preset.sha256 or preset.sha256_start
    if known and not sha256.startswith(known.lower()):
        again = f"ilvrctl download {preset.name} --overwrite"
        mine = f"ilvrctl inspect {path} --save-preset {preset.name} --overwrite"
        raise WeightsError(
            f"{path} is not the file that the preset {preset.name} was made for: its sha256 is {sha256[:12]}..., "
            f"and that was {known[:12]}...",
            hint=again if preset.sources else f"put the old file back, or make the preset anew: {mine}",
        )


@remembered
def _load(cls: type[Any], name: str, path: Path) -> tuple[Any, Layer]:
    preset, settings = _read(cls, name, path)
    if not isinstance(preset, ModelPreset):
        return preset, settings
    model = as_one_model(preset, find_expert)
    if model.experts and not model.file:
        raise ConfigError(
            f"{name}: nothing is said of the levels below {model.experts[-1].down_to}", "- {model: NAME}"
        )
    return model, settings


def _read(cls: type[Any], name: str, path: Path) -> tuple[Any, Layer]:
    if not PRESET_NAME.fullmatch(name):
        raise ConfigError(f"{visible(path.name)}: cannot be the name of a preset", NAME_HINT)
    layer = read_yaml(path, limit=_LARGEST)
    if layer.values.get("name", name) != name:
        raise ConfigError(f"{layer.origins['name',]}: the name of a preset is that of its file, {name!r}")
    preset = build(cls, Layer({"name": name, **layer.values}, layer.origins))
    origins = {key[1:]: origin for key, origin in layer.origins.items() if key[0] == "settings"}
    return preset, Layer(getattr(preset, "settings", {}), origins)


def _unknown(kind: Kind, name: str, known: Iterable[str]) -> ConfigError:
    hint = "some presets are broken, see: ilvrctl presets" if broken_presets(kind) else "ilvrctl presets"
    return unknown_name(_SOURCE[kind], name, sorted({*known}), hint=hint)
