"""One attempt to get a file from Google Drive: gdown reads its pages, and the file comes as any of the web."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import requests
import urllib3

from ilvrctl.hub import limits as patience
from ilvrctl.hub import web
from ilvrctl.hub.errors import BrokenOffError, SourceError
from ilvrctl.hub.events import HubEvent
from ilvrctl.hub.limits import Limits, Pace
from ilvrctl.hub.partial import part_of
from ilvrctl.hub.registry import Item, Source
from ilvrctl.text import visible

_FILE = "https://drive.google.com/uc?id={}"
_BROWSER = (  # gdown's: what Drive answers depends on it
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_10_1) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/39.0.2171.95 Safari/537.36"
)
_PAGES = 10
_LONGEST_PAGE = 1 << 20  # bytes
_QUOTA = ("too many users", "quota", "viewed or downloaded")
WAYS_OUT = (
    "Drive lets a file be fetched only so often a day. Try again tomorrow; or log in with a browser and give "
    "its exported cookies, --cookies FILE; or name a mirror, --url URL; or fetch the file with the browser and "
    "give it: ilvrctl download {name} --file PATH"
)


class RefusedError(SourceError):
    """Drive gives the file to nobody at the moment, or not to strangers."""


def attempt(item: Item, source: Source, limits: Limits, pace: Pace) -> Iterator[HubEvent]:
    """Bring the part to its full length. BrokenOffError when it broke off, SourceError when it never will."""
    file_id = source.where if source.kind == "drive" else _in_folder(item, source, limits)
    part = part_of(item, source)
    with web.session(limits) as client:
        client.headers["User-Agent"] = _BROWSER
        with _open(client, item, source, _FILE.format(file_id), limits) as response:
            _check_name(source, response)
            note = part.note() if part.kept(source) else None
            if note is None or note.etag != web.strong_mark(response):
                yield from web.receive(item, source, response, pace)
                return
        # the address is known only now, and with it the rest can be asked for
        with web.ask(client, item, source, str(response.url), limits) as rest:
            yield from web.receive(item, source, rest, pace)


def _open(
    client: requests.Session, item: Item, source: Source, address: str, limits: Limits
) -> requests.Response:
    """The response that is the file, after the pages that ask whether one is sure."""
    from gdown.download import get_url_from_gdrive_confirmation
    from gdown.exceptions import FileURLRetrievalError

    end = limits.clock() + patience.DRIVE_PATIENCE * limits.timeout
    for page in range(_PAGES):
        response = web.ask(client, item, source, address, limits, rest=False)
        if "Content-Disposition" in response.headers:
            return response
        with response:
            if response.status_code in (408, 425, 429) or response.status_code >= 500:
                web.refuse(item, source, response)
            try:
                text = response.raw.read(_LONGEST_PAGE, decode_content=True).decode("utf-8", "replace")
                address = get_url_from_gdrive_confirmation(text)
            except FileURLRetrievalError as error:
                raise _refused(item, source, str(error), response.status_code) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise BrokenOffError(f"the connection to Google Drive broke: {web.reason(error)}") from error
        if limits.clock() > end:
            break
        time.sleep(patience.BACKOFF if page > 1 else 0)
    raise BrokenOffError(
        "Google Drive is too slow, or wants a login: page after page, and no file", hopeful=False
    )


def _refused(item: Item, source: Source, text: str, code: int) -> SourceError:
    """Why a page of Drive leads to no file."""
    hint = WAYS_OUT.format(name=item.model.name)
    if any(word in text.lower() for word in _QUOTA):
        return RefusedError(f"{source}: the file is over Google Drive's quota for today", hint)
    # the page does not tell an error of the server from a file that is gone, so this is asked twice
    what = f"gone, private or over its quota (HTTP {code})"
    return BrokenOffError(f"{source}: Google Drive does not give it: {what}", hint, hopeful=False)


def _check_name(source: Source, response: requests.Response) -> None:
    """SourceError when Drive calls the file by another name than the one that was published."""
    if source.kind == "drive" and source.name:
        header = Message()
        header["Content-Disposition"] = response.headers["Content-Disposition"]
        called = header.get_filename() or "a file without a name"
        if called != source.name:
            raise SourceError(f"gdrive:{source.where} is {visible(called)} and not {source.name}")


def _in_folder(item: Item, source: Source, limits: Limits) -> str:
    """The id of a file in a Drive folder, by its name or its path there."""
    import gdown

    with tempfile.TemporaryDirectory() as folder:
        try:
            found = gdown.download_folder(id=source.where, **_only_look(limits, Path(folder)))
        except Exception as error:
            raise _translated(error, item, source) from error
    files = {entry.path.replace("\\", "/"): entry.id for entry in found if not isinstance(entry, str)}
    for path, file_id in files.items():
        if source.name in (path, path.rpartition("/")[2]):
            return str(file_id)
    held = visible(", ".join(sorted(files)[:12])) or "nothing"
    raise SourceError(f"the Drive folder {source.where} has no {source.name}; it has {held}")


def _only_look(limits: Limits, folder: Path) -> dict[str, Any]:
    """gdown's options for asking Drive what is there; it writes to the cookies, so it gets a copy in ``folder``."""
    cookies = None
    if limits.cookies is not None:
        cookies = str(shutil.copyfile(limits.cookies, folder / "cookies.txt"))
    return {
        "quiet": True,
        "skip_download": True,
        "use_cookies": cookies is not None,
        "cookies_file": cookies,
        "timeout": (patience.CONNECT, limits.timeout),
    }


def _translated(error: BaseException, item: Item, source: Source) -> SourceError:
    """gdown's errors, and those of the network below it, in our terms."""
    hint = WAYS_OUT.format(name=item.model.name)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        code = error.response.status_code
        if code == requests.codes.too_many_requests or code >= 500:
            return BrokenOffError(f"Google Drive is busy (HTTP {code})")
        return RefusedError(f"{source}: Google Drive does not give the file (HTTP {code})", hint)
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        what = f"the connection to Google Drive broke: {web.reason(error)}"
        return BrokenOffError(what, hopeful=not web.unreachable(error))
    return RefusedError(f"{source}: {web.reason(error)}", hint)
