"""rosinality's denoising-diffusion-pytorch: the network of guided-diffusion under other names.

Its sines come before its cosines, its downsampling pads on all sides, and its attention divides by the root of all
channels, whatever the number of heads. With ``use_affine_time`` the second normalisation of a block has no weights
of its own. Training files hold a pickled configuration, ``conf``, which tells the heads and the schedule.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ilvrctl.diffusion.schedule import recognise
from ilvrctl.errors import WeightsError
from ilvrctl.models.architecture.blocks import ROSINALITY, Shape
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.unet import AdmArchitecture, read_architecture
from ilvrctl.models.files.info import CHANNELS
from ilvrctl.models.files.readers.base import TRAINING, File, Reader, adm_facts, adm_unet
from ilvrctl.models.files.stated import UNKNOWN, checked
from ilvrctl.models.files.tensor_names import Place

_OUTER = {"time.1": "time_embed.0", "time.3": "time_embed.2", "out.0": "out.0", "out.2": "out.2"}
_BLOCK = {
    "resblocks.norm1": "0.in_layers.0",
    "resblocks.conv1": "0.in_layers.2",
    "resblocks.time.1": "0.emb_layers.1",
    "resblocks.norm2": "0.out_layers.0",
    "resblocks.conv2": "0.out_layers.3",
    "resblocks.skip": "0.skip_connection",
    "attention.norm": "1.norm",
    "attention.qkv": "1.qkv",
    "attention.out": "1.proj_out",
}
_FREQUENCIES = "time.0.inv_freq"


def _names(tensors: Iterable[str]) -> dict[str, Place]:
    known = tuple(tensors)
    blocks = _blocks(known)
    found = {}
    for name in known:
        layer, _, kind = name.rpartition(".")
        at = re.match(r"((?:down|mid|up)\.\d+)\.(.+)", layer)
        there = _OUTER.get(layer) or ("input_blocks.0.0" if layer == "down.0" else None)
        if at and at[1] in blocks:
            there = _inside(blocks[at[1]], at[2])
        if there and kind in ("weight", "bias"):
            found[name] = Place(f"{there}.{kind}", matrix=there.endswith(("qkv", "proj_out")))
    return found


def _inside(block: tuple[str, int], layer: str) -> str | None:
    """The place of a layer of a ``block``: its name there, and the layers that come before a resampling."""
    name, before = block
    if layer in _BLOCK:
        first, _, rest = _BLOCK[layer].partition(".")
        if name == "middle_block":
            return f"{name}.{before if first == '0' else 1}.{rest}"
        return f"{name}.{first}.{rest}"
    if layer == "0" and name.startswith("input_blocks"):
        return f"{name}.0.op"
    return f"{name}.{before}.conv" if layer == "1" and name.startswith("output_blocks") else None


def _blocks(known: tuple[str, ...]) -> dict[str, tuple[str, int]]:
    """Every block of the file with its name there; an upsampling, which has a number of its own, ends the last."""
    has = {match[0] for match in (re.match(r"(down|mid|up)\.\d+", name) for name in known) if match}
    attends = {name.partition(".attention.")[0] for name in known if ".attention." in name}
    found = {name: (f"input_blocks.{name[5:]}", 0) for name in has if name.startswith("down.")}
    found |= {"mid.0": ("middle_block", 0), "mid.1": ("middle_block", 2 if "mid.0" in attends else 1)}
    last, count = "", 0
    for name in sorted((name for name in has if name.startswith("up.")), key=lambda name: int(name[3:])):
        if f"{name}.1.weight" in known:
            found[name] = (f"output_blocks.{max(0, count - 1)}", 2 if last in attends else 1)
        else:
            found[name], last = (f"output_blocks.{count}", 0), name
            count += 1
    return found


def _constants(shapes: Mapping[str, Shape]) -> Iterator[tuple[str, tuple[Shape, float]]]:
    """The weights of normalisations that have none: ones and zeros."""
    for name, shape in shapes.items():
        norm, _, rest = name.partition("out_layers.3.")
        if rest == "bias" and f"{norm}out_layers.0.weight" not in shapes:
            yield f"{norm}out_layers.0.weight", (shape, 1.0)
            yield f"{norm}out_layers.0.bias", (shape, 0.0)


def _stated(file: File) -> dict[str, Any]:
    """What ``conf`` tells. Before the commit 8a1ecb6, when it named no ``__target``, ``linear`` meant quadratic."""
    facts: dict[str, Any] = {"predicts": "eps", "variance": "fixed_small"}
    if betas := file.numbers("betas"):
        facts |= recognise(checked(file.path, {"betas": betas})["betas"])
    if not file.setting("conf"):
        return checked(file.path, {"noise_schedule": UNKNOWN, **facts})
    facts["num_heads"] = _or(file.setting("conf", "model", "attn_heads"), 1)
    if (size := file.setting("conf", "dataset", "resolution")) is not None:
        facts["image_size"] = size
    chain = file.setting("conf", "diffusion", "beta_schedule") or {}
    name = chain.get("schedule", "linear")
    facts["noise_schedule"] = "quad" if name == "linear" and "__target" not in chain else name
    facts["diffusion_steps"] = chain.get("n_timestep", 1000)
    if name != "cosine":
        facts["beta_start"], facts["beta_end"] = (
            chain.get("linear_start", 1e-4),
            chain.get("linear_end", 0.02),
        )
    elif chain.get("cosine_s", 0.008) != 0.008:
        raise WeightsError(
            f"{file.path}: its conf has a cosine schedule with s = {chain['cosine_s']}, not 0.008",
            "such a network cannot be run; give another file with --weights",
        )
    return checked(file.path, facts)


def _fold(width: int, channels: Any) -> int | None:
    """The side of the squares of pixels that are folded into so many outputs: of colours, where no ``conf`` tells the
    channels and that is possible, else the smallest; None where there is none.
    """
    known = (channels,) if channels in CHANNELS else (3, 4, 1)
    sides = ((of, math.isqrt(width // of)) for of in known)
    return next((side for of, side in sides if side and of * side * side == width), None)


def _or(value: Any, usual: Any) -> Any:
    return usual if value is None else value


def _infer(shapes: Shapes, hidden: HiddenFlags, file: File) -> AdmArchitecture:
    rows = shapes.of.get("middle_block.1.qkv.weight", ())
    if len(rows) == 3 and rows[0] == 4 * rows[1]:
        raise WeightsError(
            "the first version of rosinality's network (2020), whose attention has 4 C rows and skips the values: "
            "it cannot be read",
            "a network that was trained with a later version can",
        )
    width = shapes.shape("out.2.weight", 4)[0]
    fold = _fold(width, file.setting("conf", "model", "in_channel"))
    if fold is None:
        shapes.misfit("out.2.weight", "its outputs are not pictures of folded pixels")
    heads = hidden.num_heads if hidden.known else _stated(file).get("num_heads")
    hidden = HiddenFlags(heads, hidden.num_head_channels, hidden.num_heads_upsample)
    return read_architecture(shapes, hidden, replace(ROSINALITY, fold=fold))


READER = Reader(
    "rosinality network",
    _infer,
    adm_unet,
    adm_facts,
    unknown=("num_heads", *TRAINING),
    stated=_stated,
    names=_names,
    left_out=lambda tensors: {_FREQUENCIES} & set(tensors),
    constants=lambda shapes: dict(_constants(shapes)),
)
