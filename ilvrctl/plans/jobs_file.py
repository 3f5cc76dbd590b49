"""The jobs file of `ilvrctl batch`: YAML, read strictly, every mistake with its line. Without torch.

A file has ``out`` (the folder of all results and of the manifest), ``defaults`` for every job, and ``jobs``. A
job has the fields of :class:`JobSpec`, any parameter of `translate` (:data:`PARAMETERS`), ``matrix`` with lists of
them, and ``set`` for all other settings. Paths are relative to the folder of the file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ilvrctl.config import Layer, build, merge
from ilvrctl.errors import ConfigError, did_you_mean

PARAMETERS: Mapping[str, str] = {
    "preset": "preset",
    "method": "method.name",
    "compat": "compat",
    "N": "method.N",
    "range": "method.range",
    "range_t": "method.range_t",
    "kernel": "method.kernel",
    "blocks": "method.blocks",
    "start": "method.start",
    "repeats": "method.repeats",
    "resample": "method.resample",
    "sampler": "sampler.name",
    "eta": "sampler.eta",
    "variance": "sampler.variance",
    "steps": "steps",
    "timestep_respacing": "timestep_respacing",
    "clip": "clip_denoised",
    "class_label": "class_label",
    "seed": "seed",
    "fit": "fit",
    "background": "background",
    "precision": "precision",
    "speed": "speed",
    "threshold": "edit.threshold",
    "grow": "edit.grow",
    "feather": "edit.feather",
    "context": "edit.context",
    "whole": "edit.whole",
}
"""The settings of `translate` and `edit` by the names of their flags, and the keys that they set."""
EDITS = ("scribbled", "masks", "threshold", "grow", "feather", "context", "whole")
"""What only edits have."""
FIELDS = ("{stem}", "{sample}", "{settings}", "{job}", "{to}")
"""What a name pattern may hold."""


@dataclass(frozen=True)
class JobSpec:
    """A job as it is written. ``inputs``: pictures, folders and globs; ``from_file``: a file that lists some.

    ``to``, ``from_``, ``weights``, ``from_weights``, ``model`` and ``source`` as in `translate` (the last two:
    facts of ``--set``). ``edit``, ``scribble`` or ``paint``: the inputs are photos to edit, as in `edit --mode`;
    ``scribbled`` and ``masks`` are the folders of their scribbled copies and masks, which have the photos' names.
    ``quality``: of JPEG and WebP. ``folder`` below the output folder, the name of the job if not given, and
    ``pattern`` of the files below that. ``sheet``: a contact sheet, which a sweep has anyhow. ``matrix``:
    parameters with the values of a sweep. ``set``: any other setting, nested.
    """

    name: str
    inputs: tuple[str, ...] | str = ()
    from_file: str | None = None
    examples: bool = False
    recursive: bool = False
    to: str | None = None
    from_: str | None = None
    weights: str | None = None
    from_weights: str | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    edit: str | None = None
    scribbled: str | None = None
    masks: str | None = None
    quality: int = 95
    folder: str | None = None
    pattern: str | None = None
    samples: int = 1
    gif: bool = False
    sheet: bool | None = None
    matrix: Mapping[str, Any] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)


OWN = tuple("from" if f.name == "from_" else f.name for f in dataclasses.fields(JobSpec))


@dataclass(frozen=True)
class Job:
    """A job with its ``parameters`` (name: value) and the ``origins`` of all that it says."""

    spec: JobSpec
    parameters: Mapping[str, Any]
    origins: Mapping[tuple[str, ...], str]
    origin: str

    def at(self, *path: str) -> str:
        """Where something stands: its own line, or that of the job."""
        return self.origins.get(path, self.origin)


@dataclass(frozen=True)
class JobsFile:
    """All jobs, and the folder of their results."""

    out: str
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class _Top:
    jobs: tuple[Mapping[str, Any], ...]
    out: str = "out"
    defaults: Mapping[str, Any] = field(default_factory=dict)


def read_jobs(layer: Layer, name: str) -> JobsFile:
    """The jobs of a file called ``name``. ConfigError with the line of the first mistake."""
    top = build(_Top, layer)
    if not top.jobs:
        raise ConfigError(f"{name} has no jobs", hint="ilvrctl batch --init shows what a file looks like")
    defaults = _rooted(layer, top.defaults, ("defaults",))
    _check_keys(defaults, "defaults")
    jobs = []
    for n, values in enumerate(top.jobs, 1):
        own = _rooted(layer, values, ("jobs", str(n)))
        _check_keys(own, f"job {n}")
        origin = layer.origins.get(("jobs", str(n)), name)
        jobs.append(_job(merge(defaults, own), origin, f"job-{n}"))
    _check_names(jobs)
    return JobsFile(top.out, tuple(jobs))


def _rooted(layer: Layer, values: Mapping[str, Any], path: tuple[str, ...]) -> Layer:
    """A part of the file as a layer of its own."""
    n = len(path)
    return Layer(
        values, {key[n:]: at for key, at in layer.origins.items() if key[:n] == path and len(key) > n}
    )


def _check_keys(layer: Layer, where: str) -> None:
    known = (*OWN, *PARAMETERS)
    for key in layer.values:
        if key not in known:
            raise _mistake(layer, key, f"unknown key {key!r} in {where}", known)
    matrix = layer.values.get("matrix", {})
    for key, values in matrix.items() if isinstance(matrix, Mapping) else ():
        at = layer.origins.get(("matrix", key), where)
        if key not in PARAMETERS and "." not in key:
            raise ConfigError(f"{at}: unknown parameter {key!r} in a matrix", hint=_close(key, PARAMETERS))
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{at}: matrix.{key} must be a list of values, not {values!r}", f"{key}: [...]")


def _mistake(layer: Layer, key: str, message: str, known: Iterable[str]) -> ConfigError:
    origin = layer.origins.get((key,))
    return ConfigError(f"{origin}: {message}" if origin else message, hint=_close(key, known))


def _close(key: str, known: Iterable[str]) -> str:
    names = list(known)
    return did_you_mean(key, names) or f"known: {', '.join(names)}"


def _job(layer: Layer, origin: str, name: str) -> Job:
    values = {("from_" if key == "from" else key): v for key, v in layer.values.items() if key in OWN}
    spec = build(JobSpec, Layer({"name": name, **values}, {(): origin, **layer.origins}))
    job = Job(spec, {k: v for k, v in layer.values.items() if k in PARAMETERS}, layer.origins, origin)
    if spec.samples < 1:
        raise ConfigError(f"{job.at('samples')}: samples must be at least 1, not {spec.samples}")
    if not re.fullmatch(r"\w[\w.+= -]*", spec.name):
        raise ConfigError(
            f"{job.at('name')}: {spec.name!r} cannot be the name of a job: letters, digits, - _ = + and . only"
        )
    if not 1 <= spec.quality <= 100:
        raise ConfigError(f"{job.at('quality')}: quality is a number from 1 to 100, not {spec.quality}")
    if spec.edit is None and (alone := next((key for key in EDITS if key in layer.values), None)):
        raise ConfigError(
            f"{job.at(alone)}: {alone} belongs to an edit", hint="edit: scribble (or paint) makes it one"
        )
    _check_pattern(job)
    return job


def _check_pattern(job: Job) -> None:
    pattern, folder = job.spec.pattern, job.spec.folder
    for field_ in re.findall(r"\{[^}]*\}", pattern or ""):
        if field_ not in FIELDS:
            raise ConfigError(
                f"{job.at('pattern')}: unknown field {field_} in the pattern", _close(field_, FIELDS)
            )
    for key, text in (("pattern", pattern), ("folder", folder)):
        if text is not None and (Path(text).is_absolute() or ".." in Path(text).parts or not text):
            raise ConfigError(
                f"{job.at(key)}: {key} {text!r} must stay below the output folder",
                hint="out: FOLDER says which",
            )


def _check_names(jobs: list[Job]) -> None:
    seen: dict[str, str] = {}
    for job in jobs:
        key = job.spec.name.casefold()
        if key in seen:
            raise ConfigError(
                f"{job.at('name')}: the name {job.spec.name!r} is taken by the job at {seen[key]}"
            )
        seen[key] = job.origin


_WHOLE = ["range_t", "blocks", "repeats", "steps", "class_label", "seed", "N", "threshold", "grow", "feather"]
_TEXT = ["preset", "method", "compat", "kernel", "sampler", "variance", "timestep_respacing", "background"]
_PARAMETER_TYPES: Mapping[str, Any] = {
    **{key: {"type": "integer"} for key in _WHOLE},
    **{key: {"type": "string"} for key in _TEXT},
    **{key: {"type": "boolean"} for key in ("clip", "whole")},
    "eta": {"type": "number", "minimum": 0, "maximum": 1},
    "fit": {"enum": ["crop", "pad", "stretch", "native"]},
    "speed": {"enum": ["exact", "fast", "turbo"]},
    "precision": {"enum": ["auto", "fp32", "bf16", "fp16"]},
}
"""What an editor can check of parameters; the others take several forms."""


def schema() -> dict[str, Any]:
    """JSON Schema of a jobs file, for editors."""
    text, yes, mapping = {"type": "string"}, {"type": "boolean"}, {"type": "object"}
    single: dict[str, Any] = {**{key: {} for key in PARAMETERS}, **_PARAMETER_TYPES}
    own: dict[str, Any] = {
        "inputs": {"oneOf": [text, {"type": "array", "items": text}]},
        **dict.fromkeys(
            (
                *("name", "from_file", "to", "from", "weights", "from_weights", "folder", "pattern"),
                *("scribbled", "masks"),
            ),
            text,
        ),
        "edit": {"enum": ["scribble", "paint"]},
        "quality": {"type": "integer", "minimum": 1, "maximum": 100},
        **dict.fromkeys(("examples", "recursive", "gif", "sheet"), yes),
        **dict.fromkeys(("model", "source", "set"), mapping),
        "samples": {"type": "integer", "minimum": 1},
        "matrix": {
            "type": "object",
            "properties": {k: {"type": "array", "items": v, "minItems": 1} for k, v in single.items()},
        },
    }
    job = {"type": "object", "additionalProperties": False, "properties": {**own, **single}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Jobs of ilvrctl batch",
        "type": "object",
        "additionalProperties": False,
        "required": ["jobs"],
        "properties": {"out": text, "defaults": job, "jobs": {"type": "array", "minItems": 1, "items": job}},
    }
