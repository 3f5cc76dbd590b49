"""How each readable format becomes a network: one row a format, nothing else in the package tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture import AdmArchitecture, infer_architecture
from ilvrctl.models.classifier import AdmClassifier
from ilvrctl.models.classifier_architecture import ClassifierArchitecture, bare_name, infer_classifier
from ilvrctl.models.encoder import HalfPrecision
from ilvrctl.models.formats import CLASSIFIER, GUIDED_DIFFUSION
from ilvrctl.models.hidden import HiddenFlags
from ilvrctl.models.plan import Shape
from ilvrctl.models.trunk import TrunkArchitecture


@dataclass(frozen=True)
class Reader:
    """A format: its architecture from names and shapes, the module, and what is told about it.

    ``rename`` gives the module's name of a tensor. ``facts``: flags that the tensors tell, under the names of
    the format. ``unknown``: flags that they do not.
    """

    infer: Callable[[Mapping[str, Shape], HiddenFlags], Any]
    build: Callable[[Any], HalfPrecision]
    facts: Callable[[Any], dict[str, object]]
    unknown: tuple[str, ...]
    rename: Callable[[str], str] = str


def _trunk_facts(trunk: TrunkArchitecture) -> dict[str, object]:
    return {
        "num_channels": trunk.model_channels,
        "channel_mult": trunk.channel_mult,
        "num_res_blocks": trunk.num_res_blocks,
        "attention_factors": trunk.attention_factors,
        "resblock_updown": trunk.resampling == "residual",
        "conv_resample": trunk.resampling != "pooling",
        "use_scale_shift_norm": trunk.use_scale_shift_norm,
        "in_channels": trunk.in_channels,
        "out_channels": trunk.out_channels,
        "downsample_factor": trunk.downsample_factor,
    }


def _adm_facts(architecture: AdmArchitecture) -> dict[str, object]:
    return {
        **_trunk_facts(architecture),
        "learn_sigma": architecture.learns_variance,
        "class_cond": architecture.num_classes is not None,
        "num_classes": architecture.num_classes,
    }


def _classifier_facts(architecture: ClassifierArchitecture) -> dict[str, object]:
    return {
        **_trunk_facts(architecture),
        "pool": architecture.pool,
        "num_classes": architecture.out_channels,
        "feature_channels": architecture.widths[-1],
    }


_HEADS = ("num_heads or num_head_channels", "use_new_attention_order")

READERS: Mapping[str, Reader] = {
    GUIDED_DIFFUSION: Reader(
        infer_architecture,
        AdmUNet,
        _adm_facts,
        unknown=(*_HEADS, "image_size", "noise_schedule", "predict_xstart", "sigma_small"),
    ),
    CLASSIFIER: Reader(
        infer_classifier,
        AdmClassifier,
        _classifier_facts,
        unknown=(*_HEADS, "image_size", "noise_schedule"),
        rename=bare_name,
    ),
}
