"""The flags of the published scripts (ilvr_adm, guided-diffusion, EGSDE, SDDM), and what takes their place here."""

from __future__ import annotations

import re

_HERE = {
    "base_samples": "the inputs are arguments: ilvrctl translate FOLDER",
    "model_path": "--weights FILE, or --to NAME",
    "down_N": "--N 32",
    "range_t": "--range-t 20",
    "timestep_respacing": "--timestep-respacing 100, or --steps 100",
    "num_samples": "-n, samples of every input",
    "batch_size": "--batch-size 4",
    "save_dir": "-o FOLDER",
    "save_latents": "--gif",
    "use_ddim": "--sampler ddim",
    "clip_denoised": "--no-clip",
    "class_cond": "it is read from the file; --class-label N chooses a class",
    "use_fp16": "--precision fp16",
    "predict_xstart": "--set model.predicts=x0",
    **{
        name: f"--set model.{name}=..."
        for name in (
            "image_size",
            "num_heads",
            "num_head_channels",
            "num_heads_upsample",
            "use_new_attention_order",
            "noise_schedule",
            "diffusion_steps",
            "rescale_timesteps",
        )
    },
    **dict.fromkeys(
        (
            "num_channels",
            "channel_mult",
            "num_res_blocks",
            "attention_resolutions",
            "resblock_updown",
            "use_scale_shift_norm",
            "learn_sigma",
        ),
        "leave it out: it is read from the file",
    ),
    **dict.fromkeys(
        ("dropout", "use_checkpoint", "use_kl", "rescale_learned_sigmas"),
        "leave it out: it is for training only",
    ),
}


def here(message: str) -> str | None:
    """What to type instead, where ``message`` is about an option of the published scripts."""
    found = re.search(r"no such option:? '?--?([A-Za-z_]+)", message, re.IGNORECASE)
    return _HERE.get(found[1]) if found else None
