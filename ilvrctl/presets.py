"""Presets: YAML files that name a model, a target domain with its published settings, or a way of working.

``presets/models/NAME.yaml`` holds the facts of a checkpoint that its tensors do not tell, ``presets/targets`` what
``--to NAME`` means, ``presets/methods`` what ``--preset NAME`` means. Files of the same layout in the user's
configuration folder come first.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from ilvrctl import paths
from ilvrctl.config import Layer, build, read_yaml, unknown_name
from ilvrctl.errors import ConfigError, UsageError, WeightsError, did_you_mean
from ilvrctl.fields import Between
from ilvrctl.files import inside
from ilvrctl.memory import remembered
from ilvrctl.text import visible

P = TypeVar("P")

Kind = Literal["models", "targets", "methods"]
Use = Literal["any", "non-commercial", "research", "unstated"]
Content = Literal[
    "guided-diffusion",
    "guided-diffusion-classifier",
    "openai-edm",
    "pesser-ddim",
    "diffusers",
    "rosinality",
    "lucidrains",
    "vgg",
    "inception",
    "statistics",
    "other",
]

WEIGHT_SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt", ".bin")
"""How the names of files of weights end."""
PRESET_NAME = re.compile(r"\w[\w.+-]{0,99}(?<!\.)")
"""What a preset can be called: its name is that of a file, too."""
NAME_HINT = "letters, digits, - _ + and . only"
"""The same in words."""
LATER_FACTS = (
    "weights",
    "beta_start",
    "beta_end",
    "betas",
    "zero_snr",
    "timestep_spacing",
    "steps_offset",
    "clip_sample",
)
"""Facts of a model preset that are recorded only where they differ from their defaults."""
_LARGEST = 1 << 20
"""Bytes of a preset; the longest that ships has two thousand."""
_SOURCE = {"targets": "target", "methods": "preset", "models": "model"}
"""What people call one of a kind."""


@dataclass(frozen=True)
class ModelPreset:
    """A checkpoint: what its tensors hide, and where to get it.

    ``weights``: which of the networks in the file is meant, "averaged" (where there are such), "raw", or the name
    that ``inspect`` shows, keys with / between them.

    What the tensors hide. ``image_size`` in pixels; None means unknown. ``num_heads`` or ``num_head_channels`` of
    the attention, ``use_new_attention_order`` as in guided-diffusion. ``noise_schedule`` with ``diffusion_steps``
    levels, ``beta_start`` and ``beta_end`` where these are not the published ones, or all ``betas``; ``zero_snr``:
    rescaled so that the highest is noise alone (:class:`ilvrctl.diffusion.schedule.LevelFacts`).
    A schedule or prediction that is ``unknown`` has to be given before the network can be used.
    ``timestep_spacing`` and ``steps_offset``: which levels a smaller number of steps walks. ``rescale_timesteps``
    where the network was given levels scaled to 0 .. 1000. ``clip_sample``: whether clean estimates are kept in
    [-1, 1]. ``variance`` is used where the network has not learned one.

    The file. ``file`` is looked for among the downloaded weights, or in the package when ``bundled``; an absolute
    path is a file of one's own somewhere else, which is not downloaded. It is a
    folder when ``files`` names what it holds (``a|b``: one of the two). ``format`` is what the file must turn out
    to be; ``unsupported`` says why a file can be fetched but not used.

    Where to get it. ``sources`` in order of trust: an https address, ``gdrive:ID`` (``/NAME``: only if Drive calls
    it so), or ``gdrive-folder:ID/NAME``; with ``files`` the address of the folder. ``dead``: addresses that worked
    once. ``size`` in bytes is exact and enforced, ``size_about`` computed from the architecture and only used to
    plan. ``sha256`` and ``md5`` in hexadecimal, "" when none was published; ``sha256_start``: its first digits,
    where a file's name tells no more. ``use``: what the licences of code and
    data allow.
    """

    name: str = "custom"
    title: str = ""
    aliases: tuple[str, ...] = ()
    domain: str = ""
    file: str = ""
    files: tuple[str, ...] = ()
    bundled: bool = False
    format: Content = "guided-diffusion"
    unsupported: str = ""
    weights: str = "averaged"
    image_size: Annotated[int, Between(1, 16384)] | None = None
    num_heads: Annotated[int, Between(1)] | None = None
    num_head_channels: int | None = None
    num_heads_upsample: int | None = None
    use_new_attention_order: bool = False
    noise_schedule: Literal[
        "linear", "cosine", "quad", "sigmoid", "sigmoid_beta", "karras", "betas", "unknown"
    ] = "linear"
    diffusion_steps: Annotated[int, Between(1, 100_000)] = 1000
    beta_start: float | None = None
    beta_end: float | None = None
    betas: tuple[float, ...] = ()
    zero_snr: bool = False
    timestep_spacing: Literal["linspace", "leading", "trailing"] = "linspace"
    steps_offset: int = 0
    rescale_timesteps: bool = False
    predicts: Literal["eps", "x0", "v", "edm", "unknown"] = "eps"
    clip_sample: bool = True
    variance: Literal["fixed_small", "fixed_large"] = "fixed_small"
    sources: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    size: int | None = None
    size_about: int | None = None
    sha256: str = ""
    sha256_start: str = ""
    md5: str = ""
    use: Use = "any"
    licence: str = ""
    notes: str = ""

    def path(self) -> Path:
        """Where the weights are, or would be once downloaded. ConfigError for a name that leads out of there."""
        return self._place("file", self.file)

    def choices(self) -> tuple[tuple[Path, ...], ...]:
        """For each file of the model the places of its alternatives, first choice first. ConfigError as above."""
        if not self.files:
            return ((self.path(),),)
        return tuple(
            tuple(self._place("files", f"{self.file}/{name}") for name in part.split("|"))
            for part in self.files
        )

    def _place(self, key: str, name: str) -> Path:
        """The place of ``name``, the file or one below it."""
        own, what = Path(self.file), f"{self.name}: {key}"
        if self.bundled:
            return inside(paths.DATA, name, what, "the package")
        if own.is_absolute():
            return own if name == self.file else inside(own, name[len(self.file) + 1 :], what)
        return inside(paths.weights_dir(), name, what, "the weights folder")

    @property
    def downloaded(self) -> bool:
        """Whether its place is the weights folder: neither in the package nor a file of one's own elsewhere."""
        return not (self.bundled or Path(self.file).is_absolute())

    def installed(self) -> bool:
        """Whether the weights are there."""
        try:
            return all(any(map(os.path.isfile, places)) for places in self.choices())
        except ConfigError:
            return False


