"""What decides a trained model, as a frozen value built from YAML and flags. No torch here."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ilvrctl import paths
from ilvrctl.config import Layer, build, merge, read_yaml
from ilvrctl.diffusion.schedule import NOISE_SCHEDULES, Schedule
from ilvrctl.errors import ConfigError, UsageError, WeightsError, did_you_mean
from ilvrctl.models.architecture.blocks import NORM_GROUPS
from ilvrctl.models.architecture.classifier import ClassifierArchitecture, read_classifier
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags, Resampling
from ilvrctl.training.pictures import Square

R = TypeVar("R")


@dataclass(frozen=True)
class Network:
    """Shape of a new network, in the published flags: channels of each level are ``channels * multipliers``.

    ``attention``: sizes in pixels at which attention follows the residual blocks (``attention_resolutions``).
    """

    channels: int = 32
    multipliers: tuple[int | float, ...] = (1, 2, 4, 4)
    res_blocks: int = 1
    attention: tuple[int, ...] = (16, 8)
    head_channels: int = 32
    resampling: Resampling = "residual"
    scale_shift: bool = True

    def unet(self, size: int, out_channels: int, channels: int = 3) -> AdmArchitecture:
        """The U-Net for pictures of ``size`` pixels. UsageError when there is no such network."""
        return AdmArchitecture(**self._trunk(size, out_channels, channels))

    def classifier(self, size: int, classes: int, channels: int = 3) -> ClassifierArchitecture:
        """The classifier, pooled by a mean so that it takes pictures of other sizes too. UsageError as above, and
        for one whose file would not tell what it is.
        """
        planned = ClassifierArchitecture(**self._trunk(size, classes, channels), pool="adaptive")
        try:
            read_classifier(Shapes(planned.parameter_shapes(), "classifier"), planned.hidden)
        except WeightsError as error:
            raise UsageError(
                f"no file of such a classifier could be read: {error.message}",
                "--set network.resampling=convolution, or multipliers that grow from level to level",
            ) from error
        return planned

    def _trunk(self, size: int, out_channels: int, channels: int) -> dict[str, Any]:
        widths = tuple(int(self.channels * m) for m in self.multipliers)
        wrong = [width for width in widths if width < 1 or width % NORM_GROUPS]
        if not widths or wrong:
            raise UsageError(
                f"a level of {wrong[0] if wrong else 0} channels cannot be normalised in {NORM_GROUPS} groups",
                f"take channels times each multiplier as multiples of {NORM_GROUPS}",
            )
        check_size(size, len(widths))
        sizes = [size // 2**level for level in range(len(widths))]
        if stray := [pixels for pixels in self.attention if pixels not in sizes]:
            raise UsageError(
                f"attention at {stray[0]} pixels: the levels have {', '.join(map(str, sizes))} pixels",
                "change network.attention in the recipe",
            )
        return {
            "in_channels": channels,
            "out_channels": out_channels,
            "model_channels": self.channels,
            "widths": widths,
            "num_res_blocks": self.res_blocks,
            "attention": tuple(pixels in self.attention for pixels in sizes),
            "resampling": self.resampling,
            "use_scale_shift_norm": self.scale_shift,
            "hidden": HiddenFlags(num_head_channels=self.head_channels),
        }


def check_size(size: int, levels: int) -> None:
    """UsageError unless a network of so many levels can take pictures of ``size`` pixels."""
    factor = 2 ** (levels - 1)
    if size < factor or size % factor:
        near = sorted({max(1, size // factor) * factor, (size // factor + 1) * factor})
        raise UsageError(
            f"this architecture halves the picture {levels - 1} times, so {factor} must divide its size; "
            f"{size} cannot be",
            f"--size {' or --size '.join(map(str, near))}",
        )


@dataclass(frozen=True)
class AnyRecipe:
    """What every recipe says, of a denoiser or a classifier.

    The data: ``size`` in pixels, made square by ``fit`` on ``background``, of so many ``channels`` (1 grey, 3, or 4
    with an opacity; ``fit: grey`` or ``pad+grey`` takes the luma of coloured ones); ``flip`` half of the pictures
    left to right, and ``shift`` each by up to so many whole pixels with the edge repeated; ``held_out``: the share
    that is kept aside. ``network``: the shape where training starts from nothing; ``init``: a model or file to
    start from.

    The noise: ``noise_schedule`` with ``diffusion_steps`` levels; None is that of ``init``, else linear with 1000.
    ``levels``: how they are drawn, ``uniform`` or for instance ``below600:40%``, which draws 40 % of them uniformly
    from those below 600 and the rest from all.

    The optimizer: AdamW with ``learning_rate``, raised over the first ``warmup`` pictures, then ``decay`` to
    ``final_rate`` times it; gradients clipped to the norm ``clip`` (0: not). ``ema``: decay of the averaged
    weights, which are what is kept; smaller at first, ``(1 + step) / (10 + step)``; 0 keeps the last.
    ``batch_size`` over all processes together. ``images``: pictures to see. ``store``: precision of the
    checkpoint.
    """

    name: str = "custom"
    title: str = ""
    notes: str = ""
    init: str | None = None
    size: int = 64
    fit: Literal["crop", "pad", "stretch", "grey", "crop+grey", "pad+grey", "stretch+grey"] = "crop"
    background: str = "white"
    channels: Literal[1, 3, 4] = 3
    flip: bool = True
    shift: int = 0
    network: Network = dataclasses.field(default_factory=Network)
    noise_schedule: str | None = None
    diffusion_steps: int | None = None
    levels: str = "uniform"
    learning_rate: float = 4e-4
    weight_decay: float = 0.0
    warmup: int = 8000
    decay: Literal["cosine", "constant"] = "cosine"
    final_rate: float = 0.0
    clip: float = 1.0
    ema: float = 0.9995
    batch_size: int = 16
    images: int = 600_000
    held_out: float = 0.05
    seed: int = 0
    store: Literal["fp32", "fp16"] = "fp32"

    def __post_init__(self) -> None:
        _require(self.images >= 1, "images", self.images, "at least 1")
        for name, most in (("size", 4096), ("batch_size", 65_536), ("diffusion_steps", 100_000)):
            value = getattr(self, name)
            _require(value is None or 1 <= value <= most, name, value, f"from 1 to {most}")
        known = (None, *NOISE_SCHEDULES)
        _require(
            self.noise_schedule in known, "noise_schedule", self.noise_schedule, " or ".join(NOISE_SCHEDULES)
        )
        _require(0 <= self.held_out < 1, "held_out", self.held_out, "from 0 to below 1")
        _require(0 <= self.ema < 1, "ema", self.ema, "from 0 to below 1")
        _require(0 <= self.shift < self.size, "shift", self.shift, "from 0 to below the size")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        for name in ("warmup", "weight_decay", "final_rate", "clip"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        _ = self.lower
        if "grey" in self.fit and self.channels != 1:
            raise ConfigError(f"fit: {self.fit} is for grey pictures", "--channels 1")

    @property
    def square(self) -> Square:
        """How pictures become squares."""
        return Square(self.size, self.fit, self.background, self.channels)

    @property
    def schedule(self) -> Schedule:
        """The levels that are learned, where no model decides them."""
        return Schedule.named(self.noise_schedule or "linear", self.diffusion_steps or 1000)

    @property
    def lower(self) -> tuple[float, int] | None:
        """The share of the levels that is drawn from those below a level, and this level; None for uniform ones."""
        if self.levels == "uniform":
            return None
        found = re.fullmatch(r"below([1-9]\d*):(\d+(?:\.\d+)?)%", self.levels)
        if found is None or float(found[2]) > 100:
            raise ConfigError(f"levels must be uniform, or for instance below600:40%, not {self.levels!r}")
        return float(found[2]) / 100, int(found[1])


@dataclass(frozen=True)
class Recipe(AnyRecipe):
    """How a target's model is trained.

    ``predicts``: what it puts out, eps, x0 or ``v = alpha_t eps - sigma_t x0``; None is what ``init`` does, else
    eps. ``learn_variance``: None follows the model that training starts from. The loss has a ``weighting``, for
    which see :func:`ilvrctl.training.loss.weights`: ``min-snr`` with ``gamma`` (Hang et al. 2023), ``p2`` with
    ``p2_gamma`` and ``p2_k`` (Choi et al. 2022). A learned variance adds ``vlb_weight`` times the bound (Nichol
    and Dhariwal 2021).

    ``teacher``: a model or file whose clean estimate is the target below the level ``teacher_below`` in the first
    ``teacher_steps`` steps, or all: it has no noise of its own, and so teaches faster than pictures do.
    """

    predicts: Literal["eps", "x0", "v"] | None = None
    learn_variance: bool | None = None
    weighting: Literal["min-snr", "p2", "none"] = "min-snr"
    gamma: float = 5.0
    p2_gamma: float = 1.0
    p2_k: float = 1.0
    vlb_weight: float = 0.001
    teacher: str | None = None
    teacher_below: int | None = None
    teacher_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.clip > 0, "clip", self.clip, "above 0")
        _require(self.gamma > 0, "gamma", self.gamma, "above 0")
        for name in ("vlb_weight", "p2_gamma", "p2_k"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("teacher_below", "teacher_steps"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "at least 1")
            if value is not None and self.teacher is None:
                raise ConfigError(
                    f"{name} without a teacher does nothing", "--teacher NAME or --teacher FILE"
                )
        if self.teacher is not None and self.teacher_below is None:
            raise ConfigError(
                "a teacher needs the level that it teaches below", "for instance --teacher-below 450"
            )


@dataclass(frozen=True)
class DomainRecipe(AnyRecipe):
    """How a domain classifier is trained, EGSDE's D (Zhao et al. 2022, appendix): cross-entropy on noised pictures.

    ``network``: its encoder; ``images``: pictures to see, 5000 steps of 32 as published. ``rise``: over this share
    of the training the highest level rises to T, so that the first steps, on clean pictures, find what to look at.
    """

    name: str = "dse"
    network: Network = Network(channels=32, multipliers=(1, 2, 2), attention=(16,))
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warmup: int = 0
    decay: Literal["cosine", "constant"] = "constant"
    clip: float = 0.0
    ema: float = 0.0
    batch_size: int = 32
    images: int = 160_000
    held_out: float = 0.1
    rise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.held_out > 0, "held_out", self.held_out, "above 0")
        _require(0 <= self.rise <= 1, "rise", self.rise, "from 0 to 1")
        _require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2, one of each domain")


def _require(holds: bool, name: str, value: object, what: str) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {what}, not {value}")


def recipe_files() -> dict[str, Path]:
    """The recipes by name; the user's own take the place of shipped ones."""
    found = {}
    for folder in (paths.presets_dir() / "train", paths.config_dir() / "train"):
        found.update({path.stem: path for path in sorted(folder.glob("*.yaml"))})
    return dict(sorted(found.items()))


def load_recipe(cls: type[R], name_or_file: str | None, flags: Layer) -> R:
    """A recipe by name or from a YAML file, with the values of ``flags`` in the place of its own.

    UsageError for an unknown name, ConfigError for a wrong key or value.
    """
    if name_or_file is None:
        return build(cls, flags)
    files = recipe_files()
    path = files.get(name_or_file, Path(name_or_file))
    if name_or_file not in files and path.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"unknown recipe {name_or_file!r}; known: {', '.join(files)}", did_you_mean(name_or_file, files)
        )
    return build(cls, merge(Layer({"name": path.stem}), read_yaml(path), flags))


def record(recipe: AnyRecipe) -> dict[str, Any]:
    """A recipe as plain JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    # states from before init's own schedule was taken unless one is asked for say so
    plain["noise_schedule"] = recipe.noise_schedule or "linear"
    plain["diffusion_steps"] = recipe.diffusion_steps or 1000
    return plain
