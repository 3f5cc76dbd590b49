"""The facts of a checkpoint that its tensors do not tell, and models of several checkpoints, each for some levels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from ilvrctl import paths
from ilvrctl.choices import Content, Use
from ilvrctl.errors import ConfigError
from ilvrctl.fields import Between
from ilvrctl.files import inside
from ilvrctl.sizes import Size, SizeText

LATER_FACTS = (
    "weights",
    "beta_start",
    "beta_end",
    "betas",
    "zero_snr",
    "timestep_spacing",
    "steps_offset",
    "clip_sample",
    "channels",
    "theta",
    "null_class",
    "set_alpha_to_one",
)
"""Facts of a model preset that are recorded only where they differ from their defaults."""

SHARED = (
    "image_size",
    "noise_schedule",
    "diffusion_steps",
    "beta_start",
    "beta_end",
    "betas",
    "zero_snr",
    "timestep_spacing",
    "steps_offset",
    "clip_sample",
    "null_class",
    "set_alpha_to_one",
)
"""Facts in which the experts of a model agree: they walk one chain of levels, and make pictures of one size."""
_OF_THE_WHOLE = ("name", "title", "aliases", "domain", "use", "licence", "notes", "experts")
"""What the preset of a model of several experts says itself; all else is said by the presets of these."""


PLACE = (
    "name",
    "title",
    "file",
    "files",
    "bundled",
    "sources",
    "dead",
    "size",
    "size_about",
    "sha256",
    "md5",
)
"""What of a preset says where a file is, and what it must be."""


@dataclass(frozen=True)
class Expert:
    """A network for the levels from the noise down to ``down_to``, that one included, of a model of several.

    ``model``: the name of its own preset, which ``network`` is once it is found; ``sha256`` is that of its file.
    Source: Balaji et al. 2022, "eDiff-I", section 4.
    """

    model: str
    down_to: Annotated[int, Between(0)] = 0
    sha256: str = ""
    network: ModelPreset | None = None


@dataclass(frozen=True)
class ModelPreset:
    """A checkpoint: what its tensors hide, and where to get it.

    ``weights``: which of the networks in the file is meant, "averaged" (where there are such), "raw", or the name
    that ``inspect`` shows, keys with / between them.

    What the tensors hide. ``image_size`` in pixels, or as "64x32", width first; None means unknown. ``num_heads``
    or ``num_head_channels`` of the attention, ``use_new_attention_order`` as in guided-diffusion.
    ``noise_schedule`` with ``diffusion_steps`` levels, ``beta_start`` and ``beta_end`` where these are not the
    published ones, or all ``betas``; ``zero_snr``: rescaled so that the highest is noise alone
    (:class:`ilvrctl.diffusion.schedule.LevelFacts`).
    A schedule or prediction that is ``unknown`` has to be given before the network can be used.
    ``timestep_spacing`` and ``steps_offset``: which levels a smaller number of steps walks. ``rescale_timesteps``
    where the network was given levels scaled to 0 .. 1000. ``clip_sample``: whether clean estimates are kept in
    [-1, 1]. ``set_alpha_to_one``: whether the last step of ddim ends at the clean picture, or at the lowest level, as
    some configurations of diffusers have it. ``null_class``: the class that means none. ``theta``: of lucidrains'
    networks. ``variance`` is used where the network has not learned one. ``channels`` of a picture: 1 grey, 3, or 4
    with an opacity; the tensors tell it, whatever a preset says.

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

    ``experts``: further networks, each for the levels above those of the next, the noisiest first; this preset's own
    is for what is left. In a file that names no ``file`` the last of them, with ``down_to`` 0, is that one: all facts
    are then those of its preset.
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
    image_size: Annotated[int, Between(1, 16384)] | Annotated[str, SizeText()] | None = None
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
    channels: Literal[1, 3, 4] = 3
    set_alpha_to_one: bool = True
    null_class: Annotated[int, Between(0)] | None = None
    theta: Annotated[float, Between(2)] = 10_000.0
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
    experts: tuple[Expert, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.image_size, str):
            object.__setattr__(self, "image_size", Size.of(self.image_size).plain)

    @property
    def picture_size(self) -> Size | None:
        """That of the pictures that the network was trained on, where it is known."""
        return None if self.image_size is None else Size.of(self.image_size)

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

    @property
    def parts(self) -> tuple[ModelPreset, ...]:
        """A preset for each of its networks, its own first."""
        return replace(self, experts=()), *(e.network for e in self.experts if e.network is not None)

    @property
    def ships(self) -> bool:
        """Whether all its networks are in the package."""
        return all(part.bundled for part in self.parts)

    @property
    def helper(self) -> bool:
        """Whether it makes no pictures, but measures or steers what others make."""
        return self.domain.startswith("auxiliary:")

    def installed(self) -> bool:
        """Whether the weights are there, those of all its networks."""
        try:
            places = [places for part in self.parts for places in part.choices()]
        except ConfigError:
            return False
        return all(any(map(os.path.isfile, alternatives)) for alternatives in places)


