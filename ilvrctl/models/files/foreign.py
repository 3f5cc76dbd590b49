"""Networks that cannot be used here, known by their tensors' names, and what to use in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ilvrctl.models.architecture.blocks import Shape
from ilvrctl.models.files.rows import Format, Recognise

if TYPE_CHECKING:
    from ilvrctl.models.files.readers.base import File

PIXELS = (
    "a network for pixels is needed: guided-diffusion's, rosinality's, lucidrains', OpenAI's edm_* or a diffusers "
    "UNet2DModel; `ilvrctl download --list` names some"
)
_EXPORT = (
    "if diffusers can load it as a UNet2DModel, save it from there (`unet.save_pretrained(FOLDER)`) and give the "
    "folder; else: `ilvrctl download --list`"
)
_OPENAI = "OpenAI's edm_* networks, of the same method, can be read: `ilvrctl download edm_cat256_ema`"
_NO_DENOISER = f"it takes no noise away, so it cannot be steered; {PIXELS}"


def _names(*patterns: str) -> Recognise:
    """Known by names: each pattern is found in one, from its start or after a dot."""
    compiled = [re.compile(rf"(?:^|\.)(?:{pattern})", re.MULTILINE) for pattern in patterns]

    def recognise(tensors: Mapping[str, Shape]) -> bool:
        names = "\n".join(tensors)
        return all(pattern.search(names) for pattern in compiled)

    return recognise


def _row(name: str, what: str, instead: str, *patterns: str) -> Format:
    return Format(name, what, _names(*patterns), instead=instead, denoises=False)


def lucidrains(tensors: Mapping[str, Shape]) -> bool:
    """A Unet of lucidrains since 2.0: normalised by the root mean square, and with memory in its attention."""
    return {"downs.0.0.block1.norm.g", "downs.0.2.mem_kv"} <= set(tensors)


def _older_lucidrains(tensors: Mapping[str, Shape]) -> bool:
    return any(
        re.match(r"(?:denoise_fn\.|model\.)*downs\.0\.0\.(?:block1|mlp)\.", name) for name in tensors
    ) and any(re.match(r"(?:denoise_fn\.|model\.)*mid_(?:block1|attn)\.", name) for name in tensors)


_RELEASES = (
    (r"downs\.0\.0\.block1\.block\.", "before 0.16"),
    (r"downs\.0\.2\.fn\.fn\.", "from 0.16 to 1.7"),
    (r"downs\.0\.0\.block1\.norm\.g$", "2.0 or later"),
    (r"downs\.0\.2\.mem_kv", "from 1.9 to 1.11"),
    (r"downs\.0\.2\.to_qkv\.", "1.8"),
)
"""What tells the releases of lucidrains' package apart, the most particular first."""


def lucidrains_release(file: File) -> str:
    """The release that a file was written by: as a Trainer stated it, or the range that its names allow."""
    if isinstance(version := file.setting("version"), str):
        return version
    found = (range_ for made, range_ in _RELEASES if any(re.search(made, name) for name in file.tensors))
    return next(found, "unknown")


EARLY: tuple[Format, ...] = (
    _row("lora", "a LoRA, small changes to another network's weights and no network of its own", PIXELS,
         r"lora_(?:unet|te|down|up|A|B|linear)|lora\.(?:down|up)\.|\w+_lora\.(?:down|up)\."),
    _row("controlnet", "a ControlNet, which steers Stable Diffusion", PIXELS,
         r"control_model\.|input_hint_block\.|controlnet_"),
    _row("stable-diffusion", "a Stable Diffusion or other latent-diffusion model, which does not work on pixels",
         PIXELS, r"model\.diffusion_model\."),
    _row("latent-diffusion-unet", "the U-Net of a latent-diffusion model", PIXELS, r"diffusion_model\."),
    _row("text-conditional-unet", "a U-Net with text conditioning, as in Stable Diffusion", PIXELS,
         r"time_embed\.0\.", r"input_blocks\.\d+\.1\.transformer_blocks\."),
    _row("diffusers-conditional", "a diffusers UNet2DConditionModel (Stable Diffusion's U-Net), told texts", PIXELS,
         r"time_embedding\.linear_1\.", r"transformer_blocks\.\d+\.attn"),
    _row("monai", "a U-Net of MONAI's generative models", PIXELS, r"conv_in\.conv\.", r"time_embed\.0\."),
    _row("learned-autoencoder", "an autoencoder (the VAE of a latent-diffusion model, or a VQGAN)", PIXELS,
         r"(?:post_)?quant_conv\.|quantize\.embedding\.", r"encoder\.", r"decoder\."),
)  # fmt: skip
"""Those that the rows of readable formats could be mistaken about."""

