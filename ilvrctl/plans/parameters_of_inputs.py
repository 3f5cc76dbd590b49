"""Rows of the table of parameters: which pictures are inputs."""

from __future__ import annotations

from ilvrctl.plans.parameter import Command, Parameter
from ilvrctl.plans.values import one_of, switch

JOINED = ("gif", "webp", "png", "tiff")
"""Formats that hold several results: animations, and pages."""
_JOBS = frozenset[Command]({"translate", "jobs"})

ROWS = (
    Parameter(
        "recursive",
        "Pictures of subfolders too.",
        switch,
        commands=_JOBS,
        panel="Pictures",
        flags=("--recursive", "-r"),
        default=False,
    ),
    Parameter(
        "frames",
        "Of animations and files of many pages: first, or all, each with a numbered result.",
        one_of("first", "all"),
        commands=_JOBS,
        panel="Pictures",
        metavar="first|all",
        default="first",
    ),
    Parameter(
        "join",
        "With --frames all: the results of a file also in one, as an animation with its times (gif, webp, png) or "
        "as pages (tiff).",
        one_of(*JOINED),
        commands=_JOBS,
        panel="Pictures",
        metavar="|".join(JOINED),
    ),
    Parameter(
        "from_file",
        "Input names from a file, - for standard input.",
        commands=_JOBS,
        panel="Pictures",
        in_shells=True,
    ),
    Parameter(
        "null",
        "Names in --from-file end with a zero byte.",
        switch,
        commands=_JOBS,
        panel="Pictures",
        flags=("-0", "--null"),
        default=False,
        in_shells=True,
    ),
)
