"""What an ADM U-Net looks like, read from the names and shapes of its tensors. No torch here.

Source: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis" (ADM) and its published
checkpoints (the guided-diffusion format, which improved-diffusion and ilvr_adm share).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NoReturn, TypeAlias

from ilvrctl.errors import WeightsError
from ilvrctl.models.hidden import HiddenFlags
from ilvrctl.models.plan import (
    NORM_GROUPS,
    Attention,
    Block,
    Down,
    Res,
    Shape,
    Stem,
    Up,
    head_shapes,
    layer_shapes,
    norm_widths,
)

__all__ = ["AdmArchitecture", "HiddenFlags", "Resampling", "infer_architecture"]

Resampling: TypeAlias = Literal["residual", "convolution", "pooling"]


@dataclass(frozen=True)
class AdmArchitecture:
    """Everything that fixes an ADM U-Net.

    ``widths``: channels per level, finest first (``channel_mult`` times ``model_channels``; fractions are
    allowed there). ``attention``: whether attention follows the residual blocks of each level (the middle
    always has it). ``resampling``: residual blocks (``resblock_updown``), a convolution, or neither
    (``conv_resample=False``). ``out_channels``: twice ``in_channels`` when the variance is learned.
    """

    in_channels: int
    out_channels: int
    model_channels: int
    widths: tuple[int, ...]
    num_res_blocks: int
    attention: tuple[bool, ...]
    resampling: Resampling = "convolution"
    use_scale_shift_norm: bool = True
    num_classes: int | None = None
    hidden: HiddenFlags = field(default_factory=HiddenFlags)

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.widths)

    @property
    def downsample_factor(self) -> int:
        """What height and width in pixels must be multiples of."""
        return int(2 ** (self.levels - 1))

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

    @property
    def learns_variance(self) -> bool:
        """Whether the second half of the outputs is the variance."""
        return self.out_channels == 2 * self.in_channels

    def encoder(self) -> tuple[Block, ...]:
        """Blocks of ``input_blocks``, in order; the output of each is a skip connection."""
        blocks: list[Block] = [(Stem(self.in_channels, self.widths[0]),)]
        into = self.widths[0]
        for level, width in enumerate(self.widths):
            for _ in range(self.num_res_blocks):
                blocks.append((Res(into, width), *self._attention(level)))
                into = width
            if level < self.levels - 1:
                blocks.append((self._down(width),))
        return tuple(blocks)

    def middle(self) -> Block:
        """The layers of ``middle_block``."""
        width = self.widths[-1]
        return Res(width, width), Attention(width, self.hidden.heads(width)), Res(width, width)

    def decoder(self) -> tuple[Block, ...]:
        """Blocks of ``output_blocks``: each takes the last output joined with the newest skip connection."""
        skips = [self.widths[0]]
        for level, width in enumerate(self.widths):
            skips += [width] * (self.num_res_blocks + (level < self.levels - 1))
        blocks: list[Block] = []
        into = self.widths[-1]
        for level in reversed(range(self.levels)):
            width = self.widths[level]
            for i in range(self.num_res_blocks + 1):
                up = (self._up(width),) if level and i == self.num_res_blocks else ()
                blocks.append((Res(into + skips.pop(), width), *self._attention(level, decoder=True), *up))
                into = width
        return tuple(blocks)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor of the state dict, in the published order."""
        embedding = self.embedding_width
        shapes, after = head_shapes(self.model_channels, embedding, self.widths[0], self.out_channels)
        if self.num_classes is not None:
            shapes["label_emb.weight"] = (self.num_classes, embedding)
        blocks = [(f"input_blocks.{i}", block) for i, block in enumerate(self.encoder())]
        blocks.append(("middle_block", self.middle()))
        blocks += [(f"output_blocks.{i}", block) for i, block in enumerate(self.decoder())]
        for name, block in blocks:
            for j, layer in enumerate(block):
                for suffix, shape in layer_shapes(layer, embedding, self.use_scale_shift_norm).items():
                    shapes[f"{name}.{j}.{suffix}"] = shape
        return shapes | after

    def _attention(self, level: int, *, decoder: bool = False) -> Block:
        width = self.widths[level]
        return (Attention(width, self.hidden.heads(width, decoder=decoder)),) if self.attention[level] else ()

    def _down(self, width: int) -> Res | Down:
        residual = self.resampling == "residual"
        return Res(width, width, "down") if residual else Down(width, self.resampling == "convolution")

    def _up(self, width: int) -> Res | Up:
        residual = self.resampling == "residual"
        return Res(width, width, "up") if residual else Up(width, self.resampling == "convolution")


