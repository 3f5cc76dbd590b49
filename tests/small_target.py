"""A network that takes a few milliseconds, for tests of what happens around it: it makes noise, the same each time."""

from __future__ import annotations

from pathlib import Path

from checkpoints import random_state_dict

from ilvrctl.models.architecture.unet import AdmArchitecture, HiddenFlags
from ilvrctl.models.files.facts_header import facts_note
from ilvrctl.models.files.saving import save_safetensors

ARCHITECTURE = AdmArchitecture(3, 3, 32, (32,), 1, (False,), hidden=HiddenFlags(num_heads=1))


def write_small_target(path: Path) -> Path:
    """The weights, with all that has to be known of them, for ``--weights`` or ``weights:``."""
    facts = {
        "image_size": 16,
        "num_heads": 1,
        "use_new_attention_order": False,
        "noise_schedule": "linear",
        "diffusion_steps": 1000,
        "predicts": "v",
        "variance": "fixed_small",
    }
    save_safetensors(path, random_state_dict(ARCHITECTURE), facts_note(facts))
    return path
