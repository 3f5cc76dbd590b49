"""What a reader of a format is, and the file that it reads. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.models.architecture.blocks import Shape
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.trunk import TrunkArchitecture
from ilvrctl.models.architecture.unet import AdmArchitecture
from ilvrctl.models.files.averaged import AVERAGED
from ilvrctl.models.files.described import Inert, Stored
from ilvrctl.models.files.header import Header
from ilvrctl.models.files.numbers import values
from ilvrctl.models.files.tensor_names import Names

if TYPE_CHECKING:
    from ilvrctl.models.trunk_network import HalfPrecision

_DEPTH = 8


@dataclass(frozen=True)
class File:
    """A checkpoint: ``path``, a file or a folder, and in it the network that ``which`` says.

    ``tensors``: the network's, under bare names; ``arrays``: single numbers and lists that lie around it, under
    their last names; ``header``: all that the file describes.
    """

    path: Path
    tensors: Mapping[str, Stored]
    arrays: Mapping[str, Stored]
    header: Header
    which: str = AVERAGED

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of the network's tensors."""
        return {name: tuple(x.shape) for name, x in self.tensors.items()}

    def numbers(self, name: str) -> tuple[float, ...]:
        """Those of an array around the network; () where there is none such."""
        x = self.arrays.get(name)
        return values(self.header, x) if x is not None and len(x.shape) == 1 else ()

    def setting(self, *names: str) -> Any:
        """What lies beside the networks under these keys, one in the other, as a plain value; else None."""
        value = self.header.content
        for name in names:
            value = _items(value).get(name)
        return plain(value)


def _items(value: object) -> Mapping[Any, Any]:
    """The items and attributes of what the file describes; none of what has none."""
    if isinstance(value, Inert):
        state = value.state if isinstance(value.state, Mapping) else {}
        inner = state.get("__dict__", state)  # as pydantic keeps it
        return {**value.items, **(inner if isinstance(inner, Mapping) else {})}
    return value if isinstance(value, Mapping) else {}


def plain(value: object, depth: int = _DEPTH) -> Any:
    """``value`` as dictionaries, lists, numbers and texts; None for what is none of these, or too deep."""
    if isinstance(value, str | int | float | bool):
        return value
    if depth and isinstance(value, list | tuple):
        return [plain(x, depth - 1) for x in value]
    if depth and isinstance(value, Mapping | Inert):
        items = _items(value).items()
        return {name: plain(x, depth - 1) for name, x in items if isinstance(name, str)}
    return None


def adm_unet(architecture: AdmArchitecture) -> HalfPrecision:
    """The module of most formats."""
    from ilvrctl.models.adm import AdmUNet

    return AdmUNet(architecture)


def _as_they_are(tensors: Iterable[str]) -> Names:
    return {}


def _nothing_stated(file: File) -> Mapping[str, Any]:
    return {}


def _no_constants(shapes: Mapping[str, Shape]) -> Mapping[str, tuple[Shape, float]]:
    return {}


def _none_left_out(tensors: Iterable[str]) -> Set[str]:
    return frozenset()


@dataclass(frozen=True)
class Reader:
    """A format: its architecture from names and shapes, the module, and what is told about it.

    ``kind`` completes the sentence "not a ...". ``infer`` takes the shapes under the module's names, the flags
    that people gave, and the file, without torch; ``build`` imports what it needs. ``facts``: flags that the
    tensors tell, under guided-diffusion's names. ``stated``: facts of a model preset that the file tells
    otherwise. ``unknown``: flags that tensors do not tell, and ``stated`` perhaps. ``names`` gives the places of
    tensors that the module calls otherwise; ``left_out`` those of the file that are no weights; ``constants``
    (shape and value) those of the module that no file has.
    """

    kind: str
    infer: Callable[[Shapes, HiddenFlags, File], Any]
    build: Callable[[Any], HalfPrecision]
    facts: Callable[[Any], dict[str, object]]
    unknown: tuple[str, ...]
    stated: Callable[[File], Mapping[str, Any]] = _nothing_stated
    names: Callable[[Iterable[str]], Names] = _as_they_are
    left_out: Callable[[Iterable[str]], Set[str]] = _none_left_out
    constants: Callable[[Mapping[str, Shape]], Mapping[str, tuple[Shape, float]]] = _no_constants


HEADS = ("num_heads or num_head_channels", "use_new_attention_order")
TRAINING = ("image_size", "noise_schedule", "predict_xstart", "sigma_small")


def trunk_facts(trunk: TrunkArchitecture) -> dict[str, object]:
    """What tensors tell of an encoder."""
    return {
        "num_channels": trunk.model_channels,
        "channel_mult": trunk.channel_mult,
        "num_res_blocks": trunk.num_res_blocks,
        "attention_factors": trunk.attention_factors,
        "resblock_updown": trunk.resampling == "residual",
        "conv_resample": trunk.resampling != "pooling",
        "use_scale_shift_norm": trunk.use_scale_shift_norm,
        "channels": trunk.channels,
        "in_channels": trunk.in_channels,
        "out_channels": trunk.out_channels,
        "downsample_factor": trunk.downsample_factor,
    }


def adm_facts(architecture: AdmArchitecture) -> dict[str, object]:
    """What tensors tell of a U-Net."""
    return {
        **trunk_facts(architecture),
        "learn_sigma": architecture.learns_variance,
        "class_cond": architecture.num_classes is not None,
        "num_classes": architecture.num_classes,
    }


def told_facts(architecture: AdmArchitecture) -> dict[str, object]:
    """The same of a network whose format leaves no room for other heads, or states them."""
    hidden = architecture.hidden
    heads = {"num_heads": 1} if hidden.num_heads else {"num_head_channels": hidden.num_head_channels}
    return {**adm_facts(architecture), **heads}
