"""The record in every result: how it was made, so that it can be known again and made again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl import __version__
from ilvrctl.errors import InputError
from ilvrctl.images.metadata import read_record

if TYPE_CHECKING:
    from ilvrctl.plans.outputs import Output
    from ilvrctl.plans.plan import Plan


@dataclass(frozen=True)
class Recipe:
    """How a result was made. ``settings`` and ``facts`` of the network are plain JSON values.

    ``precision`` is the one that was used, whatever was asked for. ``source``: the model of the input's own kind,
    where the method had two, as :meth:`SourceModel.record` gives it.
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

    @classmethod
    def read(cls, data: bytes, name: str) -> Recipe:
        """The recipe in the picture ``data``; InputError when it holds none."""
        try:
            record = json.loads(read_record(data, name))
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
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{name} is no result of this ilvrctl: its record cannot be read") from error


def _source(found: Any) -> dict[str, Any] | None:
    if found is None:
        return None
    domain = None if found["domain"] is None else str(found["domain"])
    texts = {"domain": domain, "name": str(found["name"]), "sha256": str(found["sha256"])}
    return {**texts, "network": dict(found["network"])}


def result_record(
    plan: Plan, output: Output, digest: str, run: Mapping[str, str], read: Mapping[str, str] | None = None
) -> str:
    """The JSON text for a result: enough to make it again, and no path or host name.

    ``digest``: sha256 of the input's bytes; ``run``: the device's kind, the precision used, torch's release;
    ``read``: how the input was read where that is not plain (a colour profile converted, a window).
    """
    name = output.item.path.name if output.item.path is not None else output.item.stem
    from ilvrctl.plans.plan import network_facts

    source = plan.source_of(plan.variants[output.variant])
    record = {
        "ilvrctl": __version__,
        "target": plan.target,
        "settings": plan.variants[output.variant].settings.record(),
        "weights": {
            "name": plan.model.name,
            "sha256": plan.weights_sha256,
            "network": network_facts(plan.model),
        },
        "identity": plan.identities[output.variant],
        "input": {"name": name, "sha256": digest},
        "sample": output.sample,
        "run": run,
        **({"read": dict(read)} if read else {}),
        **({"source": source.record()} if source is not None else {}),
    }
    return json.dumps(record, ensure_ascii=False, sort_keys=True)


def sheet_record(plan: Plan) -> str:
    """The JSON text for a contact sheet: of which settings it is."""
    return json.dumps({"ilvrctl": __version__, "sheet_of": plan.identities})


def is_sheet_of(path: Path, identities: Sequence[str]) -> bool:
    """Whether the file is a contact sheet that shows no settings but those with these identities."""
    try:
        shown = json.loads(read_record(path.read_bytes(), path.name))["sheet_of"]
        return bool(shown) and set(shown) <= set(identities)
    except (InputError, OSError, ValueError, TypeError, KeyError):
        return False
