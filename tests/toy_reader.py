"""A reader of a format that exists in a test alone: guided-diffusion with its names spelled backwards."""

from __future__ import annotations

from collections.abc import Iterable

from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.unet import AdmArchitecture, read_architecture
from ilvrctl.models.files.readers.base import File, Reader, adm_facts, adm_unet
from ilvrctl.models.files.tensor_names import Place


def _infer(shapes: Shapes, hidden: HiddenFlags, file: File) -> AdmArchitecture:
    return read_architecture(shapes, HiddenFlags(num_heads=2))


def _names(tensors: Iterable[str]) -> dict[str, Place]:
    return {name: Place(name[::-1]) for name in tensors}


READER = Reader(
    "toy network",
    _infer,
    adm_unet,
    adm_facts,
    unknown=("image_size",),
    stated=lambda file: {"predicts": "v", "noise_schedule": "cosine"},
    names=_names,
)
