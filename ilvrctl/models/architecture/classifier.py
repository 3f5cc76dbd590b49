"""What a classifier of guided-diffusion looks like, read from names and shapes. No torch here.

Source: Dhariwal & Nichol 2021 (ADM), section 4 and its published classifiers; EGSDE (Zhao et al. 2022) takes
the features of such a classifier's middle block.
"""

from __future__ import annotations

from dataclasses import dataclass

from ilvrctl.errors import WeightsError
from ilvrctl.models.architecture.blocks import Pool, Shape, classifier_shapes
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.trunk import Layout, TrunkArchitecture, check, has_attention, read_trunk

EGSDE_HEAD = "I2Iout."


@dataclass(frozen=True)
class ClassifierArchitecture(TrunkArchitecture):
    """Everything that fixes a classifier; ``out_channels`` is its number of classes.

    ``pool``: how features become one vector. ``head``: positions of the attention's embedding, which are the
    pixels of the features and one; for the spatial pools the hidden width; else 0.
    """

    pool: Pool = "adaptive"
    head: int = 0

    @property
    def pooled_width(self) -> int:
        """Channels that the head takes: those of the middle, or of all blocks together."""
        own = self.widths[-1]
        return own + sum(self.encoder_widths()) if self.pool.startswith("spatial") else own

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor of the state dict, in the published order."""
        shapes = self.embedding_shapes() | self.block_shapes(self.trunk_blocks())
        return shapes | classifier_shapes(self.pool, self.pooled_width, self.head, self.out_channels)


def bare_name(name: str) -> str:
    """The name that guided-diffusion gives tensor ``name``: EGSDE calls its head ``I2Iout``."""
    return f"out.{name[len(EGSDE_HEAD) :]}" if name.startswith(EGSDE_HEAD) else name


def read_classifier(shapes: Shapes, hidden: HiddenFlags) -> ClassifierArchitecture:
    """The classifier whose tensors are exactly ``shapes``, completed by ``hidden``.

    Raises :class:`WeightsError` that names the first tensor that does not fit, or says that the tensors leave
    open where the picture is halved: where all levels are alike, and residual blocks halve it.
    """
    pool, head, classes = _head(shapes)
    trunk = read_trunk(shapes, _layout(shapes), classes, hidden)
    architecture = ClassifierArchitecture(**vars(trunk), pool=pool, head=head)
    check(shapes, architecture, architecture.parameter_shapes(), architecture.trunk_blocks())
    return architecture


def _head(shapes: Shapes) -> tuple[Pool, int, int]:
    """The pool, its size, and the number of classes."""
    if "out.2.positional_embedding" in shapes:
        positions = shapes.shape("out.2.positional_embedding", 2)[1]
        return "attention", positions, shapes.shape("out.2.c_proj.weight", 3)[0]
    if "out.1.weight" in shapes:
        return "spatial_v2", shapes.shape("out.1.weight", 1)[0], shapes.shape("out.3.weight", 2)[0]
    if "out.3.weight" in shapes:
        return "adaptive", 0, shapes.shape("out.3.weight", 4)[0]
    classes, hidden = shapes.shape("out.2.weight", 2)
    return "spatial", hidden, classes


def _layout(shapes: Shapes) -> Layout:
    """The layout: from convolutions or holes between the levels, or else from what residual blocks allow."""
    found = set(shapes.indices("input_blocks."))
    count = max(found, default=0) + 1
    for i in range(1, count):
        convolution = f"input_blocks.{i}.0.op.weight" in shapes
        if convolution or i not in found:
            if i < 2 or count % i:
                shapes.misfit(f"input_blocks.{count - 1}", "the blocks do not fall into even levels")
            return "convolution" if convolution else "pooling", i - 1, count // i
    fitting = [n for n in range(1, count) if count % (n + 1) == 0 and _fits(shapes, n, count)]
    if not fitting:
        shapes.misfit(f"input_blocks.{count - 1}", "the blocks do not fall into even levels")
    if len(fitting) > 1:
        raise WeightsError(
            "the tensors do not tell where this classifier halves the picture: "
            f"after {' or '.join(str(n) for n in fitting)} residual blocks",
            "train it with widths that grow from level to level, or with resblock_updown=False",
        )
    return ("residual" if count > fitting[0] + 1 else "convolution"), fitting[0], count // (fitting[0] + 1)


def _fits(shapes: Shapes, n: int, count: int) -> bool:
    """Whether levels of ``n`` residual blocks, with a halving residual block between them, fit the names.

    A halving block keeps the width and has no attention; a level has one width, and attention in all of its
    blocks or in none.
    """
    for first in range(1, count, n + 1):
        level = range(first, first + n)
        inside = (*level[1:], *((first + n,) if first + n < count else ()))
        if any(f"input_blocks.{i}.0.skip_connection.weight" in shapes for i in inside):
            return False
        if first + n < count and has_attention(shapes, first + n):
            return False
        if len({has_attention(shapes, i) for i in level}) > 1:
            return False
    return True