LATE: tuple[Format, ...] = (
    Format(
        "lucidrains-other",
        "a Unet of lucidrains' denoising-diffusion-pytorch from before 2.0",
        _older_lucidrains,
        instead="Unets of denoising-diffusion-pytorch 2.0 and later can be read",
        denoises=False,
        release=lucidrains_release,
    ),
    _row("score-sde", "a network of score_sde (NCSN++ or DDPM++; also denoising-diffusion-gan's)", _EXPORT,
         r"all_modules\.\d+\."),
    _row("ncsn", "a score network of NCSN or NCSNv2", PIXELS, r"begin_conv\.", r"refine\d\."),
    _row("nvlabs-edm", "a network of NVlabs' EDM or EDM2", _OPENAI, r"(?:model\.|unet\.)*enc\.\d+x\d+_"),
    _row("k-diffusion", "a network of k-diffusion", PIXELS,
         r"u_net\.d_blocks\.|patch_in\.proj\.|mid_level\.|timestep_embed\.weight"),
    _row("imagen-pytorch", "a network of imagen-pytorch or DALLE2-pytorch, told texts", PIXELS,
         r"unets\.\d+\.|to_time_hiddens\.|to_text_non_attn_cond"),
    _row("sr3", "a network of SR3 or Palette, which is told a picture", PIXELS, r"denoise_fn\.|noise_level_mlp\."),
    _row("pytorch-ddpm", "a network of w86763777's pytorch-ddpm", _EXPORT,
         r"time_embedding\.timembedding\.|downblocks\.\d+\."),
    _row("ddpm-torch", "a network of tqch's ddpm-torch", _EXPORT, r"downsamples\.level_0\.", r"in_conv\."),
    _row("teaching-ddpm", "a small network of a tutorial (Diffusion-Models-pytorch, labml, DDPM on MNIST)", _EXPORT,
         r"inc\.double_conv\.|sa1\.mha\.|timeembed1\.|time_emb\.lin1\.|image_proj\."),
    _row("dit", "a diffusion transformer for latents (DiT, SiT, PixArt)", PIXELS, r"x_embedder\.", r"t_embedder\."),
    _row("u-vit", "a U-ViT", PIXELS, r"in_blocks\.\d+\.", r"out_blocks\.\d+\."),
    _row("mmdit", "a flow transformer for latents and texts (Flux, Stable Diffusion 3)", PIXELS,
         r"double_blocks\.|joint_blocks\.|single_transformer_blocks\.|context_embedder\."),
    _row("diffusers-transformer", "a diffusion transformer of diffusers, for latents", PIXELS,
         r"transformer_blocks\.\d+\.", r"proj_out|pos_embed\.proj|adaln_single"),
    _row("stylegan", "a generator or discriminator of StyleGAN", _NO_DENOISER,
         r"synthesis\.(?:b\d+|L\d+_|input)|style\.\d+\.|convs\.\d+\.conv\.modulation|b\d+\.(?:fromrgb|conv0)\."
         r"|mapping\.(?:fc\d|dense\d)|g_synthesis\.|final_conv\.0\.weight_orig|to_rgbs?\d*\."),
    _row("biggan", "a generator of BigGAN", _NO_DENOISER,
         r"blocks\.\d+\.0\.(?:conv1|bn1)\.|generator\.gen_z\.|shared\.weight",
         r"linear\.|embeddings\.|output_layer\."),
    _row("dcgan", "a generator or discriminator of DCGAN's kind", _NO_DENOISER, r"main\.\d+\.|netG\.|netD\."),
    _row("translation-gan", "a generator of pix2pix or CycleGAN, which translates by itself", _NO_DENOISER,
         r"\d+\.conv_block\.\d+\.|model\.\d+\.model\.|netG_[AB]\.|G_[AB]2?[AB]?\."),
    _row("stargan", "a network of StarGAN v2, which translates by itself", _NO_DENOISER,
         r"(?:encode|decode)\.\d+\.conv1\.|from_rgb\.weight", r"(?:encode|decode)\.\d+\.|to_rgb\."),
    _row("flow", "a normalising flow (Glow, RealNVP)", _NO_DENOISER, r"(?:flows?\.\d+|actnorm|invconv)\b"),
    _row("vqvae", "a VQ-VAE", _NO_DENOISER, r"quantize_[tb]\.|quantize\.|codebook\.|vq\."),
    _row("autoencoder", "an autoencoder", _NO_DENOISER, r"encoder\.", r"decoder\."),
    _row("clip", "a CLIP or another model of pictures and texts", _NO_DENOISER,
         r"visual\.|vision_model\.|text_model\.|logit_scale"),
    _row("language-model", "a language model", _NO_DENOISER,
         r"(?:h|layers)\.\d+\.(?:self_attn|attn|mlp|attention)\.|encoder\.layer\.\d+\.attention\.|lm_head\.|wte\."),
    _row("inception", "an Inception network, which measures pictures", _NO_DENOISER,
         r"Mixed_\d[a-z]\.|Conv2d_1a_3x3\."),
    _row("vision-transformer", "a vision transformer, which recognises pictures", _NO_DENOISER,
         r"cls_token|patch_embed\.proj\.|vit\.embeddings\."),
    _row("resnet", "a ResNet, which recognises pictures", _NO_DENOISER,
         r"layer[2-4]\.\d+\.conv1\.", r"conv1\.|bn1\.|fc\."),
    _row("vgg", "a VGG, AlexNet, EfficientNet or similar, which recognises pictures", _NO_DENOISER,
         r"features\.\d+\.|_blocks\.\d+\._", r"classifier\.|features\.\d+\.|_fc\."),
)  # fmt: skip
"""Those that nothing else is mistaken for, the most particular first."""

_PICKLES: tuple[tuple[bytes, str, str], ...] = (
    (b"torch_utils.persistence", "a pickle of NVlabs (EDM, EDM2, StyleGAN) that holds the program of its network",
     _OPENAI),
    (b"dnnlib.tflib", "a pickle of NVlabs for TensorFlow (StyleGAN)", _NO_DENOISER),
    (b"training.networks", "a pickle of NVlabs (EDM, StyleGAN) that holds its network as an object",
     _OPENAI),
    (b"flax", "weights of JAX (flax)", _EXPORT),
    (b"tensorflow", "weights of TensorFlow", _EXPORT),
)  # fmt: skip
_LOOKED_AT = 1 << 20


def known_pickle(path: Path) -> tuple[str, str] | None:
    """What a pickle that is no state dict is, by the names in its first bytes, and what to use instead."""
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    return next(((what, instead) for mark, what, instead in _PICKLES if mark in start), None)
