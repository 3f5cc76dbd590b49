"""One attempt to get a file over https, from where the last one stopped."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import LoadError, MozillaCookieJar
from pathlib import Path
from typing import BinaryIO

import requests
import urllib3

from ilvrctl import __version__
from ilvrctl.errors import UsageError
from ilvrctl.hub import limits as patience
from ilvrctl.hub.errors import BrokenOffError, ContentError, SourceError
from ilvrctl.hub.events import HubEvent, Received
from ilvrctl.hub.limits import Limits
from ilvrctl.hub.partial import Note, discard, kept, need_room, read_note, write_note
from ilvrctl.hub.registry import Item, Source

_CHUNK = 1 << 20
_TELL = 0.1  # seconds between two events
_REDIRECTS = 10
_GONE = {
    401: "asks for a login",
    403: "refuses it",
    404: "does not have it",
    410: "does not have it any more",
}
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def attempt(item: Item, source: Source, limits: Limits) -> Iterator[HubEvent]:
    """Bring ``item.part`` to its full length. BrokenOffError when it broke off, SourceError when it never will."""
    with _session(limits) as session, _ask(session, item, source, limits) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            _recover(item, response)
            return
        _refuse(item, source, response)
        yield from _receive(item, source, response, limits)


def _session(limits: Limits) -> requests.Session:
    session = requests.Session()
    session.max_redirects = _REDIRECTS
    session.headers.update({"User-Agent": f"ilvrctl/{__version__}", "Accept-Encoding": "identity"})
    if limits.cookies is not None:
        session.cookies.update(load_cookies(limits.cookies))
    return session


def load_cookies(path: Path) -> MozillaCookieJar:
    """Cookies as browsers export them. UsageError when the file holds none."""
    jar = MozillaCookieJar(path)
    try:
        jar.load(ignore_discard=True, ignore_expires=True)
    except (OSError, LoadError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--cookies {path}: {error}", hint="export them in Netscape's format (cookies.txt)"
        ) from error
    for cookie in jar:
        if cookie.expires == 0:  # browsers write a cookie that ends with the session so
            cookie.expires, cookie.discard = None, True
    return jar


def _ask(session: requests.Session, item: Item, source: Source, limits: Limits) -> requests.Response:
    """The response of the server, its body unread; what is here already is not asked for again."""
    note, done = read_note(item), kept(item)
    headers = {}
    if done and note is not None and note.source == str(source):
        headers["Range"] = f"bytes={done}-"
        if note.etag:
            headers["If-Range"] = note.etag  # a file that has changed comes whole instead
    try:
        timeout = (min(patience.CONNECT, limits.timeout), limits.timeout)
        return session.get(source.where, headers=headers, stream=True, timeout=timeout)
    except requests.TooManyRedirects:
        raise SourceError(f"{source.short()} sends us in circles: more than {_REDIRECTS} redirects") from None
    except requests.exceptions.SSLError as error:
        raise SourceError(f"no trustworthy connection to {source.short()}: {reason(error)}") from error
    except _BROKEN as error:
        hopeful = not unreachable(error)
        raise BrokenOffError(f"cannot reach {source.short()}: {reason(error)}", hopeful=hopeful) from error
    except (requests.RequestException, ValueError) as error:
        raise SourceError(f"{source.short()}: {reason(error)}") from error


def _recover(item: Item, response: requests.Response) -> None:
    """The server has nothing beyond the bytes that are here: they are all, or of another file."""
    length = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
    if length is None or int(length[1]) != kept(item):
        discard(item)
        raise BrokenOffError("what is here does not belong to the file of the server; beginning again")


def _refuse(item: Item, source: Source, response: requests.Response) -> None:
    """Raise for a response that is not the file."""
    code = response.status_code
    if code in (408, 425, 429) or code >= 500:
        raise BrokenOffError(f"{source.short()} is busy (HTTP {code})", wait=_retry_after(response))
    if code not in (200, 206):
        raise SourceError(f"{source.short()} {_GONE.get(code, 'does not give it')} (HTTP {code})")
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise ContentError(
            f"{item.name}: {source.short()} sent a web page{_title(response)} and not the file"
        )


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _title(response: requests.Response) -> str:
    """The title of a page in quotation marks, with a space before; nothing when it has none."""
    try:
        head = response.raw.read(4096, decode_content=True) or b""
    except (urllib3.exceptions.HTTPError, OSError):
        return ""
    found = re.search(r"<title[^>]*>\s*([^<]{1,80})", head.decode("utf-8", "replace"), re.IGNORECASE)
    return f' ("{" ".join(found[1].split())}")' if found else ""


@dataclass(frozen=True)
class _Body:
    """What the server is about to send: it begins at byte ``start`` of ``total``."""

    start: int
    total: int | None


def _receive(item: Item, source: Source, response: requests.Response, limits: Limits) -> Iterator[HubEvent]:
    body = _announced(item, response)
    if item.size is not None and body.total not in (None, item.size):
        discard(item)
        raise ContentError(
            f"{item.name}: {source.short()} has a file of {body.total:,} bytes, and this one has {item.size:,}"
        )
    need_room(item, body.total, body.start)
    etag = response.headers.get("ETag", "")
    mark = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
    write_note(item, Note(str(source), body.total, mark))
    yield Received(item.name, body.start, body.total)
    with item.part.open("ab" if body.start else "wb") as file:
        yield from _pour(item, source, response, body, file, limits)
    if body.total is not None and (have := kept(item)) != body.total:
        raise BrokenOffError(
            f"the connection to {source.short()} ended after {have:,} of {body.total:,} bytes"
        )
    write_note(item, Note(str(source), kept(item), mark))


def _announced(item: Item, response: requests.Response) -> _Body:
    if response.status_code == requests.codes.partial_content:
        given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        note = read_note(item)
        total = int(given[2]) if given and given[2] != "*" else None
        changed = note is not None and None not in (note.total, total) and note.total != total
        if given is None or int(given[1]) != kept(item) or changed:
            discard(item)
            raise BrokenOffError("the file of the server has changed; beginning again")
        return _Body(int(given[1]), total)
    length = response.headers.get("Content-Length", "")
    return _Body(0, int(length) if length.isdigit() else None)


def _pour(
    item: Item, source: Source, response: requests.Response, body: _Body, file: BinaryIO, limits: Limits
) -> Iterator[HubEvent]:
    """Write what comes, as it comes; give up on a trickle."""
    done = body.start
    told = since = time.monotonic()
    mark = done
    try:
        while chunk := response.raw.read1(_CHUNK, decode_content=False):
            file.write(chunk)
            done += len(chunk)
            now = time.monotonic()
            if now - since > limits.timeout:
                if done - mark < patience.SLOWEST * (now - since):
                    raise BrokenOffError(
                        f"{source.short()} is too slow: {done - mark:,} bytes in {now - since:.0f} s"
                    )
                since, mark = now, done
            if now - told > _TELL:
                told = now
                yield Received(item.name, done, body.total)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        of = f" of {body.total:,}" if body.total else ""
        raise BrokenOffError(
            f"the connection to {source.short()} ended after {done:,}{of} bytes{_why(error)}"
        ) from error
    yield Received(item.name, done, body.total)


def _why(error: BaseException) -> str:
    """The cause in parentheses, unless it is only that the rest did not come."""
    return "" if isinstance(_innermost(error), urllib3.exceptions.IncompleteRead) else f" ({reason(error)})"


def unreachable(error: BaseException) -> bool:
    """Whether not even a connection was made, so that many more tries are of little use."""
    refused = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    return isinstance(_innermost(error, refused), refused)


def _innermost(error: BaseException, stop: tuple[type[BaseException], ...] = ()) -> BaseException:
    """What is wrapped in an error of requests or urllib3, down to the first of a type in ``stop``."""
    inner: object = error
    while isinstance(inner, BaseException) and not isinstance(error, stop):
        error = inner
        inner = getattr(inner, "reason", None) or (inner.args[-1] if inner.args else None)
    return error


def reason(error: BaseException) -> str:
    """The innermost cause of a chain of wrapped network errors, in a line."""
    error = _innermost(error)
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
