"""The table of metrics: what each is called, how it is computed, which direction is better; numbers in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ilvrctl.diffusion.lowpass import LowPass
from ilvrctl.images.tensors import in_colours

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.metrics.intervals import Estimate

Side = Literal["source", "truth"]
OfPair = Callable[["Tensor", "Tensor"], "Tensor"]
"""Results and their partners, each (B, 3, H, W) in [0, 1], to one number a pair, (B,)."""


@dataclass(frozen=True)
class Metric:
    """``key`` in JSON and CSV, ``title`` for people. ``better``: the direction, None where neither is.

    ``scale``: what tables multiply it by; ``digits`` after the point there. ``of``: how it is computed where every
    pair has a number of its own, from ``least`` px a side up, with sides that are multiples of ``grid``;
    ``of_set``: how, where it is a number of the whole set, None of a set too small for it.
    """

    key: str
    title: str
    definition: str
    better: Literal["low", "high"] | None = "low"
    scale: float = 1.0
    digits: int = 2
    of: OfPair | None = None
    of_set: Callable[[Any], Estimate | None] | None = None
    least: int = 1
    grid: int = 1

    def measure(self, a: Tensor, b: Tensor) -> float | None:
        """Of one pair (1, 3, H, W); None where it is not defined for pictures of this size."""
        sides = a.shape[-2:]
        if self.of is None or min(sides) < self.least or any(side % self.grid for side in sides):
            return None
        return float(self.of(a, b))


def pixel_metrics(side: Side, N: int | None, *, egsde: bool, lpips: OfPair | None) -> list[Metric]:
    """The metrics of pairs with ``side``; ``N`` of phi, left out where it is None."""
    from ilvrctl.metrics import pixel

    to = f"to {side}"
    at = ", pictures on [0, 1] at 256 px" if egsde else ", pictures on [0, 1]"
    floor, added = (1e-10, " + 1e-10") if egsde else (0.0, "")

    def metric(name: str, title: str, of: OfPair, definition: str, **more: Any) -> Metric:
        return Metric(f"{name}_{side}", f"{title} {to}", definition, of=of, **more)

    psnr, high = partial(pixel.psnr, floor=floor), {"better": "high", "digits": 3}
    found = [
        metric("l2", "L2", pixel.l2, f"Euclidean norm of the difference{at}"),
        metric("mse", "MSE", pixel.mse, f"mean squared difference{at}", digits=4),
        metric("psnr", "PSNR", psnr, f"-10 log10 (MSE{added}) in dB, per picture", better="high"),
        metric(
            "ssim",
            "SSIM",
            pixel.ssim,
            "Gaussian window 11, sigma 1.5, per RGB channel",
            least=pixel.WINDOW,
            **high,
        ),
    ]
    if not egsde:
        scales = f"five scales, from {pixel.MS_SSIM_SIDE} px a side on"
        found.append(metric("ms_ssim", "MS-SSIM", pixel.ms_ssim, scales, least=pixel.MS_SSIM_SIDE, **high))
    if N is not None and side == "source" and not egsde:
        phi = partial(pixel.low_pass_distance, phi=LowPass(N))
        what = f"mean |phi_{N}(out) - phi_{N}(source)| in 1/255"
        found.append(Metric(f"phi_{N}", f"phi_{N} {to}", what, of=phi, grid=N))
    if lpips is not None:

        def of_colours(a: Tensor, b: Tensor) -> Tensor:
            return lpips(in_colours(a), in_colours(b))

        found.append(metric("lpips", "LPIPS", of_colours, "LPIPS 0.1, AlexNet", digits=3))
    return found


DIVERSITY = Metric(
    "diversity",
    "diversity",
    "mean L2 between the samples of one input, on [0, 1]",
    better=None,
)


ARROWS = {"low": " ↓", "high": " ↑", None: ""}
"""Which direction is better."""


def plain(value: float | None) -> float | str | None:
    """A number as JSON has it; "inf" or "-inf" where it has none."""
    if value is None or math.isfinite(value):
        return value
    return "inf" if value > 0 else "-inf"


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
