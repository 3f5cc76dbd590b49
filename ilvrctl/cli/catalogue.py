"""Tables about weights: what there is, what is here, and what a download would do."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from typing import Any

from ilvrctl import paths
from ilvrctl.cli.display import amount
from ilvrctl.cli.output import data, data_json, data_path, say
from ilvrctl.hub.registry import Item, items_of
from ilvrctl.presets import ModelPreset


def items(models: Iterable[ModelPreset]) -> list[Item]:
    """Every file that the models may have, alternatives included."""
    return [item for model in models if model.downloaded for choice in items_of(model) for item in choice]


def show_list(models: Iterable[ModelPreset], *, as_json: bool) -> None:
    """Name, size, whether it is here, what the licence allows, and the title; no network, no torch."""
    rows = [_row(model) for model in models]
    if as_json:
        for row in rows:
            data_json(row)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        here = "here" if row["installed"] else "-" if row["sources"] else "by hand"
        note = "  [not usable yet]" if row["unsupported"] else ""
        data(f"{row['name']:<{width}}  {_size(row):>8}  {here:<7}  {row['use']:<14}  {row['title']}{note}")
    say(f"{len(rows)} models, {sum(row['installed'] for row in rows)} here, in {paths.weights_dir()}")


def _size(row: dict[str, Any]) -> str:
    size = row["bytes"] or row["bytes_about"]
    return "?" if size is None else amount(size) if row["bytes"] else f"~{amount(size)}"


def _row(model: ModelPreset) -> dict[str, Any]:
    installed = model.installed()
    here = model.path().stat().st_size if installed and not model.files else None
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
        "unsupported": model.unsupported or None,
        "notes": model.notes,
    }


def show_plan(models: Sequence[ModelPreset], *, as_json: bool) -> None:
    """What would be fetched, from where, and whether it fits; no network is used."""
    from ilvrctl.hub.fetch import unfinished

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
