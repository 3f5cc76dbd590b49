"""Convolutions in strips are the convolutions of whole maps, whatever is read, written over and added."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ilvrctl.models.architecture.blocks import ADM, Res, Resample
from ilvrctl.models.cpu import kernels, strips, winograd
from ilvrctl.models.cpu.choice import forced, kernel_for
from ilvrctl.models.cpu.convolution import Convolution
from ilvrctl.models.cpu.kernels import Direct
from ilvrctl.models.cpu.norm import affine
from ilvrctl.models.layers import ResBlock

B, H, W = 2, 36, 32  # two strips or more of Winograd's, the last not full


NNPACK = pytest.param(
    "nnpack", marks=pytest.mark.skipif(not kernels._has_nnpack(), reason="this PyTorch has no NNPACK")
)
WAYS = ["direct", "winograd", NNPACK]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every way of convolving a strip, on any processor, with several strips to a picture."""
    monkeypatch.setattr(winograd, "TILES", 16)
    monkeypatch.setattr(kernels.Nnpack, "TILES", 8)
    monkeypatch.setattr(kernels.Nnpack, "PAIRS", 1 << 12)
    monkeypatch.setattr(kernels.Nnpack, "MIN_WORK", 1)
    monkeypatch.setattr(kernels.Nnpack, "MIN_CHANNELS", 1)
    monkeypatch.setattr(kernels, "STRIP", 5 * W * 256)
    monkeypatch.setattr(strips, "STRIP", 5 * W * 256)
    monkeypatch.setattr(strips, "LARGE", 1)
    with forced(request.param):
        yield request.param


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)


