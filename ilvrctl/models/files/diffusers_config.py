"""The flags of a diffusers ``UNet2DModel`` that its tensors do not tell. No torch here.

Every flag is honoured, told by the tensors, or refused by its name: none is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ilvrctl.errors import WeightsError
from ilvrctl.models.architecture.blocks import Conventions
from ilvrctl.models.architecture.hidden_flags import HiddenFlags

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
            f"this is a diffusers {str(name)[:60]}; of diffusers' networks a UNet2DModel can be read"
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
