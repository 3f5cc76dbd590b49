"""One attempt to get a file from Google Drive, with gdown, from where the last one stopped.

gdown runs in a thread of its own and reports through a queue, so that an interrupt or a watch can stop it. Its
unfinished file lies beside ours under a name that gdown chooses.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from ilvrctl.hub import limits as patience
from ilvrctl.hub import partial
from ilvrctl.hub.errors import BrokenOffError, SourceError
from ilvrctl.hub.events import HubEvent, Received
from ilvrctl.hub.limits import Limits
from ilvrctl.hub.partial import NoRoomError, Note, need_room, read_note, write_note
from ilvrctl.hub.registry import Item, Source

_Progress: TypeAlias = tuple[int, int | None]
_KIND = "drive"
_POLL = 0.1  # seconds
_QUOTA = ("too many users", "quota", "viewed or downloaded")
WAYS_OUT = (
    "Drive lets a file be fetched only so often a day. Try again tomorrow; or log in with a browser and give "
    "its exported cookies, --cookies FILE; or name a mirror, --url URL; or fetch the file with the browser and "
    "give it: ilvrctl download {name} --file PATH"
)


class RefusedError(SourceError):
    """Drive gives the file to nobody at the moment, or not to strangers."""


def attempt(item: Item, source: Source, limits: Limits) -> Iterator[HubEvent]:
    """Bring ``item.part`` to its full length. BrokenOffError when it broke off, SourceError when it never will."""
    whole = _whole(item)
    if not _begun(item, source):
        discard(item)
    if (rest := _rest(item)) is not None and _all_there(item, source, rest):
        rest.replace(whole)
    if not whole.exists():
        with _cookies(limits) as cookies:
            file_id = _find(item, source, limits, cookies)
            if not _begun(item, source):
                # before the first byte: whoever stops us finds bytes and their source together
                write_note(item, Note(str(source)), _KIND)
            try:
                yield from _Run(item, source, limits, file_id, cookies).events()
            except _ChangedError:
                discard(item)
                raise
            finally:
                if not whole.exists() and not kept(item):
                    discard(item)
    size = whole.stat().st_size
    whole.replace(item.part)
    write_note(item, Note(str(source), size))
    discard(item)


def kept(item: Item, source: Source | None = None) -> int:
    """Bytes of an unfinished file from Drive (from this source of it) that are here."""
    rest = _rest(item) if source is None or _begun(item, source) else None
    return rest.stat().st_size if rest is not None else 0


def _begun(item: Item, source: Source) -> bool:
    """Whether what is here came from this source."""
    note = read_note(item, _KIND)
    return note is not None and note.source == str(source)


def discard(item: Item) -> None:
    """Forget what came from Drive."""
    partial.discard(item, _whole(item), *_rests(item), kind=_KIND)


def _whole(item: Item) -> Path:
    """Where gdown puts the file when it has all of it; nothing of it has been checked."""
    return item.path.with_name(f"{item.path.name}.{_KIND}")


def _rests(item: Item) -> list[Path]:
    """Unfinished files of gdown: its output's name, eight characters, ``.part``."""
    name = _whole(item).name
    return [
        p
        for p in item.path.parent.glob("*.part")
        if p.name.startswith(name) and len(p.name) == len(name) + 13
    ]


def _rest(item: Item) -> Path | None:
    """The largest unfinished file; gdown goes on only when there is one, so the others are removed."""
    found = sorted(_rests(item), key=lambda path: path.stat().st_size)
    for path in found[:-1]:
        path.unlink(missing_ok=True)
    return found[-1] if found else None


def _all_there(item: Item, source: Source, rest: Path) -> bool:
    """Whether a transfer was stopped after its last byte, where Drive has no further range to give."""
    note = read_note(item, _KIND) if _begun(item, source) else None
    total = note.total if note is not None else None
    return total is not None and rest.stat().st_size == total > 0


@contextlib.contextmanager
def _cookies(limits: Limits) -> Iterator[str | None]:
    """A copy of the cookies, because gdown writes to the file that it is given."""
    if limits.cookies is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "cookies.txt"
        shutil.copyfile(limits.cookies, copy)
        yield str(copy)


def _find(item: Item, source: Source, limits: Limits, cookies: str | None) -> str:
    """Drive's id of the file. SourceError when Drive has another file there."""
    if source.kind == "drive-folder":
        return _in_folder(item, source, limits, cookies)
    if source.name and (called := _called(item, source, limits, cookies)) != source.name:
        raise SourceError(f"gdrive:{source.where} is {called} and not {source.name}")
    return source.where


def _only_look(limits: Limits, cookies: str | None) -> dict[str, Any]:
    """gdown's options for asking Drive what is there, without fetching it."""
    return {
        "quiet": True,
        "skip_download": True,
        "use_cookies": cookies is not None,
        "cookies_file": cookies,
        "timeout": (patience.CONNECT, limits.timeout),
    }


def _called(item: Item, source: Source, limits: Limits, cookies: str | None) -> str:
    """What Drive calls a file."""
    import gdown

    try:
        found = gdown.download(id=source.where, **_only_look(limits, cookies))
    except Exception as error:
        raise _translated(error, item, source) from error
    return str(getattr(found, "path", ""))


