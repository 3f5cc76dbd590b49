"""Rows of the table of parameters: noise that is kept, and started from."""

from __future__ import annotations

from ilvrctl.plans.parameter import OUTPUT, PICTURES, Command, Parameter
from ilvrctl.plans.values import file, switch

_JOBS = frozenset[Command]({"translate", "jobs"})

NOISE: tuple[Parameter, ...] = (
    Parameter(
        "from_noise",
        "Start from noise that --save-noise kept, a folder or a file: the pictures are in it.",
        file,
        commands=_JOBS,
        panel=PICTURES,
        rival=("from_file", "what the inputs are"),
    ),
    Parameter(
        "save_noise",
        "Keep the noise that ddib and cyclediffusion find, in NAME.noise.safetensors beside the result.",
        switch,
        commands=_JOBS,
        panel=OUTPUT,
        default=False,
    ),
)
