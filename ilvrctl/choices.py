"""The words that settings choose from, for their types and for the table of parameters alike."""

from __future__ import annotations

from typing import Literal

Fit = Literal["crop", "pad", "stretch", "native"]
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
