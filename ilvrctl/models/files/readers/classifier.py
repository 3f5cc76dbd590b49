"""The classifiers of guided-diffusion, and EGSDE's feature extractors among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilvrctl.models.architecture.classifier import ClassifierArchitecture, bare_name, read_classifier
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.files.readers.base import HEADS, TRAINING, File, Reader, trunk_facts
from ilvrctl.models.files.tensor_names import Place

if TYPE_CHECKING:
    from ilvrctl.models.trunk_network import HalfPrecision


def _build(architecture: ClassifierArchitecture) -> HalfPrecision:
    from ilvrctl.models.classifier import AdmClassifier

    return AdmClassifier(architecture)


def _infer(shapes: Shapes, hidden: HiddenFlags, file: File) -> ClassifierArchitecture:
    return read_classifier(shapes, hidden)


def _facts(architecture: ClassifierArchitecture) -> dict[str, object]:
    return {
        **trunk_facts(architecture),
        "pool": architecture.pool,
        "num_classes": architecture.out_channels,
        "feature_channels": architecture.widths[-1],
    }


READER = Reader(
    "guided-diffusion classifier",
    _infer,
    _build,
    _facts,
    unknown=(*HEADS, *TRAINING[:2]),
    names=lambda tensors: {name: Place(bare_name(name)) for name in tensors},
)
