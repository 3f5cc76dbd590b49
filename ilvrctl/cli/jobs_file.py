"""From a jobs file to plans: inputs, networks, settings and outputs of every job."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl import paths
from ilvrctl.cli.display import Display
from ilvrctl.cli.making import READERS, plan_for, settings_of, way_of
from ilvrctl.cli.request import names_of, preset_layer
from ilvrctl.cli.source import Asked, Source, find_source
from ilvrctl.config import Layer, nested
from ilvrctl.errors import ConfigError, IlvrctlError
from ilvrctl.plans.grid import Choice, Option, Variant, expand, naming
from ilvrctl.plans.jobs_file import PARAMETERS, Job

if TYPE_CHECKING:
    from ilvrctl.plans.inputs import Item
    from ilvrctl.plans.outputs import Output
    from ilvrctl.plans.plan import Plan


def plan_of(job: Job, folder: Path, out: Path, display: Display) -> Plan:
    """The plan of one job, nothing judged yet. ``folder``: of the jobs file; ``out``: of all results.

    UsageError or WeightsError, begun with the line in the file, for what cannot be carried out.
    """
    spec = job.spec
    try:
        source = _source(job, folder)
        masked = bool(spec.scribbled or spec.masks)
        way = way_of(source, spec.edit, masked=masked) if spec.edit is not None else None
        variants = expand(_choices(job), lambda picked: settings_of(source, picked, way))
        items = _with_companions(job, _items(job, folder, out), folder)
        outputs = _outputs(job, items, variants, out)
        sheet = _sheet(job, out, several=len(variants) > 1)
        return plan_for(
            source, variants, outputs, display, sheet=sheet, quality=job.spec.quality, name=spec.name
        )
    except IlvrctlError as error:
        raise error if error.message.startswith(_file(job.origin)) else naming(job.origin, error) from None


def _sheet(job: Job, out: Path, *, several: bool) -> Path | None:
    """Where the job's sheet goes: that of a sweep is made unless the file says no."""
    spec = job.spec
    wanted = several if spec.sheet is None else spec.sheet
    return out / (spec.folder or spec.name) / "sheet.png" if wanted else None


def _file(origin: str) -> str:
    return origin.partition(", line ")[0] + ", line "


def _source(job: Job, folder: Path) -> Source:
    spec = job.spec
    facts = {word: value for word, value in (("model", spec.model), ("source", spec.source)) if value}
    place = {
        key: None if name is None else folder / name
        for key, name in (("weights", spec.weights), ("from_weights", spec.from_weights))
    }
    to = "emoji3d" if spec.examples and not (spec.to or spec.weights) else spec.to
    return find_source(
        Asked(to, place["weights"], None, spec.from_, place["from_weights"], Layer(facts, dict(job.origins)))
    )


def _choices(job: Job) -> list[Choice]:
    """The parameters with one value, the matrix with several, and other settings."""
    found = []
    for name, value in job.parameters.items():
        if name not in job.spec.matrix:
            found.append(_choice(name, [value], job.at(name)))
    for name, values in job.spec.matrix.items():
        found.append(_choice(name, values, job.at("matrix", name)))
    taken = {choice.key for choice in found}
    for key, value in _leaves(job.spec.set):
        if key not in taken:
            at = job.at("set", *key.split("."))
            found.append(Choice(key, (Option(str(value), value, nested(at, key, value)),), "set"))
    return found


def _choice(name: str, values: list[Any], at: str) -> Choice:
    key = PARAMETERS.get(name, name)
    if name == "preset":
        return Choice(
            key, tuple(Option(Path(v).stem, Path(v).stem, preset_layer(v)) for v in values), "preset"
        )
    texts = [_text(value) for value in values]
    for n, text in enumerate(texts):
        if text in texts[:n]:
            raise ConfigError(f"{at}: {name} names {text} twice")
    reader = READERS.get(name) if name in ("range", "resample") else None  # the others are YAML's own values
    read = [reader(f"{at}:", v) if reader is not None and isinstance(v, str) else v for v in values]
    options = (Option(t, v, nested(at, key, v)) for t, v in zip(texts, read, strict=True))
    return Choice(key, tuple(options), "flag" if name in PARAMETERS else "set")


def _text(value: Any) -> str:
    return ":".join(map(str, value)) if isinstance(value, list) else str(value)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _items(job: Job, folder: Path, out: Path) -> list[Item]:
    from ilvrctl.plans.inputs import collect

    spec = job.spec
    written = [spec.inputs] if isinstance(spec.inputs, str) else list(spec.inputs)
    names = [
        name for n, text in enumerate(written, 1) for name in _matches(text, folder, job.at("inputs", str(n)))
    ]
    if spec.from_file is not None:
        listed = names_of([], str(folder / spec.from_file), False)
        names += [str(folder / name) for name in listed]
    if spec.examples:
        names.append(str(paths.EXAMPLES))
    if not names:
        raise ConfigError(
            f"{job.origin}: the job {spec.name} has no inputs", hint="inputs: FOLDER, or examples: true"
        )
    try:
        return collect(names, recursive=spec.recursive, stdin=None, output=out)
    except IlvrctlError as error:
        raise naming(job.at("inputs"), error) from None


def _with_companions(job: Job, items: list[Item], folder: Path) -> list[Item]:
    """The photos of an edit with their scribbled copies and masks."""
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


def _companions(items: list[Item], folder: Path, at: str) -> list[Item]:
    """The picture in the folder with the name of each item, whatever its suffix. ConfigError when there is none."""
    from ilvrctl.images.io import PICTURE_SUFFIXES
    from ilvrctl.plans.inputs import Item

    there = {path.stem: path for path in sorted(folder.glob("*")) if path.suffix.lower() in PICTURE_SUFFIXES}
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


def _outputs(job: Job, items: list[Item], variants: list[Variant], out: Path) -> list[Output]:
    from ilvrctl.plans.outputs import Destination, outputs_of

    spec = job.spec
    top = out / (spec.folder if spec.folder is not None else spec.name)
    numbers = range(1, spec.samples + 1)
    outputs = outputs_of(
        items, numbers, Destination(folder=top), gif=spec.gif, folders=[v.folder for v in variants]
    )
    if spec.pattern is None:
        return outputs
    return [_renamed(job, output, variants[output.variant], top) for output in outputs]


def _renamed(job: Job, output: Output, variant: Variant, top: Path) -> Output:
    fields = {
        "{stem}": output.item.stem,
        "{sample}": str(output.sample),
        "{settings}": variant.folder or "all",
        "{job}": job.spec.name,
        "{to}": job.spec.to or "",
    }
    name = job.spec.pattern or ""
    for field, value in fields.items():
        name = name.replace(field, value)
    path = top / name
    path = path if path.suffix else path.with_name(path.name + ".png")
    return replace(output, path=path, gif=path.with_suffix(".gif") if output.gif is not None else None)
