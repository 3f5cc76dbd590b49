"""Normalisation has several implementations, by device, size and mode: they agree with float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ilvrctl.models.cpu import norm

CHANNELS_LAST = torch.channels_last


def distance(out: Tensor, expected: Tensor) -> float:
    return float((out - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_way_to_normalise_agrees(
    scaled: bool, silu: bool, batch: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (3 + torch.randn(batch, 64, 10, 6, generator=generator)).to(dtype, memory_format=CHANNELS_LAST)
    layer = nn.GroupNorm(32, 64).requires_grad_(False)
    layer.weight.copy_(1 + 0.1 * torch.randn(64, generator=generator))
    layer.bias.copy_(torch.randn(64, generator=generator))
    signal = tuple(torch.randn(2, batch, 64, generator=generator)) if scaled else None
    expected = nn.functional.group_norm(x.double(), 32, layer.weight.double(), layer.bias.double())
    if signal:
        expected = expected * (1 + signal[0][:, :, None, None]) + signal[1][:, :, None, None]
    expected = nn.functional.silu(expected) if silu else expected
    bound = 2e-6 if dtype == torch.float32 else 4e-3
    gamma, beta = layer.weight[None], layer.bias[None]
    if signal:
        gamma, beta = gamma * (1 + signal[0]), torch.addcmul(signal[1], beta, 1 + signal[0])
    results = [norm.normalise(x, layer, signal, silu=silu), norm._decomposed(x, gamma, beta, layer, silu)]  # type: ignore[arg-type]
    monkeypatch.setattr(norm, "LARGE", 1)
    monkeypatch.setattr(norm, "PIECE", 64 * 7)
    results.append(norm.normalise(x, layer, signal, silu=silu))  # type: ignore[arg-type]
    mine = x.clone(memory_format=CHANNELS_LAST)
    results.append(norm.normalise(mine, layer, signal, silu=silu, overwrite=True))  # type: ignore[arg-type]
    assert results[-1].data_ptr() == mine.data_ptr()
    for result in results:
        assert result.dtype == dtype
        assert result.is_contiguous(memory_format=CHANNELS_LAST)
        assert distance(result.double(), expected) < bound


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("silu", [False, True])
def test_gradients_are_those_of_plain_operations(modulated: bool, silu: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    layer = nn.GroupNorm(32, 64)
    nn.init.normal_(layer.weight, generator=generator)
    nn.init.normal_(layer.bias, generator=generator)
    x = torch.randn(3, 64, 6, 4, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    signal = [torch.randn(3, 64, generator=generator).requires_grad_() for _ in range(2)]
    asked = [x, layer.weight, layer.bias, *(signal if modulated else [])]
    out = norm.normalise(x, layer, (signal[0], signal[1]) if modulated else None, silu=silu)
    seen = torch.randn(out.shape, generator=generator)
    h = nn.functional.group_norm(x.double(), 32, layer.weight.double(), layer.bias.double())
    if modulated:
        h = h * (1 + signal[0][:, :, None, None].double()) + signal[1][:, :, None, None].double()
    plain = nn.functional.silu(h) if silu else h
    assert (out - plain).abs().max() < 1e-5
    mine = torch.autograd.grad(out, asked, seen)
    for found, expected in zip(mine, torch.autograd.grad(plain, asked, seen.double()), strict=True):
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
