"""Presets: YAML files that name a model, a target domain with its published settings, or a way of working.

``presets/models/NAME.yaml`` holds the facts of a checkpoint that its tensors do not tell, ``presets/targets`` what
``--to NAME`` means, ``presets/methods`` what ``--preset NAME`` means. Files of the same layout in the user's
configuration folder come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from ilvrctl import paths
from ilvrctl.config import Layer, build, read_yaml
from ilvrctl.errors import ConfigError, UsageError, WeightsError, did_you_mean

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
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
    image_size: int | None = None
    num_heads: int | None = None
    num_head_channels: int | None = None
    num_heads_upsample: int | None = None
    use_new_attention_order: bool = False
    noise_schedule: Literal[
        "linear", "cosine", "quad", "sigmoid", "sigmoid_beta", "karras", "betas", "unknown"
    ] = "linear"
    diffusion_steps: int = 1000
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
        """Where the weights are, or would be once downloaded."""
        return (paths.DATA if self.bundled else paths.weights_dir()) / self.file

    @property
    def downloaded(self) -> bool:
        """Whether its place is the weights folder: neither in the package nor a file of one's own elsewhere."""
        return not (self.bundled or Path(self.file).is_absolute())

    def installed(self) -> bool:
        """Whether the weights are there."""
        if self.files:
            return all(any((self.path() / name).is_file() for name in part.split("|")) for part in self.files)
        return bool(self.file) and self.path().is_file()


@dataclass(frozen=True)
class TargetPreset:
    """A domain to translate to: its model and the settings published for it (or measured here)."""

    name: str
    model: str
    title: str = ""
    aliases: tuple[str, ...] = ()
    notes: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodPreset:
    """A way of working: settings that do not depend on the target."""

    name: str
    title: str = ""
    notes: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def preset_files(kind: Kind) -> dict[str, Path]:
    """All preset files of a kind by name; the user's own take the place of shipped ones."""
    found = {}
    for folder in (paths.presets_dir() / kind, paths.config_dir() / kind):
        if folder.is_dir():
            found.update({path.stem: path for path in sorted(folder.glob("*.yaml"))})
    return dict(sorted(found.items()))


def load_targets() -> dict[str, TargetPreset]:
    """Every target preset by name."""
    return {name: _load(TargetPreset, name, path)[0] for name, path in preset_files("targets").items()}


def load_methods() -> dict[str, MethodPreset]:
    """Every method preset by name."""
    return {name: _load(MethodPreset, name, path)[0] for name, path in preset_files("methods").items()}


def load_models() -> dict[str, ModelPreset]:
    """Every model preset by name."""
    return {name: _read_model(name, path) for name, path in preset_files("models").items()}


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
    raise _unknown("target", name, names)


def find_method(name_or_file: str) -> Layer:
    """The settings of a method preset, by name or as a YAML file of settings. UsageError for an unknown name."""
    files = preset_files("methods")
    if name_or_file in files:
        return _load(MethodPreset, name_or_file, files[name_or_file])[1]
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml"):
        return read_yaml(path)
    raise _unknown("preset", name_or_file, files)


def find_model(name: str, overrides: Layer | None = None) -> ModelPreset:
    """The model preset called ``name``, with single facts replaced by ``overrides``."""
    files = preset_files("models")
    if name not in files:
        raise _unknown("model", name, files)
    preset = _read_model(name, files[name])
    return preset if overrides is None else override_model(preset, overrides)


def resolve_model(name: str) -> ModelPreset:
    """The model that ``name`` means: a model's name or alias, or a target's name or alias, in this order.

    Case and ``-`` for ``_`` do not matter. UsageError with the closest name for an unknown one.
    """
    files = preset_files("models")
    if name in files:
        return _read_model(name, files[name])
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
    """The path of the weights; WeightsError (exit code 3) with the command that gets them when not there."""
    if preset.installed():
        return preset.path()
    if Path(preset.file).is_absolute():
        raise WeightsError(f"the weights of {target!r} are not here: no {preset.file}", hint="--weights FILE")
    get = target if preset.sources else f"{preset.name} --file FILE"
    raise WeightsError(
        f"the weights of {target!r} are not here: {preset.file} is not in {paths.weights_dir()}",
        hint=f"ilvrctl download {get}   (or give a file that you have: --weights FILE)",
    )


def _load(cls: type[Any], name: str, path: Path) -> tuple[Any, Layer]:
    layer = read_yaml(path)
    preset = build(cls, Layer({"name": name, **layer.values}, layer.origins))
    origins = {key[1:]: origin for key, origin in layer.origins.items() if key[0] == "settings"}
    return preset, Layer(preset.settings, origins)


def _read_model(name: str, path: Path) -> ModelPreset:
    """A model preset; the slow reader, which knows the lines, is asked only when something is wrong."""
    try:
        return _build_model(name, Layer(_fast_yaml(path)))
    except (ConfigError, yaml.YAMLError, OSError, UnicodeDecodeError, TypeError, ValueError):
        return _build_model(name, read_yaml(path))


def _build_model(name: str, facts: Layer) -> ModelPreset:
    return build(ModelPreset, Layer({"name": name, **facts.values}, facts.origins))


def _fast_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. ValueError when it is none, or names a key twice."""
    loader = _Loader(path.read_text(encoding="utf-8"))
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ValueError("not a mapping")
        values: dict[str, Any] = loader.construct_document(node)
    finally:
        loader.dispose()
    if len(values) != len(node.value):
        raise ValueError("a key is given twice")
    return values


def _unknown(what: str, name: str, known: Any) -> UsageError:
    names = sorted(known)
    return UsageError(
        f"unknown {what} {name!r}; known: {', '.join(names)}",
        hint=did_you_mean(name, names) or "ilvrctl presets",
    )
