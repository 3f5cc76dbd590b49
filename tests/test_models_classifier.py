"""Classifiers of guided-diffusion: features as published, gradients for EGSDE, training, every head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from checkpoints import random_state_dict, write_small_network
from conftest import GOLDEN, golden
from torch import Tensor

from ilvrctl.errors import UsageError, WeightsError
from ilvrctl.models.architecture.blocks import Pool
from ilvrctl.models.architecture.classifier import ClassifierArchitecture, bare_name, read_classifier
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.classifier import AdmClassifier
from ilvrctl.models.files.inspection import inspect_file
from ilvrctl.models.files.loading import load_classifier, load_network

CPU = torch.device("cpu")
HIDDEN = HiddenFlags(num_head_channels=16)
POOLS: dict[Pool, int] = {"adaptive": 0, "attention": 17, "spatial": 48, "spatial_v2": 256}


def dse(dtype: torch.dtype = torch.float32) -> tuple[AdmClassifier, dict[str, Any]]:
    return load_classifier(GOLDEN / "dse.pt", HIDDEN, dtype=dtype, device=CPU), golden("dse.io.pt")


def small(pool: Pool, **other: Any) -> ClassifierArchitecture:
    facts: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 5,
        "model_channels": 32,
        "widths": (32, 64),
        "num_res_blocks": 2,
        "attention": (False, True),
        "resampling": "residual",
        "hidden": HIDDEN,
        "pool": pool,
        "head": POOLS[pool],
    }
    return ClassifierArchitecture(**{**facts, **other})


def build(architecture: ClassifierArchitecture, seed: int = 0) -> AdmClassifier:
    with torch.device("meta"):
        network = AdmClassifier(architecture)
    network.load_state_dict(random_state_dict(architecture, seed), assign=True)
    return network.requires_grad_(False).eval()


def inferred(shapes: Mapping[str, tuple[int, ...]], hidden: HiddenFlags = HIDDEN) -> ClassifierArchitecture:
    return read_classifier(Shapes(shapes, "guided-diffusion classifier"), hidden)


def pictures(batch: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_features_of_the_published_extractor() -> None:
    network, io = dse()
    features = network.features(io["x"], io["t"])
    assert features.shape == io["features"].shape
    assert float((features - io["features"]).abs().max() / io["features"].abs().max()) < 1e-5


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.04), (torch.float16, 0.005)])
def test_half_precision_is_close(dtype: torch.dtype, bound: float) -> None:
    network, io = dse(dtype)
    features = network.features(io["x"], io["t"])
    assert features.dtype == torch.float32
    assert float((features - io["features"]).norm() / io["features"].norm()) < bound


def cosine(network: AdmClassifier, y: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """EGSDE's energy: the mean over the pixels of the cosine between the features' channels, in float64."""
    return F.cosine_similarity(network.features(y, t).double(), network.features(x, t).double()).mean()


def test_the_gradient_of_the_features_reaches_the_picture_and_is_the_slope() -> None:
    network, io = dse()
    x, t = io["x"], io["t"]
    y = pictures(2, 32, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(cosine(network, y, x, t), y)
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    direction = gradient / gradient.norm()
    step = 0.05
    with torch.no_grad():
        higher, lower = (float(cosine(network, y + s * direction, x, t)) for s in (step, -step))
    assert (higher - lower) / (2 * step) == pytest.approx(float(gradient.norm()), rel=0.01)


def test_the_differentiable_path_has_the_same_features() -> None:
    network, io = dse()
    with torch.enable_grad():
        features = network.features(io["x"].clone().requires_grad_(), io["t"])
    assert float((features.detach() - io["features"]).abs().max() / io["features"].abs().max()) < 1e-5


@pytest.mark.parametrize("resampling", ["residual", "convolution", "pooling"])
@pytest.mark.parametrize("pool", POOLS)
def test_any_classifier_is_recovered_from_its_tensors(pool: Pool, resampling: str) -> None:
    architecture = small(pool, resampling=resampling)
    network = build(architecture)
    shapes = {name: tuple(x.shape) for name, x in network.state_dict().items()}
    assert list(shapes) == list(architecture.parameter_shapes())
    assert inferred(shapes) == architecture
    logits = network(pictures(3, 8), torch.tensor([3.0, 500, 900]))
    assert logits.shape == (3, 5)
    assert float(logits.std()) > 0.01


def test_the_published_classifier_of_256_pixels_is_recognised() -> None:
    widths, attention = (128, 128, 256, 256, 512, 512), (False, False, False, True, True, True)
    hidden = HiddenFlags(num_head_channels=64)
    openai = ClassifierArchitecture(
        3, 1000, 128, widths, 2, attention, "residual", hidden=hidden, pool="attention", head=65
    )
    shapes = openai.parameter_shapes()
    assert inferred(shapes, hidden) == openai
    assert openai.downsample_factor == 32
    assert math.prod(shapes["out.2.c_proj.weight"]) == 1000 * 512


def test_the_attention_pool_is_the_attention_of_the_mean() -> None:
    network = build(small("attention"))
    h = torch.randn(2, 64, 4, 4, generator=torch.Generator().manual_seed(2))
    w = network.out[2].state_dict()
    tokens = torch.cat([h.mean((2, 3))[:, :, None], h.flatten(2)], dim=2) + w["positional_embedding"]
    qkv = torch.einsum("oc,bcn->bon", w["qkv_proj.weight"][:, :, 0], tokens) + w["qkv_proj.bias"][:, None]
    q, k, v = (part.view(2, 4, 16, 17) for part in qkv.chunk(3, dim=1))
    weights = (torch.einsum("bhcn,bhcm->bhnm", q, k) / 4).softmax(-1)
    a = torch.einsum("bhnm,bhcm->bhcn", weights, v).reshape(2, 64, 17)
    expected = torch.einsum("oc,bcn->bon", w["c_proj.weight"][:, :, 0], a) + w["c_proj.bias"][:, None]
    torch.testing.assert_close(network.out[2](h), expected[:, :, 0])


def test_the_head_has_two_names() -> None:
    assert bare_name("I2Iout.2.c_proj.bias") == "out.2.c_proj.bias"
    assert bare_name("input_blocks.0.0.weight") == "input_blocks.0.0.weight"
    network, io = dse()
    assert network(io["x"], io["t"]).shape == (2, 2)
    assert inspect_file(GOLDEN / "dse.pt").facts["pool"] == "attention"


def test_sizes() -> None:
    network = build(small("attention"))
    t = torch.tensor([5.0])
    assert network.features(pictures(1, 16), t).shape == (1, 64, 8, 8)
    with pytest.raises(UsageError, match="features of 16 pixels, not 8x8"):
        network(pictures(1, 16), t)
    with pytest.raises(UsageError, match="multiples of 2 pixels"):
        network.features(pictures(1, 7), t)


@pytest.mark.parametrize("pool", POOLS)
def test_a_classifier_learns(pool: Pool) -> None:
    torch.manual_seed(0)
    network = AdmClassifier(small(pool, num_res_blocks=1, out_channels=2))
    x, y = pictures(8, 8) + torch.arange(8).view(8, 1, 1, 1) % 2, torch.arange(8) % 2
    t = torch.full((8,), 100.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(network(x, t), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None for p in network.parameters())


def test_where_the_picture_is_halved_must_be_told_by_the_tensors() -> None:
    uniform = small("adaptive", widths=(32, 32, 32), num_res_blocks=1, attention=(False, False, False))
    with pytest.raises(WeightsError, match="do not tell where this classifier halves the picture"):
        inferred(uniform.parameter_shapes())
    convolutions = small("adaptive", widths=(32, 32, 32), attention=(False,) * 3, resampling="convolution")
    assert inferred(convolutions.parameter_shapes()) == convolutions


@pytest.mark.parametrize("name", sorted(small("attention").parameter_shapes()))
def test_any_tensor_missing_or_of_another_shape_is_named(name: str) -> None:
    shapes = small("attention").parameter_shapes()
    with pytest.raises(WeightsError, match=r"tensor \S+ (is missing|does not fit)"):
        inferred({k: v for k, v in shapes.items() if k != name})


def test_a_classifier_is_no_denoiser_and_a_denoiser_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"this is a classifier .*not a denoising network"):
        load_network(GOLDEN / "dse.pt", HIDDEN, device=CPU)
    path = write_small_network(tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="this is an ADM U-Net"):
        load_classifier(path, HIDDEN, device=CPU)
