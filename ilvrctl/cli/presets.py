"""``ilvrctl presets``: what ``--to`` and ``--preset`` can name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ilvrctl.cli.options import Json
from ilvrctl.cli.output import command, data, data_json, say
from ilvrctl.errors import ConfigError, UsageError, did_you_mean
from ilvrctl.files import read_text
from ilvrctl.plans import offers
from ilvrctl.presets import (
    ModelPreset,
    TargetPreset,
    broken_presets,
    find_model,
    load_methods,
    load_targets,
    preset_files,
)
from ilvrctl.text import visible

app = typer.Typer(help="List and show presets: targets (--to), methods (--preset) and models.")


@app.callback(invoke_without_command=True)
def _list(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_(as_json=as_json)


@app.command("list")
@command
def list_(as_json: Json = False) -> None:
    """Every target with its model, and whether the weights are here; then the method presets."""
    rows = [_target_row(target) for target in load_targets().values()]
    methods, broken = load_methods(), broken_presets()
    if as_json:
        for row in rows:
            data_json(row)
        for method in methods.values():
            data_json({"kind": "preset", "name": method.name, "title": method.title})
        for bad in broken:
            data_json({"kind": "broken", "name": bad.name, "path": str(bad.path), "error": bad.error.message})
        return
    width = max(len(name) for name in (*(row["name"] for row in rows), *methods, ""))
    say("Targets (--to NAME):")
    for row in rows:
        here = row["broken"] or ("ready" if row["installed"] else f"ilvrctl download {row['name']}")
        data(f"{row['name']:<{width}}  {visible(row['title'])}  [{visible(here)}]")
    say("Presets (--preset NAME):")
    for method in methods.values():
        data(f"{method.name:<{width}}  {visible(method.title)}")
    for bad in broken:
        say(f"{visible(str(bad.path))} is broken: {bad.error.message}", label="warning")


def _target_row(target: TargetPreset) -> dict[str, Any]:
    model, broken = None, None
    try:
        model = find_model(target.model)
        broken = model.unsupported or _why_not(model)
    except ConfigError as error:
        broken = error.message
    return {
        "kind": "target",
        "name": target.name,
        "aliases": list(target.aliases),
        "title": target.title,
        "model": target.model,
        "installed": model is not None and model.installed(),
        "licence": model.licence if model is not None else "",
        "broken": broken,
    }


def _why_not(model: ModelPreset) -> str | None:
    """Why installed weights cannot be used, if so."""
    from ilvrctl.models.files.verdict import verdict_on

    if model.ships or not model.installed():  # what ships is looked at by the tests
        return None
    problems = verdict_on(model.path(), model, any_class=True, numbers=False).problems
    return problems[0].message if problems else None


@app.command("show")
@command
def show(
    name: Annotated[str, typer.Argument(help="A target, preset or model.", autocompletion=offers.shown)],
) -> None:
    """The YAML of a preset, as a start for one of your own; for a target also what was measured."""
    for kind in ("targets", "methods", "models"):
        files = preset_files(kind)
        if name in files:
            text = read_text(files[name])
            say(f"# {kind[:-1]} {name}")
            for line in _without_quality(text):
                data(visible(line.expandtabs()))
            if kind == "targets":
                _show_quality(name)
            return
    for target in load_targets().values():
        if name in target.aliases:
            show(target.name)
            return
    known = sorted({*preset_files("targets"), *preset_files("methods"), *preset_files("models")})
    raise UsageError(
        f"no target, preset or model is called {name!r}",
        hint=did_you_mean(name, known) or "ilvrctl presets, or ilvrctl download --list for models",
    )


def _without_quality(text: str) -> Iterator[str]:
    """The lines of a preset but for its figures, which a copy of it would not have."""
    inside = False
    for line in text.rstrip().splitlines():
        inside = line.startswith("quality:") or (inside and (not line.strip() or line[0] in " #-"))
        if not inside:
            yield line


def _show_quality(name: str) -> None:
    """The figures of a target as a table, in comments: what is printed stays a preset."""
    target = load_targets().get(name)
    if target is not None and target.quality is not None:
        data("#")
        for line in target.quality.table():
            data(f"# {visible(line)}".rstrip())
