"""The flags of a diffusers ``UNet2DModel`` that its tensors do not tell, read and written. No torch here.

Every flag is honoured, told by the tensors, or refused by its name: none is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ilvrctl.errors import WeightsError
from ilvrctl.models.architecture.blocks import Attention, Conventions
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.unet import AdmArchitecture
from ilvrctl.sizes import Size

_DEFAULTS: Mapping[str, Any] = {
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
}
"""What the library takes where ``config.json`` has no such flag."""
_TOLD_BY_TENSORS = frozenset(
    {"in_channels", "out_channels", "block_out_channels", "layers_per_block", "time_embedding_dim",
     "num_class_embeds"}
)  # fmt: skip
_CHANGES_NOTHING = frozenset(
    {"sample_size", "dropout", "num_train_timesteps", "decay", "min_decay", "inv_gamma", "power",
     "optimization_step", "update_after_step", "use_ema_warmup"}
)  # fmt: skip
_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "add_attention": (True, False),
    "flip_sin_to_cos": (True, False),
    "class_embed_type": (None,),
}
_BLOCKS: Mapping[str, tuple[bool, str]] = {
    "DownBlock2D": (False, "conv"),
    "UpBlock2D": (False, "conv"),
    "ResnetDownsampleBlock2D": (False, "resnet"),
    "ResnetUpsampleBlock2D": (False, "resnet"),
    "AttnDownBlock2D": (True, ""),
    "AttnUpBlock2D": (True, ""),
}
"""Whether a block attends, and how it resamples: "" as ``downsample_type`` or ``upsample_type`` says."""


def read_config(config: Mapping[str, Any]) -> tuple[HiddenFlags, Conventions]:
    """The hidden flags and the conventions of the network. WeightsError with the flag that is not supported."""
    name = config.get("_class_name", "UNet2DModel")
    if name != "UNet2DModel":
        raise WeightsError(
            f"this is a diffusers {str(name)[:60]}; of diffusers' networks a UNet2DModel can be read",
            "give the folder of an unconditional pipeline in pixels, as google/ddpm-cat-256",
        )
    flags = {**_DEFAULTS, **{key: value for key, value in config.items() if not key.startswith("_")}}
    for flag, value in flags.items():
        known = flag in _DEFAULTS or flag in _TOLD_BY_TENSORS or flag in _CHANGES_NOTHING
        if not known or (flag in _ALLOWED and value not in _ALLOWED[flag]):
            raise _refused(flag, value)
    _check_blocks(flags)
    _check_middle(flags)
    head = flags["attention_head_dim"]
    hidden = HiddenFlags(
        num_heads=1 if head is None else None,
        num_head_channels=None if head is None else _whole(flags, "attention_head_dim"),
        use_new_attention_order=True,  # q, k and v are joined as blocks
    )
    conventions = Conventions(
        groups=_whole(flags, "norm_num_groups"),
        eps=_number(flags, "norm_eps"),
        sine_first=not flags["flip_sin_to_cos"],
        frequency_shift=_number(flags, "freq_shift"),
        pads_after=flags["downsample_padding"] == 0,
    )
    return hidden, conventions


def write_config(architecture: AdmArchitecture, size: Size) -> dict[str, Any]:
    """``config.json`` of the network as a ``UNet2DModel`` for pictures of ``size``, whose attention keeps q, k and v
    apart. WeightsError that names what such a network cannot have.
    """
    _check_form(architecture)
    conventions, residual = architecture.conventions, architecture.resampling == "residual"
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if residual else ("DownBlock2D", "UpBlock2D")
    kinds = [("AttnDownBlock2D", "AttnUpBlock2D") if has else plain for has in architecture.attention]
    scaled = architecture.use_scale_shift_norm
    return {
        "_class_name": "UNet2DModel",
        "sample_size": size.width if size.width == size.height else [size.height, size.width],
        "in_channels": architecture.in_channels,
        "out_channels": architecture.out_channels,
        "block_out_channels": list(architecture.widths),
        "layers_per_block": architecture.num_res_blocks,
        "down_block_types": [down for down, _ in kinds],
        "up_block_types": [up for _, up in reversed(kinds)],
        "add_attention": architecture.middle_attention,
        "attention_head_dim": _head_width(architecture),
        "norm_num_groups": conventions.groups,
        "attn_norm_num_groups": conventions.groups if scaled else None,
        "norm_eps": conventions.eps,
        "resnet_time_scale_shift": "scale_shift" if scaled else "default",
        "downsample_type": "resnet" if residual else "conv",
        "upsample_type": "resnet" if residual else "conv",
        "downsample_padding": 0 if conventions.pads_after else 1,
        "flip_sin_to_cos": not conventions.sine_first,
        "freq_shift": int(conventions.frequency_shift),
    }


def _check_form(architecture: AdmArchitecture) -> None:
    """WeightsError for what no ``UNet2DModel`` in a ``DDPMPipeline`` has."""
    conventions = architecture.conventions
    wrong = {
        "classes (num_classes), which DDPMPipeline does not give": architecture.num_classes is not None,
        "levels that resample without weights (conv_resample=False)": architecture.resampling == "pooling"
        and architecture.levels > 1,
        "folded pixels": conventions.fold != 1,
        "a time embedding of another width than its first level": architecture.widths[0]
        != architecture.model_channels,
        "a frequency shift that is no whole number": conventions.frequency_shift % 1 != 0,
    }
    for what, here in wrong.items():
        if here:
            raise unholdable(what)


def _head_width(architecture: AdmArchitecture) -> int | None:
    """Channels of a head, the same in all layers; None for one head in each. WeightsError for any other heads."""
    layers = {layer for _, block in architecture.blocks() for layer in block if isinstance(layer, Attention)}
    if all(layer.heads == 1 for layer in layers):
        return None
    widths = {layer.channels // layer.heads for layer in layers}
    if len(widths) > 1:
        raise unholdable(f"heads of different widths ({', '.join(map(str, sorted(widths)))} channels)")
    return widths.pop()


def unholdable(what: str) -> WeightsError:
    """What a folder of diffusers cannot hold."""
    return WeightsError(
        f"a diffusers folder cannot hold {what}", "--to safetensors keeps it, with the facts in its header"
    )


def _check_blocks(flags: Mapping[str, Any]) -> None:
    """All levels must resample in one way, and the decoder attend where the encoder does."""
    down = _kinds(flags, "down_block_types", "downsample_type")
    up = _kinds(flags, "up_block_types", "upsample_type")
    if [attends for attends, _ in down] != [attends for attends, _ in reversed(up)]:
        raise _refused(
            "up_block_types", flags["up_block_types"], "attention at other levels than in the encoder"
        )
    kinds = {kind for _, kind in (*down[:-1], *up[:-1])}
    if len(kinds) > 1:
        raise _refused(
            "down_block_types", flags["down_block_types"], "levels that resample in different ways"
        )


def _kinds(flags: Mapping[str, Any], name: str, sampling: str) -> list[tuple[bool, str]]:
    types = flags[name]
    if not isinstance(types, Sequence) or not all(
        isinstance(kind, str) and kind in _BLOCKS for kind in types
    ):
        raise _refused(name, types)
    return [(_BLOCKS[kind][0], _BLOCKS[kind][1] or flags[sampling]) for kind in types]


def _check_middle(flags: Mapping[str, Any]) -> None:
    """The middle's attention must be normalised as all else is."""
    groups = flags["attn_norm_num_groups"]
    if groups is None and flags["resnet_time_scale_shift"] == "default":
        return
    if flags["add_attention"] and groups != flags["norm_num_groups"]:
        raise _refused("attn_norm_num_groups", groups, "attention in the middle with another normalisation")


def _number(flags: Mapping[str, Any], name: str) -> float:
    value = flags[name]
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise _refused(name, value)
    return float(value)


def _whole(flags: Mapping[str, Any], name: str) -> int:
    value = flags[name]
    if type(value) is not int or not 1 <= value < 1 << 16:
        raise _refused(name, value)
    return value


def _refused(flag: str, value: object, why: str = "") -> WeightsError:
    return WeightsError(
        f"config.json: {flag} is {json.dumps(value)[:60]}, which is not supported here"
        + (f" ({why})" if why else ""),
        "UNet2DModels of the DDPM and ADM families can be read",
    )
