"""``ilvrctl convert IN OUT``: a checkpoint written anew, with all that is known of it inside."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ilvrctl.cli import options as opt
from ilvrctl.cli.output import command, data_json, data_path, say, use_color
from ilvrctl.config import Layer, merge, parse_assignment
from ilvrctl.errors import UsageError
from ilvrctl.events import Note, Warned

EPILOG = """Examples:

  ilvrctl convert ema_0.9999.pt cats.safetensors --set model.num_head_channels=64

  ilvrctl convert cats.safetensors cats --to diffusers
"""


@command
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="A checkpoint: a .pt, .ckpt or .safetensors file, or a diffusers folder."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file or folder to write.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="KIND",
            help="safetensors: one file, in guided-diffusion's layout where that can hold the network, else in its "
            "own; diffusers: a folder for DDPMPipeline.",
        ),
    ] = "safetensors",
    set_: opt.Set = None,
    half: Annotated[bool, typer.Option("--half", help="Store fp16: half the size.")] = False,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    color: opt.Color = "auto",
) -> None:
    """Write a checkpoint anew, with its facts inside: as one safetensors file or a diffusers folder."""
    from ilvrctl.models.files.contents import contents_of
    from ilvrctl.plans.conversion import convert_asked
    from ilvrctl.plans.find_networks import NetworksAsked

    styled = use_color(color)

    def tell(note: Note) -> None:
        if isinstance(note, Warned) or not quiet:
            say(note.message, label="warning" if isinstance(note, Warned) else None, color=styled)

    asked = NetworksAsked(weights=source, facts=_facts_given(set_))
    path = convert_asked(asked, out, tell, to, half, overwrite)
    use = f"ilvrctl translate PICTURE --weights {shlex.quote(str(path))}"
    if as_json:
        info = contents_of(path, numbers=False)
        data_json({"path": str(path), "format": info.format, "tensor_bytes": info.tensor_bytes, "use": use})
        return
    data_path(path)
    if not quiet:
        say(use)


def _facts_given(set_: list[str] | None) -> Layer:
    """What ``--set model.KEY=VALUE`` gives. UsageError for other settings."""
    given = merge(*(parse_assignment(text) for text in set_ or ()))
    if set(given.values) - {"model"} or not isinstance(given.values.get("model", {}), Mapping):
        raise UsageError("only facts of the network can be set here", hint="--set model.image_size=256")
    return given
