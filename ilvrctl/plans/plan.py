"""The plan of a translation: which results, and which are there already. Without torch or the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ilvrctl.diffusion.schedule import Schedule, match_models, match_sizes
from ilvrctl.errors import IlvrctlError, UsageError
from ilvrctl.images.geometry import parse_color
from ilvrctl.methods.encoders import no_source
from ilvrctl.models.files.facts import left_unknown, missing_error
from ilvrctl.models.files.stated import UNKNOWN
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.plans.grid import Variant, naming
from ilvrctl.plans.networks import Networks
from ilvrctl.plans.outputs import Output, check_places, check_sheet
from ilvrctl.plans.past import Past, judge
from ilvrctl.plans.places import exists, real
from ilvrctl.plans.record import is_sheet_of
from ilvrctl.presets import LATER_FACTS, ModelPreset

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
    JPEG and WebP.
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

    @property
    def networks(self) -> Networks:
        """What must be in memory for it."""
        precision = self.variants[0].settings.precision
        if self.source is None:
            return Networks(self.model, self.weights, precision)
        return Networks(self.model, self.weights, precision, self.source.model, self.source.weights)

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

    def network_calls(self) -> int:
        """How often a network will be called for the pending outputs, counted a picture."""
        schedule = self.schedule()
        calls = [variant.settings.network_calls(schedule) for variant in self.variants]
        return sum(calls[output.variant] for output in self.pending)

    def schedule(self) -> Schedule:
        """The levels that the network was trained on."""
        return schedule_of(self.model)


def network_facts(model: ModelPreset) -> dict[str, Any]:
    """What a preset adds to the tensors, as JSON values; later facts only where they differ from their defaults."""
    facts = {name: getattr(model, name) for name in _NETWORK_FACTS}
    more = {f.name: (getattr(model, f.name), f.default) for f in fields(model) if f.name in LATER_FACTS}
    return facts | {name: value for name, (value, default) in more.items() if value != default}


def schedule_of(model: ModelPreset) -> Schedule:
    """The levels that a network was trained on. UsageError for all that is not known, where these are not."""
    if model.noise_schedule == UNKNOWN:
        size = ("image_size",) if model.image_size is None else ()
        raise missing_error(Path(model.name), (*size, *left_unknown(model)))
    return Schedule.of(model)


def make_plan(plan: Plan, *, overwrite: bool, past: Past | None = None) -> Plan:
    """The plan, checked as far as is possible before the network is loaded, with what is done marked.

    Done is a file made from the same input bytes with the same settings and weights, as itself or ``past`` tells.
    UsageError for settings that cannot work, for an output that is an input (inputs are never touched), and, unless
    ``overwrite``, naming the files that are there but were made otherwise.
    """
    for variant in plan.variants:
        _check(plan, variant)
    _check_source(plan)
    files = [file for output in plan.outputs for file in output.files]
    if plan.sheet is not None:
        check_sheet(plan.sheet)
        if real(plan.sheet) in {real(file) for file in files}:
            raise UsageError(f"--sheet {plan.sheet} is also the name of a result", hint="choose another name")
        files.append(plan.sheet)
    check_places(files, {file for o in plan.outputs for file in o.item.files})
    judged = judge(plan.outputs, plan.identities, past)
    if not overwrite:
        _refuse_taken(plan, judged)
    pending = (replace(o, status="to do") if o.status == "taken" else o for o in judged)
    return replace(plan, outputs=tuple(pending))


def _check(plan: Plan, variant: Variant) -> None:
    """UsageError naming the variant when its settings cannot work; WeightsError when they need a file."""
    try:
        variant.settings.method.weights()
        parse_color(variant.settings.background)
        if plan.model.image_size is not None:
            variant.settings.check(plan.schedule(), plan.model.image_size)
    except IlvrctlError as error:
        raise naming(variant.label, error) from None


def _check_source(plan: Plan) -> None:
    """UsageError when methods and the source's model do not go together."""
    wanting = [variant for variant in plan.variants if variant.settings.method.two_models]
    if plan.source is None:
        for variant in wanting:
            raise naming(variant.label, no_source(variant.settings.method.name))
        return
    if not wanting:
        raise UsageError(
            "--from names the model of the inputs' own kind, which this method has no use for",
            hint="--method cyclediffusion or --method ddib",
        )
    match_models(schedule_of(plan.source.model), plan.schedule())
    source, target = plan.source.model.image_size, plan.model.image_size
    if source is not None and target is not None:
        match_sizes(source, target)


def _refuse_taken(plan: Plan, judged: Sequence[Output]) -> None:
    """UsageError naming the files that are in the way."""
    taken = [str(file) for o in judged if o.status == "taken" for file in o.files if exists(file)]
    if plan.sheet is not None and exists(plan.sheet) and not is_sheet_of(plan.sheet, plan.identities):
        taken.append(str(plan.sheet))
    if taken:
        more = f" and {len(taken) - 3} more" if len(taken) > 3 else ""
        raise UsageError(
            f"{', '.join(taken[:3])}{more} {'are' if len(taken) > 1 else 'is'} there already, made from "
            "another input or with other settings",
            hint="--overwrite, or another name",
        )
