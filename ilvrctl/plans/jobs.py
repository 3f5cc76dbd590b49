"""From a jobs file to plans: inputs, networks, settings and outputs of every job."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ilvrctl import paths
from ilvrctl.config import Layer, read_yaml
from ilvrctl.errors import ConfigError, IlvrctlError, UsageError, did_you_mean
from ilvrctl.images.folders import pictures_in
from ilvrctl.memory import remembering
from ilvrctl.plans.asked import Asked, choice_of, leaves, set_choice
from ilvrctl.plans.check import check_networks, draft_plan, make_plan
from ilvrctl.plans.edit_modes import way_of
from ilvrctl.plans.find_networks import FoundNetworks, NetworksAsked, find_networks
from ilvrctl.plans.grid import Choice, Variant, naming
from ilvrctl.plans.inputs import Collected, Item, collect, read_list, refuse_address, refuse_equal
from ilvrctl.plans.jobs_file import PARAMETERS, JobAsked, read_jobs
from ilvrctl.plans.manifest import read_manifest
from ilvrctl.plans.named_weights import located
from ilvrctl.plans.names import name_results
from ilvrctl.plans.noises import FROM_NOISE, items_in
from ilvrctl.plans.outputs import FORMATS, Destination, Output, numbers_to, outputs_of, suffix_of
from ilvrctl.plans.parameter import Parameter
from ilvrctl.plans.past import Past
from ilvrctl.plans.plan import Plan, Where


@remembering()
def plans_of(
    jobs: Path | Mapping[str, object],
    out: Path | None = None,
    *,
    overwrite: bool = False,
    retry: bool = False,
    only: Sequence[str] = (),
) -> tuple[list[Plan], Past]:
    """The plans of all jobs of a file, or of a mapping with the same keys, with what is done marked, and what the
    manifest of ``out`` tells. Paths in a mapping count from the current folder. ``only``: the names of the jobs that
    are made now; the others are planned with them, so that the batches are those of all.

    UsageError for the first mistake, with its line.
    """
    if isinstance(jobs, Path):
        read, folder = read_jobs(read_yaml(jobs), jobs.name), jobs.parent
    else:
        read, folder = read_jobs(Layer.of("jobs", dict(jobs)), "the mapping of jobs"), Path()
    _check_only(only, [job.spec.name for job in read.jobs])
    root = out if out is not None else folder / read.out
    past = Past(root, read_manifest(root), retry)
    plans = [plan_of(job, folder, past) for job in read.jobs]
    written = [(str(path), f"{o.item.name} ({p.name})") for p in plans for o in p.outputs for path in o.files]
    refuse_equal([path for path, _ in written], [name for _, name in written])
    check_networks(plans, numbers=False)
    again = [overwrite or job.value("overwrite") for job in read.jobs]
    made = [make_plan(p, overwrite=o, past=past) for p, o in zip(plans, again, strict=True)]
    return [plan if not only or plan.name in only else _left(plan) for plan in made], past


def _check_only(only: Sequence[str], names: Sequence[str]) -> None:
    """UsageError for the name of a job that there is not."""
    for name in only:
        if name not in names:
            hint = did_you_mean(name, names) or f"its jobs: {', '.join(names)}"
            raise UsageError(f"no job of the file is called {name!r}", hint)


def _left(plan: Plan) -> Plan:
    """The plan, of which nothing is made here."""
    return replace(plan, outputs=tuple(replace(output, status="elsewhere") for output in plan.outputs))


def plan_of(job: JobAsked, folder: Path, past: Past) -> Plan:
    """The plan of one job, nothing checked yet. ``folder``: of the jobs file; ``past``: of that of all results.

    UsageError or WeightsError, begun with the line in the file, for what cannot be carried out.
    """
    spec, out = job.spec, past.root
    try:
        networks = _networks(job, folder)
        masked = bool(spec.scribbled or spec.masks or job.value("mask"))
        asked = Asked(tuple(_choices(job, folder)), values={"as_published": job.value("as_published")})
        edit = spec.edit
        way = None if job.value("from_noise") is None else FROM_NOISE
        if edit is not None:
            way = way_of(networks.target, edit, asked.choices, masked=masked)
        variants = asked.variants(networks, way)
        found = _found(job, folder, out)
        items = _with_companions(job, found.items, folder)
        numbers = networks.samples or numbers_to(job.value("samples") or 1)
        outputs = _outputs(job, items, variants, numbers, past)
        sheet = _sheet(job, folder, out, several=len(variants) > 1)
        quality = job.value("quality")
        more = {"sheet": sheet, "quality": quality, "name": spec.name, "passed_by": found.passed_by}
        return replace(draft_plan(networks, variants, outputs, **more), where=_where(job))
    except IlvrctlError as error:
        raise error if error.message.startswith(_file(job.origin)) else naming(job.origin, error) from None


def _where(job: JobAsked) -> Where:
    device = job.value("device")
    return Where(None if device == "auto" else device, job.value("batch_size"), job.value("compile"))


def _sheet(job: JobAsked, folder: Path, out: Path, *, several: bool) -> Path | None:
    """Where the job's sheet goes: that of a sweep is made unless the file says no."""
    spec, given = job.spec, job.value("sheet")
    if isinstance(given, str):
        return folder / given
    wanted = several if given is None else given
    return out / (spec.folder or spec.name) / "sheet.png" if wanted else None


def _file(origin: str) -> str:
    return origin.partition(", line ")[0] + ", line "


