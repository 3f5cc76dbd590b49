"""The jobs file of `ilvrctl batch`: YAML, read strictly, every mistake with its line. Without torch.

A file has ``out`` (the folder of all results and of the manifest), ``defaults`` for every job, and ``jobs``. A
job has the fields of :class:`JobSpec`, any parameter of `translate` (:data:`PARAMETERS`), ``matrix`` with lists of
them, and ``set`` for all other settings. Paths are relative to the folder of the file.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from ilvrctl.choices import Mode
from ilvrctl.config import Layer, build, merge
from ilvrctl.errors import ConfigError, UsageError, did_you_mean
from ilvrctl.plans.grid import check_size, file_safe
from ilvrctl.plans.parameter import Parameter
from ilvrctl.plans.parameters import parameters_of

PARAMETERS: Mapping[str, Parameter] = parameters_of("jobs")
EDITS = ("scribbled", "masks", *(row.name for row in PARAMETERS.values() if "translate" not in row.commands))
"""What only edits have."""
FIELDS = ("{stem}", "{sample}", "{settings}", "{job}", "{to}")
"""What a name pattern may hold."""


@dataclass(frozen=True)
class JobSpec:
    """What a job has beside parameters. ``inputs``: pictures, folders and globs.

    ``model`` and ``source``: facts of the networks, as with ``--set``. ``edit``, ``scribble`` or ``paint``: the inputs
    are photos to edit, as in `edit --mode`; ``scribbled`` and ``masks`` are the folders of their scribbled copies and
    masks, which have the photos' names. ``folder`` below the output folder, the name of the job if not given, and
    ``pattern`` of the files below that. ``matrix``:
    parameters with the values of a sweep; those that are no settings (``to``, ``samples``) make a job each. ``set``:
    any other setting, nested.
    """

    name: str
    inputs: tuple[str, ...] | str = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    edit: str | None = None
    scribbled: str | None = None
    masks: str | None = None
    folder: str | None = None
    pattern: str | None = None
    matrix: Mapping[str, Any] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)


OWN = tuple(f.name for f in dataclasses.fields(JobSpec))


@dataclass(frozen=True)
class JobAsked:
    """A job with its ``parameters`` (name: value) and the ``origins`` of all that it says."""

    spec: JobSpec
    parameters: Mapping[str, Any]
    origins: Mapping[tuple[str, ...], str]
    origin: str

    def at(self, *path: str) -> str:
        """Where something stands: its own line, or that of the job."""
        return self.origins.get(path, self.origin)

    def value(self, name: str) -> Any:
        """The value of a parameter, or what it is when it is not given."""
        return self.parameters.get(name, PARAMETERS[name].default)


@dataclass(frozen=True)
class JobsFile:
    """All jobs, and the folder of their results."""

    out: str
    jobs: tuple[JobAsked, ...]


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
    jobs, lines = [], _lines_of_jobs(layer)
    for n, values in enumerate(top.jobs, 1):
        own = Layer(values, lines.get(str(n), {}))
        _check_keys(own, f"job {n}")
        origin = layer.origins.get(("jobs", str(n)), name)
        jobs += _split(_job(merge(defaults, own), origin, f"job-{n}"))
    _check_names(jobs)
    return JobsFile(top.out, tuple(jobs))


def _rooted(layer: Layer, values: Mapping[str, Any], path: tuple[str, ...]) -> Layer:
    """A part of the file as a layer of its own."""
    n = len(path)
    return Layer(
        values, {key[n:]: at for key, at in layer.origins.items() if key[:n] == path and len(key) > n}
    )


def _lines_of_jobs(layer: Layer) -> dict[str, dict[tuple[str, ...], str]]:
    """Where the keys of each job stand, by the job's number."""
    found: dict[str, dict[tuple[str, ...], str]] = {}
    for key, at in layer.origins.items():
        if key[0] == "jobs" and len(key) > 2:
            found.setdefault(key[1], {})[key[2:]] = at
    return found


def _check_keys(layer: Layer, where: str) -> None:
    known = (*OWN, *PARAMETERS)
    for key in layer.values:
        if key not in known:
            raise _mistake(layer, key, f"unknown key {key!r} in {where}", known)
    matrix = layer.values.get("matrix", {})
    for key, values in matrix.items() if isinstance(matrix, Mapping) else ():
        at = layer.origins.get(("matrix", key), where)
        if "." not in key and key not in PARAMETERS:
            raise ConfigError(f"{at}: unknown parameter {key!r} in a matrix", hint=_close(key, PARAMETERS))
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{at}: matrix.{key} must be a list of values, not {values!r}", f"{key}: [...]")