@dataclass(frozen=True)
class TargetPreset:
    """A domain to translate to: its model, the settings published or measured for it, what it ``expects`` of inputs."""

    name: str
    model: str
    title: str = ""
    aliases: tuple[str, ...] = ()
    expects: Literal["", "flat drawings on white"] = ""
    notes: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


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
    raise _unknown("targets", name, names)


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

    A number of heads takes the place of ``num_head_channels``, which would win over it.
    """
    facts = build(ModelPreset, Layer(overrides.values, overrides.origins), (word,))
    given = {key: getattr(facts, key) for key in overrides.values}
    if given.get("num_heads"):
        given.setdefault("num_head_channels", None)
    return replace(preset, **given)


def require_weights(preset: ModelPreset, target: str) -> Path:
    """The path of the weights; WeightsError (exit code 3) with the command that gets them when not there.

    The same for a file that nothing here can use, whatever is there.
    """
    if preset.unsupported:
        raise WeightsError(f"{target!r} cannot be used: {preset.unsupported}", preset.notes or None)
    path = preset.path()
    if preset.installed():
        return path
    missing = f"the weights of {target!r} are not here: "
    if preset.bundled:
        raise WeightsError(f"{missing}no {path}, which comes with ilvrctl", hint="install ilvrctl again")
    if not preset.downloaded:
        raise WeightsError(f"{missing}no {path}", hint="--weights FILE")
    get = target if preset.sources else f"{preset.name} --file FILE"
    raise WeightsError(
        f"{missing}{preset.file} is not in {paths.weights_dir()}",
        hint=f"ilvrctl download {get}   (or give a file that you have: --weights FILE)",
    )


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


def use_of(model: ModelPreset) -> str:
    """A command that translates with a model; "" for one that is none for that."""
    if model.unsupported or model.format not in ("guided-diffusion", "pesser-ddim", "diffusers"):
        return ""
    target = next((target.name for target in load_targets().values() if target.model == model.name), None)
    what = f"--to {target}" if target else f"--weights {shlex.quote(str(model.path()))}"
    return f"ilvrctl translate PICTURES {what}"


@remembered
def _load(cls: type[Any], name: str, path: Path) -> tuple[Any, Layer]:
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
    return unknown_name(_SOURCE[kind], name, sorted(known), hint=hint)
