"""How the parts of a step that pull in different directions become one: the score's and each energy's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ilvrctl.devices import finest
from ilvrctl.methods.blocks import PIXELS, Grid, join, split

if TYPE_CHECKING:
    from torch import Tensor

Over = Literal["image", "channel", "block"]
ITERATIONS = 20
STOP = 1e-4


@dataclass(frozen=True)
class Sum:
    """The plain sum: energies as the gradient of a product of densities (EGSDE).

    A merge makes one direction (B, C, H, W) out of several, of which the first is the score's; ``blocks``: how many
    there are where they are merged by themselves.
    """

    name: ClassVar[str] = "sum"

    def __call__(self, parts: Sequence[Tensor], blocks: Grid) -> Tensor:
        return sum(parts[1:], start=parts[0])

    def describe(self) -> str:
        """In a word or two, or "" for what goes without saying."""
        return ""


@dataclass(frozen=True)
class MinNorm:
    """The shortest convex combination: no part is worked against (SDDM, section 3.4).

    Found by Frank-Wolfe: start from equal weights, go to the vertex with the smallest product by exact line search,
    at most 20 times, until the mean step over an image is below 1e-4. ``over``: the weights are found for each
    ``channel`` of an image, as published, for each ``block`` (the published ``detail_merge``), or for the
    ``image``. An image stops by itself, so that its result does not depend on its neighbours in the batch; the
    published code stops when the mean over the batch is below 1e-4. A part of length 0 pulls nowhere and is left
    out; as a member of the combination it would stop the others.
    """

    name: ClassVar[str] = "min_norm"
    over: Over = "channel"

    def __call__(self, parts: Sequence[Tensor], blocks: Grid) -> Tensor:
        """``sum_i w_i d_i`` with w >= 0, sum 1, of least length."""
        import torch

        v = torch.stack([split(part, blocks) for part in parts] if self.over == "block" else list(parts))
        over = (-3, -2, -1) if self.over == "image" else PIXELS
        v = torch.where(v.square().sum(over, keepdim=True) > 0, v, v[:1])
        d = _frank_wolfe(v, over)
        return join(d) if self.over == "block" else d

    def describe(self) -> str:
        return f"min-norm per {self.over}"


@dataclass(frozen=True)
class Pair:
    """SDDM's older rule for the score d_1 and one energy d_2 (more are summed first), per image:

    ``d_1 + clamp((1 - g) / g, 0, 30) d_2``,   g the min-norm weight of d_1
    """

    name: ClassVar[str] = "pair"

    def __call__(self, parts: Sequence[Tensor], blocks: Grid) -> Tensor:
        """The score's part in full, and as much of the energies' as the min-norm combination has."""
        d1, d2 = parts[0], sum(parts[2:], start=parts[1])
        whole = (-3, -2, -1)
        length = (d1 - d2).square().sum(whole, keepdim=True)
        g = (d2 * (d2 - d1)).sum(whole, keepdim=True) / length.clamp_min(1e-20)
        g = g.clamp(0, 1)
        return d1 + ((1 - g) / g).clamp(0, 30) * d2

    def describe(self) -> str:
        return "two-vector rule"


MERGES: dict[str, type[Sum] | type[MinNorm] | type[Pair]] = {"sum": Sum, "min_norm": MinNorm, "pair": Pair}


def _frank_wolfe(v: Tensor, over: tuple[int, ...]) -> Tensor:
    """The shortest convex combination of the n vectors v (n, B, ...); one weight for the dimensions ``over``.

    The weights follow from the products of the vectors alone, so the iterations run on n x n numbers, in float64
    where the device has it.
    """
    import torch

    pairs = [[(a * b).sum(over, keepdim=True) for b in v] for a in v]
    products = torch.stack([torch.stack(row) for row in pairs]).to(finest(v.device))
    return (_weights(products).to(v.dtype) * v).sum(0)


def _weights(products: Tensor) -> Tensor:
    """Of least ``w' P w`` with w >= 0 of sum 1, (n, B, ...), for products P (n, n, B, ...).

    Once all have stopped, more iterations change nothing; only on a CPU is it cheaper to look than to go on.
    """
    import torch

    n = len(products)
    weights = torch.full_like(products[0], 1 / n)
    running = torch.ones(products.shape[2], dtype=torch.bool, device=products.device)
    looks = products.device.type == "cpu"
    for _ in range(ITERATIONS if n > 1 else 0):
        with_d = (products * weights).sum(1)  # of every vector with d, the combination so far
        towards, vertex = with_d.min(0, keepdim=True)
        own = products.diagonal().movedim(-1, 0).gather(0, vertex)
        d_d = (weights * with_d).sum(0, keepdim=True)
        length = d_d - 2 * towards + own
        gamma = ((d_d - towards) / length.clamp_min(1e-30)).clamp(0, 1) * (length > 0)
        running &= gamma[0].flatten(1).mean(1) >= STOP
        if looks and not running.any():
            break
        gamma = gamma * running.view(1, -1, *[1] * (gamma.dim() - 2))
        weights = (1 - gamma) * weights + gamma * torch.zeros_like(weights).scatter_(0, vertex, 1.0)
    return weights
