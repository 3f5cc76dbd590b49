"""GroupNorm, the shift and scale of the time embedding, and SiLU as one step, in float32.

On a CPU most of the time outside the convolutions goes into touching fresh memory, so the inference path
works in place, and a large tensor goes through in pieces that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ilvrctl.models.cpu.threads import share

LARGE = 1 << 22  # elements; from here on a second copy costs more than the Python loop over pieces
PIECE = 1 << 18  # elements of a piece: 1 MB of float32, which a core's own cache holds


def wants_grad(*tensors: Tensor | None) -> bool:
    """Whether autograd records an operation on ``tensors``, so that none may be overwritten."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def normalise(
    x: Tensor,
    norm: nn.GroupNorm,
    scale_shift: tuple[Tensor, Tensor] | None = None,
    *,
    silu: bool = True,
    overwrite: bool = False,
) -> Tensor:
    """``SiLU(GroupNorm(x) * (1 + scale) + shift)`` (ADM, equation of AdaGN in section 3.1).

    ``x``: (B, C, H, W), any floating dtype; the result has its dtype and is channels_last; the arithmetic is
    float32. ``scale_shift``: two (B, C) float32 tensors or None. ``silu=False`` leaves SiLU out.
    ``overwrite`` allows the result to take the memory of ``x`` when no gradient is needed.
    """
    x = x.contiguous(memory_format=torch.channels_last)  # already so, but after PyTorch's plain convolution
    gamma, beta = _modulated(norm, scale_shift)
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return _decomposed(x, gamma, beta, norm, silu)
    if wants_grad(x, gamma, beta):
        found = _Normalised.apply(x, gamma, beta, norm.num_groups, norm.eps, silu)  # type: ignore[no-untyped-call]
        return cast(Tensor, found)
    if x.numel() >= LARGE:
        return _in_pieces(x, norm, scale_shift, silu, x if overwrite else torch.empty_like(x))
    return _small(x, gamma, beta, norm, silu)


