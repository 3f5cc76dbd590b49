"""Whether a network can be used: the one answer that ``inspect``, ``presets``, ``--dry-run`` and the run ask for.

No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ilvrctl.choices import ClassLabel
from ilvrctl.diffusion.schedule import LEAST_ABAR, Schedule
from ilvrctl.errors import ConfigError, IlvrctlError, UsageError, WeightsError
from ilvrctl.model_preset import Expert, ModelPreset
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.files.contents import contents_of
from ilvrctl.models.files.facts import missing_error, missing_facts
from ilvrctl.models.files.formats import readable_hint
from ilvrctl.models.files.info import PRECISIONS, SMALLER, CheckpointInfo, channel_problem
from ilvrctl.models.files.stated import UNKNOWN
from ilvrctl.sizes import AnySize, Size

Use = Literal["translate", "energy"]
_MOST_LEVELS = 100_000
_ALIKE = ("channels", "num_classes", "self_condition")
"""Facts of files in which the experts of a model agree."""


@dataclass(frozen=True)
class Verdict:
    """What stands in the way of using a network, the first first.

    ``info``: what its file holds, if that can be read; ``sound``: the file is such a network, whatever is missing.
    """

    problems: tuple[IlvrctlError, ...] = ()
    info: CheckpointInfo | None = None
    sound: bool = False

    @property
    def usable(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.problems

    def require(self) -> CheckpointInfo:
        """What the file holds. Raises the first problem if there is one."""
        if self.problems:
            raise self.problems[0]
        assert self.info is not None
        return self.info


def verdict_on(
    path: Path,
    model: ModelPreset,
    *,
    use: Use = "translate",
    class_label: ClassLabel = None,
    any_class: bool = False,
    word: str = "model",
    numbers: bool = True,
    size: AnySize | None = None,
) -> Verdict:
    """Whether the network in ``path``, with the facts of ``model``, can be used: "translate" is for editing too.

    ``class_label``: that of the settings; ``any_class`` leaves it out of the question. ``word``: "model" or
    "source", as the hints name the network. ``numbers``: whether every number is read (remembered, so once a file).
    ``size``: of the pictures, where the settings give one.
    """
    if model.unsupported:
        return Verdict(
            (WeightsError(f"{model.name} cannot be used: {model.unsupported}", model.notes or None),)
        )
    try:
        info = contents_of(path, model.weights, numbers=numbers)
    except IlvrctlError as error:
        return Verdict((error,))
    problems = [*_of_file(path, info, use)]
    sound = not problems
    if sound and use == "translate":
        problems += _of_facts(path, info, model, word)
        factor = _number(info, "downsample_factor") or 1
        if size is not None and (wrong := wrong_size(Size.of(size), factor)):
            problems.append(wrong)
        classes = _number(info, "num_classes")
        any_class = any_class or (
            word == "source" and classes is None
        )  # the label is then the target's alone
        if not any_class and (wrong := class_problem(class_label, classes, model.null_class, word)):
            problems.append(wrong)
        for expert in model.experts:
            problems += _of_expert(expert, info, word, numbers)
    return Verdict(tuple(problems), info, sound)


def _of_expert(expert: Expert, base: CheckpointInfo, word: str, numbers: bool) -> Iterator[IlvrctlError]:
    """What is wrong with a network for higher levels, by itself and beside that for the lowest."""
    assert expert.network is not None
    path = expert.network.path()
    found = verdict_on(path, expert.network, any_class=True, word=word, numbers=numbers)
    yield from found.problems
    if found.info is None or found.problems:
        return
    for name in _ALIKE:
        mine, its = (info.facts.get(name) or None for info in (base, found.info))
        if mine != its:
            yield WeightsError(
                f"{path}: the experts of a model must agree in {name}, and it has {its or 'none'} where the network "
                f"for the lowest levels has {mine or 'none'}",
                "see `experts` in the preset of the model",
            )


def _of_file(path: Path, info: CheckpointInfo, use: Use) -> Iterator[IlvrctlError]:
    if use == "energy":
        if info.denoises or not info.readable:
            yield WeightsError(
                f"{path}: this is {info.what}", "a classifier in the guided-diffusion format is needed here"
            )
        return
    if not (info.denoises and info.readable):
        yield WeightsError(f"{path}: this is {info.what}", info.instead or readable_hint())
        return
    odd = [dtype for dtype in info.dtypes if dtype not in PRECISIONS]
    if odd:
        yield WeightsError(
            f"{path}: its tensors hold {odd[0]}, not numbers of a usable precision",
            SMALLER,
        )
    if (
        wrong := channel_problem(
            path, _number(info, "channels"), _number(info, "in_channels"), _number(info, "out_channels")
        )
    ) is not None:
        yield wrong


def _of_facts(path: Path, info: CheckpointInfo, model: ModelPreset, word: str) -> Iterator[IlvrctlError]:
    """What is missing, in one error, and every fact that cannot be."""
    if missing := missing_facts(info, model):
        yield missing_error(path, missing, word)
    for check in (_check_size, _check_levels, _check_heads):
        try:
            check(info, model, word)
        except IlvrctlError as error:
            yield error


def _check_size(info: CheckpointInfo, model: ModelPreset, word: str) -> None:
    size, factor = model.image_size, _number(info, "downsample_factor") or 1
    if size is None:
        return
    sides = Size.of(size) if isinstance(size, str) else Size(size, size)
    if not (min(sides) > 0 and sides.too_large is None and sides.fits(factor)):
        most = 1024 // factor or 1
        right = Size(*(min(max(1, round(side / factor)), most) * factor for side in sides))
        beyond = f" and at most {sides.too_large}" if min(sides) > 0 and sides.too_large else ""
        raise UsageError(
            f"this network needs pictures of a size that {factor} divides{beyond}, not {size}",
            hint=f"--set {word}.image_size={right}",
        )


def wrong_size(size: Size, factor: int) -> UsageError | None:
    """The error of a size that is no multiple of ``factor``, or too large; None for another."""
    if size.fits(factor) and size.too_large is None:
        return None
    right = (near.within(factor) for near in size.nearest(factor))
    what = f"goes up to {size.too_large}" if size.fits(factor) else f"needs sides that {factor} divides"
    return UsageError(
        f"--size {size}: this network {what}", hint=" or ".join(f"--size {s}" for s in dict.fromkeys(right))
    )


def picture_problem(
    channels: int, bits: int, grey: bool, size: AnySize | None = None, *, factor: int = 1
) -> UsageError | None:
    """The error of settings that a network cannot have: what is for grey pictures, where it makes others, and a size
    that ``factor`` does not divide; else None.
    """
    if size is not None and (wrong := wrong_size(Size.of(size), factor)):
        return wrong
    made = {3: "coloured pictures", 4: "pictures with colours and opacity"}.get(channels)
    if made is not None and bits != 8:
        return UsageError(
            f"--bits {bits} is for networks of grey pictures, and this one makes {made}", hint="leave it out"
        )
    if made is not None and grey:
        return UsageError(
            f"--fit grey is for networks of grey pictures, and this one makes {made}",
            hint="--fit crop, pad, stretch or native",
        )
    return None


def _check_levels(info: CheckpointInfo, model: ModelPreset, word: str) -> None:
    T = model.diffusion_steps
    if model.noise_schedule == UNKNOWN:
        return  # which is missing
    if not 1 <= T <= _MOST_LEVELS:
        raise UsageError(
            f"diffusion_steps is {T}: networks have from 1 to {_MOST_LEVELS:,} noise levels",
            hint=f"--set {word}.diffusion_steps=1000",
        )
    try:
        schedule = Schedule.of(model)
    except UsageError as error:
        raise UsageError(error.message, (error.hint or "").replace("model.", f"{word}.")) from error
    if model.predicts == "eps" and schedule.alphas_cumprod[-1] <= LEAST_ABAR:
        raise UsageError(
            "the highest level of this network is noise alone, which eps tells no picture of",
            hint=f"--set {word}.predicts=v, or {word}.zero_snr=false",
        )


def _check_heads(info: CheckpointInfo, model: ModelPreset, word: str) -> None:
    if not any("num_heads" in flag for flag in info.unknown):
        return
    try:
        hidden = HiddenFlags(model.num_heads, model.num_head_channels, model.num_heads_upsample)
    except ConfigError as error:
        raise UsageError(error.message, f"--set {word}.num_head_channels=64") from error
    if not hidden.known:
        return
    for width in _attention_widths(info):
        for decoder in (False, True):
            try:
                hidden.heads(width, decoder=decoder)
            except WeightsError as error:
                right = next(n for n in (64, 32, 16, 8, 4, 2, 1) if width % n == 0)
                raise WeightsError(
                    error.message, f"for instance --set {word}.num_head_channels={right}"
                ) from error


def _attention_widths(info: CheckpointInfo) -> list[int]:
    """Channels of the attention layers, the middle's last."""
    base, multipliers = info.facts.get("num_channels"), info.facts.get("channel_mult")
    factors = info.facts.get("attention_factors")
    if not isinstance(base, int) or not isinstance(multipliers, tuple) or not isinstance(factors, tuple):
        return []
    widths = [round(base * multiplier) for multiplier in multipliers]
    return [width for level, width in enumerate(widths) if 2**level in factors] + widths[-1:]


