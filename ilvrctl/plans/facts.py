"""What is known of a checkpoint without reading its tensors: from a preset, or from what the probe found out.

The latter is kept in a file beside it: ``FILE.facts.yaml``.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ilvrctl import __version__
from ilvrctl.config import Layer, build, read_yaml
from ilvrctl.errors import ConfigError
from ilvrctl.events import Note, Noted, Warned
from ilvrctl.files import write_text
from ilvrctl.models.files.facts import named_in_vain
from ilvrctl.models.files.facts_header import header_facts, with_header_facts
from ilvrctl.models.files.stated import UNKNOWN
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.presets import ModelPreset, override_model, single_models
from ilvrctl.yaml_core import dump_yaml

ATTENTION = ("num_heads", "num_head_channels", "use_new_attention_order")
FACTS = (
    "image_size",
    *ATTENTION,
    "noise_schedule",
    "diffusion_steps",
    "beta_start",
    "beta_end",
    "predicts",
    "variance",
    "theta",
)
"""What no tensor tells, under the names of a model preset."""
GUESS = "a guess"
PROBE = "the probe"
HEADER = "its header"


SUFFIX = ".facts.yaml"
_FACT_OF = {"schedule": "noise_schedule", "predicts": "predicts"}
"""Facts that are never taken for granted once the probe has left them undecided, by its names."""


@dataclass(frozen=True)
class StoredFacts:
    """The content of the file.

    ``facts``: decided values under the names of a model preset; ``guesses``: the names of those that are
    guesses; ``undecided``: what the probe could not tell; ``margins``: how many times larger the error of the
    next best value was; ``curve``: the level that the probe found best at each noise strength sigma / alpha.
    ``size`` and ``sha256`` are those of the weights.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    guesses: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    margins: Mapping[str, Any] = field(default_factory=dict)
    curve: Mapping[str, Any] = field(default_factory=dict)
    levels: tuple[int, ...] = ()
    pictures: tuple[str, ...] = ()
    size: int = 0
    sha256: str = ""
    ilvrctl: str = __version__

    def apply(self, model: ModelPreset, file: Path, told: Container[str] = ()) -> ModelPreset:
        """The preset with these facts, and unknown where the probe decided nothing and nobody has ``told``.

        ConfigError for a fact that no preset has.
        """
        names = [_FACT_OF[fact] for fact in self.undecided if fact in _FACT_OF]
        unknown = {name: UNKNOWN for name in names if name not in told}
        return override_model(model, Layer.of(file.name, unknown | dict(self.facts)))


def facts_file(weights: Path) -> Path:
    """Where the facts of a checkpoint are."""
    return weights.with_name(weights.name + SUFFIX)


def save_facts(weights: Path, facts: StoredFacts) -> Path:
    """Write the facts of ``weights`` (their size and hash are filled in). OutputError when that cannot be done."""
    file = facts_file(weights)
    known = replace(facts, size=weights.stat().st_size, sha256=weights_sha256(weights))
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(known).items()}
    text = f"# found by `ilvrctl inspect {weights.name} --probe`; flags and presets win over it\n"
    text += dump_yaml(plain)
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


@dataclass(frozen=True)
class FactsFound:
    """``model``: the facts; ``origins``: where each that is known comes from. ``notes``: for people.

    ``probed``: what the probe found and stored, whoever wins over it.
    """

    model: ModelPreset
    origins: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    probed: Mapping[str, Any] = field(default_factory=dict)


def disagreement(probed: Mapping[str, Any], model: ModelPreset, origins: Mapping[str, str]) -> str | None:
    """What to say where a preset or a flag wins over what was ``probed``; None where they agree."""
    other = [
        f"{name} {value} (probe) or {getattr(model, name)} ({origins[name]})"
        for name, value in probed.items()
        if name in origins and getattr(model, name) != value
    ]
    return f"not what the probe found: {'; '.join(other)}" if other else None


def facts_about(weights: Path) -> FactsFound:
    """What is known of a file: the preset that was written for it; else what the probe stored beside it, then what its
    own header says, or where it has none the preset of a published file of its name.

    Stored facts that cannot be used, because they are of another file, are a warning.
    """
    header = header_facts(weights)
    for model in single_models():
        if _same(model, weights) or (model.file and model.file == weights.name and not header):
            if (warning := named_in_vain(weights, model)) is not None:
                return replace(_stored(weights), notes=(Warned(warning),))
            note = Noted(f"{weights.name} is known as {model.name}: using its facts")
            return FactsFound(model, dict.fromkeys(FACTS, f"preset {model.name}"), (note,))
    return _stored(weights)


def _same(model: ModelPreset, weights: Path) -> bool:
    return Path(model.file).is_absolute() and Path(model.file) == weights.resolve()


def _stored(weights: Path) -> FactsFound:
    told = with_header_facts(ModelPreset(name=weights.resolve().stem), weights)
    origins = dict.fromkeys((name for name in header_facts(weights) if name in FACTS), HEADER)
    try:
        facts = load_facts(weights)
        if facts is None:
            return FactsFound(told, origins)
        model = facts.apply(told, facts_file(weights), origins)
    except ConfigError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return FactsFound(told, origins, (Warned(f"not used: {error.message}{hint}"),))
    origins |= {name: GUESS if name in facts.guesses else PROBE for name in facts.facts}
    guessed = "".join(
        f"; {name} {getattr(model, name)} is a guess, --set model.{name}=... corrects it"
        for name in facts.guesses
    )
    note = Noted(f"using {facts_file(weights).name}{guessed}")
    probed = {name: value for name, value in facts.facts.items() if name not in facts.guesses}
    return FactsFound(model, origins, (note,), probed)
