"""Of the one table of parameters: how inputs become what the network gets, and what comes out."""

from __future__ import annotations

from ilvrctl.choices import FITTINGS
from ilvrctl.plans.parameter import SAVING, Command, Parameter
from ilvrctl.plans.values import bits, one_of, picture_size

PICTURES = "Pictures"
JOBS = frozenset[Command]({"translate", "jobs"})

ROWS_OF_PICTURES: tuple[Parameter, ...] = (
    Parameter(
        "fit",
        "Give inputs the model's shape: crop, pad or stretch; or native: keep their size. grey, or pad+grey: take "
        "the luma of coloured ones for a network of grey pictures.",
        one_of(*FITTINGS),
        "fit",
        commands=JOBS,
        panel=PICTURES,
    ),
    Parameter(
        "size",
        "Size of the pictures, width first: 384x256 is 384 wide and 256 high, 384 is a square.",
        picture_size,
        "picture_size",
        panel=PICTURES,
        shown="that of the training",
    ),
    Parameter(
        "bits", "Of grey results: 16 in PNG and TIFF.", bits, "bits", commands=JOBS, panel=PICTURES, shown="8"
    ),
    Parameter(
        "background", "Behind transparency and padding.", key="background", panel=PICTURES, metavar="COLOR"
    ),
    Parameter(
        "window",
        "Numbers that are black and white in inputs of more than 8 bits: LO:HI, or auto.",
        key="window",
        commands=SAVING,
        panel=PICTURES,
        metavar="LO:HI|auto",
    ),
)
"""In the order of the table."""
