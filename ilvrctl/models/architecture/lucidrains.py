"""What a Unet of lucidrains' denoising-diffusion-pytorch 2.0 and later looks like. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ilvrctl.models.architecture.blocks import Shape, affine


@dataclass(frozen=True)
class Attends:
    """Attention of a level: ``heads`` of ``channels`` each, ``full`` or linear in the number of pixels.

    ``memory``: keys and values that are learned beside those of the pixels.
    """

    full: bool
    heads: int
    channels: int
    memory: int


@dataclass(frozen=True)
class LucidrainsArchitecture:
    """Everything that fixes the network.

    ``width``: its ``dim``; ``widths``: channels that go into each level, and those of the middle. ``attention``:
    that of each level; ``middle``: that of the middle. ``self_condition``: the last clean estimate goes in, before
    the picture. ``theta``: the base of the frequencies that tell the level, which no tensor shows. ``HALF``: the
    parts whose convolutions may be in half precision.
    """

    in_channels: int
    out_channels: int
    width: int
    widths: tuple[int, ...]
    attention: tuple[Attends, ...]
    middle: Attends
    self_condition: bool = False
    num_classes: None = None
    theta: float = 10_000.0
    HALF: ClassVar[tuple[str, ...]] = ("downs", "mid_block1", "mid_attn", "mid_block2", "ups")

    @property
    def channels(self) -> int:
        """Channels of the pictures."""
        return self.in_channels // (2 if self.self_condition else 1)

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.attention)

    @property
    def downsample_factor(self) -> int:
        """What height and width in pixels must be multiples of."""
        return int(2 ** (self.levels - 1))

    @property
    def learns_variance(self) -> bool:
        """Whether the second half of the outputs is the variance."""
        return self.out_channels == 2 * self.channels

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor of the state dict."""
        return dict(self._shapes())

    def _shapes(self) -> Iterator[tuple[str, Shape]]:
        first, embedding, last = self.widths[0], 4 * self.width, self.levels - 1
        yield from affine("init_conv.", first, self.in_channels, 7, 7)
        yield from affine("time_mlp.1.", embedding, self.width)
        yield from affine("time_mlp.3.", embedding, embedding)
        for i, (into, out, plan) in enumerate(
            zip(self.widths, self.widths[1:], self.attention, strict=False)
        ):
            yield from self._level(f"downs.{i}.", (into, into, into), plan)
            if i < last:
                yield from affine(f"downs.{i}.3.1.", out, 4 * into, 1, 1)
            else:
                yield from affine(f"downs.{i}.3.", out, into, 3, 3)
            yield from self._level(f"ups.{last - i}.", (out + into, out + into, out), plan)
            yield from affine(f"ups.{last - i}.3.{'1.' if i > 0 else ''}", into, out, 3, 3)
        middle = self.widths[-1]
        yield from _block("mid_block1.", middle, middle, embedding)
        yield from _attention("mid_attn.", middle, self.middle)
        yield from _block("mid_block2.", middle, middle, embedding)
        yield from _block("final_res_block.", 2 * first, first, embedding)
        yield from affine("final_conv.", self.out_channels, first, 1, 1)

    def _level(self, name: str, widths: tuple[int, int, int], plan: Attends) -> Iterator[tuple[str, Shape]]:
        first, second, out = widths
        yield from _block(f"{name}0.", first, out, 4 * self.width)
        yield from _block(f"{name}1.", second, out, 4 * self.width)
        yield from _attention(f"{name}2.", out, plan)


def _block(name: str, into: int, out: int, embedding: int) -> Iterator[tuple[str, Shape]]:
    yield from affine(f"{name}mlp.1.", 2 * out, embedding)
    for number, width in ((1, into), (2, out)):
        yield from affine(f"{name}block{number}.proj.", out, width, 3, 3)
        yield f"{name}block{number}.norm.g", (1, out, 1, 1)
    if into != out:
        yield from affine(f"{name}res_conv.", out, into, 1, 1)


def _attention(name: str, width: int, plan: Attends) -> Iterator[tuple[str, Shape]]:
    inside = plan.heads * plan.channels
    size = (plan.memory, plan.channels) if plan.full else (plan.channels, plan.memory)
    yield f"{name}mem_kv", (2, plan.heads, *size)
    yield f"{name}norm.g", (1, width, 1, 1)
    yield f"{name}to_qkv.weight", (3 * inside, width, 1, 1)
    if plan.full:
        yield from affine(f"{name}to_out.", width, inside, 1, 1)
    else:
        yield from affine(f"{name}to_out.0.", width, inside, 1, 1)
        yield f"{name}to_out.1.g", (1, width, 1, 1)
