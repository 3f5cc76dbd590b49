"""A trained model where the other commands find it: weights, and presets that name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ilvrctl import paths
from ilvrctl.errors import UsageError
from ilvrctl.files import make_folder, write_text
from ilvrctl.presets import load_models, load_targets, preset_files
from ilvrctl.training.disk import same_file

if TYPE_CHECKING:
    from torch import Tensor


def check_name(name: str, *, overwrite: bool) -> None:
    """UsageError unless a new model may be called ``name``; ``overwrite`` allows one of the user's own."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UsageError(f"--name {name!r} cannot be a name", "letters, digits, - and _ only")
    taken = _taken(name)
    if taken is None or (overwrite and not taken.startswith("ships")):
        return
    more = "" if taken.startswith("ships") else ", or --overwrite"
    raise UsageError(f"the name {name!r} is taken: it {taken}", f"choose another --name{more}")


def _taken(name: str) -> str | None:
    """What has this name already, completing "it ..."; None when nothing has."""
    shipped = {
        path.stem for kind in ("models", "targets") for path in (paths.presets_dir() / kind).glob("*.yaml")
    }
    aliases = [*(p.aliases for p in load_models().values()), *(p.aliases for p in load_targets().values())]
    names = {alias for group in aliases for alias in group}
    if name in shipped or (name in names and name not in preset_files("models")):
        return "ships with ilvrctl"
    places = [paths.config_dir() / kind / f"{name}.yaml" for kind in ("models", "targets")]
    places += [paths.weights_dir() / f"{name}{suffix}" for suffix in (".safetensors", ".pt")]
    return next((f"is that of {place}" for place in places if place.exists()), None)


def publish(
    name: str,
    file: Path,
    tensors: Mapping[str, Tensor],
    model: Mapping[str, Any],
    target: Mapping[str, Any] | None = None,
) -> tuple[Path, ...]:
    """Give ``NAME.safetensors``, which is ``file``, and ``NAME.pt``, the same ``tensors``, to the other commands.

    ``model`` and perhaps ``target`` are the keys of their presets. Weights come first, so that no preset ever names
    a file that is not there. OutputError when the disk is full.
    """
    from ilvrctl.models.files.saving import save_pt

    weights = make_folder(paths.weights_dir())
    files = [same_file(file, weights / f"{name}.safetensors"), weights / f"{name}.pt"]
    save_pt(files[1], tensors)
    files.append(_preset("models", name, {**model, "file": files[0].name}))
    if target is not None:
        files.append(_preset("targets", name, {**target, "model": name}))
    return tuple(files)


def _preset(kind: str, name: str, values: Mapping[str, Any]) -> Path:
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    return write_text(paths.config_dir() / kind / f"{name}.yaml", text)
