"""What a set of tensors is, by the names that only one format has. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A published format: ``marks`` are names (or parts of names) that all occur in it."""

    title: str
    marks: tuple[str, ...]
    lacks: tuple[str, ...] = ()


GUIDED_DIFFUSION = Format(
    "a guided-diffusion U-Net",
    ("time_embed.0.weight", "input_blocks.0.0.weight", "output_blocks.", "out.2.weight"),
    lacks=("transformer_blocks",),
)

FORMATS = (
    GUIDED_DIFFUSION,
    Format("a latent diffusion network (Stable Diffusion)", ("input_blocks.", "transformer_blocks")),
    Format("a latent diffusion network (Stable Diffusion)", ("first_stage_model.",)),
    Format("a guided-diffusion classifier", ("time_embed.0.weight", "input_blocks.0.0.weight"), ("output_blocks.",)),
    Format("a DDPM U-Net of pesser/ddim (SDEdit)", ("temb.dense.0.weight", "mid.block_1.")),
    Format("a U-Net of rosinality/denoising-diffusion-pytorch", ("down.0.weight", "time.1.weight")),
    Format("a diffusers UNet2DModel", ("conv_in.weight", "time_embedding.linear_1.weight")),
    Format("a VGG network", ("features.0.weight", "classifier.0.weight")),
    Format("a ResNet", ("layer1.0.conv1.weight", "fc.weight")),
    Format("an Inception network (FID)", ("Mixed_5b.",)),
)


def identify(names: Iterable[str]) -> Format | None:
    """The format that tensors with these names have, or None when it is none of :data:`FORMATS`."""
    known = list(names)

    def occurs(mark: str) -> bool:
        return any(mark in name if mark.endswith((".", "blocks")) else name == mark for name in known)

    for format_ in FORMATS:
        if all(occurs(mark) for mark in format_.marks) and not any(occurs(mark) for mark in format_.lacks):
            return format_
    return None
