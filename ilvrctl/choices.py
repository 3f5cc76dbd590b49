"""The words that settings choose from, for their types and for the table of parameters alike."""

from __future__ import annotations

from typing import Literal

Fit = Literal["crop", "pad", "stretch", "native"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Speed = Literal["exact", "fast", "turbo"]
Mode = Literal["scribble", "paint"]
"""Ways of editing."""
ClassLabel = int | Literal["random", "none"] | None
