"""The formats of checkpoints: one row each, and the first that fits wins. No torch here.

A format that can be read has a reader, which is one file in ``readers``; the others are in ``foreign.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ilvrctl.models.architecture.blocks import Shape
from ilvrctl.models.files import foreign
from ilvrctl.models.files.rows import Format, has

GUIDED_DIFFUSION = "guided-diffusion"
CLASSIFIER = "guided-diffusion-classifier"
_READERS = "ilvrctl.models.files.readers"


def _edm(tensors: Mapping[str, Shape]) -> bool:
    """Names of guided-diffusion, and weights of attention with four dimensions."""
    named = "time_embed.0.weight" in tensors and any(name.startswith("output_blocks.") for name in tensors)
    return named and len(tensors.get("middle_block.1.qkv.weight", ())) == 4


FORMATS: tuple[Format, ...] = (
    *foreign.EARLY,
    Format(
        "openai-edm",
        "a network of OpenAI's EDM (consistency_models)",
        _edm,
        f"{_READERS}.edm",
        states=True,
    ),
    Format(
        GUIDED_DIFFUSION,
        "an ADM U-Net in the guided-diffusion format",
        has("time_embed.0.", "input_blocks.0.0.", "output_blocks.0."),
        f"{_READERS}.adm",
    ),
    Format(
        CLASSIFIER,
        "a classifier (or feature extractor) in the guided-diffusion format, not a denoising network",
        has("time_embed.0.", "input_blocks.0.0.", lacks=("output_blocks.",)),
        f"{_READERS}.classifier",
        denoises=False,
    ),
    Format(
        "pesser-ddim",
        "a model of pesser's pytorch_diffusion or of ddim (SDEdit, EGSDE's CelebA-HQ)",
        has("temb.dense.0.weight", "conv_in.weight"),
        f"{_READERS}.pesser",
    ),
    Format(
        "rosinality",
        "a model of rosinality's denoising-diffusion-pytorch",
        has("down.0.weight", "time.1.weight"),
        f"{_READERS}.rosinality",
        states=True,
    ),
    Format(
        "lucidrains",
        "a Unet of lucidrains' denoising-diffusion-pytorch (2.0 or later)",
        foreign.lucidrains,
        f"{_READERS}.lucidrains",
        states=True,
        release=foreign.lucidrains_release,
    ),
    Format(
        "diffusers",
        "a diffusers UNet2DModel",
        has("conv_in.weight", "time_embedding.linear_1.weight"),
        f"{_READERS}.diffusers",
    ),
    *foreign.LATE,
)


def identify(tensors: Mapping[str, Any] | Iterable[str], *, readable: bool = False) -> Format | None:
    """The format of a state dict (prefixes removed), or None: ``tensors`` by name, or their names alone.

    ``readable``: only of those that can be read.
    """
    shapes = {
        name: tuple(getattr(x, "shape", x))
        for name, x in (tensors.items() if isinstance(tensors, Mapping) else ((name, ()) for name in tensors))
    }
    rows = (row for row in FORMATS if row.readable or not readable)
    return next((row for row in rows if row.recognise(shapes)), None)


def readable_hint() -> str:
    """Which networks can be read, as a hint."""
    names = [row.name for row in FORMATS if row.denoises and row.readable]
    return f"networks of {', '.join(names)} can be read"
