"""Facts in the header of a safetensors file, so that weights written here need no preset. No torch here.

They are one JSON mapping, ``{"ilvrctl": "..."}`` in ``__metadata__``. Its keys are those of a model preset where
one has them (``image_size``, ``num_heads``, ``num_head_channels``, ``num_heads_upsample``, ``noise_schedule``,
``use_new_attention_order``, ``diffusion_steps``, ``rescale_timesteps``, ``predicts``, ``variance``, ``format``,
``title``), and besides ``version`` of this layout, ``channels`` of a picture, ``averaged``, ``pictures_seen``
and ``trained_on``, which tells how many pictures and their digest, but no paths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ilvrctl.config import Layer
from ilvrctl.errors import ConfigError, WeightsError, unreadable
from ilvrctl.models.files.container import AGAIN
from ilvrctl.presets import ModelPreset, override_model

KEY = "ilvrctl"
VERSION = 1
_LONGEST = 100_000_000  # bytes of a header; the limit of the safetensors format
_OF_A_PLACE = frozenset(
    {"name", "aliases", "file", "files", "bundled", "sources", "dead", "size", "size_about", "experts"}
)
"""Keys of a preset that say where a file is, which the file itself cannot know."""
FACTS_OF_A_NETWORK = frozenset(field.name for field in fields(ModelPreset)) - _OF_A_PLACE
"""Keys that a header may have from a preset."""


def read_notes(path: Path) -> dict[str, str]:
    """``__metadata__`` of a safetensors file; empty where there is none. FileNotFoundError without the file,
    WeightsError for a damaged header.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: Any = json.loads(file.read(length)) if length <= _LONGEST else None
        return {str(key): str(text) for key, text in header.get("__metadata__", {}).items()}
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: the header of a safetensors file is damaged ({error})", AGAIN) from error


def facts_note(facts: Mapping[str, Any]) -> dict[str, str]:
    """``facts`` as the note that :func:`header_facts` reads."""
    return {KEY: json.dumps({"version": VERSION, **facts}, ensure_ascii=False)}


def header_facts(path: Path) -> dict[str, Any]:
    """The facts in the header of ``path``; empty for any file without them, whatever its format.

    WeightsError when they are damaged or of a later layout.
    """
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as file:
            if file.read(9)[8:] != b"{":
                return {}
        text = read_notes(path).get(KEY)
        found = {} if text is None else json.loads(text)
        version = found.get("version", VERSION) if isinstance(found, dict) else None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: the facts in its header are damaged ({error})", AGAIN) from error
    if not isinstance(version, int) or isinstance(version, bool):
        what = "the facts in its header are damaged (no mapping with a version)"
        raise WeightsError(f"{path}: {what}", AGAIN)
    if version > VERSION:
        raise WeightsError(
            f"{path}: its facts are of layout {version}; this ilvrctl knows {VERSION}", "update it"
        )
    return found


def with_header_facts(model: ModelPreset, path: Path) -> ModelPreset:
    """``model`` with the facts in the header of ``path``. WeightsError for one that no preset can have."""
    facts = {key: value for key, value in header_facts(path).items() if key in FACTS_OF_A_NETWORK}
    try:
        return override_model(model, Layer.of(f"the header of {path.name}", facts))
    except ConfigError as error:
        raise WeightsError(f"{path}: {error.message}", error.hint) from error
