"""How each readable format becomes a network: one row a format, nothing else in the package tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.blocks import DDPM
from ilvrctl.models.architecture.classifier import ClassifierArchitecture, bare_name, read_classifier
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.trunk import TrunkArchitecture
from ilvrctl.models.architecture.unet import AdmArchitecture, read_architecture
from ilvrctl.models.classifier import AdmClassifier
from ilvrctl.models.files import tensor_names as names
from ilvrctl.models.files.diffusers_config import read_config
from ilvrctl.models.files.diffusers_folder import network_config, stated_facts
from ilvrctl.models.files.formats import CLASSIFIER, DIFFUSERS, GUIDED_DIFFUSION, PESSER
from ilvrctl.models.files.tensor_names import Names, Place, places
from ilvrctl.models.trunk_network import HalfPrecision


def _as_they_are(tensors: Iterable[str]) -> Names:
    return {}


@dataclass(frozen=True)
class Reader:
    """A format: its architecture from names and shapes, the module, and what is told about it.

    ``kind`` completes the sentence "not a ...". ``infer`` takes the shapes under the module's names, the flags
    that people gave, and the path. ``names`` gives the places of tensors that the module calls otherwise.
    ``facts``: flags that the file tells, under guided-diffusion's names. ``unknown``: flags that it does not.
    """

    kind: str
    infer: Callable[[Shapes, HiddenFlags, Path], Any]
    build: Callable[[Any], HalfPrecision]
    facts: Callable[[Any, Path], dict[str, object]]
    unknown: tuple[str, ...]
    names: Callable[[Iterable[str]], Names] = _as_they_are


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


def _adm_facts(architecture: AdmArchitecture, path: Path) -> dict[str, object]:
    return {
        **_trunk_facts(architecture),
        "learn_sigma": architecture.learns_variance,
        "class_cond": architecture.num_classes is not None,
        "num_classes": architecture.num_classes,
    }


def _classifier_facts(architecture: ClassifierArchitecture, path: Path) -> dict[str, object]:
    return {
        **_trunk_facts(architecture),
        "pool": architecture.pool,
        "num_classes": architecture.out_channels,
        "feature_channels": architecture.widths[-1],
    }


def _told_facts(architecture: AdmArchitecture, path: Path) -> dict[str, object]:
    """Those of a network whose format leaves no room for other heads or conventions, or states them."""
    hidden = architecture.hidden
    heads = {"num_heads": 1} if hidden.num_heads else {"num_head_channels": hidden.num_head_channels}
    stated = {key: value for key, value in stated_facts(path).items() if key != "format"}
    return {**_adm_facts(architecture, path), **heads, **stated}


def _infer_adm(shapes: Shapes, hidden: HiddenFlags, path: Path) -> AdmArchitecture:
    return read_architecture(shapes, hidden)


def _infer_classifier(shapes: Shapes, hidden: HiddenFlags, path: Path) -> ClassifierArchitecture:
    return read_classifier(shapes, hidden)


def _infer_pesser(shapes: Shapes, hidden: HiddenFlags, path: Path) -> AdmArchitecture:
    return read_architecture(shapes, HiddenFlags(num_heads=1, use_new_attention_order=True), DDPM)


def _infer_diffusers(shapes: Shapes, hidden: HiddenFlags, path: Path) -> AdmArchitecture:
    return read_architecture(shapes, *read_config(network_config(path)))


_HEADS = ("num_heads or num_head_channels", "use_new_attention_order")
_TRAINING = ("image_size", "noise_schedule", "predict_xstart", "sigma_small")

READERS: Mapping[str, Reader] = {
    GUIDED_DIFFUSION: Reader(
        "guided-diffusion network", _infer_adm, AdmUNet, _adm_facts, unknown=(*_HEADS, *_TRAINING)
    ),
    CLASSIFIER: Reader(
        "guided-diffusion classifier",
        _infer_classifier,
        AdmClassifier,
        _classifier_facts,
        unknown=(*_HEADS, *_TRAINING[:2]),
        names=lambda tensors: {name: Place(bare_name(name)) for name in tensors},
    ),
    PESSER: Reader(
        "pesser/ddim network",
        _infer_pesser,
        AdmUNet,
        _told_facts,
        unknown=_TRAINING,
        names=partial(places, names.PESSER),
    ),
    DIFFUSERS: Reader(
        "diffusers network",
        _infer_diffusers,
        AdmUNet,
        _told_facts,
        unknown=_TRAINING,
        names=partial(places, names.DIFFUSERS),
    ),
}
