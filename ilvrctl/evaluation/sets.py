"""Sets of pictures: what is in a folder, and which settings made it."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ilvrctl.errors import IlvrctlError, InputError, UsageError, stage
from ilvrctl.events import PassedBy
from ilvrctl.images.channels import in_channels
from ilvrctl.images.folders import pictures_in
from ilvrctl.images.io import Picture as Read
from ilvrctl.images.io import read_bytes, read_picture
from ilvrctl.images.metadata import read_record
from ilvrctl.plans.manifest import manifest_files, read_manifest
from ilvrctl.plans.record import UNREADABLE, channels_of

if TYPE_CHECKING:
    from PIL import Image

_WHITE = (255, 255, 255)
_NUMBERED = re.compile(r"(.+)_(\d+)")


@dataclass(frozen=True)
class Picture:
    """One file of a set. ``stem``: its name below the folder, without the suffix; ``digest``: sha256 of its bytes.

    A result of ilvrctl tells its input's name (``source_file``, below the folder) and ``source_digest``, its
    ``sample`` number, the ``frame`` that was taken of several, from 1, and the ``settings`` with their ``identity``.
    Of an input ``frame`` is the one to open. ``channels``: of the pictures that its network makes.
    """

    stem: str
    path: Path
    digest: str
    source_file: str | None = None
    source_digest: str | None = None
    sample: int = 1
    identity: str | None = None
    frame: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    channels: int = 3

    @property
    def source_stem(self) -> str | None:
        """The name of its input without the suffix."""
        return (
            None if self.source_file is None else PurePosixPath(self.source_file).with_suffix("").as_posix()
        )

    def open(self) -> Image.Image:
        """Upright 8-bit RGB. InputError when the file is broken."""
        return self._read().image

    def open_in(self, channels: int) -> Image.Image:
        """Upright in grey (mode F, with all its bits, the luma of colours), RGB or RGBA. InputError as above."""
        return in_channels(self._read(), str(self.path), channels, _WHITE, grey=True)[0]

    def _read(self) -> Read:
        frame = None if self.frame is None or self.source_file is not None else self.frame - 1
        return read_picture(read_bytes(self.path), str(self.path), frame=frame)


@dataclass(frozen=True)
class ResultSet:
    """Results to be judged together: a name for people, and the settings that a sweep gave them."""

    name: str
    pictures: tuple[Picture, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


def pictures_of(folder: Path, *, results: bool = False) -> list[Picture]:
    """The pictures in and below ``folder``, by name; contact sheets of ilvrctl and animations of results left out.

    Pictures that differ in their suffix alone have it in their ``stem``; of ``results`` only where each tells which
    input it is of. UsageError for a folder that is missing or holds none, and for other results of one name.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {what}", "give a folder of pictures")
    by_stem: dict[str, list[Picture]] = defaultdict(list)
    for path in pictures_in(folder, needed=True).pictures:
        if (picture := _picture(path, folder)) is not None:
            by_stem[picture.stem].append(picture)
    if not by_stem:
        raise UsageError(f"there are no pictures in {folder} but contact sheets", "give a folder of pictures")
    found = [picture for members in by_stem.values() for picture in _told_apart(members, folder, results)]
    return sorted(found, key=lambda picture: picture.stem)


def is_ours(one: PassedBy) -> bool:
    """Whether what was passed by is what ilvrctl itself writes beside results, or is hidden."""
    name = PurePosixPath(one.name.replace("\\", "/"))
    return one.reason in ("contact sheets", "hidden") or (
        name.suffix == ".jsonl" and name.name.startswith("manifest.")
    )


def _told_apart(members: list[Picture], folder: Path, results: bool) -> list[Picture]:
    """Pictures of one stem, without animations of results, under names of their own."""
    if results or any(one.source_file for one in members):
        members = [one for one in members if one.path.suffix.lower() != ".gif"] or members[:1]
    if len(members) == 1:
        return members
    sources = {(one.source_file, one.sample) for one in members}
    if results and (len(sources) < len(members) or any(file is None for file, _ in sources)):
        raise UsageError(
            f"{members[0].path} and {members[1].path} have one name, and pictures are paired by name",
            "move one of them to a folder of its own",
        )
    return [replace(one, stem=one.path.relative_to(folder).as_posix()) for one in members]


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
            source_file=(parent / PurePosixPath(str(given["name"])).name).as_posix(),
            source_digest=str(given["sha256"]),
            sample=int(record["sample"]),
            frame=None if given.get("frame") is None else int(given["frame"]),
            identity=str(record["identity"]),
            settings=dict(record["settings"]),
            channels=channels_of(record),
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
    pictures = pictures_of(folder, results=True)
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
        replace(p, stem=cut(p.stem), source_file=None if p.source_file is None else cut(p.source_file))
        for p in pictures
    )


def numbered(stem: str) -> tuple[str, int]:
    """``cat_2`` is sample 2 of ``cat``; a name without a number is sample 1 of itself."""
    match = _NUMBERED.fullmatch(stem)
    return (match[1], int(match[2])) if match else (stem, 1)
