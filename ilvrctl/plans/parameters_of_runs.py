"""Rows of the table of parameters (:mod:`ilvrctl.plans.parameters`): whether and how what is planned is carried out."""

from __future__ import annotations

from ilvrctl.plans.parameter import OUTPUT, RUNS, Parameter
from ilvrctl.plans.values import switch

OF_RUNS: tuple[Parameter, ...] = (
    Parameter(
        "dry_run",
        "Tell what would be done.",
        switch,
        commands=RUNS | {"train"},
        panel=OUTPUT,
        default=False,
    ),
    Parameter(
        "estimate",
        "With --dry-run: load the model and time some steps.",
        switch,
        commands=RUNS,
        panel=OUTPUT,
        default=False,
    ),
)
