"""Which tensors of a network half precision concerns, and the memory that its weights take. No torch here."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

from ilvrctl.models.architecture.blocks import Shape


def convolutions_in(shapes: Mapping[str, Shape], parts: Collection[str]) -> Iterator[str]:
    """The names of the weights and biases of convolutions, those of one pixel too, below ``parts`` of the network."""
    for name in shapes:
        layer, _, kind = name.rpartition(".")
        weight = shapes.get(f"{layer}.weight", ())
        if kind in ("weight", "bias") and len(weight) > 2 and name.partition(".")[0] in parts:
            yield name


def weight_bytes(shapes: Mapping[str, Shape], parts: Collection[str]) -> dict[str, int]:
    """Bytes of the weights at each precision: of the half ones only the convolutions in ``parts`` are halved."""
    whole = 4 * sum(map(math.prod, shapes.values()))
    half = whole - 2 * sum(math.prod(shapes[name]) for name in convolutions_in(shapes, parts))
    return {"fp32": whole, "bf16": half, "fp16": half}
