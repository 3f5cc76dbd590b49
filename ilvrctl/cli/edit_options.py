"""The options of ``ilvrctl edit`` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MAIN = "Common options"
_EDIT = "What is edited"

Mode = Annotated[
    str,
    typer.Option(
        "--mode",
        metavar="NAME",
        help="scribble: keep the photo, clean the scribbles. paint: a rough painting to a picture.",
        rich_help_panel=_MAIN,
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="FILE",
        help="A picture of the photo's size: white is edited, black is kept.",
        show_default="where the two pictures differ",
        rich_help_panel=_EDIT,
    ),
]
NoMask = Annotated[
    bool,
    typer.Option("--no-mask", help="Edit all of the picture, as in the paper.", rich_help_panel=_EDIT),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        metavar="N",
        help="Differences above this, of 255, are scribbles: higher for noisy copies, lower for faint pens.",
        show_default="20",
        rich_help_panel=_EDIT,
    ),
]
Grow = Annotated[
    str | None,
    typer.Option(
        "--grow",
        metavar="PX",
        help="Edit this far around the scribbles.",
        show_default="1 % of the longer side; 0 with --mask",
        rich_help_panel=_EDIT,
    ),
]
Feather = Annotated[
    str | None,
    typer.Option(
        "--feather",
        metavar="PX",
        help="Fade into the photo over this many pixels more.",
        show_default="1 % of the longer side",
        rich_help_panel=_EDIT,
    ),
]
ContextSize = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="PART",
        help="What the model sees around an edited part, on each side, in sizes of that part.",
        show_default="0.5",
        rich_help_panel=_EDIT,
    ),
]
WholePicture = Annotated[
    bool | None,
    typer.Option(
        "--whole",
        help="Show the model the whole picture, not a square around each edited part.",
        rich_help_panel=_EDIT,
    ),
]
PreviewFile = Annotated[
    Path | None,
    typer.Option(
        "--preview",
        metavar="FILE",
        help="Only draw mask, regions and what is kept of the picture; the model is not loaded.",
        rich_help_panel=_MAIN,
    ),
]
