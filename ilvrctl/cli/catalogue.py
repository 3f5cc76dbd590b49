"""Tables about weights: what there is, what is here, and what a download would do."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ilvrctl import paths
from ilvrctl.cli.display import amount
from ilvrctl.cli.output import data, data_json, data_path, say
from ilvrctl.errors import ConfigError
from ilvrctl.hub.address import Address
from ilvrctl.hub.registry import Item, items_of
from ilvrctl.model_preset import ModelPreset, parts_of
from ilvrctl.presets import Broken, preset_files
from ilvrctl.text import visible

_USE = {"any": "any", "non-commercial": "non-com.", "research": "research", "unstated": "unstated"}
"""What the licences allow, in eight letters."""


def items(models: Iterable[ModelPreset]) -> list[Item]:
    """Every file that the models may have, alternatives included."""
    parts = parts_of(models)
    return [item for part in parts if part.downloaded for choice in items_of(part) for item in choice]


def show_list(models: Iterable[ModelPreset], broken: Sequence[Broken] = (), *, as_json: bool) -> None:
    """Name, size, pixels, state, licence, and what it makes, in 80 columns; no network, no torch."""
    rows = [_row(model) for model in models]
    rows += [_broken_row(bad.name, bad.path, bad.error) for bad in broken]
    if as_json:
        for row in rows:
            data_json(row)
        return
    width = min(max(len(row["name"]) for row in rows), 28)
    say(f"{'name':<{width}} {'size':>8} {'px':>4}  {'state':<8} {'licence':<8} makes")
    for row in rows:
        data(_line(row, width))
    sound = [row for row in rows if "broken" not in row]
    say(f"{len(sound)} models, {sum(row['installed'] for row in sound)} here, in {paths.weights_dir()}")
    say(
        "ilvrctl download NAME, then ilvrctl translate PICTURES --to NAME; of aux: ones, methods and eval make use"
    )


def _line(row: dict[str, Any], width: int) -> str:
    """One row of the table; a long text is cut, so that it holds in 80 columns. Of an unusable one it says why."""
    if "broken" in row:
        return f"{row['name']:<{width}} broken: {visible(row['broken'])}"
    here = "missing" if row["bundled"] else "-" if row["sources"] else "by hand"
    state = "unusable" if row["unsupported"] else "here" if row["installed"] else here
    use = _USE[row["use"]]
    start = f"{row['name']:<{width}} {_size(row):>8} {row['image_size'] or '?':>4}  {state:<8} {use:<8} "
    makes = visible(row["unsupported"] or row["domain"] or row["title"])
    for long, short in (("photographs of ", ""), ("photographs: ", ""), ("auxiliary: ", "aux: ")):
        makes = short + makes[len(long) :] if makes.startswith(long) else makes
    room = max(80 - len(start), 8)
    return start + (makes if len(makes) <= room else f"{makes[: room - 1]}…")


def _size(row: dict[str, Any]) -> str:
    size = row["bytes"] or row["bytes_about"]
    return "?" if size is None else amount(size) if row["bytes"] else f"~{amount(size)}"


def _broken_row(name: str, path: Path, error: ConfigError) -> dict[str, Any]:
    return {"name": visible(name), "path": str(path), "installed": False, "broken": error.message}


def _row(model: ModelPreset) -> dict[str, Any]:
    try:
        model.choices()
    except ConfigError as error:
        return _broken_row(model.name, preset_files("models")[model.name], error)
    installed = model.installed()
    here = model.path().stat().st_size if installed and not (model.files or model.experts) else None
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "title": model.title,
        "domain": model.domain,
        "format": model.format,
        "image_size": model.image_size,
        "bytes": here or model.size,
        "bytes_about": model.size_about,
        "installed": installed,
        "bundled": model.bundled,
        "path": str(model.path()),
        "sources": list(model.sources) or (["bundled"] if model.bundled else []),
        "dead": list(model.dead),
        "sha256": model.sha256 or None,
        "use": model.use,
        "licence": model.licence,
        **({"experts": [[e.model, e.down_to] for e in model.experts]} if model.experts else {}),
        "unsupported": model.unsupported or None,
        "notes": model.notes,
    }


def show_plan(models: Sequence[ModelPreset], hubs: Sequence[Address] = (), *, as_json: bool) -> None:
    """What would be fetched, from where, and whether it fits; no network is used."""
    from ilvrctl.hub.partial import unfinished

    for hub in hubs:
        _show_on_the_hub(hub, as_json=as_json)
    if hubs and not models:
        return

    need = 0
    for item in items(models):
        here = item.path.is_file()
        size = item.size or item.size_about
        kept = unfinished(item)
        need += 0 if here else max((size or 0) - kept, 0)
        if as_json:
            data_json(
                {
                    "event": "planned",
                    "name": item.name,
                    "path": str(item.path),
                    "status": "present" if here else "begun" if kept else "to fetch",
                    "bytes": size,
                    "bytes_kept": kept,
                    "sources": [str(source) for source in item.sources],
                }
            )
        elif not here:
            data_path(item.path)
        else:
            say(f"{item.name}: already here")
    folder = next(p for p in (paths.weights_dir(), *paths.weights_dir().parents) if p.exists())
    say(f"to fetch: about {amount(need)}; {amount(shutil.disk_usage(folder).free)} are free in {folder}")


def _show_on_the_hub(hub: Address, *, as_json: bool) -> None:
    from ilvrctl.hub.hugging_face import here

    kept = here(hub)
    status = "to fetch" if kept is None else "present"
    if as_json:
        path = None if kept is None else str(kept.path)
        data_json({"event": "planned", "name": str(hub), "path": path, "status": status, "bytes": None})
    elif kept is None:
        say(f"{hub}: to fetch; how large it is, Hugging Face tells")
    else:
        say(f"{hub}: already here")
