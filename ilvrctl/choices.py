"""The words that settings choose from, for their types and for the table of parameters alike."""

from __future__ import annotations

from typing import Literal, get_args

Fit = Literal["crop", "pad", "stretch", "native"]
FITTINGS = (*get_args(Fit), "grey", *(f"{fit}+grey" for fit in get_args(Fit)))
"""What is said of fitting: how inputs get the shape, and whether coloured ones become grey."""
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Speed = Literal["exact", "fast", "turbo"]
Mode = Literal["scribble", "paint"]
"""Ways of editing."""
Use = Literal["any", "non-commercial", "research", "unstated"]
"""What licences allow."""
Content = Literal[
    "guided-diffusion",
    "guided-diffusion-classifier",
    "openai-edm",
    "pesser-ddim",
    "diffusers",
    "rosinality",
    "lucidrains",
    "vgg",
    "inception",
    "statistics",
    "other",
]
"""What a file of weights turns out to be."""
ClassLabel = int | Literal["random", "none"] | None
