"""A transfer that is not finished: the bytes so far, and beside them a note of what they are the beginning of."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ilvrctl.hub.errors import DownloadError
from ilvrctl.hub.registry import Item

_MARGIN = 8 << 20  # bytes left free on the disk


@dataclass(frozen=True)
class Note:
    """Where the bytes come from, how many there will be, and the server's mark of this version."""

    source: str
    total: int | None = None
    etag: str = ""


def read_note(item: Item, kind: str = "part") -> Note | None:
    """The note beside the unfinished file; None without one. ``kind``: the suffix of that file."""
    try:
        return Note(**json.loads(_note_file(item, kind).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_note(item: Item, note: Note, kind: str = "part") -> None:
    """Note what the unfinished file is the beginning of."""
    _note_file(item, kind).write_text(json.dumps(asdict(note)), encoding="utf-8")


def kept(item: Item) -> int:
    """Bytes of the unfinished file that are here."""
    try:
        return item.part.stat().st_size
    except OSError:
        return 0


def whole(item: Item, source: str) -> bool:
    """Whether all bytes from ``source`` are here already, and were only not checked yet."""
    note = read_note(item)
    return (
        note is not None and note.source == source and note.total is not None and kept(item) == note.total > 0
    )


def discard(item: Item, *paths: Path, kind: str = "part") -> None:
    """Forget the unfinished file, or those at ``paths``, and its note."""
    for path in (*(paths or (item.part,)), _note_file(item, kind)):
        with contextlib.suppress(OSError):
            path.unlink()


def need_room(item: Item, total: int | None, done: int) -> None:
    """DownloadError when what is still to come does not fit on the disk."""
    wanted = total or item.size or item.size_about
    if wanted is None:
        return
    free = shutil.disk_usage(item.path.parent).free
    if wanted - done + _MARGIN > free:
        raise NoRoomError(
            f"{item.name} needs {wanted - done:,} more bytes, and {free:,} are free in {item.path.parent}",
            hint="make room, or name another folder in ILVRCTL_WEIGHTS",
        )


class NoRoomError(DownloadError):
    """The disk is too small, whatever the source."""


def _note_file(item: Item, kind: str) -> Path:
    return item.path.with_name(f"{item.path.name}.{kind}.json")
