"""``ilvrctl inspect FILE``: what a checkpoint is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ilvrctl.cli.options import Json
from ilvrctl.cli.output import command, data, data_json


@command
def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint: .pt, .pth, .ckpt or .safetensors.")],
    as_json: Json = False,
) -> None:
    """Tell what a checkpoint holds: format, architecture, size, and what its tensors do not tell."""
    from ilvrctl.models.loading import inspect_file

    facts = inspect_file(file).facts()
    if as_json:
        data_json(facts)
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        text = ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
        data(f"{key.replace('_', ' '):<{width}}  {text}")