class _Normalised(torch.autograd.Function):
    """The map of :func:`normalise` with gradients: half as many passes over memory as autograd makes of it.

    Only ``x`` in its own precision is kept. With ``z = a x + b`` and ``dz`` its gradient, ``S1`` and ``S2`` the
    sums of ``dz`` and ``dz x`` over the pixels, ``d beta = S1``, ``d gamma = rstd (S2 - mean S1)``, and
    ``dx = a dz + c1 x + c0`` where c1 and c0 make the gradient's part along 1 and x vanish in each group.
    """

    @staticmethod
    def forward(
        context: Any, x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        """``x`` (B, C, H, W) channels_last; ``gamma``, ``beta`` (1 or B, C) float32."""
        B, C, H, W = x.shape
        h, mean, rstd = torch.native_group_norm(x.float(), None, None, B, C, H * W, groups, eps)
        torch.addcmul(beta[:, :, None, None], h, gamma[:, :, None, None], out=h)
        context.save_for_backward(x, gamma, beta, mean, rstd)
        context.silu = silu
        return (F.silu(h, inplace=True) if silu else h).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, gamma and beta."""
        x, gamma, beta, mean, rstd = context.saved_tensors
        B, C, H, W = x.shape
        groups = mean.shape[1]

        def each(v: Tensor) -> Tensor:
            return v[:, :, None].expand(B, groups, C // groups).reshape(B, C)

        a, b = _affine(mean, rstd, gamma, beta)
        pixels, dz = _rows(x), _rows(grad)
        z = torch.addcmul(b[:, None], pixels, a[:, None])
        if context.silu:
            dz = torch.ops.aten.silu_backward(dz, z)
        S1 = dz.sum(1)
        S2 = torch.mul(dz, pixels, out=z).sum(1)
        d_gamma = each(rstd) * (S2 - each(mean) * S1)
        m1, m2 = ((gamma * d).view(B, groups, -1).sum(2) * groups / (C * H * W) for d in (S1, d_gamma))
        c1 = -rstd * rstd * m2
        c0 = -rstd * m1 - c1 * mean
        torch.addcmul(each(c0)[:, None], pixels, each(c1)[:, None], out=z)
        dx = z.addcmul_(dz, a[:, None]).to(x.dtype).view(B, H, W, C).permute(0, 3, 1, 2)
        return dx, _summed(d_gamma, gamma), _summed(S1, beta), None, None, None


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) as float32 pixels (B, H W, C); a view of channels_last float32."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1]).float()


def _summed(gradient: Tensor, like: Tensor) -> Tensor:
    """(B, C) as the gradient of ``like``, which one row may stand for all pictures in."""
    return gradient.sum(0, keepdim=True) if len(like) == 1 else gradient


def _small(x: Tensor, gamma: Tensor, beta: Tensor, norm: nn.GroupNorm, silu: bool) -> Tensor:
    """Through the fused kernel, in float32: its bfloat16 form is up to eight times slower on small maps."""
    if len(gamma) == 1:
        h = F.group_norm(x.float(), norm.num_groups, gamma[0], beta[0], norm.eps)
    else:
        h = F.group_norm(x.float(), norm.num_groups, eps=norm.eps)
        torch.addcmul(beta[:, :, None, None], h, gamma[:, :, None, None], out=h)
    return (F.silu(h, inplace=True) if silu else h).to(x.dtype)


def _decomposed(x: Tensor, gamma: Tensor, beta: Tensor, norm: nn.GroupNorm, silu: bool) -> Tensor:
    """In elementary steps: the CUDA kernel of GroupNorm would go back to NCHW; a compiler fuses these."""
    h = x.float()
    var, mean = torch.var_mean(h.view(len(h), norm.num_groups, -1, *h.shape[2:]), (2, 3, 4), correction=0)
    a, b = _affine(mean, (var + norm.eps).rsqrt(), gamma, beta)
    h = torch.addcmul(b[:, :, None, None], h, a[:, :, None, None])
    return (F.silu(h) if silu else h).to(x.dtype)


def _affine(mean: Tensor, rstd: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """``a``, ``b`` (B, C): ``gamma (x - mean) rstd + beta = a x + b``, from (B, groups) statistics."""
    shape = (*mean.shape, -1)
    a = (gamma.expand(len(mean), -1).reshape(shape) * rstd[:, :, None]).flatten(1)
    b = beta - (a.view(shape) * mean[:, :, None]).flatten(1)
    return a, b


def affine(
    parts: Sequence[Tensor],
    norm: nn.GroupNorm,
    scale_shift: tuple[Tensor, Tensor] | None = None,
    sums: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``a``, ``b`` (B, C) float32 with which ``a x + b`` is what :func:`normalise` makes of x before SiLU.

    ``x``: ``parts`` (B, C_i, H, W), of any layout, joined along channels. ``sums``: (2, B, C) float64, those of x and
    of its squares over the pixels, if they are known. Without gradients.
    """
    gamma, beta = _modulated(norm, scale_shift)
    B, _, H, W = parts[0].shape
    if sums is None:
        sums = torch.cat([_sums_of(part) for part in parts], 2)
    mean, square = sums.view(2, B, norm.num_groups, -1).mean(3) / (H * W)
    rstd = (square - mean * mean).clamp_(min=0).add_(norm.eps).rsqrt_()
    a, b = _affine(mean, rstd, gamma.expand(B, -1).double(), beta.expand(B, -1).double())
    return a.float(), b.float()


def _modulated(norm: nn.GroupNorm, scale_shift: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """``gamma``, ``beta`` (1 or B, C) of a normalisation whose result is scaled and shifted."""
    gamma, beta = norm.weight[None], norm.bias[None]
    if scale_shift is None:
        return gamma, beta
    scale, shift = scale_shift
    return gamma * (1 + scale), torch.addcmul(shift, beta, 1 + scale)


def _in_pieces(
    x: Tensor, norm: nn.GroupNorm, scale_shift: tuple[Tensor, Tensor] | None, silu: bool, out: Tensor
) -> Tensor:
    """Statistics, then the affine map and SiLU, over runs of pixels that fit the cache, into ``out``."""
    a, b = affine([x], norm, scale_shift)
    for i in range(len(x)):
        source = _pieces(x[i])
        target = source if out is x else _pieces(out[i])
        for piece, result in zip(source, target, strict=True):
            if result.dtype == torch.float32:
                torch.addcmul(b[i], piece, a[i], out=result)
                if silu:
                    F.silu(result, inplace=True)
            else:
                values = torch.addcmul(b[i], piece.float(), a[i])
                result.copy_(F.silu(values, inplace=True) if silu else values)
    return out


def _pieces(x: Tensor) -> list[Tensor]:
    """Runs of pixels (n, C) of a picture (C, H, W) in channels_last memory, without a copy."""
    pixels = x.permute(1, 2, 0).view(-1, x.shape[0])
    n = max(1, PIECE // x.shape[0])
    return [pixels[i : i + n] for i in range(0, len(pixels), n)]


def _sums_of(x: Tensor) -> Tensor:
    """The sums of ``x`` (B, C, H, W) and of its squares over the pixels: (2, B, C) float64."""
    B, C, _, W = x.shape
    rows = max(1, PIECE // (C * W))
    pieces = torch.split(x, rows, 2)
    found = torch.empty(len(pieces), 2, B, C)

    def add(items: Iterator[tuple[int, int]]) -> None:
        for j, i in items:
            channel_sums(pieces[j][i], found[j, :, i])

    share(add, ((j, i) for j in range(len(pieces)) for i in range(B)))
    return found.double().sum(0)


def channel_sums(x: Tensor, out: Tensor) -> None:
    """The sums of ``x`` (C, H, W) and of its squares over the pixels, in float32, into ``out`` (2, C)."""
    values = x.float()
    if values.stride(0) == 1:  # channels_last
        pixels = values.permute(1, 2, 0).flatten(0, 1)
        torch.sum(pixels, 0, out=out[0])
        torch.sum(pixels * pixels, 0, out=out[1])
    else:
        torch.sum(values, (1, 2), out=out[0])
        out[1] = torch.linalg.vector_norm(values, dim=(1, 2)).square_()
