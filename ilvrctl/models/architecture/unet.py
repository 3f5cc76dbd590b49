"""What an ADM U-Net looks like, read from the names and shapes of its tensors. No torch here.

Source: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis" (ADM) and its published
checkpoints (the guided-diffusion format, which improved-diffusion and ilvr_adm share).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ilvrctl.models.architecture.blocks import ADM, Block, Conventions, Res, Shape, Up, output_shapes
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.trunk import Layout, Resampling, TrunkArchitecture, check, read_trunk

__all__ = ["AdmArchitecture", "HiddenFlags", "Resampling", "infer_architecture"]


@dataclass(frozen=True)
class AdmArchitecture(TrunkArchitecture):
    """Everything that fixes an ADM U-Net.

    ``out_channels``: twice ``in_channels`` when the variance is learned. ``num_classes``: of a
    class-conditional network.
    """

    num_classes: int | None = None
    HALF: ClassVar[tuple[str, ...]] = (*TrunkArchitecture.HALF, "output_blocks")

    @property
    def learns_variance(self) -> bool:
        """Whether the second half of the outputs is the variance."""
        return self.out_channels == 2 * self.in_channels

    def decoder(self) -> tuple[Block, ...]:
        """Blocks of ``output_blocks``: each takes the last output joined with the newest skip connection."""
        skips = list(self.encoder_widths())
        blocks: list[Block] = []
        into = self.widths[-1]
        for level in reversed(range(self.levels)):
            width = self.widths[level]
            for i in range(self.num_res_blocks + 1):
                up = (self._up(width),) if level and i == self.num_res_blocks else ()
                blocks.append((Res(into + skips.pop(), width), *self.attention_at(level, decoder=True), *up))
                into = width
        return tuple(blocks)

    def blocks(self) -> list[tuple[str, Block]]:
        """All blocks by name."""
        decoder = ((f"output_blocks.{i}", block) for i, block in enumerate(self.decoder()))
        return [*self.trunk_blocks(), *decoder]

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor of the state dict, in the published order."""
        shapes = self.embedding_shapes()
        if self.num_classes is not None:
            shapes["label_emb.weight"] = (self.num_classes, self.embedding_width)
        return shapes | self.block_shapes(self.blocks()) | output_shapes(self.widths[0], self.out_channels)

    def _up(self, width: int) -> Res | Up:
        residual = self.resampling == "residual"
        return Res(width, width, "up") if residual else Up(width, self.resampling == "convolution")


def infer_architecture(tensors: Mapping[str, Shape], hidden: HiddenFlags) -> AdmArchitecture:
    """The architecture whose tensors are exactly ``tensors`` (name -> shape), completed by ``hidden``.

    Raises :class:`WeightsError` that names the first tensor that does not fit, or says that the number of
    heads is unknown.
    """
    return read_architecture(Shapes(tensors, "guided-diffusion network"), hidden)


def read_architecture(shapes: Shapes, hidden: HiddenFlags, conventions: Conventions = ADM) -> AdmArchitecture:
    """The architecture of ``shapes`` under guided-diffusion's names; see :func:`infer_architecture`."""
    layout = _layout(shapes)
    out_channels = shapes.shape("out.2.weight", 4)[0]
    trunk = read_trunk(shapes, layout, out_channels, hidden, conventions)
    classes = shapes.shape("label_emb.weight", 2)[0] if "label_emb.weight" in shapes else None
    architecture = AdmArchitecture(**vars(trunk), num_classes=classes)
    check(shapes, architecture, architecture.parameter_shapes(), architecture.blocks())
    return architecture


def _layout(shapes: Shapes) -> Layout:
    """The layout, from the places of the down and up layers.

    The decoder has ``num_res_blocks + 1`` blocks per level, and the last of every level but the finest ends
    with an up layer. One without tensors is invisible; then the down layer is a hole in ``input_blocks``.
    """
    inputs, outputs = set(shapes.indices("input_blocks.")), set(shapes.indices("output_blocks."))
    if not outputs:
        shapes.missing("output_blocks.0.0.in_layers.0.weight")
    count = max(outputs) + 1
    for j in range(count):
        for k in (1, 2):
            if f"output_blocks.{j}.{k}.conv.weight" in shapes:
                return _even(shapes, "convolution", j, count)
            if f"output_blocks.{j}.{k}.in_layers.2.weight" in shapes:
                return _even(shapes, "residual", j, count)
    holes = [i for i in range(count) if i not in inputs]
    if holes:
        return _even(shapes, "pooling", holes[0] - 1, count)
    return _even(shapes, "convolution", count - 1, count)


def _even(shapes: Shapes, resampling: Resampling, num_res_blocks: int, count: int) -> Layout:
    """The layout, if ``count`` decoder blocks fall into levels of ``num_res_blocks + 1``."""
    if num_res_blocks < 1 or count % (num_res_blocks + 1):
        name = f"output_blocks.{count - 1}.0.in_layers.0.weight"
        shapes.misfit(name, "the blocks do not fall into even levels")
    return resampling, num_res_blocks, count // (num_res_blocks + 1)
