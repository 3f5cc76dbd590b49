"""``ilvrctl presets``: what ``--to`` and ``--preset`` can name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ilvrctl.cli.options import Json
from ilvrctl.cli.output import command, data, data_json, say
from ilvrctl.errors import UsageError, did_you_mean
from ilvrctl.presets import find_model, find_target, load_methods, load_targets, preset_files

app = typer.Typer(help="List and show presets: targets (--to), methods (--preset) and models.")


@app.callback(invoke_without_command=True)
def _list(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_(as_json=as_json)


@app.command("list")
@command
def list_(as_json: Json = False) -> None:
    """Every target with its model, and whether the weights are here; then the method presets."""
    rows = [_target_row(name) for name in load_targets()]
    methods = load_methods()
    if as_json:
        for row in rows:
            data_json(row)
        for method in methods.values():
            data_json({"kind": "preset", "name": method.name, "title": method.title})
        return
    width = max(len(str(row["name"])) for row in rows)
    say("Targets (--to NAME):")
    for row in rows:
        here = "ready" if row["installed"] else f"ilvrctl download {row['name']}"
        data(f"{row['name']:<{width}}  {row['title']}  [{here}]")
    say("Presets (--preset NAME):")
    for method in methods.values():
        data(f"{method.name:<{width}}  {method.title}")


def _target_row(name: str) -> dict[str, Any]:
    target, _ = find_target(name)
    model = find_model(target.model)
    return {
        "kind": "target",
        "name": target.name,
        "aliases": list(target.aliases),
        "title": target.title,
        "model": target.model,
        "installed": model.installed(),
        "licence": model.licence,
    }


@app.command("show")
@command
def show(name: Annotated[str, typer.Argument(help="A target, preset or model.")]) -> None:
    """The YAML of a preset, as a start for one of your own."""
    for kind in ("targets", "methods", "models"):
        files = preset_files(kind)
        if name in files:
            say(f"# {kind[:-1]} {name}")
            data(files[name].read_text(encoding="utf-8").rstrip())
            return
    for target in load_targets().values():
        if name in target.aliases:
            show(target.name)
            return
    known = sorted({*preset_files("targets"), *preset_files("methods"), *preset_files("models")})
    raise UsageError(
        f"no target, preset or model is called {name!r}",
        hint=did_you_mean(name, known) or f"known: {', '.join(known)}",
    )
