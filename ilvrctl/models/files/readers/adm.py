"""The U-Nets of guided-diffusion (improved-diffusion and ilvr_adm share the format)."""

from __future__ import annotations

from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.unet import AdmArchitecture, read_architecture
from ilvrctl.models.files.readers.base import HEADS, TRAINING, File, Reader, adm_facts, adm_unet


def _infer(shapes: Shapes, hidden: HiddenFlags, file: File) -> AdmArchitecture:
    return read_architecture(shapes, hidden)


READER = Reader("guided-diffusion network", _infer, adm_unet, adm_facts, unknown=(*HEADS, *TRAINING))
