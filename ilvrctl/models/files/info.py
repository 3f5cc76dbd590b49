"""What is told of a checkpoint, and which kinds of it can be used at all. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ilvrctl.errors import WeightsError
from ilvrctl.models.files.container import Container

PRECISIONS = ("float16", "bfloat16", "float32", "float64")
SMALLER = "take the weights as they were before they were made smaller"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint file holds, told without reading the tensors' data.

    ``format``: a name from ``formats.FORMATS``, or "unknown". ``container``: zip, legacy or safetensors.
    ``wrapping``: keys and prefixes around the names. ``tensor_bytes``: bytes of the network's tensors.
    ``weights``: which of the networks in the file was taken; ``note``: what people should know of that choice.
    ``what`` completes the sentence "this is ...", ``instead``: what else to use. ``readable``: such networks can be
    read; ``denoises``: pictures can be made with them.
    ``facts``: flags of the published format that the tensors tell; ``unknown``: those that they do not.
    ``memory``: bytes of the weights once loaded, by precision.
    """

    format: str
    container: Container
    wrapping: tuple[str, ...]
    parameters: int
    dtypes: tuple[str, ...]
    tensor_bytes: int
    weights: str = "all"
    note: str | None = None
    what: str = ""
    instead: str = ""
    readable: bool = False
    denoises: bool = False
    memory: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


CHANNELS = (1, 3, 4)
"""Of pictures: grey, colours, and colours with an opacity."""


def channel_problem(
    path: Path, channels: int | None, into: int | None, out: int | None
) -> WeightsError | None:
    """The error of a network that is not for pictures of one of :data:`CHANNELS`; None for one that is.

    ``channels``: of the pictures; ``into`` and ``out``: of the tensors, which are more where pixels are folded, the
    last estimate goes in too, or a variance comes out.
    """
    if channels in CHANNELS and into and out in (channels, 2 * channels, into, 2 * into):
        return None
    kind = "a super-resolution network" if into == 6 else "a network"
    return WeightsError(
        f"{path}: {kind} of {into} input and {out} output channels; pictures have 1 (grey), 3 (colours) or 4 (colours "
        "and opacity), and as many must come out, or twice as many with a variance",
        "give a network for such pictures with --weights or --to",
    )