def parts_of(models: Iterable[ModelPreset]) -> list[ModelPreset]:
    """The networks of all the models, each once."""
    return list(dict.fromkeys(part for model in models for part in model.parts))


def as_one_model(model: ModelPreset, find: Callable[[str], ModelPreset]) -> ModelPreset:
    """The preset of a file as the model that it means; ``find`` gives the presets of its experts.

    ConfigError for such as do not go together.
    """
    if model.experts and not model.file and model.experts[-1].down_to == 0:
        last = model.experts[-1].model
        model = replace(_of_the_last(model, find(last), last), experts=model.experts[:-1])
    return with_experts(model, find)


def with_experts(model: ModelPreset, find: Callable[[str], ModelPreset]) -> ModelPreset:
    """The model with the presets of its experts above its own network. ConfigError as above."""
    if all(expert.network is not None for expert in model.experts):
        return model
    experts = tuple(replace(e, network=e.network or find(e.model)) for e in model.experts)
    _check_levels(model, experts)
    for expert in experts:
        _check_shared(model, expert)
    size = next((part.image_size for part in (model, *map(_network, experts)) if part.image_size), None)
    return replace(model, image_size=size, experts=experts)


def _network(expert: Expert) -> ModelPreset:
    assert expert.network is not None
    return expert.network


def _of_the_last(model: ModelPreset, last: ModelPreset, name: str) -> ModelPreset:
    """The facts and the file of the expert for the lowest levels, under the model's own name."""
    own = {f.name: getattr(model, f.name) for f in fields(model) if getattr(model, f.name) != f.default}
    if foreign := [name for name in own if name not in _OF_THE_WHOLE]:
        raise ConfigError(
            f"{model.name}: {foreign[0]} is a fact of one network, and this preset has experts",
            hint=f"say it in the preset {name}",
        )
    return replace(last, **own)


def _check_levels(model: ModelPreset, experts: Sequence[Expert]) -> None:
    levels = [model.diffusion_steps, *(expert.down_to for expert in experts), 0]
    if any(low >= high for high, low in pairwise(levels)):
        told = ", ".join(f"{expert.model} down to {expert.down_to}" for expert in experts)
        raise ConfigError(
            f"{model.name}: experts are listed from the noise down, each to a lower level between "
            f"{model.diffusion_steps} and 0, not {told}",
            hint="- {model: NAME, down_to: 450} and last - {model: NAME}, or a file of the preset's own",
        )


def _check_shared(model: ModelPreset, expert: Expert) -> None:
    network = _network(expert)
    for name in SHARED:
        mine, its = getattr(model, name), getattr(network, name)
        if mine != its and not (name == "image_size" and None in (mine, its)):
            raise ConfigError(
                f"{model.name}: its experts differ in {name}, {its} of {expert.model} and {mine} of the last",
                hint="experts share one chain of levels and one picture size",
            )
