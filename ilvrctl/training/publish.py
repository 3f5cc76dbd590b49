"""A trained model where the other commands find it: weights, and presets that name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl import paths
from ilvrctl.files import make_folder
from ilvrctl.new_presets import check_new_name, write_preset
from ilvrctl.training.disk import same_file

if TYPE_CHECKING:
    from torch import Tensor


def check_name(name: str, *, overwrite: bool) -> None:
    """UsageError unless a new model may be called ``name``; ``overwrite`` allows one of the user's own."""
    files = (paths.weights_dir() / f"{name}{suffix}" for suffix in (".safetensors", ".pt"))
    check_new_name(name, overwrite=overwrite, also=files)


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
    files.append(write_preset("models", name, {**model, "file": files[0].name}))
    if target is not None:
        files.append(write_preset("targets", name, {**target, "model": name}))
    return tuple(files)
