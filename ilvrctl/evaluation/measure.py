"""Pixel metrics of pairs, one row of numbers a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ilvrctl.diffusion.lowpass import usual_factor
from ilvrctl.errors import UsageError
from ilvrctl.evaluation.catalogue import Metric
from ilvrctl.evaluation.failures import Failures
from ilvrctl.evaluation.pairing import Partners
from ilvrctl.evaluation.sets import Picture
from ilvrctl.images.geometry import FITS, fit_picture, parse_color, resized_bicubic
from ilvrctl.images.tensors import to_tensor
from ilvrctl.sizes import Size

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

EGSDE_SIZE = 256
"""Pixels a side of everything in EGSDE's protocol."""


@dataclass(frozen=True)
class Protocol:
    """What is done to pictures before they are compared, and what is measured.

    ``egsde``: as the published code of EGSDE, everything at 256 px by Pillow's bicubic. Else ``fit`` (crop, pad or
    stretch) makes the partners as large as the results; without it sources are fitted as the results' records say
    that they were, and other sizes must agree. ``N`` of phi, None without inputs. ``metrics`` of pairs with each
    side.
    """

    egsde: bool = False
    fit: str | None = None
    N: int | None = None
    metrics: Mapping[str, Sequence[Metric]] = field(default_factory=dict)

    def fit_of(self, result: Picture, side: str) -> str | None:
        """How a partner of the result becomes square; None where nothing tells."""
        told = result.settings.get("fit") if side == "source" else None
        return self.fit or (told if told in FITS else None)

    def resize(self, results: Iterable[Picture]) -> str:
        """The rule in words."""
        if self.egsde:
            return f"all to {EGSDE_SIZE} x {EGSDE_SIZE}, bicubic (Pillow), as EGSDE's code"
        if self.fit:
            return f"partners fitted to the results: {self.fit}, Lanczos"
        fits = {fit for result in results if (fit := self.fit_of(result, "source"))}
        if not fits or "source" not in self.metrics:
            return "none"
        return f"sources fitted as when the results were made: {' and '.join(sorted(fits))}, Lanczos"


def levels(image: Image.Image) -> Tensor:
    """The 8-bit levels of a picture, (3, H, W) uint8."""
    import torch

    pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, 3).permute(2, 0, 1).contiguous()


def measure_pair(pair: Partners, protocol: Protocol) -> dict[str, float | None]:
    """All pixel metrics of one result, by the keys of the catalogue; None where one is not defined for the size.

    UsageError for sizes that differ without a rule.
    """
    output = _prepared(pair.output, protocol)
    found: dict[str, float | None] = {}
    for side, partner in (("source", pair.source), ("truth", pair.truth)):
        if partner is not None:
            other = _prepared(partner, protocol, (pair.output, side, output))
            found |= {metric.key: metric.measure(output, other) for metric in protocol.metrics[side]}
    return found


def _prepared(picture: Picture, protocol: Protocol, of: tuple[Picture, str, Tensor] | None = None) -> Tensor:
    """One picture as (1, C, H, W) float64 in [0, 1], at the size that the protocol asks for, in the channels that the
    network of the result makes.

    ``of``: the result that it is a partner of, on which side, and that result prepared.
    """
    result = picture if of is None else of[0]
    image = picture.open_in(3 if protocol.egsde else result.channels)
    if protocol.egsde:
        if image.width != image.height:
            raise UsageError(f"{picture.path} is not square, as EGSDE's protocol asks")
        image = resized_bicubic(image, EGSDE_SIZE)
    elif of is not None:
        _, side, output = of
        height, width = output.shape[-2:]
        if image.size != (width, height):
            fit = protocol.fit_of(result, side)
            if fit is None:
                raise _other_size(picture, image.size, result, (width, height))
            background = parse_color(str(result.settings.get("background", "white")))
            image = fit_picture(image, Size(width, height), fit, background)
    return _unit(image)


def _unit(image: Image.Image) -> Tensor:
    """A picture as (1, C, H, W) float64 in [0, 1]."""
    import torch

    if image.mode == "RGB":
        return levels(image).double()[None] / 255
    return (to_tensor(image).to(torch.float64)[None] + 1) / 2


def _other_size(
    picture: Picture, size: tuple[int, int], output: Picture, wanted: tuple[int, int]
) -> UsageError:
    what = f"{picture.path} has {size[0]} x {size[1]} pixels, and {output.path} {wanted[0]} x {wanted[1]}"
    return UsageError(what, "--fit crop fits the partner as translate does (also pad, stretch)")


def factor_of(pairs: Sequence[Sequence[Partners]]) -> int:
    """N for phi: the one with which all results were made, else the usual one for the size of the first.

    InputError when none can be opened.
    """
    told = [_constraint(pair.output.settings).get("N") for run in pairs for pair in run]
    if type(told[0]) is int and told[0] > 0 and all(told[0] == N for N in told):
        return told[0]
    failures = Failures()
    for output in (pair.output for run in pairs for pair in run):
        with failures.noted("reading", output.path):
            return usual_factor(Size(*output.open().size))
    raise failures.none()


def _constraint(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    method = settings.get("method")
    constraint = method.get("constraint") if isinstance(method, Mapping) else None
    return constraint if isinstance(constraint, Mapping) else {}


def diversity(pairs: Sequence[Partners], failures: Failures) -> list[tuple[str, float]]:
    """For every input with several samples, the mean L2 between two of them on [0, 1], at their own size."""
    from ilvrctl.metrics.pixel import l2

    groups: dict[str, list[Partners]] = {}
    for pair in pairs:
        groups.setdefault(pair.key, []).append(pair)
    found = []
    for key, members in groups.items():
        tensors = []
        for pair in members:
            with failures.noted("comparing", pair.output.path):
                tensors.append(_unit(pair.output.open_in(pair.output.channels)))
        if len({t.shape for t in tensors}) == 1 and len(tensors) > 1:
            distances = [float(l2(a, b)) for a, b in combinations(tensors, 2)]
            found.append((key, sum(distances) / len(distances)))
    return found
