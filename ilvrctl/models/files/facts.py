"""The facts of a network, each with where it is known from, and what nobody knows. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.diffusion.schedule import NOISE_SCHEDULES, Schedule
from ilvrctl.errors import UsageError, WeightsError
from ilvrctl.models.files.averaged import AVERAGED
from ilvrctl.models.files.diffusers_folder import folder_note, stated_facts, weights_file
from ilvrctl.presets import ModelPreset

if TYPE_CHECKING:
    from ilvrctl.models.files.contents import CheckpointInfo

FILE, ASSUMED, UNKNOWN = "the file", "assumed: nobody knows", "unknown"
_HEADS = ("num_heads", "num_head_channels")
_USED = (
    "image_size", *_HEADS, "use_new_attention_order", "noise_schedule", "diffusion_steps", "predicts", "variance",
)  # fmt: skip
_ASSUMED = ("use_new_attention_order", "noise_schedule", "diffusion_steps", "predicts")
"""Taken as most published networks have them where nobody knows, and said."""


@dataclass(frozen=True)
class Fact:
    """A fact: ``source`` is "the file", "preset NAME", "--set", "the probe", "a guess", or that it is not known."""

    name: str
    value: Any
    source: str


@dataclass(frozen=True)
class NetworkFacts:
    """All that is known of a network, and what is not: ``facts`` in the order in which people look for them."""

    facts: tuple[Fact, ...]

    def __getitem__(self, name: str) -> Fact:
        return next(fact for fact in self.facts if fact.name == name)

    @property
    def missing(self) -> tuple[str, ...]:
        """What a run needs and nobody knows; heads under one name."""
        return tuple(fact.name for fact in self.facts if fact.source == UNKNOWN)

    def note(self, word: str = "model") -> str | None:
        """What a run takes for granted; None where all is known."""
        taken = [fact for fact in self.facts if fact.source == ASSUMED]
        if not taken:
            return None
        values = ", ".join(f"{fact.name} {fact.value}" for fact in taken)
        return (
            f"nobody knows, so taken as most networks have it: {values} "
            f"(--set {word}.{taken[0].name}=... corrects it)"
        )


def facts_of(info: CheckpointInfo, model: ModelPreset, origins: Mapping[str, str]) -> NetworkFacts:
    """The facts of the checkpoint ``info``, with the ``model`` as flags, presets, probe and file together have it.

    ``origins``: where each fact of the model that is known comes from. What the tensors tell is from the file.
    """
    rows = [Fact("weights", info.weights, FILE)]
    rows += [Fact(name, value, FILE) for name, value in info.facts.items() if name not in _USED]
    if not info.denoises:
        return NetworkFacts(tuple(rows))
    asked = {part for flag in info.unknown for part in flag.split(" or ")}
    for name in _USED:
        if name == "variance" and info.facts.get("learn_sigma"):
            rows.append(Fact(name, "learned", FILE))
        elif name in origins:
            rows.append(Fact(name, getattr(model, name), origins[name]))
        elif name in info.facts:
            rows.append(Fact(name, info.facts[name], FILE))
        elif name == "image_size" or (name == "num_heads" and name in asked):
            rows += [] if _given(name, model, origins) else [Fact(name, None, UNKNOWN)]
        elif name in _ASSUMED and (name in asked or name not in ("use_new_attention_order",)):
            rows.append(Fact(name, getattr(model, name), ASSUMED))
    return NetworkFacts(tuple(row for row in rows if row.value is not None or row.source == UNKNOWN))


def _given(name: str, model: ModelPreset, origins: Mapping[str, str]) -> bool:
    return name == "num_heads" and "num_head_channels" in origins and model.num_head_channels is not None


def missing_facts(info: CheckpointInfo, model: ModelPreset) -> tuple[str, ...]:
    """What a run with this ``model`` needs and it does not say: "image_size", "num_heads"."""
    told = any(heads not in (None, -1) for heads in (model.num_heads, model.num_head_channels))
    heads = not told and any("num_heads" in flag for flag in info.unknown)
    size = model.image_size is None and "image_size" not in info.facts
    return (*(["image_size"] if size else []), *(["num_heads"] if heads else []))


def missing_error(path: Path, missing: tuple[str, ...], word: str = "model") -> UsageError | WeightsError:
    """One error for all that is missing, and one command that finds or sets it."""
    texts = {"image_size": "its picture size", "num_heads": "how many attention heads it has"}
    examples = {"image_size": f"{word}.image_size=256", "num_heads": f"{word}.num_head_channels=64"}
    what = " nor ".join(texts[name] for name in missing)
    flags = " ".join(f"--set {examples[name]}" for name in missing)
    more = f" (with {word}.use_new_attention_order=true if it applies)" if "num_heads" in missing else ""
    kind = WeightsError if "num_heads" in missing else UsageError
    return kind(
        f"{path.name} does not tell {what}",
        f"`ilvrctl inspect FILE --probe` finds out; or say it: {flags}{more}",
    )


def file_facts(path: Path, which: str = AVERAGED) -> dict[str, Any]:
    """The facts of a model preset that a checkpoint states beside its tensors, in JSON files or by its betas.

    WeightsError for a schedule or a prediction that cannot be followed.
    """
    stated = stated_facts(path, which)
    return stated if stated else _beside(weights_file(path, which), which)


def _beside(file: Path, which: str) -> dict[str, Any]:
    """The schedule whose ``betas`` a training registered beside the network."""
    from ilvrctl.models.files.header import values
    from ilvrctl.models.files.state_dict import find_network

    header, chosen = find_network(file, which)
    betas = chosen.taken.beside.get("betas")
    numbers = values(header, betas) if betas is not None and len(betas.shape) == 1 else ()
    if not numbers:
        return {}
    abar, product = [], 1.0
    for beta in numbers:
        abar.append(product := product * (1 - beta))
    for name in NOISE_SCHEDULES:
        try:
            known = Schedule.named(name, len(numbers)).alphas_cumprod
        except (UsageError, ValueError, ZeroDivisionError):
            continue
        if max(abs(a - b) for a, b in zip(abar, known, strict=True)) < 1e-4:
            return {"noise_schedule": name, "diffusion_steps": len(numbers)}
    raise WeightsError(
        f"{file}: the {len(numbers)} betas in it are of no schedule that is known here",
        f"known: {', '.join(NOISE_SCHEDULES)}",
    )


def weights_note(path: Path, which: str = AVERAGED) -> str | None:
    """Which of several networks in a file or folder is taken, for people; None where there is no choice.

    What is wrong with the file is told when it is used.
    """
    from ilvrctl.models.files.state_dict import find_network

    try:
        return folder_note(path, which) or find_network(weights_file(path, which), which)[1].note
    except (WeightsError, UsageError):
        return None


def named_in_vain(weights: Path, model: ModelPreset) -> str | None:
    """A warning where ``weights`` has the file name of the published ``model`` and is another network, or None."""
    from ilvrctl.models.files.contents import contents_of

    try:
        why = not_as_named(contents_of(weights, numbers=False), model)
    except (WeightsError, UsageError):
        return None  # what is wrong with it is told when it is used
    name = model.name
    return (
        f"{weights.name} has the name of {name}, but {why}: the facts of {name} are not used" if why else None
    )


def not_as_named(info: CheckpointInfo, model: ModelPreset) -> str | None:
    """Why a file cannot be the published one whose name it has; None where nothing contradicts that.

    ``model``: the preset of the published file. Its tensors must have the format and the number of bytes that were
    published, in this or in another precision.
    """
    if model.format != info.format:
        return f"it is of the kind {info.format}, not {model.format}"
    about = model.size or model.size_about
    ratios = (0.5, 1.0, 2.0)
    if about is not None and not any(abs(info.tensor_bytes / about - ratio) < 0.02 for ratio in ratios):
        return f"it has {info.tensor_bytes / 1e6:.1f} MB of weights, not {about / 1e6:.1f}"
    factor = info.facts.get("downsample_factor")
    if isinstance(factor, int) and model.image_size and model.image_size % factor:
        return f"it cannot make pictures of {model.image_size} px"
    return None