def layer_of(into: int, out: int, kernel: int = 3) -> Convolution:
    torch.manual_seed(into)
    return Convolution(into, out, kernel, padding=kernel // 2).requires_grad_(False)


def near(found: Tensor, expected: Tensor, bound: float = 2e-5) -> bool:
    return bool((found - expected).abs().max() <= bound * expected.abs().max())


@pytest.mark.usefixtures("way")
def test_what_is_read_may_be_normalised_and_in_parts() -> None:
    parts, layer = [3 + noise(B, 96, H, W), noise(B, 160, H, W, seed=1)], layer_of(256, 128)
    norm = nn.GroupNorm(32, 256).requires_grad_(False)
    norm.weight.copy_(noise(256, 1, 1, 1).flatten())
    found = strips.convolve(strips.Normalised(parts, *affine(parts, norm)), layer)
    whole = nn.functional.silu(norm.double()(torch.cat(parts, 1).double()))
    assert near(found, layer.double()(whole))


@pytest.mark.usefixtures("way")
def test_what_is_read_may_be_enlarged_or_halved() -> None:
    layer = layer_of(128, 128)
    small = noise(B, 128, H // 2, W // 2)
    found = strips.convolve(strips.Twice(strips.Plain(small)), layer)
    assert near(found, layer.double()(nn.functional.interpolate(small.double(), scale_factor=2)))
    large = noise(B, 128, 2 * H, 2 * W)
    half = strips.halved(strips.Plain(large), layer)
    assert near(half, nn.functional.avg_pool2d(large.double(), 2), 1e-6)


@pytest.mark.usefixtures("threads")
def test_what_is_written_may_take_the_place_of_what_was_read(way: str) -> None:
    parts, layer, beside = (
        [noise(B, 128, H, W), noise(B, 128, H, W, seed=1)],
        layer_of(256, 128),
        layer_of(256, 128, 1),
    )
    bias = noise(B, 128, 1, 1, seed=2).flatten(1)
    joined = torch.cat(parts, 1).double()
    expected = (
        nn.functional.conv2d(joined, layer.weight.double(), padding=1) + bias.double()[:, :, None, None]
    )
    skip, out = parts
    one = torch.ones(B, 256)
    found = strips.convolve(
        strips.Normalised(parts, one, 0 * one, silu=False),
        layer,
        bias=bias,
        out=out,
        beside=lambda i, top, bottom: strips.pointwise_rows(parts, beside, i, top, bottom, skip),
    )
    assert found is out
    assert near(out, expected)
    assert near(skip, beside.double()(joined))


@pytest.mark.usefixtures("way")
def test_something_may_be_added() -> None:
    x, addend, layer = noise(B, 128, H, W), noise(B, 128, H, W, seed=1), layer_of(128, 128)
    expected = (
        nn.functional.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=1) + addend
    )
    assert near(strips.convolve(strips.Plain(x), layer, addend=addend), expected)
    assert strips.convolve(strips.Plain(x), layer, addend=addend, out=addend) is addend
    assert near(addend, expected)
    small = noise(B, 128, H // 2, W // 2, seed=2)
    twice = nn.functional.interpolate(small.double(), scale_factor=2)
    assert near(strips.convolve(strips.Plain(x), layer, addend=small), layer(x).double() + twice)


@pytest.mark.parametrize(
    ("resample", "widths"),
    [
        ("none", (128,)),
        ("none", (96,)),
        ("none", (128, 128)),
        ("none", (160, 128)),
        ("none", (64, 96)),
        ("up", (128,)),
        ("down", (128,)),
    ],
)
@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.usefixtures("way")
def test_a_residual_block_in_strips_is_the_block(
    resample: Resample, widths: tuple[int, ...], scale_shift: bool, fresh: bool
) -> None:
    torch.manual_seed(0)
    block = ResBlock(Res(sum(widths), 128, resample), 32, scale_shift, ADM, fresh_input=fresh).requires_grad_(
        False
    )
    for parameter in block.parameters():
        parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    parts = [noise(B, width, H, W, seed=width + i) for i, width in enumerate(widths)]
    kept = [part.clone() for part in parts]
    emb = noise(B, 32, 1, 1).flatten(1)
    assert strips.pays(parts, block.in_layers[2])
    found = block(parts.copy(), emb)
    if not fresh:
        assert all(torch.equal(part, before) for part, before in zip(parts, kept, strict=True))
    with torch.enable_grad():  # which leaves strips alone
        whole = block([part.requires_grad_() for part in kept], emb)
    assert near(found, whole.detach(), 4e-5)


def test_strips_in_half_precision_round_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "STRIP", 5 * W * 128)
    x, layer = noise(B, 128, H, W).bfloat16(), layer_of(128, 128).bfloat16()
    norm = nn.GroupNorm(32, 128).requires_grad_(False)
    for emulated in (True, False):
        monkeypatch.setattr(kernels, "_no_bf16", lambda answer=emulated: answer)
        found = strips.convolve(strips.Normalised([x], *affine([x], norm)), layer)
        assert found.dtype == torch.bfloat16
        exact = nn.functional.conv2d(
            nn.functional.silu(norm(x.float())), layer.weight.float(), layer.bias.float(), padding=1
        )
        assert near(found.float(), exact, 2**-8 if emulated else 2**-7)


@pytest.mark.usefixtures("way")
def test_a_residual_block_takes_maps_of_any_layout() -> None:
    """PyTorch's plain convolution, on machines without oneDNN, leaves NCHW."""
    torch.manual_seed(0)
    block = ResBlock(Res(256, 128, "none"), 32, True, ADM, fresh_input=True).requires_grad_(False)
    for parameter in block.parameters():
        parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    parts, emb = [noise(B, 128, H, W, seed=i) for i in range(2)], noise(B, 32, 1, 1).flatten(1)
    found = block([part.contiguous() for part in parts], emb)
    assert near(found, block(parts, emb), 2e-5)


LAYOUTS = (torch.channels_last, torch.contiguous_format)


@given(data=st.data(), channels=st.tuples(st.integers(1, 9), st.integers(1, 9)), pictures=st.integers(1, 3))
@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_map_is_convolved(
    name: str, dtype: torch.dtype, data: st.DataObject, channels: tuple[int, int], pictures: int
) -> None:
    """Odd and even sizes, few rows, any memory layout of input and output, with and without a bias."""
    into, out = channels
    height, width = (data.draw(st.integers(1, 40)) for _ in range(2))
    layouts = [data.draw(st.sampled_from(LAYOUTS)) for _ in range(2)]
    bias = data.draw(st.booleans())
    layer = nn.Conv2d(into, out, 3, padding=1, bias=bias).requires_grad_(False)
    x = noise(pictures, into, height, width)
    with pytest.MonkeyPatch.context() as patch, forced(name):
        patch.setattr(kernels.Nnpack, "MIN_WORK", 1)
        patch.setattr(kernels.Nnpack, "MIN_CHANNELS", 1)
        patch.setattr(kernels.Nnpack, "TILES", data.draw(st.sampled_from([1, 4, 1000])))
        patch.setattr(kernels.Nnpack, "PAIRS", data.draw(st.sampled_from([1, 100, 1 << 16])))
        patch.setattr(kernels, "STRIP", data.draw(st.sampled_from([1, 200, 1 << 20])))
        patch.setattr(winograd, "MIN_SIDE", 4)
        patch.setattr(winograd, "MIN_CHANNELS", 1)
        patch.setattr(winograd, "TILES", data.draw(st.sampled_from([1, 5, 1000])))
        patch.setattr(winograd, "MAX_PAIRS", 1 << 20)
        if dtype == torch.bfloat16:
            patch.setattr(kernels, "_no_bf16", lambda: True)
            layer, x = layer.to(dtype), x.to(dtype)
        acts = dtype == torch.float32 and (name != "winograd" or height % 4 == width % 4 == 0)
        assert kernel_for(layer, dtype, height, width).__name__.lower() == (name if acts else "direct")
        exact = layer.double()(x.double())
        layer = layer.to(dtype)
        place = torch.empty(exact.shape, dtype=dtype, memory_format=layouts[1])
        found = strips.convolve(strips.Plain(x.contiguous(memory_format=layouts[0])), layer, out=place)
    assert found is place
    bound = (2e-5 if dtype == torch.float32 else 2**-7) * float(1 + exact.abs().max())
    assert (found - exact).abs().max() <= bound


def test_ways_are_left_out_where_they_do_not_act() -> None:
    wide, strided = nn.Conv2d(128, 128, 3, padding=1), nn.Conv2d(128, 128, 3, stride=2, padding=1)
    with forced("winograd"):
        assert kernel_for(wide, torch.float32, 32, 32) is winograd.Winograd
        assert kernel_for(wide, torch.float32, 32, 30) is Direct
        assert kernel_for(wide, torch.float32, 16, 16) is Direct
        assert kernel_for(wide, torch.bfloat16, 32, 32) is Direct
        assert kernel_for(strided, torch.float32, 32, 32) is Direct
    with forced("nnpack"):
        assert kernel_for(strided, torch.float32, 32, 32) is Direct
        assert kernel_for(nn.Conv2d(128, 128, 3, padding=1, groups=2), torch.float32, 32, 32) is Direct
        assert kernel_for(nn.Conv2d(128, 128, 1), torch.float32, 32, 32) is Direct
        assert kernel_for(wide, torch.float16, 32, 32) is Direct
        assert kernel_for(wide, torch.float32, 8, 8) is Direct
        assert kernel_for(nn.Conv2d(1024, 512, 3, padding=1), torch.float32, 64, 64) is not Direct


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_are_those_of_the_norm(
    layout: torch.memory_format, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilvrctl.models.cpu.norm.PIECE", 5 * W * 32)
    parts = [(3 + noise(B, n, H, W, seed=n)).to(dtype).contiguous(memory_format=layout) for n in (32, 64)]
    norm = nn.GroupNorm(8, 96).requires_grad_(False)
    norm.weight.copy_(noise(96, 1, 1, 1).flatten())
    a, b = affine(parts, norm)
    x = torch.cat(parts, 1).double()
    found = x * a.double()[:, :, None, None] + b.double()[:, :, None, None]
    assert near(found, norm.double()(x), 1e-5)
