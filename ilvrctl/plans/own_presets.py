"""Saving what is known of a checkpoint as presets: a model, and a target so that ``--to NAME`` works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl import paths
from ilvrctl.diffusion.lowpass import usual_factor
from ilvrctl.errors import UsageError
from ilvrctl.new_presets import write_preset
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.plans.facts import FACTS, GUESS, FactsFound
from ilvrctl.presets import LATER_FACTS, find_model, find_target
from ilvrctl.yaml_core import dump_yaml

if TYPE_CHECKING:
    from ilvrctl.models.files.info import CheckpointInfo


def preset_facts(file: Path, info: CheckpointInfo, known: FactsFound) -> dict[str, Any]:
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


def preset_text(file: Path, info: CheckpointInfo, known: FactsFound) -> str:
    """The same as YAML, with a remark at every guess."""
    return dump_yaml(preset_facts(file, info, known), _remarks(known))


def _remarks(known: FactsFound) -> dict[str, str]:
    return {name: GUESS for name, origin in known.origins.items() if origin == GUESS}


def save_presets(name: str, file: Path, info: CheckpointInfo, known: FactsFound) -> list[Path]:
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
    facts = preset_facts(file, info, known)
    if file.is_file():
        facts["sha256"] = weights_sha256(file)
    method = {"name": "ilvr", "N": usual_factor(model.image_size or 1), "range": [1.0, 0.2]}
    settings = {"steps": 100, "method": method}
    target = {"title": f"from {file.resolve().name}", "model": name, "settings": settings}
    files = [write_preset("models", name, facts, _remarks(known)), write_preset("targets", name, target)]
    find_model(name)
    find_target(name)
    return files


def _place(file: Path) -> str:
    """The name in the weights folder for a file there, otherwise its absolute path."""
    whole, folder = file.resolve(), paths.weights_dir().resolve()
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else str(whole)
