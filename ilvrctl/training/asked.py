"""From what is asked for to a training, the same for the command line and for Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ilvrctl.config import Layer, merge
from ilvrctl.errors import UsageError
from ilvrctl.training.course import FOR_EVER, read_seconds, read_span
from ilvrctl.training.job import Job
from ilvrctl.training.recipe import DomainRecipe, Recipe, load_recipe

OF_DENOISERS = ("predicts", "teacher", "teacher_below", "teacher_steps", "references", "sheet_every")
"""What makes no sense for a domain classifier."""


def job_asked(
    folders: tuple[Path, ...], name: str, settings: Layer, recipe: str | None, others: Mapping[str, Any]
) -> Job:
    """The training of a model on one folder, or of a domain classifier on two.

    ``settings``: values of the ``recipe``; ``others``: ``for``, ``decay``, ``save_every``, ``out``, ``held_out``,
    ``references``, ``sheet_every``, ``device``, ``precision``, ``compile``, as far as they are given.
    UsageError for what cannot be meant.
    """
    if len(folders) == 2:
        _refuse_for_classifier({**settings.values, **others})
    value = others.get
    if (value("for") or value("decay")) and "images" not in settings.values:
        settings = merge(
            settings, Layer.of("--for", {"images": FOR_EVER})
        )  # the recipe's number is no limit then
    found: Recipe | DomainRecipe = (
        load_recipe(Recipe, recipe, settings)
        if len(folders) == 1
        else load_recipe(DomainRecipe, recipe, settings)
    )
    sheet_every = value("sheet_every")
    return Job(
        name=name,
        folders=folders,
        recipe=found,
        run=Path(value("out") or f"{name}-training"),
        held_out=tuple(map(Path, value("held_out") or ())),
        references=None if value("references") is None else Path(str(value("references"))),
        seconds=None if value("for") is None else read_seconds(str(value("for")), "--for"),
        decay=None if value("decay") is None else read_span(str(value("decay")), "--decay"),
        save_every=read_seconds(str(value("save_every") or "5m"), "--save-every"),
        sheet_every=6 if sheet_every is None else sheet_every,
        device=value("device") or "auto",
        precision=value("precision") or "auto",
        compiled=bool(value("compile")),
    )


def _refuse_for_classifier(given: Mapping[str, Any]) -> None:
    """UsageError for what makes no sense with ``--dse``."""
    for name in OF_DENOISERS:
        if given.get(name) is not None:
            flag = "--" + name.replace("_", "-")
            draws = name in ("references", "sheet_every")
            why = "makes no pictures, so it has no sheets" if draws else "predicts a domain, not a picture"
            raise UsageError(f"{flag} does not go with --dse: a domain classifier {why}", f"leave {flag} out")
