"""The plan of a run as a value: which results, with which settings and networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.events import Note, PassedBy
from ilvrctl.model_preset import LATER_FACTS, Expert, ModelPreset
from ilvrctl.models.files.facts import left_unknown, missing_error
from ilvrctl.models.files.stated import UNKNOWN
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.plans.grid import Variant
from ilvrctl.plans.outputs import Output

if TYPE_CHECKING:
    from ilvrctl.engine import Engine

_NETWORK_FACTS = (
    "image_size",
    "num_heads",
    "num_head_channels",
    "num_heads_upsample",
    "use_new_attention_order",
    "noise_schedule",
    "diffusion_steps",
    "rescale_timesteps",
    "predicts",
    "variance",
)
"""Fields of a model preset that change what the network computes or how it is used; so do LATER_FACTS."""


@dataclass(frozen=True)
class Where:
    """Where a job asks to be carried out, as ``--device``, ``--batch-size`` and ``--compile`` say it, which win; None
    where it does not ask.
    """

    device: str | None = None
    batch_size: int | str | None = None
    compiled: bool | None = None


@dataclass(frozen=True)
class Networks:
    """The target's ``model`` in the file ``weights``, and that of the inputs' own kind where there is one; and
    ``where`` they are wanted.

    Plans with equal networks share one engine, and fill their batches together.
    """

    model: ModelPreset = field(default_factory=ModelPreset)
    weights: Path = Path()
    precision: str = "auto"
    source: ModelPreset | None = None
    source_weights: Path = Path()
    where: Where = field(default_factory=Where)

    def load(self, *, device: str, batch_size: int | None = None, compiled: bool = False) -> Engine:
        """The engine; one network in it where both are the same. Errors as :meth:`Engine.load` has them."""
        from ilvrctl.engine import Engine

        def one(model: ModelPreset, weights: Path, word: str) -> Engine:
            return Engine.load(
                model,
                weights,
                device=device,
                precision=self.precision,
                batch_size=batch_size,
                compiled=compiled,
                word=word,
            )

        engine = one(self.model, self.weights, "model")
        if self.source is None:
            return engine
        same = self.source_weights == self.weights and self.source == self.model
        return engine.with_source(
            engine if same else one(self.source, self.source_weights, "source"), sized=True
        )


@dataclass(frozen=True)
class SourceModel:
    """The model of the inputs' own kind, for methods with two: ``domain`` as ``--from`` named it; its file."""

    model: ModelPreset
    weights_sha256: str
    domain: str | None = None
    weights: Path = field(default_factory=Path)

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        network = {"network": network_facts(self.model), "sha256": self.weights_sha256}
        return {"domain": self.domain, "name": self.model.name, **network}


