"""Rows of the table of parameters: whose settings to begin from, the papers' or those of their code."""

from __future__ import annotations

from ilvrctl.plans import offers
from ilvrctl.plans.parameter import METHOD, Command, Parameter
from ilvrctl.plans.values import switch

OF_PAPERS: tuple[Parameter, ...] = (
    Parameter(
        "as_published",
        "Begin from the papers' settings, where the target has measured ones: 100 steps.",
        switch,
        panel=METHOD,
        default=False,
        rival=("from_image", "the settings"),
    ),
    Parameter(
        "compat",
        "Follow published code where it differs from the paper: ilvr_adm, sddm, egsde.",
        key="compat",
        commands=frozenset[Command]({"translate", "jobs"}),
        panel=METHOD,
        choices=offers.published,
    ),
)
