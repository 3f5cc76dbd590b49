"""What is known of a checkpoint without reading its tensors, and from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ilvrctl.errors import ConfigError
from ilvrctl.models.files.facts import named_in_vain
from ilvrctl.plans.facts import facts_file, load_facts
from ilvrctl.presets import ModelPreset, load_models

ATTENTION = ("num_heads", "num_head_channels", "use_new_attention_order")
FACTS = (
    "image_size",
    *ATTENTION,
    "noise_schedule",
    "diffusion_steps",
    "predicts",
    "variance",
)
"""What no tensor tells, under the names of a model preset."""
GUESS = "a guess"
PROBE = "the probe"


@dataclass(frozen=True)
class Known:
    """``model``: the facts; ``origins``: where each that is known comes from. ``note``, ``warning``: for people."""

    model: ModelPreset
    origins: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    warning: str | None = None


def known_of(weights: Path) -> Known:
    """The preset of a published file of this name or of this file, else what the probe stored beside it.

    Stored facts that cannot be used, because they are of another file, are a warning.
    """
    for model in load_models().values():
        if model.file and (model.file == weights.name or _same(model, weights)):
            if (warning := named_in_vain(weights, model)) is not None:
                return replace(_stored(weights), warning=warning)
            note = f"{weights.name} is known as {model.name}: using its facts"
            return Known(model, dict.fromkeys(FACTS, f"preset {model.name}"), note)
    return _stored(weights)


def _same(model: ModelPreset, weights: Path) -> bool:
    return Path(model.file).is_absolute() and Path(model.file) == weights.resolve()


def _stored(weights: Path) -> Known:
    unknown = ModelPreset(name=weights.resolve().stem)
    try:
        facts = load_facts(weights)
        if facts is None:
            return Known(unknown)
        model = facts.apply(unknown, facts_file(weights))
    except ConfigError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return Known(unknown, warning=f"not used: {error.message}{hint}")
    origins = {name: GUESS if name in facts.guesses else PROBE for name in facts.facts}
    guessed = "".join(
        f"; {name} {getattr(model, name)} is a guess, --set model.{name}=... corrects it"
        for name in facts.guesses
    )
    return Known(model, origins, f"using {facts_file(weights).name}{guessed}")
