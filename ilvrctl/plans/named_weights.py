"""What ``--to``, ``--weights`` and their like name: a target, a model of the list, a file, or one on Hugging Face."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.config import Layer
from ilvrctl.errors import UsageError, WeightsError
from ilvrctl.hub.address import Address, holds_network, is_address
from ilvrctl.presets import (
    WEIGHT_SUFFIXES,
    ModelPreset,
    TargetPreset,
    find_model,
    find_target,
    preset_files,
    require_weights,
    resolve_model,
)

if TYPE_CHECKING:
    from ilvrctl.hub.events import HubEvent

OWN = "other"
"""The format of a model that a person brought with ``ilvrctl download NAME --file``: its file tells what it is."""
_TELL: ContextVar[Callable[[HubEvent], object] | None] = ContextVar("fetching", default=None)


@dataclass(frozen=True)
class NamedWeights:
    """A checkpoint that is here. ``model``: the preset of a model of the list; ``name``: what else records call it."""

    path: Path
    model: ModelPreset | None = None
    name: str = ""


@contextmanager
def fetching(tell: Callable[[Any], object]) -> Iterator[None]:
    """Within the block, weights on Hugging Face that are not here are fetched, and ``tell`` is told of it."""
    token = _TELL.set(tell)
    try:
        yield
    finally:
        _TELL.reset(token)


def located(name: str | Path, folder: Path = Path()) -> Path:
    """A name of weights in a file of ``folder``: what is there counts from it, a name elsewhere stays."""
    text = Path(name).as_posix()
    if is_address(text) or is_name(text, folder):
        return Path(name)
    return folder / name


def named_weights(name: Path, *, stranger: bool = False) -> NamedWeights:
    """The weights that ``name`` means: a file or a network's folder that is there, a model's name, or ``hf:user/repo``.
    A folder without a network has no say where a model has its name: pictures of dogs lie in ``dog/``.

    ``stranger``: who wrote the name may not have anything fetched. UsageError for a model that is none of pictures,
    WeightsError where they are not here; a file's own reader tells of one that is missing.
    """
    text = name.as_posix()
    if is_address(text):
        return _fetched(text, stranger)
    if is_name(text):
        try:
            model = resolve_model(text)
        except UsageError as error:
            raise WeightsError(f"no file and no model is called {text!r}", error.hint) from error
        return _of_model(_of_pictures(model))
    return NamedWeights(name)


def target_called(name: str) -> tuple[TargetPreset, Layer]:
    """The target of that name with its settings, or the model, which has none of its own.

    UsageError with the closest name for an unknown one, and for a model that is none of pictures.
    """
    try:
        return find_target(name)
    except UsageError:
        if name in preset_files("targets"):
            raise
        try:
            model = resolve_model(name)
        except UsageError:
            model = None
        if model is None:
            raise
    return TargetPreset(_of_pictures(model).name, model.name, model.title), Layer({})


def own_weights(target: TargetPreset) -> NamedWeights | None:
    """The weights of a target whose model is a file of one's own, of which its preset tells no facts; else None."""
    model = find_model(target.model)
    return _of_model(model) if model.format == OWN else None


def _of_model(model: ModelPreset) -> NamedWeights:
    path = require_weights(model, model.name)
    return NamedWeights(path) if model.format == OWN else NamedWeights(path, model)


def _of_pictures(model: ModelPreset) -> ModelPreset:
    if model.helper:
        raise UsageError(
            f"{model.name} makes no pictures: {model.title}",
            hint="ilvrctl download --list tells what makes which",
        )
    return model


def is_name(text: str, folder: Path = Path()) -> bool:
    """Whether it means a target or a model by its name, and not weights in ``folder`` or on Hugging Face."""
    if is_address(text) or not _may_be_model(text):
        return False
    place = folder / text
    if place.is_dir() and not holds_network(place):
        return _known(text)
    return not os.path.lexists(place)


def _known(name: str) -> bool:
    try:
        target_called(name)
    except UsageError:
        return False
    return True


def _may_be_model(text: str) -> bool:
    """Whether it looks like a name, and not like a path or a file of weights."""
    return (
        "/" not in text
        and not text.startswith((".", "~"))
        and Path(text).suffix.lower() not in WEIGHT_SUFFIXES
    )


def _fetched(text: str, stranger: bool) -> NamedWeights:
    from ilvrctl.hub import hugging_face
    from ilvrctl.hub.events import Failed
    from ilvrctl.models.files.announced import check_network

    address, tell = Address.parse(text), None if stranger else _TELL.get()
    kept = hugging_face.here(address)
    if kept is None and tell is not None:
        for event in hugging_face.fetch(address, check_network):
            tell(event)
            if isinstance(event, Failed):
                raise event.error
        kept = hugging_face.here(address)
    if kept is None:
        raise WeightsError(f"{address} is not here", hint=address.command)
    return NamedWeights(kept.path, name=str(kept.address))
