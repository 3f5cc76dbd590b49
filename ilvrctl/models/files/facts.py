"""The facts of a network, each with where it is known from, and what nobody knows. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.diffusion.schedule import NOISE_SCHEDULES, recognise
from ilvrctl.errors import UsageError, WeightsError
from ilvrctl.models.files.averaged import AVERAGED
from ilvrctl.models.files.diffusers_folder import folder_note, stated_facts, weights_file
from ilvrctl.models.files.stated import UNKNOWN, checked
from ilvrctl.presets import ModelPreset

if TYPE_CHECKING:
    from ilvrctl.models.files.info import CheckpointInfo

FILE, ASSUMED = "the file", "assumed: nobody knows"
_HEADS = ("num_heads", "num_head_channels")
_USED = (
    "image_size", *_HEADS, "use_new_attention_order", "noise_schedule", "diffusion_steps",
    "beta_start", "beta_end", "predicts", "variance", "theta",
)  # fmt: skip
_ASSUMED = ("use_new_attention_order", "noise_schedule", "diffusion_steps", "predicts", "theta")
_OF_SOME = ("use_new_attention_order", "theta")
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
        elif getattr(model, name) == UNKNOWN:
            rows.append(Fact(name, None, UNKNOWN))
        elif name in origins:
            rows.append(Fact(name, getattr(model, name), origins[name]))
        elif name in info.facts:
            rows.append(Fact(name, info.facts[name], FILE))
        elif name == "image_size" or (name == "num_heads" and name in asked):
            rows += [] if _given(name, model, origins) else [Fact(name, None, UNKNOWN)]
        elif name in _ASSUMED and (name in asked or name not in _OF_SOME):
            rows.append(Fact(name, getattr(model, name), ASSUMED))
    return NetworkFacts(tuple(row for row in rows if row.value is not None or row.source == UNKNOWN))


def _given(name: str, model: ModelPreset, origins: Mapping[str, str]) -> bool:
    return name == "num_heads" and "num_head_channels" in origins and model.num_head_channels is not None


def missing_facts(info: CheckpointInfo, model: ModelPreset) -> tuple[str, ...]:
    """What a run with this ``model`` needs and it does not say: its size, heads, schedule, or what it predicts."""
    told = any(heads not in (None, -1) for heads in (model.num_heads, model.num_head_channels))
    heads = not told and any("num_heads" in flag for flag in info.unknown)
    size = model.image_size is None and "image_size" not in info.facts
    return (*(["image_size"] if size else []), *(["num_heads"] if heads else []), *left_unknown(model))


def left_unknown(model: ModelPreset) -> tuple[str, ...]:
    """What files of its format do not always tell, and nobody has said of this one."""
    return tuple(name for name in ("noise_schedule", "predicts") if getattr(model, name) == UNKNOWN)


def missing_error(path: Path, missing: tuple[str, ...], word: str = "model") -> UsageError | WeightsError:
    """One error for all that is missing, and one command that finds or sets it."""
    texts = {
        "image_size": "its picture size",
        "num_heads": "how many attention heads it has",
        "noise_schedule": f"its noise schedule ({', '.join(NOISE_SCHEDULES)})",
        "predicts": "what it predicts (eps, x0 or v)",
    }
    examples = {"image_size": "image_size=256", "num_heads": "num_head_channels=64"}
    examples |= {"noise_schedule": "noise_schedule=linear", "predicts": "predicts=eps"}
    what = " nor ".join(texts[name] for name in missing)
    flags = " ".join(f"--set {word}.{examples[name]}" for name in missing)
    more = f" (with {word}.use_new_attention_order=true if it applies)" if "num_heads" in missing else ""
    kind = WeightsError if "num_heads" in missing else UsageError
    return kind(
        f"{path.name} does not tell {what}",
        f"`ilvrctl inspect FILE --probe` finds out; or say it: {flags}{more}",
    )


def file_facts(path: Path, which: str = AVERAGED) -> dict[str, Any]:
    """The facts of a model preset that a checkpoint states beside its tensors, in JSON files or in itself.

    WeightsError for a schedule or a prediction that cannot be followed.
    """
    from ilvrctl.models.files.readers.base import File
    from ilvrctl.models.files.state_dict import find_network

    if stated := stated_facts(path, which):
        return stated
    header, chosen = find_network(weights_file(path, which), which)
    taken = chosen.taken
    file = File(path, taken.tensors, taken.beside, header, which)
    if taken.row is not None and taken.row.states:
        return {"format": taken.row.name, **taken.row.reader.stated(file)}
    betas = file.numbers("betas")
    return checked(path, recognise(checked(path, {"betas": betas})["betas"])) if betas else {}


def with_stated(model: ModelPreset, stated: Mapping[str, Any]) -> ModelPreset:
    """The ``model`` with what its file states of itself.

    What a file of its format leaves unknown is as the preset has it, if that was written for the format.
    """
    known = model.format == stated.get("format")
    return replace(model, **{key: value for key, value in stated.items() if not (known and value == UNKNOWN)})


def weights_note(path: Path, which: str = AVERAGED) -> str | None:
    """Which of several networks in a file or folder is taken; None where there is no choice, or no file.

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
    if isinstance(factor, int) and model.picture_size and not model.picture_size.fits(factor):
        return f"it cannot make pictures of {model.image_size} px"
    return None
