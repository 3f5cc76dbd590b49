"""The facts of a checkpoint that its tensors do not tell, and where it comes from: a model preset."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ilvrctl import paths
from ilvrctl.errors import ConfigError
from ilvrctl.fields import Between
from ilvrctl.files import inside

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
    "theta",
    "null_class",
    "set_alpha_to_one",
)
"""Facts of a model preset that are recorded only where they differ from their defaults."""


@dataclass(frozen=True)
class ModelPreset:
    """A checkpoint: what its tensors hide, and where to get it.

    ``weights``: which of the networks in the file is meant, "averaged" (where there are such), "raw", or the name
    that ``inspect`` shows, keys with / between them.

    What the tensors hide. ``image_size`` in pixels; None means unknown. ``num_heads`` or ``num_head_channels`` of the
    attention, ``use_new_attention_order`` as in guided-diffusion. ``noise_schedule`` with ``diffusion_steps`` levels,
    ``beta_start`` and ``beta_end`` where these are not the published ones, or all ``betas``; ``zero_snr``: rescaled
    so that the highest is noise alone (:class:`ilvrctl.diffusion.schedule.LevelFacts`). A schedule or prediction that
    is ``unknown`` has to be given before the network can be used. ``timestep_spacing`` and ``steps_offset``: which
    levels a smaller number of steps walks. ``rescale_timesteps`` where the network was given levels scaled to 0 ..
    1000. ``clip_sample``: whether clean estimates are kept in [-1, 1]. ``set_alpha_to_one``: whether the last step of
    ddim ends at the clean picture, or at the lowest level, as some configurations of diffusers have it.
    ``null_class``: the class that means none. ``theta``: of lucidrains' networks. ``variance`` is used where the
    network has not learned one.

    The file. ``file`` is looked for among the downloaded weights, or in the package when ``bundled``; an absolute
    path is a file of one's own somewhere else, which is not downloaded. It is a folder when ``files`` names what it
    holds (``a|b``: one of the two). ``format`` is what the file must turn out to be; ``unsupported`` says why a file
    can be fetched but not used.

    Where to get it. ``sources`` in order of trust: an https address, ``gdrive:ID`` (``/NAME``: only if Drive calls it
    so), or ``gdrive-folder:ID/NAME``; with ``files`` the address of the folder. ``dead``: addresses that worked once.
    ``size`` in bytes is exact and enforced, ``size_about`` computed from the architecture and only used to plan.
    ``sha256`` and ``md5`` in hexadecimal, "" when none was published; ``sha256_start``: its first digits, where a
    file's name tells no more. ``use``: what the licences of code and data allow.
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
