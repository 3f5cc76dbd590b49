"""The pictures of a folder, told by their content; and why everything else in it is passed by."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ilvrctl.errors import UsageError
from ilvrctl.events import PassedBy
from ilvrctl.images.io import PICTURE_SUFFIXES
from ilvrctl.images.kinds import Kind, kind_of

_SINGULAR = {
    "not pictures": "not a picture",
    "empty files": "empty file",
    "unfinished files": "unfinished file",
    "unreadable files": "unreadable file",
    "unreadable folders": "unreadable folder",
    "dangling links": "dangling link",
    "links in a circle": "link in a circle",
    "links to folders": "link to a folder",
    "pipes, sockets or devices": "pipe, socket or device",
    "contact sheets": "contact sheet",
    "outputs of this run": "output of this run",
    "subfolders (--recursive takes them)": "subfolder (--recursive takes it)",
}
"""Reasons as they follow a number, and what follows a one; others are the same for all numbers."""
_ENDS = 4096, 65536
"""Bytes at the beginning and the end of a picture among which its record begins."""


@dataclass(frozen=True)
class Found:
    """The ``pictures`` of a folder, sorted, and all else that was found in it."""

    pictures: list[Path]
    passed_by: list[PassedBy]


def pictures_in(
    folder: Path,
    *,
    recursive: bool = True,
    leave_out: Callable[[Path], bool] = lambda path: False,
    needed: bool = False,
) -> Found:
    """The pictures in ``folder``, and below it.

    A picture is a file that begins as one which can be read here, whatever it is called; or one that is called as a
    picture, so that its failure is told. Links to files are followed, those to folders are not, so that no loop is
    walked. ``leave_out``: the run's own outputs. UsageError when the folder itself cannot be read, and where pictures
    are ``needed`` when there are none.
    """
    found = Found([], [])
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if here == folder:
                raise UsageError(f"cannot read the folder {folder}: {error.strerror}") from error
            found.passed_by.append(PassedBy("unreadable folders", str(here)))
            continue
        for entry in entries:
            path = here / entry.name
            if (reason := _reason(entry, path, recursive, leave_out)) is not None:
                found.passed_by.append(PassedBy(reason, str(path)))
            elif entry.is_dir():
                waiting.append(path)
            else:
                found.pictures.append(path)
    found.pictures.sort()
    if needed and not found.pictures:
        deeper = not recursive and pictures_in(folder, leave_out=leave_out).pictures
        known = f"known suffixes: {' '.join(sorted(PICTURE_SUFFIXES))}; others are known by their content"
        passed = f" ({counted(found.passed_by)})" if found.passed_by else ""
        hint = "its subfolders have some: add --recursive" if deeper else known
        raise UsageError(f"there are no pictures in {folder}{passed}", hint)
    return found


def counted(passed_by: Iterable[PassedBy] | Counter[str]) -> str:
    """``12 passed by: 9 not pictures, 1 dangling link``; empty for none."""
    reasons = passed_by if isinstance(passed_by, Counter) else Counter(one.reason for one in passed_by)
    parts = [
        f"{n} {_SINGULAR.get(reason, reason) if n == 1 else reason}" for reason, n in reasons.most_common()
    ]
    return f"{reasons.total()} passed by: {', '.join(parts)}" if parts else ""


def _reason(
    entry: os.DirEntry[str], path: Path, recursive: bool, leave_out: Callable[[Path], bool]
) -> str | None:
    """Why an entry is passed by; None for a picture, and for a folder that is walked."""
    if entry.name.startswith("."):
        return "hidden"
    if leave_out(path):
        return "outputs of this run"
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        lost = "dangling links" if error.errno == errno.ENOENT and entry.is_symlink() else "unreadable files"
        return "links in a circle" if error.errno == errno.ELOOP else lost
    if stat.S_ISDIR(mode):
        if not recursive:
            return "subfolders (--recursive takes them)"
        return "links to folders" if entry.is_symlink() else None
    if not stat.S_ISREG(mode):
        return "pipes, sockets or devices"
    return "unfinished files" if path.suffix == ".part" else _no_picture(path)


def _no_picture(path: Path) -> str | None:
    """Why a file is no picture that can be read here; None where it is one, or is called as one."""
    called = path.suffix.lower() in PICTURE_SUFFIXES
    try:
        kind = kind_of(path)
        if kind is None:
            return None if called else "not pictures" if path.stat().st_size else "empty files"
        if kind.readable:
            return "contact sheets" if _is_sheet(path) else None
    except OSError:
        return None if called else "unreadable files"
    return f"{kind.name} ({_lacking(kind)})"


def _lacking(kind: Kind) -> str:
    if kind.extra:
        return f"install ilvrctl[{kind.extra}]"
    return "needs a newer Pillow" if kind.plugins else "which nothing here reads"


def _is_sheet(path: Path) -> bool:
    """Whether a picture tells that it is a contact sheet of ilvrctl, which is made of pictures and is none."""
    with path.open("rb") as file:
        ends = file.read(_ENDS[0])
        file.seek(max(file.tell(), file.seek(0, os.SEEK_END) - _ENDS[1]))
        ends += file.read(_ENDS[1]) if path.suffix.lower() in (".webp", ".tif", ".tiff") else b""
    return b'"sheet_of": ' in ends and b'"ilvrctl": ' in ends
