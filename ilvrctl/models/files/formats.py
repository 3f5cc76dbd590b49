"""The checkpoint formats that can be told from the names of their tensors. No torch here.

A format is one row of :data:`FORMATS`; the first row that fits wins. The formats that can be read have a row in
``readers.py`` too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A kind of network and how to know it.

    ``starts``: some tensor name must begin with each of these; ``lacks``: none may begin with one of these.
    ``what`` completes the sentence "this is ...". ``denoises``: a denoising network that can be read.
    """

    name: str
    what: str
    starts: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    denoises: bool = False

    def fits(self, names: Iterable[str]) -> bool:
        """Whether tensors of these ``names`` have this format."""
        known = tuple(names)
        return all(any(n.startswith(start) for n in known) for start in self.starts) and not any(
            n.startswith(lack) for n in known for lack in self.lacks
        )


GUIDED_DIFFUSION = "guided-diffusion"
CLASSIFIER = "guided-diffusion-classifier"
PESSER = "pesser-ddim"
DIFFUSERS = "diffusers"

FORMATS: tuple[Format, ...] = (
    Format(
        "stable-diffusion",
        "a Stable Diffusion or other latent-diffusion model, which does not work on pixels",
        ("model.diffusion_model.",),
    ),
    Format("latent-diffusion-unet", "the U-Net of a latent-diffusion model", ("diffusion_model.",)),
    Format(
        "text-conditional-unet",
        "a U-Net with text conditioning, as in Stable Diffusion",
        ("time_embed.0.", "input_blocks.1.1.transformer_blocks."),
    ),
    Format(
        GUIDED_DIFFUSION,
        "an ADM U-Net in the guided-diffusion format",
        ("time_embed.0.", "input_blocks.0.0.", "output_blocks.0."),
        denoises=True,
    ),
    Format(
        CLASSIFIER,
        "a classifier (or feature extractor) in the guided-diffusion format, not a denoising network",
        ("time_embed.0.", "input_blocks.0.0."),
        lacks=("output_blocks.",),
    ),
    Format(
        PESSER,
        "a model of pesser's pytorch_diffusion or of ddim (SDEdit, EGSDE's CelebA-HQ)",
        ("temb.dense.0.weight", "conv_in.weight"),
        denoises=True,
    ),
    Format(
        "rosinality",
        "a model of rosinality's denoising-diffusion-pytorch, which cannot be read: its versions differ in heads, "
        "attention and noise schedule, and no tensor tells them",
        ("down.0.weight", "time.1.weight"),
    ),
    Format(
        DIFFUSERS,
        "a diffusers UNet2DModel",
        ("conv_in.weight", "time_embedding.linear_1.weight"),
        denoises=True,
    ),
)


def identify(names: Iterable[str]) -> Format | None:
    """The format of a state dict with these tensor ``names`` (prefixes removed), or None."""
    known = tuple(names)
    return next((row for row in FORMATS if row.fits(known)), None)
