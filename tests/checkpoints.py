"""Random-weight checkpoints in the published formats, for tests: no download needed."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from ilvrctl import paths
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.engine import Engine
from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags, Resampling
from ilvrctl.models.files.facts_header import facts_note
from ilvrctl.models.files.saving import read_safetensors, save_safetensors

DEFAULT_MULTIPLIERS = {
    512: "0.5,1,1,2,2,4,4",
    256: "1,1,2,2,4,4",
    128: "1,1,2,3,4",
    64: "1,2,3,4",
}

ILVR_ADM_256: Mapping[str, Any] = {
    "image_size": 256,
    "num_channels": 128,
    "num_res_blocks": 1,
    "num_head_channels": 64,
    "attention_resolutions": "16",
    "resblock_updown": True,
    "use_scale_shift_norm": True,
    "learn_sigma": True,
}


def hidden_of(flags: Mapping[str, Any]) -> HiddenFlags:
    """The flags that the tensors do not show, out of a set of published flags."""
    return HiddenFlags(
        num_heads=flags.get("num_heads"),
        num_head_channels=flags.get("num_head_channels"),
        num_heads_upsample=flags.get("num_heads_upsample"),
        use_new_attention_order=flags.get("use_new_attention_order", False),
    )


def architecture_of(flags: Mapping[str, Any]) -> AdmArchitecture:
    """The architecture that the published code builds from ``flags`` (its own names and defaults)."""
    size, channels = flags["image_size"], flags["num_channels"]
    multipliers = flags.get("channel_mult") or DEFAULT_MULTIPLIERS[size]
    widths = tuple(int(float(m) * channels) for m in multipliers.split(","))
    resolutions = {int(r) for r in flags["attention_resolutions"].split(",") if r}
    resampling: Resampling = "convolution" if flags.get("conv_resample", True) else "pooling"
    return AdmArchitecture(
        in_channels=3,
        out_channels=6 if flags.get("learn_sigma") else 3,
        model_channels=channels,
        widths=widths,
        num_res_blocks=flags["num_res_blocks"],
        attention=tuple(size // 2**level in resolutions for level in range(len(widths))),
        resampling="residual" if flags.get("resblock_updown") else resampling,
        use_scale_shift_norm=flags.get("use_scale_shift_norm", True),
        num_classes=1000 if flags.get("class_cond") else None,
        hidden=hidden_of(flags),
    )


class HasShapes(Protocol):
    """An architecture of any kind."""

    def parameter_shapes(self) -> Mapping[str, tuple[int, ...]]: ...


def random_state_dict(
    architecture: HasShapes, seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Weights that keep every layer alive (none is zero) and features and outputs of order one."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in architecture.parameter_shapes().items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            noise *= 1 / math.sqrt(math.prod(shape[1:]))
        elif name.endswith("weight"):  # of a normalisation
            noise = 1 + 0.1 * noise
        else:
            noise *= 0.1
        weights[name] = noise.to(dtype)
    return weights


def write_random_checkpoint(
    path: Path,
    flags: Mapping[str, Any] | AdmArchitecture,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a random network (published flags or an architecture) as a bare state dict; returns ``path``."""
    architecture = flags if isinstance(flags, AdmArchitecture) else architecture_of(flags)
    torch.save(random_state_dict(architecture, seed, dtype), path)
    return path


def write_ilvr_adm_256(path: Path, seed: int = 0) -> Path:
    """The 256 px network of ilvr_adm's published models (93.6 M parameters, 374 MB) with random weights.

    Its hidden flags are ``num_head_channels=64`` and the legacy attention order.
    """
    return write_random_checkpoint(path, ILVR_ADM_256, seed)


def write_small_network(path: Path, seed: int = 0) -> Path:
    """A 32 px network with random weights that loads in no time; its hidden flag is ``num_heads=2``."""
    flags = {
        "image_size": 32,
        "num_channels": 32,
        "channel_mult": "1,2",
        "num_res_blocks": 1,
        "num_heads": 2,
        "attention_resolutions": "16",
    }
    return write_random_checkpoint(path, flags, seed)


def write_small_target(path: Path, image_size: int = 16, levels: int = 1, seed: int = 0) -> Path:
    """A network that takes a few milliseconds and says all of itself, for ``--weights`` alone.

    It makes noise, the same each time.
    """
    hidden = HiddenFlags(num_heads=1)
    architecture = AdmArchitecture(3, 3, 32, (32,) * levels, 1, (False,) * levels, hidden=hidden)
    facts = {
        "image_size": image_size,
        "num_heads": 1,
        "use_new_attention_order": False,
        "noise_schedule": "linear",
        "diffusion_steps": 1000,
        "predicts": "v",
        "variance": "fixed_small",
    }
    save_safetensors(path, random_state_dict(architecture, seed), facts_note(facts))
    return path


def still_engine() -> Engine:
    """A network that finds no noise in anything."""
    return Engine(
        denoiser=Denoiser(lambda x, t, y: 0 * x),
        schedule=Schedule.named("linear", 1000),
        image_size=64,
        device=torch.device("cpu"),
        dtype=torch.float32,
        batch_size=2,
    )


def rezipped(
    weights: Mapping[str, torch.Tensor],
    change: Callable[[bytes], bytes] = bytes,
    method: int = zipfile.ZIP_STORED,
) -> bytes:
    """A file of ``torch.save`` packed anew, with the largest record changed and the sums right for that."""
    plain, packed = io.BytesIO(), io.BytesIO()
    torch.save(dict(weights), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", method) as new:
        largest = max((i for i in old.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, change(content) if entry is largest else content)
    return packed.getvalue()


def with_a_hole(weights: Mapping[str, torch.Tensor]) -> bytes:
    """A file of ``torch.save`` with zeros in the middle of its largest record, and the sums of before."""
    content = bytearray(rezipped(weights))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        largest = max((i for i in archive.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
        at = content.find(archive.read(largest)[:256]) + 512
    content[at : at + 512] = bytes(512)
    return bytes(content)


def bomb(content: object) -> bytes:
    """A zip as of ``torch.save``, with ``content`` as its pickle."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps(content, 2))
        archive.writestr("bomb/version", "3\n")
    return packed.getvalue()


def bare_copy(path: Path) -> Path:
    """The shipped weights without the facts in their header, which hides what guided-diffusion's files hide."""
    save_safetensors(path, read_safetensors(paths.DATA / "emoji3d-64.safetensors")[0], {})
    return path
