"""The record in every result: how it was made, so that it can be known again and made again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ilvrctl import __version__
from ilvrctl.config import Layer
from ilvrctl.diffusion.matching import match_levels
from ilvrctl.diffusion.noise import drawn_class
from ilvrctl.errors import ConfigError, InputError
from ilvrctl.images.metadata import read_record
from ilvrctl.plans.outputs import Output
from ilvrctl.plans.plan import Plan, SourceModel, network_facts, schedule_of
from ilvrctl.presets import ModelPreset, override_model
from ilvrctl.settings import identity_of

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, ConfigError)
"""What comes of taking a damaged record for a sound one."""

_DEEPEST = 20
"""Levels of a record; ours have 7."""


@dataclass(frozen=True)
class Recipe:
    """How a result was made. ``settings`` and ``facts`` of the network are plain JSON values.

    ``precision`` is the one that was used, whatever was asked for. ``source``: the model of the input's own kind,
    where the method had two, as :meth:`SourceModel.record` gives it. ``input``: its file's name, and ``#3`` for the
    third of its frames.
    """

    identity: str
    target: str | None
    settings: Mapping[str, Any]
    model: str
    facts: Mapping[str, Any]
    weights_sha256: str
    input_sha256: str
    sample: int
    precision: str
    source: Mapping[str, Any] | None = None
    input: str = ""

    @classmethod
    def read(cls, data: bytes, name: str) -> Recipe:
        """The recipe in the picture ``data``; InputError when it holds none, or one that was changed since."""
        try:
            record = json.loads(read_record(data, name))
            _check_whole(record)
            return cls(
                identity=str(record["identity"]),
                target=record["target"],
                settings=dict(record["settings"]),
                model=str(record["weights"]["name"]),
                facts=dict(record["weights"]["network"]),
                weights_sha256=str(record["weights"]["sha256"]),
                input_sha256=str(record["input"]["sha256"]),
                sample=int(record["sample"]),
                precision=str(record["run"]["precision"]),
                source=_source(record.get("source")),
                input=str(record["input"].get("name", "")) + _number(record["input"].get("frame")),
            )
        except UNREADABLE as error:
            raise InputError(f"{name} is no result of this ilvrctl: its record cannot be read") from error


def _number(frame: object) -> str:
    return "" if frame is None else f"#{frame}"


@dataclass(frozen=True)
class Made:
    """What a file tells: the settings' identity, the ``sample`` number, of its ``input`` the digest and name, and
    what it was made ``to``: a target, or the name of a model.
    """

    identity: str
    sample: int
    digest: str
    input: str
    to: str


def made_from(path: Path) -> Made | None:
    """Of what a file was made; None for one that is no result, or not there. Read once while it does not change."""
    try:
        state = path.stat()
    except OSError:
        return None
    return _made(path, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _made(path: Path, *_: int) -> Made | None:
    try:
        recipe = Recipe.read(path.read_bytes(), path.name)
    except (InputError, OSError):
        return None
    to = recipe.target or recipe.model
    return Made(recipe.identity, recipe.sample, recipe.input_sha256, recipe.input, to)


def _check_whole(record: Any) -> None:
    """ValueError when settings or networks are not those that the record's own identity was made of.

    It finds what was damaged; who changes a record on purpose can change its identity too. Records of the first
    releases, and of energies with networks, whose digests they do not tell, cannot be checked.
    """
    if _depth(record) > _DEEPEST:
        raise ValueError("nested too deeply")
    settings, weights, source = record["settings"], record["weights"], record.get("source")
    for part in (weights, source):
        if part is not None:
            _check_facts(part["network"])
    method = settings["method"]
    if {"N", "kernel"} <= method.keys():
        return
    if any(energy.get("model") and energy.get("weight") for energy in method["energies"].values()):
        return
    network = {"weights": weights["sha256"], **weights["network"]}
    if source is not None:
        network["source"] = {"weights": source["sha256"], **source["network"]}
    if identity_of(settings, network) != record["identity"] or int(record["sample"]) < 1:
        raise ValueError("another identity, or no sample")


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _check_facts(facts: Mapping[str, Any]) -> None:
    """ValueError for facts that are not such as a record has, for instance one that says where the file is."""

    recorded = json.loads(json.dumps(network_facts(override_model(ModelPreset(), Layer(facts)))))
    if not facts.items() <= recorded.items():
        raise ValueError("facts that no network has")


def _source(found: Any) -> dict[str, Any] | None:
    if found is None:
        return None
    domain = None if found["domain"] is None else str(found["domain"])
    texts = {"domain": domain, "name": str(found["name"]), "sha256": str(found["sha256"])}
    return {**texts, "network": dict(found["network"])}


def result_record(
    plan: Plan,
    output: Output,
    digest: str,
    run: Mapping[str, str],
    read: Mapping[str, str] | None = None,
    class_count: int | None = None,
) -> str:
    """The JSON text for a result: enough to make it again, and no path or host name.

    ``digest``: sha256 of the input's bytes; ``run``: the device's kind, the precision used, torch's release, on CUDA
    how float32 and convolutions are computed (:class:`ilvrctl.arithmetic.Arithmetic`);
    ``read``: how the input was read where that is not plain (a colour profile converted, a window);
    ``class_count``: the network's, of which a class was drawn where that was asked for.
    """
    settings = plan.variants[output.variant].settings
    drawn = class_count if settings.class_label == "random" else None
    source = plan.source_of(plan.variants[output.variant])
    record = {
        "ilvrctl": __version__,
        "target": plan.target,
        "settings": settings.record(),
        "weights": {
            "name": plan.model.name,
            "sha256": plan.weights_sha256,
            "network": network_facts(plan.model),
        },
        "identity": plan.identities[output.variant],
        "input": {**output.item.record(), "sha256": digest},
        "sample": output.sample,
        "run": run,
        **({"read": dict(read)} if read else {}),
        **({} if drawn is None else {"class": drawn_class(settings.seed, digest, output.sample, drawn)}),
        **({"source": source.record() | _matched(plan, source)} if source is not None else {}),
    }
    return json.dumps(record, ensure_ascii=False, sort_keys=True)


def channels_of(record: Mapping[str, Any]) -> int:
    """Of the pictures that the network makes which a result's record names."""
    try:
        return int(record["weights"]["network"].get("channels", 3))
    except UNREADABLE:
        return 3


