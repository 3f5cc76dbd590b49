"""Sets of pictures: what is in a folder, and which settings made it."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ilvrctl.errors import IlvrctlError, InputError, UsageError, stage
from ilvrctl.images.io import PICTURE_SUFFIXES, open_picture, read_bytes
from ilvrctl.images.metadata import read_record
from ilvrctl.plans.manifest import manifest_files, read_manifest
from ilvrctl.plans.record import UNREADABLE

if TYPE_CHECKING:
    from PIL import Image

_NUMBERED = re.compile(r"(.+)_(\d+)")


@dataclass(frozen=True)
class Picture:
    """One file of a set. ``stem``: its name below the folder, without the suffix; ``digest``: sha256 of its bytes.

    A result of ilvrctl tells its input's name (``source_stem``, below the folder) and ``source_digest``, its
    ``sample`` number, and the ``settings`` with their ``identity``.
    """

    stem: str
    path: Path
    digest: str
    source_stem: str | None = None
    source_digest: str | None = None
    sample: int = 1
    identity: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def open(self) -> Image.Image:
        """Upright 8-bit RGB. InputError when the file is broken."""
        return open_picture(read_bytes(self.path), str(self.path))


@dataclass(frozen=True)
class ResultSet:
    """Results to be judged together: a name for people, and the settings that a sweep gave them."""

    name: str
    pictures: tuple[Picture, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


def pictures_of(folder: Path) -> list[Picture]:
    """The pictures in and below ``folder``, by name; contact sheets of ilvrctl and animations of results left out.

    UsageError for a folder that is missing or holds none, or for two pictures of one name.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {what}", "give a folder of pictures")
    found = [p for path in _files(folder) if (p := _picture(path, folder)) is not None]
    by_stem: dict[str, Picture] = {}
    for picture in found:
        other = by_stem.setdefault(picture.stem, picture)
        if other is not picture:
            if ".gif" not in (other.path.suffix.lower(), picture.path.suffix.lower()):
                raise UsageError(
                    f"{other.path} and {picture.path} have one name, and pictures are paired by name",
                    "move one of them to a folder of its own",
                )
            if other.path.suffix.lower() == ".gif":
                by_stem[picture.stem] = picture
    if not by_stem:
        known = " ".join(sorted(PICTURE_SUFFIXES))
        raise UsageError(f"there are no pictures in {folder}", f"known suffixes: {known}")
    return [by_stem[stem] for stem in sorted(by_stem)]


def _files(folder: Path) -> list[Path]:
    found = []
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(top) / name for name in sorted(files) if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES]
    return found


def _picture(path: Path, folder: Path) -> Picture | None:
    """None for a contact sheet. One that cannot be read is a picture too, which fails when it is opened."""
    stem = path.relative_to(folder).with_suffix("").as_posix()
    try:
        data = read_bytes(path)
    except InputError:
        return Picture(stem, path, f"unreadable {path}")
    plain = Picture(stem, path, sha256(data).hexdigest())
    try:
        with stage("reading the record", str(path)):
            record = json.loads(read_record(data, str(path)))
        if record.get("sheet_of") is not None:
            return None
        parent, given = PurePosixPath(stem).parent, record["input"]
        return Picture(
            stem,
            path,
            plain.digest,
            source_stem=(parent / PurePosixPath(str(given["name"])).stem).as_posix(),
            source_digest=str(given["sha256"]),
            sample=int(record["sample"]),
            identity=str(record["identity"]),
            settings=dict(record["settings"]),
        )
    except (IlvrctlError, *UNREADABLE):
        return plain


def runs_of(folders: Sequence[Path]) -> list[ResultSet]:
    """The runs in ``folders``: a folder is one, but a sweep of ``batch`` (by its manifest) or a grid of
    ``translate`` (subfolders made with different settings) is several. UsageError as :func:`pictures_of`.
    """
    found = [run for folder in folders for run in _runs(folder)]
    names = [run.name for run in found]
    if len(set(names)) == len(names):
        return found
    return [ResultSet(f"{run.name} ({n})" if names.count(run.name) > 1 else run.name, run.pictures, run.settings)
            for n, run in enumerate(found, 1)]  # fmt: skip


def _runs(folder: Path) -> list[ResultSet]:
    pictures = pictures_of(folder)
    sweep = _sweep(folder, pictures) if manifest_files(folder) else _grid(pictures)
    if len(sweep) > 1:
        return sweep
    name = folder.resolve().name if folder.is_absolute() or not folder.name else str(folder)
    return [ResultSet(name, tuple(pictures), sweep[0].settings if sweep else {})]


def _sweep(folder: Path, pictures: Sequence[Picture]) -> list[ResultSet]:
    """Groups by the job and the settings that its matrix gave, in the order of the manifest."""
    by_place = {picture.path.relative_to(folder).as_posix(): picture for picture in pictures}
    groups: dict[tuple[str, str], list[Picture]] = defaultdict(list)
    settings: dict[tuple[str, str], Mapping[str, Any]] = {}
    for output, entry in read_manifest(folder).entries.items():
        if entry.status == "done" and output in by_place:
            key = entry.job, json.dumps(entry.settings, sort_keys=True)
            groups[key].append(by_place[output])
            settings[key] = entry.settings
    jobs = {job for job, _ in groups}
    runs = []
    for key, members in groups.items():
        label = " ".join(f"{k}={v}" for k, v in settings[key].items()) or key[0]
        name = f"{key[0]} {label}" if len(jobs) > 1 and settings[key] else label
        runs.append(ResultSet(name, _below(members, _common_folder(members)), settings[key]))
    return sorted(runs, key=lambda run: _natural(run.name))


def _grid(pictures: Sequence[Picture]) -> list[ResultSet]:
    """Groups by the first folder, when these were made with different settings; else none."""
    groups: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        head, slash, _ = picture.stem.partition("/")
        groups[head if slash else ""].append(picture)
    identities = {frozenset(p.identity for p in members) for members in groups.values()}
    told = all(p.identity for p in pictures)
    if "" in groups or not told or len(identities) != len(groups):
        return []
    runs = [ResultSet(name, _below(members, name)) for name, members in groups.items()]
    return sorted(runs, key=lambda run: _natural(run.name))


def _natural(text: str) -> list[tuple[int, float, str]]:
    """For sorting: N=2 before N=16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts)]


def _common_folder(pictures: Sequence[Picture]) -> str:
    common = os.path.commonpath([PurePosixPath(p.stem).parent.as_posix() for p in pictures])
    return "" if common == "." else common


def _below(pictures: Sequence[Picture], folder: str) -> tuple[Picture, ...]:
    """The pictures with their names told from ``folder`` on."""
    if not folder:
        return tuple(pictures)

    def cut(stem: str) -> str:
        return stem.removeprefix(f"{folder}/")

    return tuple(
        Picture(
            **{
                **{name: getattr(p, name) for name in p.__dataclass_fields__},
                "stem": cut(p.stem),
                "source_stem": None if p.source_stem is None else cut(p.source_stem),
            }
        )
        for p in pictures
    )


def numbered(stem: str) -> tuple[str, int]:
    """``cat_2`` is sample 2 of ``cat``; a name without a number is sample 1 of itself."""
    match = _NUMBERED.fullmatch(stem)
    return (match[1], int(match[2])) if match else (stem, 1)
