"""The encoder and the middle that U-Nets and classifiers share. No torch here.

Source: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis" (ADM) and its published
checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from ilvrctl.models.architecture.blocks import (
    ADM,
    Attention,
    Block,
    Conventions,
    Down,
    Res,
    Shape,
    Stem,
    embedding_shapes,
    layer_shapes,
    norm_widths,
)
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes

Resampling: TypeAlias = Literal["residual", "convolution", "pooling"]
Layout: TypeAlias = tuple[Resampling, int, int]
"""Kind of resampling, residual blocks per level, levels."""


@dataclass(frozen=True)
class TrunkArchitecture:
    """Everything that fixes the encoder and the middle block.

    ``widths``: channels per level, finest first (``channel_mult`` times ``model_channels``; fractions are
    allowed there). ``attention``: whether attention follows the residual blocks of each level, and
    ``middle_attention`` those of the middle (always in guided-diffusion). ``resampling``: residual blocks
    (``resblock_updown``), a convolution, or neither (``conv_resample=False``). ``out_channels``: what comes out
    of the whole network. ``HALF``: the parts whose convolutions may be in half precision.
    """

    in_channels: int
    out_channels: int
    model_channels: int
    widths: tuple[int, ...]
    num_res_blocks: int
    attention: tuple[bool, ...]
    resampling: Resampling = "convolution"
    use_scale_shift_norm: bool = True
    hidden: HiddenFlags = field(default_factory=HiddenFlags)
    middle_attention: bool = True
    conventions: Conventions = ADM
    self_condition: ClassVar[bool] = False
    HALF: ClassVar[tuple[str, ...]] = ("input_blocks", "middle_block")

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.widths)

    @property
    def downsample_factor(self) -> int:
        """What height and width in pixels must be multiples of."""
        return int(2 ** (self.levels - 1)) * self.conventions.fold

    @property
    def channels(self) -> int:
        """Channels of the pictures: 1 (grey), 3, or 4 (with an alpha)."""
        return self.in_channels // self.conventions.fold**2

    @property
    def channel_mult(self) -> tuple[float, ...]:
        """Width of each level over ``model_channels``."""
        return tuple(width / self.model_channels for width in self.widths)

    @property
    def attention_factors(self) -> tuple[int, ...]:
        """Downsampling factors of the levels with attention: picture size / ``attention_resolutions``."""
        return tuple(2**level for level, has in enumerate(self.attention) if has)

    @property
    def embedding_width(self) -> int:
        """Channels of the time embedding."""
        return 4 * self.model_channels

    def encoder(self) -> tuple[Block, ...]:
        """Blocks of ``input_blocks``, in order."""
        blocks: list[Block] = [(Stem(self.in_channels, self.widths[0]),)]
        into = self.widths[0]
        for level, width in enumerate(self.widths):
            for _ in range(self.num_res_blocks):
                blocks.append((Res(into, width), *self.attention_at(level)))
                into = width
            if level < self.levels - 1:
                blocks.append((self._down(width),))
        return tuple(blocks)

    def middle(self) -> Block:
        """The layers of ``middle_block``."""
        width = self.widths[-1]
        attention = (Attention(width, self.hidden.heads(width)),) if self.middle_attention else ()
        return Res(width, width), *attention, Res(width, width)

    def attention_at(self, level: int, *, decoder: bool = False) -> Block:
        """The attention that follows a residual block of ``level``, if any."""
        width = self.widths[level]
        return (Attention(width, self.hidden.heads(width, decoder=decoder)),) if self.attention[level] else ()

    def encoder_widths(self) -> tuple[int, ...]:
        """Channels that come out of each block of the encoder."""
        widths = [self.widths[0]]
        for level, width in enumerate(self.widths):
            widths += [width] * (self.num_res_blocks + (level < self.levels - 1))
        return tuple(widths)

    def embedding_shapes(self) -> dict[str, Shape]:
        """Names and shapes of the tensors of the time embedding."""
        return embedding_shapes(self.model_channels, self.embedding_width)

    def trunk_blocks(self) -> list[tuple[str, Block]]:
        """The blocks of encoder and middle by name."""
        return [
            *((f"input_blocks.{i}", block) for i, block in enumerate(self.encoder())),
            ("middle_block", self.middle()),
        ]

    def block_shapes(self, blocks: Iterable[tuple[str, Block]]) -> dict[str, Shape]:
        """Names and shapes of the tensors of named ``blocks``."""
        return {
            f"{name}.{j}.{suffix}": shape
            for name, block in blocks
            for j, layer in enumerate(block)
            for suffix, shape in layer_shapes(layer, self.embedding_width, self.use_scale_shift_norm).items()
        }

    def _down(self, width: int) -> Res | Down:
        residual = self.resampling == "residual"
        return Res(width, width, "down") if residual else Down(width, self.resampling == "convolution")


def read_trunk(
    shapes: Shapes,
    layout: Layout,
    out_channels: int,
    hidden: HiddenFlags,
    conventions: Conventions = ADM,
) -> TrunkArchitecture:
    """The encoder in ``shapes``, once its ``layout`` is known. WeightsError that names what does not fit."""
    resampling, num_res_blocks, levels = layout
    firsts = [1 + level * (num_res_blocks + 1) for level in range(levels)]
    widths = tuple(shapes.shape(f"input_blocks.{i}.0.in_layers.2.weight", 4)[0] for i in firsts)
    rows = shapes.shape("middle_block.0.emb_layers.1.weight", 2)[0]
    return TrunkArchitecture(
        in_channels=shapes.shape("input_blocks.0.0.weight", 4)[1],
        out_channels=out_channels,
        model_channels=shapes.shape("time_embed.0.weight", 2)[1],
        widths=widths,
        num_res_blocks=num_res_blocks,
        attention=tuple(
            any(has_attention(shapes, i) for i in range(first, first + num_res_blocks)) for first in firsts
        ),
        resampling=resampling,
        use_scale_shift_norm=rows == 2 * widths[-1],
        hidden=hidden,
        middle_attention="middle_block.1.in_layers.0.weight" not in shapes,
        conventions=conventions,
    )


def has_attention(shapes: Shapes, block: int) -> bool:
    """Whether attention follows the residual block number ``block`` of the encoder."""
    return f"input_blocks.{block}.1.qkv.weight" in shapes


def check(
    shapes: Shapes,
    architecture: TrunkArchitecture,
    expected: Mapping[str, Shape],
    blocks: Iterable[tuple[str, Block]],
) -> None:
    """WeightsError unless ``shapes`` are just as ``expected``, and the widths of ``blocks`` can be normalised."""
    shapes.compare(expected)
    widths = (width for _, block in blocks for layer in block for width in norm_widths(layer))
    shapes.check_groups(widths, architecture.conventions.groups)
