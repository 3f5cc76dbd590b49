"""From what was found to a plan, and the plan checked: what cannot work, what is in the way, what is done already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ilvrctl.diffusion.matching import check_match, match_channels, match_levels, match_sizes
from ilvrctl.errors import IlvrctlError, UsageError
from ilvrctl.events import Note, PassedBy, Warned
from ilvrctl.images.geometry import parse_color
from ilvrctl.images.io import DEEP_SUFFIXES
from ilvrctl.methods.encoders import no_source
from ilvrctl.models.files.stated import UNKNOWN
from ilvrctl.plans.digest import weights_sha256
from ilvrctl.plans.find_networks import NOT_THE_SAME, FoundNetwork, FoundNetworks
from ilvrctl.plans.grid import Variant, naming
from ilvrctl.plans.noises import check_keeping, check_noises
from ilvrctl.plans.outputs import Output, check_places, check_sheet
from ilvrctl.plans.past import Past, mark_done
from ilvrctl.plans.places import Limits, exists, real
from ilvrctl.plans.plan import Networks, Plan, SourceModel, schedule_of
from ilvrctl.plans.record import is_sheet_of
from ilvrctl.presets import ModelPreset, require_same
from ilvrctl.sizes import Size


def draft_plan(
    networks: FoundNetworks,
    variants: Sequence[Variant],
    outputs: Sequence[Output],
    *,
    sheet: Path | None = None,
    quality: int = 95,
    name: str = "",
    passed_by: Sequence[PassedBy] = (),
    notes: Sequence[Note] = (),
) -> Plan:
    """The plan with the digests of its networks, nothing checked yet."""
    target, encoder = networks.target, networks.encoder
    if networks.implied and not any(variant.settings.method.two_models for variant in variants):
        encoder = None
    digest = _digest(target)
    notes = (*notes, *_notes(target, digest), *_far_sizes(target.model, variants))
    source = None
    if encoder is not None:
        source = SourceModel(encoder.model, _digest(encoder), encoder.domain, encoder.weights)
        notes += _notes(encoder, source.weights_sha256)
    return Plan(
        tuple(outputs),
        tuple(variants),
        target.model,
        digest,
        target=target.domain,
        sheet=sheet,
        source=source,
        quality=quality,
        weights=target.weights,
        name=name,
        notes=notes,
        passed_by=tuple(passed_by),
        expects=target.expects,
    )


def _digest(network: FoundNetwork) -> str:
    """sha256 of its weights. WeightsError where they are no more the file that its preset was made for."""
    digest = weights_sha256(network.weights)
    if network.model.file and network.weights == network.model.path() and network.made_with is None:
        require_same(network.model, network.weights, digest)
    return digest


def networks_of(found: FoundNetworks, precision: str) -> Networks:
    """What must be in memory for them."""
    source = found.encoder
    of_source = (None, Path()) if source is None else (source.model, source.weights)
    return Networks(found.target.model, found.target.weights, precision, *of_source)


def _notes(network: FoundNetwork, digest: str) -> tuple[Note, ...]:
    if network.made_with in (None, digest):
        return network.notes
    return (*network.notes, Warned(f"{network.weights.name} {NOT_THE_SAME}"))


def _far_sizes(model: ModelPreset, variants: Sequence[Variant]) -> Iterator[Warned]:
    """A word about sizes that are far from what the network was trained on."""
    trained = model.picture_size
    asked = dict.fromkeys(variant.settings.picture_size for variant in variants)
    sizes = [Size.of(size) for size in asked if size is not None]
    if far := [str(size) for size in sizes if trained is not None and size.far_from(trained)]:
        yield Warned(
            f"--size {', '.join(far)} is far from the {trained} px that {model.name} was trained on: things may be "
            "doubled, or out of proportion"
        )


def check_networks(plans: Sequence[Plan], *, numbers: bool) -> None:
    """See that the networks of plans can be used as their settings want: the verdict that inspect gives too.

    ``numbers``: whether every number in their files is read; loading does that anyway. Raises what is wrong.
    """
    from ilvrctl.models.files.verdict import verdict_on

    for plan in plans:
        if UNKNOWN not in (plan.model.noise_schedule, plan.source and plan.source.model.noise_schedule):
            _check_source(plan)
    asked = {
        (weights, model, word, variant.settings.class_label, variant.settings.picture_size): variant
        for plan in plans
        for variant in plan.variants
        for weights, model, word in _used(plan, variant)
        if not (model.ships and weights == model.path() and variant.settings.picture_size is None)
    }  # what ships is looked at by the tests
    for (weights, model, word, label, size), variant in asked.items():
        try:
            verdict_on(weights, model, class_label=label, word=word, numbers=numbers, size=size).require()
        except IlvrctlError as error:
            raise naming(variant.label, error) from None


def _used(plan: Plan, variant: Variant) -> Iterator[tuple[Path, ModelPreset, str]]:
    yield plan.weights, plan.model, "model"
    if (source := plan.source_of(variant)) is not None:
        yield source.weights, source.model, "source"


def make_plan(plan: Plan, *, overwrite: bool, past: Past | None = None) -> Plan:
    """The plan, checked as far as is possible before the network is loaded, with what is done marked.

    Done is a file made from the same input bytes with the same settings and weights, as itself or ``past`` tells.
    Failed is what its file system has no room for in a name.
    UsageError for settings that cannot work, for an output that is an input (inputs are never touched), and, unless
    ``overwrite``, naming the files that are there but were made otherwise.
    """
    limits = Limits()
    for variant in plan.variants:
        _check(plan, variant)
    _check_source(plan)
    check_keeping(plan)
    files = [file for output in plan.outputs for file in output.files]
    if plan.sheet is not None:
        check_sheet(plan.sheet)
        if real(plan.sheet) in {real(file) for file in files}:
            raise UsageError(f"--sheet {plan.sheet} is also the name of a result", hint="choose another name")
        files.append(plan.sheet)
    files += {output.joined for output in plan.outputs if output.joined is not None}
    check_places(files, {file for o in plan.outputs for file in o.item.files})
    judged = [_named(o, limits) for o in mark_done(plan.outputs, plan.identities, past)]
    check_noises(replace(plan, outputs=tuple(judged)))
    if not overwrite:
        _refuse_taken(plan, judged)
    pending = (replace(o, status="to do") if o.status == "taken" else o for o in judged)
    return replace(plan, outputs=tuple(pending))


def _named(output: Output, limits: Limits) -> Output:
    """An output that cannot be written because of its name has failed, before anything is made for it."""
    if output.status == "to do":
        for file in output.files:
            if reason := limits.too_long(file):
                error = f"{output.item.name}: its result cannot be written: {reason}"
                return replace(output, status="failed", error=error, hint="rename the input, or -o FILE.png")
    return output


def _check(plan: Plan, variant: Variant) -> None:
    """UsageError naming the variant when its settings cannot work; WeightsError when they need a file."""
    try:
        variant.settings.method.weights()
        parse_color(variant.settings.background)
        _check_depth(plan, variant)
        if plan.model.image_size is not None:
            variant.settings.check(plan.schedule(), plan.model.image_size)
    except IlvrctlError as error:
        raise naming(variant.label, error) from None


def _check_depth(plan: Plan, variant: Variant) -> None:
    """UsageError for grey, or 16 bits, of a network that has none, and for files that cannot hold them."""
    from ilvrctl.models.files.verdict import picture_problem

    settings = variant.settings
    if wrong := picture_problem(plan.model.channels, settings.bits, settings.grey):
        raise wrong
    if settings.bits == 8:
        return
    paths = (o.path for o in plan.outputs if plan.variants[o.variant] is variant and o.path is not None)
    for path in paths:
        if path.suffix.lower() not in DEEP_SUFFIXES:
            raise UsageError(
                f"{path.name}: {path.suffix.lstrip('.')} files cannot hold {settings.bits} bits; those that can end in "
                f"{', '.join(DEEP_SUFFIXES)}",
                hint="--ext png, or -o FILE.tiff",
            )


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
            hint="leave it out: the noise is found already"
            if plan.variants[0].settings.method.encoder.given
            else "--method cyclediffusion or --method ddib",
        )
    _check_levels(plan, plan.source, wanting)
    match_channels(plan.source.model.channels, plan.model.channels)
    source, target = plan.source.model.image_size, plan.model.image_size
    sized = all(variant.settings.picture_size is not None for variant in wanting)
    if source is not None and target is not None and not sized:
        match_sizes(source, target)


def _check_levels(plan: Plan, source: SourceModel, wanting: Sequence[Variant]) -> None:
    """UsageError for a chain of the target's model with levels that the source's does not know."""
    levels = match_levels(schedule_of(source.model), plan.schedule())
    for variant in wanting:
        try:
            check_match(levels, variant.settings.chain(plan.schedule()))
        except UsageError as error:
            raise naming(variant.label, error) from None


def _refuse_taken(plan: Plan, judged: Sequence[Output]) -> None:
    """UsageError naming the files that are in the way."""
    taken = [str(file) for o in judged if o.status == "taken" for file in o.files if exists(file)]
    if plan.sheet is not None and exists(plan.sheet) and not is_sheet_of(plan.sheet, plan.identities):
        taken.append(str(plan.sheet))
    joined = {o.joined: plan.identities[o.variant] for o in judged if o.joined is not None}
    taken += [
        str(path) for path, identity in joined.items() if exists(path) and not is_sheet_of(path, [identity])
    ]
    if taken:
        more = f" and {len(taken) - 3} more" if len(taken) > 3 else ""
        raise UsageError(
            f"{', '.join(taken[:3])}{more} {'are' if len(taken) > 1 else 'is'} there already, made from "
            "another input or with other settings",
            hint="--overwrite, or another name",
        )
