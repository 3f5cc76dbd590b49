"""What the probe found out about a checkpoint, kept in a file beside it: ``FILE.facts.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ilvrctl import __version__
from ilvrctl.config import Layer, build, read_yaml
from ilvrctl.errors import ConfigError
from ilvrctl.files import write_text
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.presets import ModelPreset, override_model

SUFFIX = ".facts.yaml"


@dataclass(frozen=True)
class StoredFacts:
    """The content of the file.

    ``facts``: decided values under the names of a model preset; ``guesses``: the names of those that are
    guesses; ``undecided``: what the probe could not tell; ``margins``: how many times larger the error of the
    next best value was. ``size`` and ``sha256`` are those of the weights.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    guesses: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    margins: Mapping[str, Any] = field(default_factory=dict)
    levels: tuple[int, ...] = ()
    pictures: tuple[str, ...] = ()
    size: int = 0
    sha256: str = ""
    ilvrctl: str = __version__

    def apply(self, model: ModelPreset, file: Path) -> ModelPreset:
        """The preset with these facts. ConfigError for a fact that no preset has."""
        return override_model(model, Layer.of(file.name, dict(self.facts)))


def facts_file(weights: Path) -> Path:
    """Where the facts of a checkpoint are."""
    return weights.with_name(weights.name + SUFFIX)


def save_facts(weights: Path, facts: StoredFacts) -> Path:
    """Write the facts of ``weights`` (their size and hash are filled in). OutputError when that cannot be done."""
    file = facts_file(weights)
    known = replace(facts, size=weights.stat().st_size, sha256=weights_sha256(weights))
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(known).items()}
    text = f"# found by `ilvrctl inspect {weights.name} --probe`; flags and presets win over it\n"
    text += yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    return write_text(file, text)


def load_facts(weights: Path) -> StoredFacts | None:
    """The facts beside ``weights``; None where there are none. ConfigError when they are of another file, or no
    such facts at all.
    """
    if not weights.is_file() or not (file := facts_file(weights)).is_file():
        return None
    facts = build(StoredFacts, read_yaml(file))
    if facts.size != weights.stat().st_size or facts.sha256 != weights_sha256(weights):
        raise ConfigError(
            f"{file.name} is about another file than this {weights.name}",
            hint=f"ilvrctl inspect {weights} --probe",
        )
    return facts
