"""A transfer that is not finished: the bytes so far, and beside them a note of what they are the beginning of."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ilvrctl.hub.errors import DownloadError
from ilvrctl.hub.registry import Item, Source

_MARGIN = 8 << 20  # bytes left free on the disk


@dataclass(frozen=True)
class Note:
    """Where the bytes come from, how many there will be, and the server's strong mark of this version.

    ``etag``: a strong ETag, or a time of change that tells versions apart as surely; "" when the server gave none,
    so that nobody can know whether what it sends later continues these bytes.
    """

    source: str
    total: int | None = None
    etag: str = ""


@dataclass(frozen=True)
class Part:
    """An unfinished file at ``path``. Only who holds the lock of the file may touch it."""

    path: Path

    @property
    def note_file(self) -> Path:
        """Where the note is."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        """Bytes that are here; 0 for a file of another user that cannot be gone on with."""
        try:
            return self.path.stat().st_size if os.access(self.path, os.R_OK | os.W_OK) else 0
        except OSError:
            return 0

    def note(self) -> Note | None:
        """The note; None without one."""
        try:
            return Note(**json.loads(self.note_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, note: Note) -> None:
        """Forget what was there and note what comes: bytes and note never stem from two versions."""
        self.discard()
        self.write(note)

    def write(self, note: Note) -> None:
        """Note what the bytes are the beginning of."""
        self.note_file.write_text(json.dumps(asdict(note)), encoding="utf-8")

    def whole(self, source: Source) -> bool:
        """Whether all bytes from ``source`` are here already, and were only not checked yet."""
        note = self.note()
        return note is not None and note.source == str(source) and self.size == note.total != 0

    def kept(self, source: Source | None = None) -> int:
        """Bytes from ``source``, or from any, after which a transfer can go on."""
        note = self.note()
        if note is None or (source is not None and note.source != str(source)):
            return 0
        return self.size if note.etag or self.size == note.total else 0

    def discard(self) -> None:
        """Forget it."""
        for path in (self.path, self.note_file):
            with suppress(OSError):
                path.unlink()


def part_of(item: Item, source: Source | None = None) -> Part:
    """Where the bytes of a source grow; Drive's have a file of their own."""
    drive = ".drive" if source is not None and source.kind != "web" else ""
    return Part(item.path.with_name(f"{item.path.name}{drive}.part"))


def unfinished(item: Item) -> int:
    """Bytes of the file that are here but are not all of it yet."""
    return max(part_of(item, source).kept(source) for source in (*item.sources, None))


def discard(item: Item) -> None:
    """Forget all that is not finished of a file, whatever left it: a kill, or an earlier version of this."""
    ours = re.compile(re.escape(item.path.name) + r"\.(part|drive|drive\.part|drive\w{8}\.part)(\.json)?")
    for path in item.path.parent.iterdir():
        if ours.fullmatch(path.name):
            with suppress(OSError):
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
