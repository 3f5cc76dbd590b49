"""Saving what is known of a checkpoint as presets: a model, and a target so that ``--to NAME`` works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ilvrctl import paths
from ilvrctl.cli.known import FACTS, GUESS, Known
from ilvrctl.diffusion.lowpass import usual_factor
from ilvrctl.errors import UsageError
from ilvrctl.files import write_text
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.presets import LATER_FACTS, Kind, find_model, find_target, load_models, load_targets

if TYPE_CHECKING:
    from ilvrctl.models.files.contents import CheckpointInfo

KINDS: tuple[Kind, ...] = ("models", "targets")


def check_name(name: str, *, overwrite: bool) -> None:
    """UsageError for a name that no preset can have, that ships with ilvrctl, or that is taken."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UsageError(f"{name!r} cannot be the name of a preset: letters, digits, - _ and . only")
    mine = [path for path in _files(name) if path.exists()]
    shipped = {*load_models(), *load_targets()} | {a for t in load_targets().values() for a in t.aliases}
    if name in shipped and not mine:
        raise UsageError(f"{name!r} is a preset that ships with ilvrctl", hint="choose another name")
    if mine and not overwrite:
        raise UsageError(f"{mine[0]} is there already", hint="--overwrite, or choose another name")


def preset_facts(file: Path, info: CheckpointInfo, known: Known) -> dict[str, Any]:
    """The model preset of ``file`` (or folder): what is known, under the names of a preset."""
    from ilvrctl.models.files.diffusers_folder import network_files
    from ilvrctl.models.files.formats import GUIDED_DIFFUSION

    name = file.resolve().name
    facts: dict[str, Any] = {"title": f"from {name}", "file": _place(file), "use": "unstated"}
    if file.is_dir():
        facts["files"] = [part.relative_to(file).as_posix() for part in network_files(file)]
    if info.format != GUIDED_DIFFUSION:
        facts["format"] = info.format
    values = {name: getattr(known.model, name) for name in (*FACTS, *LATER_FACTS) if name in known.origins}
    values.pop("variance", None) if info.facts.get("learn_sigma") else None
    return facts | {name: value for name, value in values.items() if value is not None}


def preset_text(file: Path, info: CheckpointInfo, known: Known) -> str:
    """The same as YAML, with a remark at every guess."""
    lines = yaml.safe_dump(preset_facts(file, info, known), sort_keys=False, allow_unicode=True).splitlines()
    guesses = {name for name, origin in known.origins.items() if origin == GUESS}
    marked = [line + "  # a guess" if line.partition(":")[0] in guesses else line for line in lines]
    return "\n".join(marked) + "\n"


def save_presets(name: str, file: Path, info: CheckpointInfo, known: Known) -> list[Path]:
    """Write both presets to the configuration folder and read them back; the paths.

    UsageError where something is not known that a network cannot be used without.
    """
    from ilvrctl.models.files.formats import CLASSIFIER

    if not info.readable or info.format == CLASSIFIER:
        raise UsageError(f"{file.name} is no network to translate with, so that a preset would not help")
    model, missing = known.model, []
    if "use_new_attention_order" in info.unknown and not (model.num_heads or model.num_head_channels):
        missing.append("the number of attention heads")
    if model.image_size is None:
        missing.append("the picture size")
    if missing:
        raise UsageError(
            f"no preset without {' and '.join(missing)}: not known of {file.name}",
            hint=f"ilvrctl inspect {file} --probe, or --set model.num_head_channels=64 --set model.image_size=256",
        )
    model_text = preset_text(file, info, known)
    if file.is_file():
        model_text += f"sha256: {weights_sha256(file)}\n"
    method = f"  method: {{name: ilvr, N: {usual_factor(model.image_size or 1)}, range: [1.0, 0.2]}}"
    target = yaml.safe_dump(
        {"title": f"from {file.resolve().name}", "model": name}, sort_keys=False, allow_unicode=True
    )
    texts = (model_text, f"{target}settings:\n  steps: 100\n{method}\n")
    files = _files(name)
    for path, text in zip(files, texts, strict=True):
        write_text(path, text)
    find_model(name)
    find_target(name)
    return files


def _files(name: str) -> list[Path]:
    return [paths.config_dir() / kind / f"{name}.yaml" for kind in KINDS]


def _place(file: Path) -> str:
    """The name in the weights folder for a file there, otherwise its absolute path."""
    whole, folder = file.resolve(), paths.weights_dir().resolve()
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else str(whole)
