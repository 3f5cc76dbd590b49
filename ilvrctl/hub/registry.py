"""From a name to files and the places that have them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from ilvrctl import paths
from ilvrctl.errors import ConfigError, UsageError
from ilvrctl.files import inside
from ilvrctl.new_presets import check_preset_name, write_preset
from ilvrctl.presets import WEIGHT_SUFFIXES, ModelPreset, load_targets
from ilvrctl.text import visible

_HEX = {"sha256": 64, "md5": 32}
_OURS = (".part", ".drive", ".part.json", ".drive.json", ".lock.json")
"""Ends of names that the downloads themselves use beside a file."""


@dataclass(frozen=True)
class Source:
    """A place that has a file: a web address, a file on Google Drive, or a file in a Drive folder.

    ``where``: the address, or Drive's id of the file or the folder. ``name``: the file's name in that folder, or
    what Drive must call the file ("" for any name).
    """

    kind: Literal["web", "drive", "drive-folder"]
    where: str
    name: str = ""

    def __str__(self) -> str:
        if self.kind == "web":
            return self.where
        scheme = "gdrive" if self.kind == "drive" else "gdrive-folder"
        return f"{scheme}:{self.where}" + (f"/{self.name}" if self.name else "")

    def short(self) -> str:
        """For people: the host, or what Drive calls it."""
        return self.host if self.kind == "web" else str(self)

    @property
    def host(self) -> str:
        """Who has it."""
        return urlsplit(self.where).netloc.rpartition("@")[2] if self.kind == "web" else "Google Drive"


@dataclass(frozen=True)
class Item:
    """One file to have: its name in the weights folder, its sources, and what is known of its content."""

    model: ModelPreset
    key: str
    sources: tuple[Source, ...]
    size: int | None = None
    size_about: int | None = None
    sha256: str = ""
    sha256_start: str = ""
    md5: str = ""

    @property
    def name(self) -> str:
        """For people: the model, and the file where a model has several."""
        return f"{self.model.name}/{PurePosixPath(self.key).name}" if self.model.files else self.model.name

    @property
    def path(self) -> Path:
        """Where the file is, or will be."""
        return paths.weights_dir() / self.key


def parse_source(text: str, file: str) -> Source:
    """A source as written in a preset. ConfigError for one of another form."""
    kind, colon, rest = text.partition(":")
    drive_id, _, name = rest.partition("/")
    if kind in ("gdrive", "gdrive-folder") and re.fullmatch(r"[-\w]{10,}", drive_id):
        if kind == "gdrive":
            return Source("drive", drive_id, name)
        return Source("drive-folder", drive_id, name or file)
    if colon and kind in ("https", "http") and _host(text) and visible(text) == text:
        return _drive_link(text) or Source("web", text)
    raise ConfigError(
        f"{text!r} is no source",
        hint="a source is https://..., gdrive:ID, gdrive:ID/NAME or gdrive-folder:ID/NAME",
    )


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _drive_link(address: str) -> Source | None:
    """A link to a file on Drive, as copied from a browser, is a file on Drive."""
    if urlsplit(address).hostname not in ("drive.google.com", "docs.google.com"):
        return None
    found = re.search(r"/file/(?:u/\d+/)?d/([-\w]{10,})|[?&]id=([-\w]{10,})", address)
    return Source("drive", found[1] or found[2]) if found else None


def items_of(model: ModelPreset) -> tuple[tuple[Item, ...], ...]:
    """What to fetch for a model: for each of its files the alternatives, first choice first.

    ConfigError for a hash or a source that is none.
    """
    for kind, digits in _HEX.items():
        value = getattr(model, kind)
        if value and not re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", value):
            raise ConfigError(f"{model.name}: {kind} must be {digits} hexadecimal digits, not {value!r}")
    _check_place(model)
    if model.files:
        return tuple(tuple(_of_folder(model, name) for name in part.split("|")) for part in model.files)
    sources = tuple(parse_source(text, model.file) for text in model.sources)
    return (
        (
            Item(
                model,
                model.file,
                sources,
                size=model.size,
                size_about=model.size_about,
                sha256=model.sha256.lower(),
                sha256_start=model.sha256_start.lower(),
                md5=model.md5.lower(),
            ),
        ),
    )


def _check_place(model: ModelPreset) -> None:
    """ConfigError unless everything of the model has its place in the weights folder, and nothing else has it."""
    inside(paths.weights_dir(), model.file, f"{model.name}: file", "the weights folder")
    for path in (path for places in model.choices() for path in places):
        if path.name.endswith(_OURS):
            raise ConfigError(f"{model.name}: {path.name} is a name that downloads need for themselves")


def _of_folder(model: ModelPreset, name: str) -> Item:
    sources = tuple(parse_source(f"{base.rstrip('/')}/{name}", name) for base in model.sources)
    return Item(model, f"{model.file}/{name}", sources)


def own_model(name: str, *, url: str | None = None, file: Path | None = None) -> ModelPreset:
    """The preset of a model that a person brings under a new name. UsageError for a name that no file can have."""
    check_preset_name(name)
    origin = PurePosixPath(urlsplit(url).path if url else file or "")
    suffix = origin.suffix if origin.suffix in WEIGHT_SUFFIXES else ".pt"
    where = url or (f"a file called {file.name}" if file else "")
    return ModelPreset(
        name=name,
        title=f"your own, from {where}",
        file=name + suffix,
        format="other",
        sources=(url,) if url else (),
        use="unstated",
    )


def save_own(model: ModelPreset) -> Path:
    """Write the preset of an own model to the configuration folder, where every command finds it."""
    facts: dict[str, Any] = {"title": model.title, "file": model.file, "format": model.format}
    facts |= {"sources": list(model.sources)} if model.sources else {}
    facts |= {"sha256": model.sha256} if model.sha256 else {}
    return write_preset("models", model.name, facts)


def with_facts(model: ModelPreset, *, url: str | None = None, sha256: str | None = None) -> ModelPreset:
    """The model with another source, and with the hash that a person vouches for in place of all others."""
    if (url or sha256) and model.files:
        raise UsageError(f"{model.name} has several files, for which one --url or --sha256 cannot speak")
    if url:
        model = replace(model, sources=(url,), size=None if not model.sha256 else model.size)
    return replace(model, sha256=sha256, sha256_start="", md5="", size=None) if sha256 else model


def use_of(model: ModelPreset) -> str:
    """A command that translates with a model; "" for one that is none for that."""
    if model.unsupported or model.helper:
        return ""
    targets = (target.name for target in load_targets().values() if target.model == model.name)
    return f"ilvrctl translate PICTURES --to {next(targets, model.name)}"
