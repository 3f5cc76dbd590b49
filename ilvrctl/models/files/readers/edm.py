"""OpenAI's EDM networks (``edm_*`` of consistency_models): guided-diffusion's, driven by noise levels.

Their attention is written as a picture's convolution, which tells them from guided-diffusion's, and its q, k and v
are whole blocks. Nothing but its name tells a one-step network of the same repository (``cd_*``, ``ct_*``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ilvrctl.errors import WeightsError
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.unet import AdmArchitecture, read_architecture
from ilvrctl.models.files.readers.base import File, Reader, adm_facts, adm_unet
from ilvrctl.models.files.tensor_names import Place

_ONE_STEP = ("cd_", "ct_", "cd-", "ct-")


def _names(tensors: Iterable[str]) -> dict[str, Place]:
    ends = (".qkv.weight", ".proj_out.weight")
    return {name: Place(name, matrix=True) for name in tensors if name.endswith(ends)}


def _infer(shapes: Shapes, hidden: HiddenFlags, file: File) -> AdmArchitecture:
    if file.path.name.lower().startswith(_ONE_STEP):
        raise WeightsError(
            "a consistency network, which makes pictures in one step and cannot be steered on the way",
            "the edm_* network of the same data can: ilvrctl download edm_cat256_ema",
        )
    return read_architecture(shapes, replace(hidden, use_new_attention_order=True))


def _stated(file: File) -> dict[str, Any]:
    return {
        "predicts": "edm",
        "noise_schedule": "karras",
        "diffusion_steps": 1000,
        "use_new_attention_order": True,
    }


READER = Reader(
    "network of OpenAI's EDM",
    _infer,
    adm_unet,
    adm_facts,
    unknown=("num_heads or num_head_channels", "image_size"),
    stated=_stated,
    names=_names,
)
