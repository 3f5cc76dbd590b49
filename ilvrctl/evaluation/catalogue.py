"""The table of metrics: what each is called, which direction is better, and how it is defined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """``key`` in JSON and CSV, ``title`` for people. ``better``: the direction, None where neither is.

    ``scale``: what tables multiply it by; ``digits`` after the point there. ``of_pictures``: whether every picture
    has a number of its own.
    """

    key: str
    title: str
    definition: str
    better: Literal["low", "high"] | None = "low"
    scale: float = 1.0
    digits: int = 2
    of_pictures: bool = True


_SIDES = {"source": "the input", "truth": "the truth"}


def pixel_metrics(
    side: Literal["source", "truth"], N: int | None, *, egsde: bool, lpips: bool
) -> list[Metric]:
    """The metrics of pairs with ``side``; ``N`` of phi, left out where it is None."""
    to = f"to {side}"
    at = ", pictures on [0, 1] at 256 px" if egsde else ", pictures on [0, 1]"
    floor = " + 1e-10" if egsde else ""
    found = [
        Metric(f"l2_{side}", f"L2 {to}", f"Euclidean norm of the difference{at}"),
        Metric(f"mse_{side}", f"MSE {to}", f"mean squared difference{at}", digits=4),
        Metric(f"psnr_{side}", f"PSNR {to}", f"-10 log10 (MSE{floor}) in dB, per picture", better="high"),
        Metric(
            f"ssim_{side}", f"SSIM {to}", "Gaussian window 11, sigma 1.5, per RGB channel", "high", digits=3
        ),
    ]
    if not egsde:
        found.append(
            Metric(f"ms_ssim_{side}", f"MS-SSIM {to}", "five scales, from 161 px a side on", "high", digits=3)
        )
    if N is not None and side == "source" and not egsde:
        what = f"mean |phi_{N}(out) - phi_{N}(source)| in 1/255"
        found.append(Metric(f"phi_{N}", f"phi_{N} {to}", what))
    if lpips:
        found.append(Metric(f"lpips_{side}", f"LPIPS {to}", "LPIPS 0.1, AlexNet", digits=3))
    return found


DIVERSITY = Metric(
    "diversity",
    "diversity",
    "mean L2 between the samples of one input, on [0, 1]",
    better=None,
    of_pictures=False,
)


def realism_metrics(extractor: str) -> dict[str, Metric]:
    """Fréchet distance, KID, precision and recall on the features of ``extractor``: FID and KID are Inception's."""
    published = extractor == "inception"
    tail, named = ("", "") if published else (f"_{extractor.replace('-', '_')}", f" ({extractor})")
    frechet = "FID" if published else "Fréchet distance"
    return {
        "frechet": Metric(
            "fid" if published else f"frechet{tail}",
            f"{frechet}{named}",
            "Fréchet distance of Gaussians; biased upwards by few pictures, no interval",
            of_pictures=False,
        ),
        "kid": Metric(
            f"kid{tail}",
            f"KID x1000{named}",
            "unbiased squared MMD of all pictures, kernel (x.y/d + 1)^3; +- 1.96 jackknife standard errors",
            scale=1000,
            digits=1,
            of_pictures=False,
        ),
        "precision": Metric(
            f"precision{tail}",
            f"precision{named}",
            "results within the real set, k = 3",
            "high",
            digits=3,
            of_pictures=False,
        ),
        "recall": Metric(
            f"recall{tail}",
            f"recall{named}",
            "real pictures within the results, k = 3",
            "high",
            digits=3,
            of_pictures=False,
        ),
    }
