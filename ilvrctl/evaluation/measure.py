"""Pixel metrics of pairs, one row of numbers a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ilvrctl.diffusion.lowpass import LowPass, usual_factor
from ilvrctl.errors import UsageError
from ilvrctl.evaluation.pairing import Pair
from ilvrctl.evaluation.pictures import Picture
from ilvrctl.images.geometry import fit_picture, resized_bicubic

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

EGSDE_SIZE = 256
"""Pixels a side of everything in EGSDE's protocol."""


@dataclass(frozen=True)
class Protocol:
    """What is done to pictures before they are compared.

    ``egsde``: as the published code of EGSDE, everything at 256 px by Pillow's bicubic. Else ``fit`` (crop, pad or
    stretch) makes the partners as large as the results, and None takes only those that are. ``N`` of phi, None
    without inputs.
    """

    egsde: bool = False
    fit: str | None = None
    N: int | None = None
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def resize(self) -> str:
        """The rule in words."""
        if self.egsde:
            return f"all to {EGSDE_SIZE} x {EGSDE_SIZE}, bicubic (Pillow), as EGSDE's code"
        return f"partners fitted to the results: {self.fit}, Lanczos" if self.fit else "none"


def levels(image: Image.Image) -> Tensor:
    """The 8-bit levels of a picture, (3, H, W) uint8."""
    import torch

    pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, 3).permute(2, 0, 1).contiguous()


def measure_pair(pair: Pair, protocol: Protocol) -> dict[str, float | None]:
    """All pixel metrics of one result, by the keys of the catalogue; None where one is not defined for the size.

    UsageError for sizes that differ without a rule.
    """
    output = _prepared(pair.output, None, protocol)
    found: dict[str, float | None] = {}
    for side, partner in (("source", pair.source), ("truth", pair.truth)):
        if partner is None:
            continue
        other = _prepared(partner, output.shape[-1], protocol, like=(pair.output, output))
        found |= {f"{name}_{side}": value for name, value in _pixel(output, other, protocol).items()}
        if side == "source" and not protocol.egsde:
            found |= _phi(output, other, protocol.N)
    return found


def _prepared(
    picture: Picture, size: int | None, protocol: Protocol, like: tuple[Picture, Tensor] | None = None
) -> Tensor:
    """One picture as (1, 3, H, W) float64 in [0, 1], brought to the size that the protocol asks for."""
    image = picture.open()
    if protocol.egsde:
        if image.width != image.height:
            raise UsageError(f"{picture.path} is not square, as EGSDE's protocol asks")
        image = resized_bicubic(image, EGSDE_SIZE)
    elif like is not None:
        height, width = like[1].shape[-2:]
        if image.size != (width, height):
            if protocol.fit is None or width != height or size is None:
                raise _other_size(picture, image.size, like[0], (width, height))
            image = fit_picture(image, size, protocol.fit, (255, 255, 255))
    return levels(image).double()[None] / 255


def _other_size(
    picture: Picture, size: tuple[int, int], output: Picture, wanted: tuple[int, int]
) -> UsageError:
    what = f"{picture.path} has {size[0]} x {size[1]} pixels, and {output.path} {wanted[0]} x {wanted[1]}"
    if wanted[0] != wanted[1]:
        return UsageError(what, "only square results can be fitted to; resize one of them")
    return UsageError(what, "--fit crop fits the partner as translate does (also pad, stretch)")


def _pixel(a: Tensor, b: Tensor, protocol: Protocol) -> dict[str, float | None]:
    from ilvrctl.metrics import pixel

    side = min(a.shape[-2:])
    found: dict[str, float | None] = {
        "l2": float(pixel.l2(a, b)),
        "mse": float(pixel.mse(a, b)),
        "psnr": float(pixel.psnr(a, b, 1e-10 if protocol.egsde else 0.0)),
        "ssim": float(pixel.ssim(a, b)) if side >= pixel.WINDOW else None,
    }
    if not protocol.egsde:
        found["ms_ssim"] = float(pixel.ms_ssim(a, b)) if side >= pixel.MS_SSIM_SIDE else None
    if protocol.lpips is not None:
        found["lpips"] = float(protocol.lpips(a, b))
    return found


def _phi(a: Tensor, b: Tensor, N: int | None) -> dict[str, float | None]:
    from ilvrctl.metrics.pixel import low_pass_distance

    if N is None:
        return {}
    height, width = a.shape[-2:]
    fits = height % N == 0 and width % N == 0
    return {f"phi_{N}": float(low_pass_distance(a, b, LowPass(N))) if fits else None}


def factor_of(pairs: Sequence[Sequence[Pair]]) -> int:
    """N for phi: the one with which all results were made, else the usual one for the size of the first."""
    told = {_constraint(pair.output.settings).get("N") for run in pairs for pair in run}
    if len(told) == 1 and isinstance(N := told.pop(), int):
        return N
    return usual_factor(min(pairs[0][0].output.open().size))


def _constraint(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    method = settings.get("method")
    constraint = method.get("constraint") if isinstance(method, Mapping) else None
    return constraint if isinstance(constraint, Mapping) else {}


def diversity(pairs: Sequence[Pair]) -> list[tuple[str, float]]:
    """For every input with several samples, the mean L2 between two of them on [0, 1], at their own size."""
    from ilvrctl.metrics.pixel import l2

    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.key, []).append(pair)
    found = []
    for key, members in groups.items():
        tensors = [levels(pair.output.open()).double()[None] / 255 for pair in members]
        if len({t.shape for t in tensors}) == 1 and len(tensors) > 1:
            distances = [float(l2(a, b)) for a, b in combinations(tensors, 2)]
            found.append((key, sum(distances) / len(distances)))
    return found