@dataclass(frozen=True)
class Plan:
    """All results of a job, variant by variant in the order of the inputs, and the contact sheet of them, if any.

    A job is a grid where it has several ``variants``: then each has its folder and its share of the ``outputs``.
    ``weights``: the file of the model. ``name``: that of the job among several. ``quality`` is that of results in
    JPEG and WebP. ``notes``: what people should know before it is carried out. ``passed_by``: what in the folders of
    the inputs is none. ``where``: where it asks to be carried out. ``expects``: of what kind the target wants inputs
    to be, where that can be seen.
    """

    outputs: tuple[Output, ...]
    variants: tuple[Variant, ...]
    model: ModelPreset
    weights_sha256: str
    target: str | None = None
    sheet: Path | None = None
    source: SourceModel | None = None
    quality: int = 95
    weights: Path = field(default_factory=Path)
    name: str = ""
    notes: tuple[Note, ...] = ()
    passed_by: tuple[PassedBy, ...] = ()
    where: Where = field(default_factory=Where)
    expects: str = ""

    def networks_of(self, variant: Variant) -> Networks:
        """What must be in memory for a variant: they can differ in precision."""
        precision = variant.settings.precision
        found = Networks(self.model, self.weights, precision, where=self.where)
        if self.source is None:
            return found
        return replace(found, source=self.source.model, source_weights=self.source.weights)

    def by_networks(self) -> dict[Networks, tuple[Output, ...]]:
        """The outputs still to be made, by the networks that they need; in the order of the variants."""
        found: dict[Networks, tuple[Output, ...]] = {}
        needed = [self.networks_of(variant) for variant in self.variants]
        for networks in dict.fromkeys(needed):
            found[networks] = tuple(o for o in self.pending if needed[o.variant] == networks)
        return found

    @property
    def grid(self) -> bool:
        """Whether its results stand in folders of their variants."""
        return any(variant.folder for variant in self.variants)

    @property
    def edits(self) -> bool:
        """Whether photos are edited, and not translated."""
        return any(variant.settings.edit is not None for variant in self.variants)

    @cached_property
    def identities(self) -> tuple[str, ...]:
        """For each variant the sha256 of everything but the inputs that decides the pixels.

        WeightsError when the network of an energy is not here.
        """
        return tuple(variant.settings.identity(self._networks(variant)) for variant in self.variants)

    def _networks(self, variant: Variant) -> dict[str, Any]:
        found: dict[str, Any] = {"weights": self.weights_sha256, **network_facts(self.model)}
        energies = variant.settings.method.weights().items()
        if energies:
            found["energies"] = {name: weights_sha256(path) for name, path in energies}
        if (source := self.source_of(variant)) is not None:
            found["source"] = {"weights": source.weights_sha256, **network_facts(source.model)}
        return found

    def source_of(self, variant: Variant) -> SourceModel | None:
        """The source's model where the variant's method has one."""
        return self.source if variant.settings.method.two_models else None

    @property
    def direction(self) -> str:
        """From where to where, for people: ``to dog``, ``from cat to dog``."""
        to = f"to {self.target or self.model.name}"
        return f"from {self.source.domain or self.source.model.name} {to}" if self.source else to

    def changes(self, output: Output) -> Mapping[str, Any]:
        """The settings that tell the output from others of a grid."""
        return self.variants[output.variant].changes

    @property
    def pending(self) -> tuple[Output, ...]:
        """The outputs still to be made."""
        return tuple(output for output in self.outputs if output.status == "to do")

    @property
    def mine(self) -> int:
        """How many of its outputs are not made elsewhere."""
        return sum(output.status != "elsewhere" for output in self.outputs)

    def network_calls(self, outputs: Sequence[Output] | None = None) -> int:
        """How often a network will be called for the pending outputs, or for some, counted a picture."""
        return sum(self._calls[output.variant] for output in (self.pending if outputs is None else outputs))

    @cached_property
    def _calls(self) -> tuple[int, ...]:
        """How often a network is called for one result of each variant."""
        schedule = self.schedule()
        return tuple(variant.settings.network_calls(schedule) for variant in self.variants)

    def schedule(self) -> Schedule:
        """The levels that the network was trained on."""
        return schedule_of(self.model)


def network_facts(model: ModelPreset) -> dict[str, Any]:
    """What a preset adds to the tensors, as JSON values; later facts only where they differ from their
    defaults, and experts with the digests of their files.
    """
    facts = {name: getattr(model, name) for name in _NETWORK_FACTS}
    more = {f.name: (getattr(model, f.name), f.default) for f in fields(model) if f.name in LATER_FACTS}
    facts |= {name: value for name, (value, default) in more.items() if value != default}
    return facts | ({"experts": [_expert_facts(expert) for expert in model.experts]} if model.experts else {})


def _expert_facts(expert: Expert) -> dict[str, Any]:
    assert expert.network is not None
    place = {"model": expert.model, "down_to": expert.down_to, "sha256": expert.sha256}
    return {**place, "network": network_facts(expert.network)}


@lru_cache(maxsize=64)
def schedule_of(model: ModelPreset) -> Schedule:
    """The levels that a network was trained on. UsageError for all that is not known, where these are not."""
    if model.noise_schedule == UNKNOWN:
        size = ("image_size",) if model.image_size is None else ()
        raise missing_error(Path(model.name), (*size, *left_unknown(model)))
    return Schedule.of(model)
