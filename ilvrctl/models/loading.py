"""From a checkpoint file to a network that is ready to run, and what can be told about a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ilvrctl.errors import WeightsError
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture import AdmArchitecture, HiddenFlags, infer_architecture
from ilvrctl.models.checkpoint import Checkpoint, cast_tensors, open_checkpoint
from ilvrctl.models.formats import GUIDED_DIFFUSION, identify

UNKNOWN = (
    "heads of the attention (num_heads or num_head_channels)",
    "order of the attention (use_new_attention_order)",
    "picture size (image_size)",
    "noise schedule (noise_schedule, diffusion_steps)",
    "what it predicts (predicts)",
)
"""What no tensor of a guided-diffusion network tells."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What a file tells about itself. ``parameters`` is a count, ``tensor_bytes`` the bytes of all tensors."""

    path: Path
    format: str
    container: tuple[str, ...]
    parameters: int
    tensor_bytes: int
    dtypes: tuple[str, ...]
    architecture: AdmArchitecture
    unknown: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """As plain values for people and programs."""
        net = self.architecture
        return {
            "file": self.path.name,
            "format": self.format + (f" (in {'.'.join(self.container)})" if self.container else ""),
            "parameters": self.parameters,
            "tensor_bytes": self.tensor_bytes,
            "precision": list(self.dtypes),
            "num_channels": net.model_channels,
            "channel_mult": [f"{mult:g}" for mult in net.channel_mult],
            "num_res_blocks": net.num_res_blocks,
            "attention_at": [f"size/{factor}" for factor in net.attention_factors],
            "resampling": net.resampling,
            "use_scale_shift_norm": net.use_scale_shift_norm,
            "classes": net.num_classes or 0,
            "learn_sigma": net.learns_variance,
            "size_multiple_of": net.downsample_factor,
            "not_in_the_file": list(self.unknown),
        }


def inspect_file(path: Path) -> CheckpointInfo:
    """What a checkpoint is, from the names and shapes of its tensors; no weights are read.

    WeightsError when it is no guided-diffusion network, saying what it is.
    """
    checkpoint = open_checkpoint(path)
    _require_guided_diffusion(checkpoint)
    # Any number of heads fits the shapes; the file does not tell it.
    architecture = infer_architecture(checkpoint.shapes(), HiddenFlags(num_heads=1))
    tensors = checkpoint.tensors.values()
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)
    unknown = UNKNOWN if architecture.learns_variance else (*UNKNOWN, "which fixed variance (variance)")
    return CheckpointInfo(
        path=path,
        format=GUIDED_DIFFUSION.title,
        container=checkpoint.container,
        parameters=sum(tensor.numel() for tensor in tensors),
        tensor_bytes=sum(tensor.nbytes for tensor in tensors),
        dtypes=tuple(name for name, _ in dtypes.most_common()),
        architecture=architecture,
        unknown=unknown,
    )


def load_network(
    path: Path, hidden: HiddenFlags, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> AdmUNet:
    """The network in a guided-diffusion checkpoint, for inference: no gradients, convolutions in ``dtype``.

    It is built on the meta device and given the file's tensors, which stay mapped where nothing must be cast, so
    that loading peaks near the size of the weights. WeightsError when the file is something else, is damaged, or
    does not fit the format; also when ``hidden`` lacks the number of heads.
    """
    checkpoint = open_checkpoint(path)
    _require_guided_diffusion(checkpoint)
    architecture = infer_architecture(checkpoint.shapes(), hidden)
    with torch.device("meta"):
        network = AdmUNet(architecture)
    convolutions = network.convolution_parameters()
    weights = cast_tensors(checkpoint, lambda name: dtype if name in convolutions else torch.float32)
    del checkpoint
    network.load_state_dict(weights, strict=True, assign=True)
    network.requires_grad_(False).eval()
    network.to_precision(dtype)
    if torch.device(device).type == "cpu":
        return network  # contiguous weights: mapped ones stay mapped, and the CPU kernels repack either way
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _require_guided_diffusion(checkpoint: Checkpoint) -> None:
    found = identify(checkpoint.tensors)
    if found is GUIDED_DIFFUSION:
        return
    first = ", ".join(list(checkpoint.tensors)[:3])
    what = found.title if found is not None else f"no diffusion network that ilvrctl knows (tensors: {first}, ...)"
    raise WeightsError(
        f"{checkpoint.path.name} is {what}; ilvrctl runs guided-diffusion U-Nets",
        hint="ilvrctl presets lists the models that work",
    )