def _networks(job: JobAsked, folder: Path) -> FoundNetworks:
    spec, to = job.spec, job.value("to")
    facts = {word: value for word, value in (("model", spec.model), ("source", spec.source)) if value}
    from_image = None if job.value("from_image") is None else folder / job.value("from_image")
    weights, encoder = (
        None if name is None else located(name, folder)
        for name in map(job.value, ("weights", "from_weights"))
    )
    to = "emoji3d" if job.value("examples") and not (to or weights or from_image) else to
    facts_given = Layer(facts, dict(job.origins))
    found = find_networks(NetworksAsked(to, weights, from_image, job.value("from"), encoder, facts_given))
    if found.samples and (spec.edit is None) is (found.settings.values.get("edit") is not None):
        what = "an edit" if spec.edit is None else "no edit"
        raise UsageError(
            f"{from_image} was made by {what}, and the job is {'none' if spec.edit is None else 'one'}"
        )
    return found


def _choices(job: JobAsked, folder: Path) -> list[Choice]:
    """The parameters with one value, the matrix with several, and other settings."""
    found = []
    for name, value in job.parameters.items():
        if PARAMETERS[name].key and name not in job.spec.matrix:
            found.append(choice_of(PARAMETERS[name], [value], job.at(name), folder))
    for name, values in job.spec.matrix.items():
        at = job.at("matrix", name)
        if name in PARAMETERS:
            found.append(choice_of(PARAMETERS[name], values, at, folder))
        else:
            found.append(choice_of(Parameter(name, "", key=name), values, at))
    taken = {choice.key for choice in found}
    for key, value in leaves(job.spec.set):
        if key not in taken:
            found.append(set_choice(key, value, job.at("set", *key.split("."))))
    return found


def _found(job: JobAsked, folder: Path, out: Path) -> Collected:
    spec = job.spec
    written = {"": spec.inputs} if isinstance(spec.inputs, str) else dict(enumerate(spec.inputs, 1))
    names = [
        name
        for n, text in written.items()
        for name in _matches(text, folder, job.at("inputs", str(n)) if n else job.at("inputs"))
    ]
    if (listed := job.value("from_file")) is not None:
        names += [str(folder / name) for name in read_list(str(folder / listed), null=job.value("null"))]
    if job.value("examples"):
        names.append(str(paths.EXAMPLES))
    if (noise := job.value("from_noise")) is not None:
        if names or spec.edit is not None:
            what = "inputs" if names else "edit"
            raise ConfigError(
                f"{job.at('from_noise')}: from_noise brings its own pictures", hint=f"leave out {what}"
            )
        return Collected(items_in(folder / noise, recursive=job.value("recursive")))
    if not names:
        raise ConfigError(
            f"{job.origin}: the job {spec.name} has no inputs", hint="inputs: FOLDER, or examples: true"
        )
    try:
        recursive, frames = job.value("recursive"), job.value("frames")
        return collect(names, recursive=recursive, stdin=None, outputs=[out], frames=frames)
    except IlvrctlError as error:
        raise naming(job.at("inputs"), error) from None


def _with_companions(job: JobAsked, items: Sequence[Item], folder: Path) -> Sequence[Item]:
    """The photos of an edit with their scribbled copies and masks, or the mask of all."""
    if (mask := job.value("mask")) is not None:
        one = Item(mask, Path(mask).stem, folder / mask)
        items = [replace(item, mask=one) for item in items]
    for place in ("scribbled", "masks"):
        name = getattr(job.spec, place)
        if name is not None:
            found = _companions(items, folder / name, job.at(place))
            pairs = zip(items, found, strict=True)
            items = [
                replace(item, guide=one) if place == "scribbled" else replace(item, mask=one)
                for item, one in pairs
            ]
    return items


def _companions(items: Sequence[Item], folder: Path, at: str) -> list[Item]:
    """The picture in the folder with the name of each item, whatever its suffix. ConfigError when there is none."""
    there = {path.stem: path for path in pictures_in(folder, recursive=False).pictures}
    names = [Path(item.stem if item.path is None else item.path.name).stem for item in items]
    missing = [name for name in names if name not in there]
    if missing:
        raise ConfigError(
            f"{at}: {folder.name} has no picture named {missing[0]!r}"
            + (f", nor {len(missing) - 1} others" if len(missing) > 1 else ""),
            hint="a scribbled copy or mask has the name of its photo",
        )
    return [Item(str(there[name]), name, there[name]) for name in names]


def _matches(text: str, folder: Path, at: str) -> list[str]:
    """The name itself, or what a glob matches, in order."""
    try:
        refuse_address(text)
    except UsageError as error:
        raise naming(at, error) from None
    path = folder / text
    if not glob.has_magic(text) or path.exists():
        return [str(path)]
    found = sorted(glob.glob(glob.escape(str(folder)) + "/" + text, recursive=True))  # noqa: PTH207
    found = found if not Path(text).is_absolute() else sorted(glob.glob(text, recursive=True))  # noqa: PTH207
    if not found:
        raise ConfigError(
            f"{at}: nothing matches {text!r}", hint="paths are relative to the folder of the file"
        )
    return [str(Path(name)) for name in found]


def _outputs(
    job: JobAsked, items: Sequence[Item], variants: list[Variant], numbers: Sequence[int], past: Past
) -> list[Output]:
    spec = job.spec
    folder = past.root / (spec.folder if spec.folder is not None else spec.name)
    pattern = (spec.pattern or "").replace("{job}", spec.name).replace("{to}", job.value("to") or "")
    place = Destination(folder, suffix=suffix_of(job.value("ext") or FORMATS[0]), pattern=pattern)
    folders = [variant.folder for variant in variants]
    named = name_results(items, place, numbers, folders, past)
    beside = {"gif": job.value("gif"), "join": job.value("join"), "noise": job.value("save_noise")}
    return outputs_of(named, numbers, place, folders=folders, **beside)
