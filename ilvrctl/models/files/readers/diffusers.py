"""diffusers' ``UNet2DModel``: the flags and the schedule are in the JSON files beside the weights."""

from __future__ import annotations

from functools import partial

from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.unet import AdmArchitecture, read_architecture
from ilvrctl.models.files.diffusers_config import read_config
from ilvrctl.models.files.diffusers_folder import network_config, stated_facts
from ilvrctl.models.files.readers.base import TRAINING, File, Reader, adm_unet, told_facts
from ilvrctl.models.files.tensor_names import Dialect, places

DIFFUSERS = Dialect(
    outer=(
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("class_embedding", "label_emb"),
        ("conv_in", "input_blocks.0.0"),
        ("conv_norm_out", "out.0"),
        ("conv_out", "out.2"),
    ),
    down=(
        "down_blocks.{u}.resnets.{j}",
        "down_blocks.{u}.attentions.{j}",
        "down_blocks.{u}.downsamplers.0",
    ),
    middle=("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"),
    up=("up_blocks.{u}.resnets.{j}", "up_blocks.{u}.attentions.{j}", "up_blocks.{u}.upsamplers.0"),
    coarsest_first=True,
    res=(
        ("norm1", "in_layers.0"),
        ("conv1", "in_layers.2"),
        ("time_emb_proj", "emb_layers.1"),
        ("norm2", "out_layers.0"),
        ("conv2", "out_layers.3"),
        ("conv_shortcut", "skip_connection"),
    ),
    norm="group_norm",
    qkv=(("to_q", "to_k", "to_v"), ("query", "key", "value")),
    proj_out=("to_out.0", "proj_attn"),
)


def _infer(shapes: Shapes, hidden: HiddenFlags, file: File) -> AdmArchitecture:
    return read_architecture(shapes, *read_config(network_config(file.path, file.which)))


READER = Reader(
    "diffusers network",
    _infer,
    adm_unet,
    told_facts,
    unknown=TRAINING,
    stated=lambda file: stated_facts(file.path, file.which),
    names=partial(places, DIFFUSERS),
)
