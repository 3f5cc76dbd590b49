"""``ilvrctl inspect FILE``: what a checkpoint is, and with ``--probe`` what its tensors hide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ilvrctl.cli import options as opt
from ilvrctl.cli.output import command, data, data_json, say, use_color
from ilvrctl.config import Layer, merge, parse_assignment
from ilvrctl.errors import UsageError
from ilvrctl.events import Warned
from ilvrctl.presets import override_model

if TYPE_CHECKING:
    from ilvrctl.models.files.info import CheckpointInfo
    from ilvrctl.models.files.verdict import Use, Verdict
    from ilvrctl.plans.facts import FactsFound

EPILOG = """Examples:

  ilvrctl inspect model.pt --probe

  ilvrctl inspect model.pt --probe --save-preset mine && ilvrctl translate cats/ --to mine
"""


@command
def inspect(
    file: Annotated[
        Path, typer.Argument(help="A checkpoint: a .pt, .ckpt or .safetensors file, or a diffusers folder.")
    ],
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Find what the tensors hide by denoising pictures; kept beside FILE."),
    ] = False,
    save_preset: Annotated[
        str | None,
        typer.Option(
            "--save-preset", metavar="NAME", help="Write a model and a target preset: --to NAME works then."
        ),
    ] = None,
    set_: opt.Set = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace presets of that name.")] = False,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    color: opt.Color = "auto",
) -> None:
    """Tell what a checkpoint holds: format, architecture, size, and what its tensors do not tell."""
    from ilvrctl.models.files.contents import contents_of
    from ilvrctl.models.files.verdict import verdict_on
    from ilvrctl.new_presets import check_new_name
    from ilvrctl.plans.facts import disagreement
    from ilvrctl.plans.named_weights import named_weights
    from ilvrctl.plans.own_presets import preset_text, save_presets

    if save_preset:
        check_new_name(save_preset, overwrite=overwrite)
    assigned, file = _facts_given(set_), named_weights(file).path
    info = contents_of(file, _which(assigned))
    extra: dict[str, Any] = {}
    if probe:
        extra["probe"] = _probe(
            file, info, device=device, quiet=quiet, color=use_color(color), table=not as_json
        )
    use: Use = "translate" if info.denoises or not info.readable else "energy"
    known = _known(file, info, assigned, color=use_color(color))
    probed = extra["probe"]["facts"] if extra.get("probe") else known.probed
    if (other := disagreement(probed, known.model, known.origins)) is not None:
        say(other, label="warning", color=use_color(color))
    record = _record(file, info, known, verdict_on(file, known.model, use=use, any_class=True)) | extra
    if as_json:
        data_json(record)
    else:
        _show(record, preset_text(file, info, known))
    if save_preset:
        for path in save_presets(save_preset, file, info, known):
            if not quiet:
                say(f"wrote {path}")
        if not quiet:
            say(f"ilvrctl translate PICTURE --to {save_preset}")


def _facts_given(set_: list[str] | None) -> Layer:
    """The facts that ``--set model.KEY=VALUE`` gives. UsageError for other settings."""
    from ilvrctl.plans.facts import FACTS

    assigned = merge(*(parse_assignment(text) for text in set_ or ()))
    facts = assigned.values.get("model", {})
    if set(assigned.values) - {"model"} or not isinstance(facts, Mapping) or set(facts) - {*FACTS, "weights"}:
        raise UsageError(
            f"only facts of the network can be set here: {', '.join(FACTS)}",
            hint="--set model.image_size=256",
        )
    return Layer(facts, assigned.origins)


def _which(given: Layer) -> str:
    """Which weights of the file: averaged, raw, or a name."""
    from ilvrctl.models.files.averaged import AVERAGED

    return str(given.values.get("weights", AVERAGED))


def _known(file: Path, info: CheckpointInfo, given: Layer, *, color: bool) -> FactsFound:
    """What flags, presets, the stored probe and a diffusers folder know; the tensors tell a learned variance."""
    from ilvrctl.models.files.facts import FILE, file_facts, with_stated
    from ilvrctl.models.files.stated import UNKNOWN
    from ilvrctl.plans.facts import facts_about

    known = facts_about(file)
    if info.note:
        say(info.note)
    for note in known.notes:
        if isinstance(note, Warned):
            say(note.message, label="warning", color=color)
    facts = file_facts(file, _which(given))
    model = override_model(with_stated(known.model, facts), given)
    stated = {k: v for k, v in facts.items() if k != "format" and v != UNKNOWN}
    origins = {
        **known.origins,
        **dict.fromkeys(stated, FILE),
        **dict.fromkeys(given.values, "--set"),
    }
    if info.facts.get("learn_sigma"):
        origins["variance"] = FILE
    return replace(known, model=model, origins=origins)


def _probe(
    file: Path, info: CheckpointInfo, *, device: str, quiet: bool, color: bool, table: bool
) -> dict[str, Any] | None:
    """Run the probe, show and store what it found; None for a format that hides nothing."""
    from ilvrctl.cli.probing import run_probe
    from ilvrctl.models.files.formats import GUIDED_DIFFUSION

    if info.format != GUIDED_DIFFUSION:
        say(f"nothing to probe: only guided-diffusion files hide flags, and this is {info.format}")
        return None
    return run_probe(file, device=device, quiet=quiet, color=color, table=table)


def _record(file: Path, info: CheckpointInfo, known: FactsFound, verdict: Verdict) -> dict[str, Any]:
    from ilvrctl.models.files.facts import facts_of
    from ilvrctl.plans.own_presets import preset_facts

    facts = facts_of(info, known.model, known.origins)
    return {
        "file": file.resolve().name,
        "format": info.format,
        "container": info.container,
        "inside": list(info.wrapping),
        "parameters": info.parameters,
        "tensor_bytes": info.tensor_bytes,
        "precision": list(info.dtypes),
        "memory_bytes": dict(info.memory),
        "usable": verdict.sound,
        **info.facts,
        "not_in_the_file": list(info.unknown),
        "hidden": {
            name: {"value": _value(known, name, info), "from": known.origins.get(name)}
            for name in _hidden(info)
        },
        "facts": [asdict(fact) for fact in facts.facts],
        "missing": list(facts.missing),
        "problems": [error.message for error in verdict.problems],
        "hints": [error.hint for error in verdict.problems],
        "preset": preset_facts(file, info, known),
    }


def _hidden(info: CheckpointInfo) -> list[str]:
    """The facts that a file of this format does not hold, whether they are known from elsewhere or not."""
    from ilvrctl.plans.facts import ATTENTION, FACTS

    told = () if "use_new_attention_order" in info.unknown else ATTENTION
    return [name for name in FACTS if name not in told] if info.unknown else []


def _value(known: FactsFound, name: str, info: CheckpointInfo) -> Any:
    if name not in known.origins:
        return None
    learned = name == "variance" and info.facts.get("learn_sigma")
    return "learned" if learned else getattr(known.model, name)


_ABOUT = ("file", "format", "container", "inside", "parameters", "precision")


def _show(record: Mapping[str, Any], preset: str) -> None:
    """What the file is, every fact with its source, whether it can be used, and the preset that could be saved."""
    rows = [(name, record[name], "") for name in _ABOUT]
    memory = ", ".join(f"{size / 1e6:.1f} MB in {name}" for name, size in record["memory_bytes"].items())
    rows += [("memory", memory, "")] if memory else []
    rows += [(fact["name"], fact["value"], fact["source"]) for fact in record["facts"]]
    texts = [(name, _text(value), source) for name, value, source in rows]
    first, second = (max(len(row[i]) for row in texts if i == 0 or row[2]) for i in (0, 1))
    for name, value, source in texts:
        data(f"{name:<{first}}  {value:<{second if source else 0}}  {source}".rstrip())
    for problem, hint in zip(record["problems"], record["hints"], strict=True):
        data(f"\ncannot be used yet: {problem}" if record["usable"] else f"\ncannot be used: {problem}")
        if hint:
            data(f"  {hint}")
    if record["usable"]:
        data(f"\npreset, as --save-preset NAME writes it\n{preset.rstrip()}")


def _text(value: Any) -> str:
    return (", ".join(map(str, value)) if isinstance(value, (list, tuple)) else f"{value}") or "-"
