"""``ilvrctl inspect FILE``: what a checkpoint is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ilvrctl.cli.options import Json
from ilvrctl.cli.output import command, data, data_json


@command
def inspect(
    file: Annotated[
        Path, typer.Argument(help="A checkpoint: a .pt, .ckpt or .safetensors file, or a diffusers folder.")
    ],
    as_json: Json = False,
) -> None:
    """Tell what a checkpoint holds: format, architecture, size, and what its tensors do not tell."""
    facts = _facts(file)
    if as_json:
        data_json(facts)
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        text = ", ".join(f"{part}" for part in value) if isinstance(value, (list, tuple)) else f"{value}"
        data(f"{key.replace('_', ' '):<{width}}  {text or '-'}")


def _facts(file: Path) -> dict[str, Any]:
    from ilvrctl.models.loading import inspect_file

    info = inspect_file(file)
    return {
        "file": file.resolve().name,
        "format": info.format,
        "container": info.container,
        "inside": list(info.wrapping),
        "parameters": info.parameters,
        "tensor_bytes": info.tensor_bytes,
        "precision": list(info.dtypes),
        "usable": info.readable,
        **info.facts,
        "not_in_the_file": list(info.unknown),
    }
