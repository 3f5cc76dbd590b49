"""Numbers in words, the same on the terminal and on the page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ilvrctl.evaluation.catalogue import Metric
    from ilvrctl.metrics.intervals import Estimate

ARROWS = {"low": " ↓", "high": " ↑", None: ""}
"""Which direction is better."""


def number(estimate: Estimate | None, metric: Metric) -> str:
    """``18.70 ± 0.61``, half of the 95 % interval after the sign; ``-`` where there is none."""
    if estimate is None:
        return "-"
    value = estimate.value * metric.scale
    text = f"{value:.{metric.digits}f}"
    text = text.removeprefix("-") if not float(text) else text
    if estimate.low is None or estimate.high is None or not math.isfinite(value):
        return text
    return f"{text} ± {(estimate.high - estimate.low) / 2 * metric.scale:.{metric.digits}f}"
