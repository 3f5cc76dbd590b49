"""A file that a person has already: copied or moved into place, and proved like one that was fetched."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ilvrctl.errors import UsageError
from ilvrctl.hub import partial
from ilvrctl.hub.errors import ContentError, DownloadError
from ilvrctl.hub.events import Failed, HubEvent, Received
from ilvrctl.hub.fetch import Order, fetched, locked, put
from ilvrctl.hub.registry import Item, items_of
from ilvrctl.hub.verify import prove
from ilvrctl.presets import ModelPreset

_CHUNK = 8 << 20


def bring(model: ModelPreset, file: Path, order: Order, *, move: bool = False) -> Iterator[HubEvent]:
    """Put ``file`` in place (a folder for a model of several files); with ``move`` it is gone afterwards.

    What fails is told in a :class:`Failed`. UsageError when there is no such file.
    """
    if not file.exists() or (file.is_dir() and not model.files):
        raise UsageError(f"--file {file}: no such file")
    try:
        for alternatives in items_of(model):
            item, origin = _pick(alternatives, file)
            yield from locked(item, order.overwrite, _Copy(item, origin, order, move))
    except (DownloadError, ContentError) as error:
        yield Failed(model.name, error)


def _pick(alternatives: tuple[Item, ...], file: Path) -> tuple[Item, Path]:
    """The first alternative that the folder has; a single file stands for itself."""
    if not file.is_dir():
        return alternatives[0], file
    for item in alternatives:
        if (file / item.path.name).is_file():
            return item, file / item.path.name
    names = " or ".join(item.path.name for item in alternatives)
    raise DownloadError(f"{file} has no {names}")


class _Copy:
    """The work to do under the lock."""

    def __init__(self, item: Item, origin: Path, order: Order, move: bool) -> None:
        self._item, self._origin, self._order, self._move = item, origin, order, move

    def __call__(self) -> Iterator[HubEvent]:
        item, origin, start = self._item, self._origin, time.monotonic()
        if item.path.exists() and origin.samefile(item.path):
            raise UsageError(
                f"{origin} is in its place already", hint=f"ilvrctl download {item.model.name} --verify"
            )
        part = partial.part_of(item)
        partial.discard(item)
        try:
            if not (self._move and _linked(origin, part.path)):
                yield from self._copied(part.path)
            proof = yield from prove(item, part.path, self._order.check, str(origin))
        except BaseException:
            partial.discard(item)
            raise
        put(item, part, proof, f"file:{origin.name}")
        if self._move:
            origin.unlink()
        yield fetched(item, proof, str(origin), time.monotonic() - start)

    def _copied(self, part: Path) -> Iterator[HubEvent]:
        item, total, done = self._item, self._origin.stat().st_size, 0
        partial.need_room(item, total, 0)
        with self._origin.open("rb") as source, part.open("wb") as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)
                done += len(chunk)
                yield Received(item.name, done, total)
        shutil.copymode(self._origin, part)


def _linked(origin: Path, part: Path) -> bool:
    """A second name for the same bytes, which saves the copy; not across file systems."""
    with contextlib.suppress(OSError):
        os.link(origin.resolve(), part)
        return True
    return False
