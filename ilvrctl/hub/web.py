"""One attempt to get a file over https, from where the last one stopped."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
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
from ilvrctl.hub.limits import Limits, Pace
from ilvrctl.hub.partial import Note, Part, need_room, part_of
from ilvrctl.hub.registry import Item, Source
from ilvrctl.text import visible

_CHUNK = 1 << 20
_TELL = 0.1  # seconds between two events
_SURELY_OLDER = 60  # seconds
_REDIRECTS = 10
_GONE = {
    401: "asks for a login",
    403: "refuses it",
    404: "does not have it",
    410: "does not have it any more",
}
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def attempt(item: Item, source: Source, limits: Limits, pace: Pace) -> Iterator[HubEvent]:
    """Bring the part to its full length. BrokenOffError when it broke off, SourceError when it never will."""
    with session(limits) as client, ask(client, item, source, source.where, limits) as response:
        yield from receive(item, source, response, pace)


def session(limits: Limits) -> requests.Session:
    """A client as the web knows us, with the person's cookies."""
    client = requests.Session()
    client.max_redirects = _REDIRECTS
    client.headers.update({"User-Agent": f"ilvrctl/{__version__}", "Accept-Encoding": "identity"})
    if limits.cookies is not None:
        client.cookies.update(load_cookies(limits.cookies))
    return client


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


def ask(
    client: requests.Session, item: Item, source: Source, address: str, limits: Limits, *, rest: bool = True
) -> requests.Response:
    """The response of the server, its body unread; ``rest``: without what is here already and can be continued."""
    part = part_of(item, source)
    note, done = part.note(), part.kept(source) if rest else 0
    # a file that has changed comes whole instead
    headers = {"Range": f"bytes={done}-", "If-Range": note.etag} if done and note is not None else {}
    try:
        timeout = (min(patience.CONNECT, limits.timeout), limits.timeout)
        return client.get(address, headers=headers, stream=True, timeout=timeout)
    except requests.TooManyRedirects:
        raise SourceError(f"{source.short()} sends us in circles: more than {_REDIRECTS} redirects") from None
    except requests.exceptions.SSLError as error:
        raise SourceError(f"no trustworthy connection to {source.host}: {reason(error)}") from error
    except _BROKEN as error:
        hopeful = not unreachable(error)
        raise BrokenOffError(f"cannot reach {source.host}: {reason(error)}", hopeful=hopeful) from error
    except (requests.RequestException, ValueError) as error:
        raise SourceError(f"{source.short()}: {reason(error)}") from error


def strong_mark(response: requests.Response) -> str:
    """What tells this version of the file from every other (RFC 9110, section 8.8); "" when nothing does.

    A strong ETag; or Last-Modified where the server's own clock is at least a minute past it, so that no two
    versions can have been written within that second. A weak ETag says that two versions are as good as each
    other, which does not make one the rest of the other.
    """
    etag = response.headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e\x80-\xff]*"', etag):
        return etag
    changed, now = response.headers.get("Last-Modified", ""), response.headers.get("Date", "")
    try:
        age = (parsedate_to_datetime(now) - parsedate_to_datetime(changed)).total_seconds()
    except (ValueError, TypeError):
        return ""
    return changed if age >= _SURELY_OLDER and not etag else ""


def refuse(item: Item, source: Source, response: requests.Response) -> None:
    """Raise for a response that is not the file."""
    code = response.status_code
    if code == requests.codes.requested_range_not_satisfiable:
        part_of(item, source).discard()
        raise BrokenOffError("what is here does not belong to the file of the server; beginning again")
    if code in (408, 425, 429) or code >= 500:
        raise BrokenOffError(f"{source.host} is busy (HTTP {code})", wait=_retry_after(response))
    if code not in (200, 206):
        raise SourceError(f"{source.short()} {_GONE.get(code, 'does not give it')} (HTTP {code})")
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise ContentError(f"{item.name}: {source.host} sent a web page{_title(response)} and not the file")


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
    return f' ("{visible(" ".join(found[1].split()))}")' if found else ""


def receive(item: Item, source: Source, response: requests.Response, pace: Pace) -> Iterator[HubEvent]:
    """Write what the server sends behind what is here, or in its place."""
    refuse(item, source, response)
    part = part_of(item, source)
    start, note = _announced(part, source, response)
    if item.size is not None and note.total not in (None, item.size):
        part.discard()
        raise ContentError(
            f"{item.name}: {source.host} has a file of {note.total:,} bytes, and this one has {item.size:,}"
        )
    need_room(item, note.total, start)
    if not start:
        part.begin(note)
    yield Received(item.name, start, note.total)
    with part.path.open("ab") as file:
        for done in _pour(source, response, start, file, pace):
            yield Received(item.name, done, note.total)
    if note.total is not None and (have := part.size) != note.total:
        if have > note.total:
            part.discard()
        raise BrokenOffError(f"the connection to {source.host} ended after {have:,} of {note.total:,} bytes")
    part.write(Note(str(source), part.size, note.etag))


def _announced(part: Part, source: Source, response: requests.Response) -> tuple[int, Note]:
    """The byte that the response begins with, and what it is a part of.

    BrokenOffError for a rest of which it is not sure that it continues what is here.
    """
    mark, length = strong_mark(response), response.headers.get("Content-Length", "")
    if response.status_code != requests.codes.partial_content:
        return 0, Note(str(source), int(length) if length.isdigit() else None, mark)
    note, have = part.note(), part.kept(source)
    given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    if given is None or note is None or not have or not mark or mark != note.etag:
        part.discard()
        raise BrokenOffError("nothing shows that the server still has the same file; beginning again")
    first, last, total = map(int, given.groups())
    if first != have or last != total - 1 or note.total not in (None, total):
        part.discard()
        raise BrokenOffError("the file of the server has changed; beginning again")
    return first, Note(str(source), total, mark)


def _pour(
    source: Source, response: requests.Response, done: int, file: BinaryIO, pace: Pace
) -> Iterator[int]:
    """Write what comes, as it comes, telling how many bytes are here; give up on a trickle."""
    told = pace.clock()
    try:
        while chunk := response.raw.read1(_CHUNK, decode_content=False):
            file.write(chunk)
            done += len(chunk)
            pace.count(len(chunk), source.host)
            if (now := pace.clock()) - told > _TELL:
                told = now
                yield done
    except (urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise BrokenOffError(
            f"the connection to {source.host} ended after {done:,} bytes{_why(error)}"
        ) from error
    yield done


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
    text = visible(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