def _matched(plan: Plan, source: SourceModel) -> dict[str, str]:
    """How levels of the source's model were found for those of the target's, where their schedules differ."""
    differ = match_levels(schedule_of(source.model), plan.schedule()) is not None
    return {"matched": "abar, between two levels by log abar / (1 - abar)"} if differ else {}


def sheet_record(plan: Plan) -> str:
    """The JSON text for a contact sheet: of which settings it is."""
    return json.dumps({"ilvrctl": __version__, "sheet_of": plan.identities})


def joined_record(plan: Plan, variant: int, digest: str) -> str:
    """The JSON text for the results of all frames of an input in one file, a sheet of them; ``digest``: of these."""
    identity = plan.identities[variant]
    return json.dumps({"ilvrctl": __version__, "sheet_of": [identity], "results": digest})


def joined_of(path: Path) -> str | None:
    """The digest of the results that such a file holds; None where it is none, or not there."""
    try:
        return str(json.loads(read_record(path.read_bytes(), path.name))["results"])
    except (InputError, OSError, *UNREADABLE):
        return None


def is_sheet_of(path: Path, identities: Sequence[str]) -> bool:
    """Whether the file is a contact sheet that shows no settings but those with these identities."""
    try:
        shown = json.loads(read_record(path.read_bytes(), path.name))["sheet_of"]
        return bool(shown) and set(shown) <= set(identities)
    except (InputError, OSError, *UNREADABLE):
        return False