def infer_architecture(shapes: Mapping[str, Shape], hidden: HiddenFlags) -> AdmArchitecture:
    """The architecture whose tensors are exactly ``shapes`` (name -> shape), completed by ``hidden``.

    Raises :class:`WeightsError` that names the first tensor that does not fit, or says that the number of
    heads is unknown.
    """
    resampling, num_res_blocks, levels = _layout(shapes)
    firsts = [(levels - 1 - level) * (num_res_blocks + 1) for level in range(levels)]
    widths = tuple(_shape(shapes, f"output_blocks.{j}.0.in_layers.2.weight", 4)[0] for j in firsts)
    rows = _shape(shapes, "middle_block.0.emb_layers.1.weight", 2)[0]
    classes = _shape(shapes, "label_emb.weight", 2)[0] if "label_emb.weight" in shapes else None
    architecture = AdmArchitecture(
        in_channels=_shape(shapes, "input_blocks.0.0.weight", 4)[1],
        out_channels=_shape(shapes, "out.2.weight", 4)[0],
        model_channels=_shape(shapes, "time_embed.0.weight", 2)[1],
        widths=widths,
        num_res_blocks=num_res_blocks,
        attention=tuple(_has_attention(shapes, range(j, j + num_res_blocks + 1)) for j in firsts),
        resampling=resampling,
        use_scale_shift_norm=rows == 2 * widths[-1],
        num_classes=classes,
        hidden=hidden,
    )
    _compare(architecture.parameter_shapes(), shapes)
    _check_groups(architecture)
    return architecture


def _layout(shapes: Mapping[str, Shape]) -> tuple[Resampling, int, int]:
    """Kind of resampling, residual blocks per level, levels: from the places of the down and up layers.

    The decoder has ``num_res_blocks + 1`` blocks per level, and the last of every level but the finest ends
    with an up layer. One without tensors is invisible; then the down layer is a hole in ``input_blocks``.
    """
    inputs, outputs = set(_indices(shapes, "input_blocks.")), set(_indices(shapes, "output_blocks."))
    if not outputs:
        _missing("output_blocks.0.0.in_layers.0.weight")
    count = max(outputs) + 1
    for j in range(count):
        for k in (1, 2):
            if f"output_blocks.{j}.{k}.conv.weight" in shapes:
                return _even("convolution", j, count)
            if f"output_blocks.{j}.{k}.in_layers.2.weight" in shapes:
                return _even("residual", j, count)
    holes = [i for i in range(count) if i not in inputs]
    return _even("pooling", holes[0] - 1, count) if holes else _even("convolution", count - 1, count)


def _even(resampling: Resampling, num_res_blocks: int, count: int) -> tuple[Resampling, int, int]:
    """The layout, if ``count`` decoder blocks fall into levels of ``num_res_blocks + 1``."""
    if num_res_blocks < 1 or count % (num_res_blocks + 1):
        _misfit(f"output_blocks.{count - 1}.0.in_layers.0.weight", "the blocks do not fall into even levels")
    return resampling, num_res_blocks, count // (num_res_blocks + 1)


def _indices(shapes: Mapping[str, Shape], prefix: str) -> Iterator[int]:
    for name in shapes:
        if name.startswith(prefix):
            number = name[len(prefix) :].partition(".")[0]
            if not (number.isascii() and number.isdigit() and len(number) < 5):
                _misfit(name, "a block has a number there")
            yield int(number)


def _has_attention(shapes: Mapping[str, Shape], blocks: range) -> bool:
    return any(f"output_blocks.{j}.1.qkv.weight" in shapes for j in blocks)


def _shape(shapes: Mapping[str, Shape], name: str, dimensions: int) -> Shape:
    if name not in shapes:
        _missing(name)
    if len(shapes[name]) != dimensions or min(shapes[name]) < 1:
        _misfit(name, f"its shape is {_times(shapes[name])}, expected {dimensions} dimensions")
    return shapes[name]


def _compare(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> None:
    for name, shape in expected.items():
        if name not in found:
            _missing(name)
        if found[name] != shape:
            _misfit(name, f"its shape is {_times(found[name])}, expected {_times(shape)}")
    for name in found:
        if name not in expected:
            _misfit(name, "the rest of the network has no place for it")


def _check_groups(architecture: AdmArchitecture) -> None:
    for block in (*architecture.encoder(), architecture.middle(), *architecture.decoder()):
        for layer in block:
            for width in norm_widths(layer):
                if width % NORM_GROUPS:
                    raise WeightsError(
                        f"this network has a layer of {width} channels; the guided-diffusion format "
                        f"normalises in {NORM_GROUPS} groups, which do not divide it"
                    )


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


_HINT = "only whole networks of the guided-diffusion format can be read"


def _missing(name: str) -> NoReturn:
    raise WeightsError(f"not a whole guided-diffusion network: tensor {name} is missing", _HINT)


def _misfit(name: str, why: str) -> NoReturn:
    raise WeightsError(f"not a guided-diffusion network: tensor {name} does not fit ({why})", _HINT)