def check_class(label: ClassLabel, count: int | None, null_class: int | None) -> None:
    """UsageError unless a class label is given just where a network has classes, and is one of them."""
    if (wrong := class_problem(label, count, null_class)) is not None:
        raise wrong


def class_problem(
    label: ClassLabel, count: int | None, null_class: int | None = None, word: str = "model"
) -> UsageError | None:
    """The error of a class label that does not fit a network with ``count`` classes; None where it does.

    ``null_class``: the one that means none, where the network has it.
    """
    if count is None:
        return (
            None
            if label in (None, "none")
            else UsageError("this network was trained without classes", hint="leave out --class-label")
        )
    if label == "none":
        label = null_class
        if label is None:
            return UsageError(
                "no class of this network is known to mean none, as networks trained for guidance without a "
                "classifier have one",
                hint=f"--set {word}.null_class={count - 1} if its last one does; else --class-label random",
            )
    if label is None:
        imagenet = ", for instance 207 (ImageNet: golden retriever)" if count == 1000 else ""
        return UsageError(
            f"this network was trained with {count} classes and needs one of them",
            hint=f"--class-label 0 to {count - 1}{imagenet}",
        )
    if label != "random" and not 0 <= label < count:
        return UsageError(
            f"class label {label} is not among the {count} classes of this network",
            hint=f"--class-label 0 to {count - 1}",
        )
    return None


def _number(info: CheckpointInfo, name: str) -> int | None:
    value = info.facts.get(name)
    return value if isinstance(value, int) else None