def _in_folder(item: Item, source: Source, limits: Limits, cookies: str | None) -> str:
    """The id of a file in a Drive folder, by its name or its path there."""
    import gdown

    try:
        found = gdown.download_folder(id=source.where, **_only_look(limits, cookies))
    except Exception as error:
        raise _translated(error, item, source) from error
    files = {entry.path.replace("\\", "/"): entry.id for entry in found if not isinstance(entry, str)}
    for path, file_id in files.items():
        if source.name in (path, path.rpartition("/")[2]):
            return str(file_id)
    held = ", ".join(sorted(files)[:12]) or "nothing"
    raise SourceError(f"the Drive folder {source.where} has no {source.name}; it has {held}")


class _Run:
    """gdown at work on one file, watched."""

    def __init__(self, item: Item, source: Source, limits: Limits, file_id: str, cookies: str | None) -> None:
        self._item, self._source, self._limits = item, source, limits
        self._file_id, self._cookies = file_id, cookies
        self._reports: queue.Queue[_Progress] = queue.Queue()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="gdown", daemon=True)
        self._noted = False

    def events(self) -> Iterator[HubEvent]:
        """Progress until the file is there; errors in our terms."""
        self._thread.start()
        try:
            yield from self._watch()
        finally:
            self._stop.set()
            self._thread.join(self._limits.timeout + patience.CONNECT)
        if self._error is not None:
            self._forget_a_bad_beginning(self._error)
            raise _translated(self._error, self._item, self._source) from self._error

    def _work(self) -> None:
        import gdown

        try:
            gdown.download(
                id=self._file_id,
                output=str(_whole(self._item)),
                quiet=True,
                resume=True,
                use_cookies=self._cookies is not None,
                cookies_file=self._cookies,
                timeout=(patience.CONNECT, self._limits.timeout),
                progress=lambda done, total: self._reports.put((done, total)),
                cancel=self._stop,
            )
        except BaseException as error:
            self._error = error

    def _watch(self) -> Iterator[HubEvent]:
        heard = time.monotonic()
        while self._thread.is_alive() or not self._reports.empty():
            try:
                done, total = self._reports.get(timeout=_POLL)
            except queue.Empty:
                silence = time.monotonic() - heard
                if self._thread.is_alive() and silence > patience.DRIVE_PATIENCE * self._limits.timeout:
                    raise BrokenOffError(f"Google Drive is too slow: nothing in {silence:.0f} s") from None
                continue
            heard = time.monotonic()
            self._note(done, total)
            yield Received(self._item.name, done, total)

    def _note(self, done: int, total: int | None) -> None:
        """At the first report: is there room, and is it still the file that was begun?"""
        if self._noted:
            return
        self._noted = True
        note = read_note(self._item, _KIND)
        begun = note is not None and note.source == str(self._source) and note.total
        need_room(self._item, total, done)
        write_note(self._item, Note(str(self._source), total), _KIND)
        if begun and total and begun != total:
            raise _ChangedError(f"the file on Drive has changed: {total:,} bytes and no longer {begun:,}")

    def _forget_a_bad_beginning(self, error: BaseException) -> None:
        """Drive would not go on from the bytes that are here: the next attempt begins again."""
        if "range" in str(error):
            discard(self._item)


class _ChangedError(BrokenOffError):
    """What is here is the beginning of an older file."""


def _translated(error: BaseException, item: Item, source: Source) -> SourceError:
    """gdown's errors, and those of the network below it, in our terms."""
    import requests
    from gdown.exceptions import DownloadCancelled, DownloadError, FileURLRetrievalError

    text = " ".join(str(error).split())
    hint = WAYS_OUT.format(name=item.model.name)
    if isinstance(error, FileURLRetrievalError):
        if any(word in text.lower() for word in _QUOTA):
            return RefusedError(f"{source}: the file is over Google Drive's quota for today", hint)
        # gdown does not tell an error of the server from a file that is gone, so this is asked twice.
        what = "gone, private or over its quota"
        return BrokenOffError(f"{source}: Google Drive does not give it: {what}", hint, hopeful=False)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        code = error.response.status_code
        if code == requests.codes.too_many_requests or code >= 500:
            return BrokenOffError(f"Google Drive is busy (HTTP {code})")
        return RefusedError(f"{source}: Google Drive does not give the file (HTTP {code})", hint)
    if isinstance(error, requests.TooManyRedirects):
        return SourceError(f"{source}: Google Drive sends us in circles")
    if isinstance(error, (requests.ConnectionError, requests.Timeout, DownloadCancelled)):
        from ilvrctl.hub.web import reason, unreachable

        return BrokenOffError(
            f"the connection to Google Drive broke: {reason(error)}", hopeful=not unreachable(error)
        )
    if isinstance(error, DownloadError):
        if "incomplete" in text or "range" in text:
            return BrokenOffError(f"the connection to Google Drive broke: {text.partition('.')[0]}")
        return RefusedError(f"{source}: {text[:200]}", hint)
    if isinstance(error, (OSError, NoRoomError)):
        raise error
    return SourceError(f"{source}: gdown failed: {type(error).__name__}: {text[:200]}")
