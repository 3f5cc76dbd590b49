"""The parameters that every command knows: how it is shown."""

from __future__ import annotations

from ilvrctl.plans.parameter import OUTPUT, Parameter
from ilvrctl.plans.values import count, switch

SCREEN: tuple[Parameter, ...] = (
    Parameter("json", "JSON lines on stdout.", switch, panel=OUTPUT, default=False),
    Parameter(
        "quiet", "Only failures and warnings.", switch, panel=OUTPUT, flags=("--quiet", "-q"), default=False
    ),
    Parameter("verbose", "More; -vv: tracebacks.", count, panel=OUTPUT, flags=("--verbose", "-v"), default=0),
    Parameter(
        "color",
        "auto, always or never.",
        panel=OUTPUT,
        metavar="WHEN",
        default="auto",
        choices=("auto", "always", "never"),
    ),
)
"""What every command knows: how it is shown."""
