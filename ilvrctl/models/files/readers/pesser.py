"""pesser's pytorch_diffusion ``Model`` (ddim, SDEdit, EGSDE's CelebA-HQ, converted weights of Ho et al. 2020)."""

from __future__ import annotations

from functools import partial

from ilvrctl.models.architecture.blocks import DDPM
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.architecture.shapes import Shapes
from ilvrctl.models.architecture.unet import AdmArchitecture, read_architecture
from ilvrctl.models.files.readers.base import TRAINING, File, Reader, adm_unet, told_facts
from ilvrctl.models.files.tensor_names import Dialect, places

PESSER = Dialect(
    outer=(
        ("temb.dense.0", "time_embed.0"),
        ("temb.dense.1", "time_embed.2"),
        ("conv_in", "input_blocks.0.0"),
        ("norm_out", "out.0"),
        ("conv_out", "out.2"),
    ),
    down=("down.{u}.block.{j}", "down.{u}.attn.{j}", "down.{u}.downsample"),
    middle=("mid.block_1", "mid.attn_1", "mid.block_2"),
    up=("up.{u}.block.{j}", "up.{u}.attn.{j}", "up.{u}.upsample"),
    coarsest_first=False,
    res=(
        ("norm1", "in_layers.0"),
        ("conv1", "in_layers.2"),
        ("temb_proj", "emb_layers.1"),
        ("norm2", "out_layers.0"),
        ("conv2", "out_layers.3"),
        ("nin_shortcut", "skip_connection"),
    ),
    norm="norm",
    qkv=(("q", "k", "v"),),
    proj_out=("proj_out",),
)


def _infer(shapes: Shapes, hidden: HiddenFlags, file: File) -> AdmArchitecture:
    return read_architecture(shapes, HiddenFlags(num_heads=1, use_new_attention_order=True), DDPM)


READER = Reader(
    "pesser/ddim network", _infer, adm_unet, told_facts, unknown=TRAINING, names=partial(places, PESSER)
)
