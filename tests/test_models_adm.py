"""The ADM U-Net computes what the published one does, in every option, precision and mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import hidden_of, random_state_dict
from conftest import in_double
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ilvrctl.errors import UsageError
from ilvrctl.models import adm
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags, infer_architecture
from ilvrctl.models.cpu import norm
from ilvrctl.models.files.loading import load_network
from ilvrctl.models.trunk_network import timestep_embedding

GOLDEN = Path(__file__).parent / "golden"
PUBLISHED = sorted(path.name.removesuffix(".io.pt") for path in GOLDEN.glob("unet_*.io.pt"))
CPU = torch.device("cpu")
CHANNELS_LAST = torch.channels_last


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks lose more to waiting for a second thread than they gain, on a busy machine above all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def golden(name: str, dtype: torch.dtype = torch.float32) -> tuple[AdmUNet, dict[str, Any]]:
    io = torch.load(GOLDEN / f"{name}.io.pt", weights_only=True)
    return load_network(GOLDEN / f"{name}.pt", hidden_of(io["flags"]), dtype=dtype, device=CPU), io


def distance(out: Tensor, expected: Tensor) -> float:
    return float((out - expected).abs().max() / expected.abs().max())


def build(architecture: AdmArchitecture, seed: int = 0) -> AdmUNet:
    with torch.device("meta"):
        network = AdmUNet(architecture)
    network.load_state_dict(random_state_dict(architecture, seed), assign=True)
    return network.requires_grad_(False).eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_outputs_of_the_published_network(name: str) -> None:
    network, io = golden(name)
    with torch.inference_mode():
        out = network(io["x"], io["t"], io["y"])
    assert out.shape == io["out"].shape
    assert out.dtype == torch.float32
    assert distance(out, io["out"]) < 1e-5


@pytest.mark.parametrize("name", PUBLISHED)
def test_large_pictures_take_the_thrifty_path_to_the_same_outputs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, io = golden(name)
    for module in (norm, adm):
        monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(norm, "PIECE", 1000)
    x = io["x"].contiguous(memory_format=CHANNELS_LAST)
    before = x.clone()
    with torch.inference_mode():
        assert distance(network(x, io["t"], io["y"]), io["out"]) < 1e-5
    assert torch.equal(x, before)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.04), (torch.float16, 0.005)])
@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("large", [False, True])
def test_half_precision_is_close(
    name: str, dtype: torch.dtype, bound: float, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(norm, "LARGE", 1)
    network, io = golden(name, dtype)
    with torch.inference_mode():
        out = network(io["x"], io["t"], io["y"])
    assert out.dtype == torch.float32
    assert float((out - io["out"]).norm() / io["out"].norm()) < bound


def test_half_precision_keeps_norms_embeddings_and_head_in_float32() -> None:
    network, _ = golden(PUBLISHED[0], torch.bfloat16)
    cast = network.convolution_parameters()
    assert all(
        p.dtype == (torch.bfloat16 if n in cast else torch.float32) for n, p in network.named_parameters()
    )
    kept = {name for name, _ in network.named_parameters()} - set(cast)
    assert {
        "time_embed.0.weight",
        "out.0.weight",
        "out.2.weight",
        "input_blocks.1.0.in_layers.0.weight",
    } <= kept
    assert {"input_blocks.0.0.weight", "middle_block.1.qkv.weight", "middle_block.0.in_layers.2.bias"} <= set(
        cast
    )
    assert not any("emb_layers" in name for name in cast)


def test_a_loaded_network_equals_one_cast_afterwards() -> None:
    loaded, io = golden(PUBLISHED[0], torch.bfloat16)
    cast, _ = golden(PUBLISHED[0])
    cast.to_precision(torch.bfloat16)
    with torch.inference_mode():
        assert torch.equal(loaded(io["x"], io["t"]), cast(io["x"], io["t"]))
    assert cast.dtype == loaded.dtype == torch.bfloat16


@pytest.mark.parametrize("name", PUBLISHED)
def test_gradients_reach_the_input_and_every_weight(name: str) -> None:
    network, io = golden(name)
    network.requires_grad_(True)
    x = io["x"].clone().requires_grad_()
    out = network(x, io["t"], io["y"])
    assert distance(out.detach(), io["out"]) < 1e-5
    out.square().mean().backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


def test_the_gradient_of_the_input_is_the_slope() -> None:
    network, io = golden("unet_adm_learned_sigma")
    x = io["x"][:1].clone().requires_grad_()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    out = network(x, io["t"][:1])[:, :3]
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    step = 1e-2
    with torch.no_grad():
        higher, lower = (network(x + s * direction, io["t"][:1])[:, :3].square().sum() for s in (step, -step))
    assert float((gradient * direction).sum()) == pytest.approx(float(higher - lower) / (2 * step), rel=0.02)


def test_some_weights_alone_can_be_trained() -> None:
    network, io = golden("unet_adm_learned_sigma")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("emb_layers" in name)
    network(io["x"], io["t"]).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_a_picture_does_not_depend_on_its_batch(batch: int) -> None:
    network, _ = golden("unet_adm_learned_sigma")
    x = torch.randn(batch, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    t = torch.linspace(0.5, 999, batch)
    with torch.inference_mode():
        together = network(x, t)
        assert together.shape == (batch, 6, 32, 48)
        for i in range(batch):
            assert distance(network(x[i : i + 1], t[i : i + 1])[0], together[i]) < 1e-5


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_stay_channels_last(size: int, dtype: torch.dtype) -> None:
    network, _ = golden("unet_adm_learned_sigma", dtype)
    strays = []

    def watch(module: nn.Module, _: object, out: Tensor) -> None:
        if out.ndim == 4 and not out.is_contiguous(memory_format=CHANNELS_LAST):
            strays.append(module)

    for part in (
        network,
        *(
            layer
            for blocks in (network.input_blocks, network.output_blocks)
            for b in blocks
            for layer in b.children()
        ),
    ):
        part.register_forward_hook(watch)
    with torch.inference_mode():
        network(torch.randn(4, 3, size, size), torch.full((4,), 10.0))
    assert not strays


def test_sizes_and_classes_that_do_not_fit() -> None:
    network, io = golden("unet_adm_learned_sigma")
    with pytest.raises(UsageError, match="multiples of 4 pixels, not 34x32"):
        network(torch.zeros(1, 3, 32, 34), io["t"][:1])
    with pytest.raises(UsageError, match="takes no class, and was given one"):
        network(io["x"], io["t"], torch.zeros(2, dtype=torch.int64))
    conditional, io = golden("unet_class_conditional_new_attention_order")
    with pytest.raises(UsageError, match="takes a class of 1000, and was given none"):
        conditional(io["x"], io["t"])


def test_the_timestep_embedding_is_cosines_then_sines() -> None:
    embedding = timestep_embedding(torch.tensor([0.0, 3.0]), 8)
    assert torch.equal(embedding[0], torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0]))
    angles = 3.0 * torch.tensor([1.0, 0.1, 0.01, 0.001])  # 10000 ** (-i / 4)
    assert torch.allclose(embedding[1], torch.cat([angles.cos(), angles.sin()]), atol=1e-6)
    assert timestep_embedding(torch.tensor([1.0]), 7)[0, -1] == 0


def test_an_untrained_network_says_nothing() -> None:
    out = AdmUNet(AdmArchitecture(3, 6, 32, (32, 64), 1, (False, True), hidden=HiddenFlags(2)))(
        torch.randn(1, 3, 8, 8), torch.tensor([5.0])
    )
    assert float(out.detach().abs().max()) == 0


@st.composite
def architectures(draw: st.DrawFn) -> AdmArchitecture:
    levels = draw(st.integers(1, 3))
    base = draw(st.sampled_from([32, 64]))
    # from level to level halves and thirds too: multiples of 32 channels, as the groups ask
    widths = tuple(draw(st.sampled_from([32, 64, 96])) for _ in range(levels))
    upsample_heads = draw(st.sampled_from([None, 2, 8]))
    hidden = draw(
        st.sampled_from(
            [
                HiddenFlags(num_heads=4, num_heads_upsample=upsample_heads),
                HiddenFlags(num_head_channels=16, use_new_attention_order=True),
                HiddenFlags(num_heads=2, num_head_channels=32),
            ]
        )
    )
    return AdmArchitecture(
        in_channels=3,
        out_channels=draw(st.sampled_from([3, 6])),
        model_channels=base,
        widths=widths,
        num_res_blocks=draw(st.integers(1, 3)),
        attention=tuple(draw(st.booleans()) for _ in range(levels)),
        # one level has nothing to resample
        resampling=draw(st.sampled_from(["residual", "convolution", "pooling"]))
        if levels > 1
        else "convolution",
        use_scale_shift_norm=draw(st.booleans()),
        num_classes=draw(st.sampled_from([None, 5])),
        hidden=hidden,
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(architectures())
def test_any_architecture_is_recovered_from_its_tensors(architecture: AdmArchitecture) -> None:
    network = build(architecture)
    shapes = {name: tuple(x.shape) for name, x in network.state_dict().items()}
    assert shapes == architecture.parameter_shapes()
    assert infer_architecture(shapes, architecture.hidden) == architecture
    size = 2 * architecture.downsample_factor
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([3.0, 700.0])
    y = None if architecture.num_classes is None else torch.tensor([1, 4])
    with torch.device("meta"):
        again = AdmUNet(infer_architecture(shapes, architecture.hidden))
    again.load_state_dict(network.state_dict(), strict=True, assign=True)
    with torch.inference_mode():
        out = network(x, t, y)
        assert torch.equal(again(x, t, y), out)
    # the differentiable path is another implementation: it must agree. In float32 rounding alone moves an output by
    # up to 1e-5, and by as much as the processor likes
    again.double().dtype = torch.float64
    with in_double():
        differentiable = again(x.double(), t.double(), y).detach()
        with torch.inference_mode():
            assert distance(again(x.double(), t.double(), y), differentiable) < 1e-12
    assert distance(out, differentiable) < 1e-4
    assert out.shape == (2, architecture.out_channels, size, size)
    assert 0.01 < float(out.std()) < 10


@pytest.mark.slow
def test_the_network_compiles_to_the_same_outputs() -> None:
    network, io = golden("unet_adm_learned_sigma")
    with torch.inference_mode():
        compiled = torch.compile(network, fullgraph=True)(io["x"], io["t"])
    assert distance(compiled, io["out"]) < 1e-5