def _mistake(layer: Layer, key: str, message: str, known: Iterable[str]) -> ConfigError:
    origin = layer.origins.get((key,))
    return ConfigError(f"{origin}: {message}" if origin else message, hint=_close(key, known))


def _close(key: str, known: Iterable[str]) -> str:
    names = list(known)
    return did_you_mean(key, names) or f"known: {', '.join(names)}"


def _job(layer: Layer, origin: str, name: str) -> JobAsked:
    own = {key: value for key, value in layer.values.items() if key in OWN}
    spec = build(JobSpec, Layer({"name": name, **own}, {(): origin, **layer.origins}))
    job = JobAsked(spec, {k: v for k, v in layer.values.items() if k in PARAMETERS}, layer.origins, origin)
    for key, value in job.parameters.items():
        if not PARAMETERS[key].key:
            _check_value(PARAMETERS[key], value, job.at(key))
    if not re.fullmatch(r"\w[\w.+= -]*", spec.name):
        raise ConfigError(
            f"{job.at('name')}: {spec.name!r} cannot be the name of a job: letters, digits, - _ = + and . only"
        )
    if (mode := job.parameters.get("mode")) is not None:
        if spec.edit not in (None, mode):
            raise ConfigError(f"{job.at('mode')}: mode {mode!r}, but edit {spec.edit!r}", "give one of them")
        spec = replace(spec, edit=mode)
        job = replace(job, spec=spec)
    if spec.edit is None and (alone := next((key for key in EDITS if key in layer.values), None)):
        raise ConfigError(
            f"{job.at(alone)}: {alone} belongs to an edit", hint="edit: scribble (or paint) makes it one"
        )
    _check_pattern(job)
    return job


def _split(job: JobAsked) -> list[JobAsked]:
    """A job for each combination of the parameters in its matrix that are no settings (``to``, ``samples``), each with
    its own name, and its folder below that of the job.
    """
    rows = [PARAMETERS[key] for key in job.spec.matrix if key in PARAMETERS and not PARAMETERS[key].key]
    if not rows:
        return [job]
    spec, found = job.spec, []
    rest = {key: values for key, values in spec.matrix.items() if key not in {row.name for row in rows}}
    for row in rows:
        for value in spec.matrix[row.name]:
            _check_value(row, value, job.at("matrix", row.name))
    check_size([(row.name, len(spec.matrix[row.name])) for row in rows])
    for values in itertools.product(*(spec.matrix[row.name] for row in rows)):
        given = {row.name: value for row, value in zip(rows, values, strict=True)}
        label = file_safe("_".join(f"{name}={value}" for name, value in given.items()))
        folder = f"{spec.name if spec.folder is None else spec.folder}/{label}"
        own = replace(spec, name=f"{spec.name} {label}", folder=folder, matrix=rest)
        found.append(replace(job, spec=own, parameters={**job.parameters, **given}))
    return found


def _check_value(row: Parameter, value: Any, at: str) -> None:
    """ConfigError for a value that is none of the row's kind; those of settings are checked with all others."""
    kind = {Path: str}.get(row.kind.type, row.kind.type)
    if type(value) not in (kind, row.kind.also):
        words = {str: "text", int: "a whole number", bool: "true or false"}
        what = " or ".join(words[one] for one in (kind, row.kind.also) if one is not None)
        raise ConfigError(f"{at}: {row.name} must be {what}, not {value!r}")
    if kind is int:
        try:
            row.kind(row.name, str(value))
        except UsageError as error:
            raise ConfigError(f"{at}: {error.message}") from None


def _check_pattern(job: JobAsked) -> None:
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


def _check_names(jobs: list[JobAsked]) -> None:
    seen: dict[str, str] = {}
    for job in jobs:
        key = job.spec.name.casefold()
        if key in seen:
            raise ConfigError(
                f"{job.at('name')}: the name {job.spec.name!r} is taken by the job at {seen[key]}"
            )
        seen[key] = job.origin


def schema() -> dict[str, Any]:
    """JSON Schema of a jobs file, for editors."""
    text, mapping = {"type": "string"}, {"type": "object"}
    single = {row.name: dict(row.kind.schema) for row in PARAMETERS.values()}
    own: dict[str, Any] = {
        "inputs": {"oneOf": [text, {"type": "array", "items": text}]},
        **dict.fromkeys(("name", "folder", "pattern", "scribbled", "masks"), text),
        "edit": {"enum": list(get_args(Mode))},
        **dict.fromkeys(("model", "source", "set"), mapping),
        "matrix": {
            "type": "object",
            "properties": {
                row.name: {"type": "array", "items": single[row.name], "minItems": 1}
                for row in PARAMETERS.values()
            },
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
