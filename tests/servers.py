"""A server on this machine that plays web hosts, mirrors and Google Drive, with all their bad habits.

``Server`` answers from a table of pages. :func:`reroute` sends the requests of real clients (requests, and gdown
above it) for any host to it: ``https://host/path`` becomes ``http://127.0.0.1:port/host/path`` at the last moment.
Run as a program it does the same for a command of its own: ``python servers.py BASE ilvrctl-arguments...``.
"""

from __future__ import annotations

import hashlib
import io
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import requests
import torch
import yaml
from commands import Ran, ilvrctl

from ilvrctl import paths


@dataclass
class Page:
    """What a path answers.

    ``cuts``: for each request in turn, the share of the whole file after which the connection ends. ``ranges``:
    whether parts can be asked for. ``rate``: bytes a second, sent ten times a second. ``length``: whether the
    size is announced. ``mark``: the ETag, "" for none, None for one of the content. ``careless``: parts are sent
    whatever If-Range says. ``stall``: the share after which nothing more comes, and the connection stays. ``gate``:
    nine tenths are sent, and what is missing when that is set.
    ``busy``: how many requests are turned away first.
    """

    body: bytes = b""
    kind: str = "application/octet-stream"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cuts: list[float] = field(default_factory=list)
    ranges: bool = True
    rate: float | None = None
    length: bool = True
    etags: bool = True
    mark: str | None = None
    careless: bool = False
    stall: float | None = None
    gate: threading.Event | None = None
    busy: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"' if self.mark is None else self.mark


Answer = Page | Callable[[Mapping[str, list[str]]], Page]


class Server:
    """The server; a context manager. ``pages`` by path; a callable page is given the query."""

    def __init__(self) -> None:
        self.pages: dict[str, Answer] = {}
        self.log: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def url(self, path: str) -> str:
        return f"{self.base}/{path.lstrip('/')}"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def put(self, path: str, body: bytes = b"", **facts: Any) -> Page:
        """A page at a path."""
        page = Page(body, **facts)
        self.pages["/" + path.lstrip("/")] = page
        return page

    def drive(self, file_id: str, body: bytes, name: str = "file.pt", **facts: Any) -> Page:
        """A large file on Google Drive: first the page that asks for confirmation, then the file."""
        file = Page(body, headers={"Content-Disposition": f'attachment; filename="{name}"'}, **facts)
        ids = self.__dict__.setdefault("ids", {})
        ids[file_id] = file

        def confirm(query: Mapping[str, list[str]]) -> Page:
            return _html(_CONFIRM.format(id=query["id"][0])) if query["id"][0] in ids else _html(_GONE, 404)

        self.pages["/drive.google.com/uc"] = confirm
        self.pages["/drive.usercontent.google.com/download"] = lambda query: ids[query["id"][0]]
        return file

    def over_quota(self, file_id: str) -> None:
        """A file on Drive that too many people wanted today."""
        self.drive(file_id, b"")
        self.__dict__["ids"].pop(file_id)
        self.pages["/drive.google.com/uc"] = _html(_QUOTA)

    def drive_folder(self, folder_id: str, files: Mapping[str, str]) -> None:
        """A folder on Drive: names and ids."""
        rows = "".join(
            f'<a href="https://drive.google.com/file/d/{i}/view">{n}</a>' for n, i in files.items()
        )
        self.pages["/drive.google.com/embeddedfolderview"] = _html(f"<title>weights</title>{rows}")
        assert folder_id


_CONFIRM = """<html><head><title>Google Drive - Virus scan warning</title></head><body>
<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">
<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="{id}">
<input type="hidden" name="export" value="download"><input type="hidden" name="confirm" value="t">
<input type="hidden" name="uuid" value="00000000-0000-0000-0000-000000000000"></form></body></html>"""
_QUOTA = """<html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can't view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please try accessing the file again later.</p>
</body></html>"""  # noqa: E501
_GONE = "<html><head><title>Error 404 (Not Found)!!1</title></head><body>not found</body></html>"


def _html(text: str, status: int = 200) -> Page:
    return Page(text.replace("\n", "").encode(), "text/html; charset=utf-8", status)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            address = urlsplit(unquote(self.path))
            path = f"/{address.netloc}{address.path}" if address.netloc else address.path  # asked as a proxy
            server.log.append(path)
            found = server.pages.get(path)
            page = (
                found
                if isinstance(found, Page)
                else found(parse_qs(address.query))
                if found
                else _html(_GONE, 404)
            )
            page.asked.append({key.lower(): value for key, value in self.headers.items()})
            try:
                self._send(page)
            except OSError:
                self.close_connection = True

        def _send(self, page: Page) -> None:
            start, status = self._start(page), page.status
            if page.busy:
                page.busy -= 1
                self.send_error(503)
                return
            if start >= len(page.body) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(page.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else status)
            self.send_header("Content-Type", page.kind)
            if page.etags and page.etag:
                self.send_header("ETag", page.etag)
            for name, value in page.headers.items():
                self.send_header(name, value)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
            if page.length:
                self.send_header("Content-Length", str(len(page.body) - start))
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            end = len(page.body) if not page.cuts else int(page.cuts.pop(0) * len(page.body))
            if page.stall is not None:
                self.wfile.write(page.body[start : int(page.stall * len(page.body))])
                time.sleep(2)
                return
            if page.gate is not None:
                middle = max(start, 9 * len(page.body) // 10)
                self.wfile.write(page.body[start:middle])
                page.gate.wait()
                start = middle
            self._pour(page, page.body[start : max(end, start)])

        def _start(self, page: Page) -> int:
            asked = self.headers.get("Range", "")
            marks = (page.etag, page.headers.get("Last-Modified"))
            same = page.careless or self.headers.get("If-Range", page.etag) in marks
            return int(asked[6:].rstrip("-")) if page.ranges and same and asked.startswith("bytes=") else 0

        def _pour(self, page: Page, body: bytes) -> None:
            if page.rate is None:
                self.wfile.write(body)
                return
            step = max(1, int(page.rate / 10))
            for n in range(0, len(body), step):
                self.wfile.write(body[n : n + step])
                self.wfile.flush()
                time.sleep(0.1)

    return Handler


class Toys:
    """Models to download: presets in the test's own configuration folder, and a checkpoint of 1.4 MB."""

    def __init__(self) -> None:
        self.body = toy_checkpoint(0)

    def preset(self, *sources: str, name: str = "toy", **facts: Any) -> Path:
        """Announce a model; where its file will be."""
        path = paths.config_dir() / "models" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"file": f"{name}.pt", "sources": list(sources), **facts}))
        return paths.weights_dir() / str(facts.get("file", f"{name}.pt"))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def toy_checkpoint(seed: int) -> bytes:
    """A file with the names of a guided-diffusion network, about as large as three chunks of gdown."""
    torch.manual_seed(seed)
    names = ("time_embed.0.weight", "input_blocks.0.0.weight", "output_blocks.0.0.weight")
    file = io.BytesIO()
    torch.save({name: torch.randn(120_000) for name in names}, file)
    return file.getvalue()


def remains() -> list[str]:
    """What lies in the weights folder beside the list of hashes and the locks."""
    folder = paths.weights_dir()
    found = (path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return sorted(path.relative_to(folder).as_posix() for path in found if path.name != "sha256.lock.json")


def get(*args: str | Path, **env: str) -> Ran:
    """Download the toy."""
    return ilvrctl("download", "toy", "--timeout", "2", "--retries", "2", *args, **env)


def arrived(ran: Ran, toys: Toys, path: Path) -> None:
    """Done, the right bytes under the right name and on stdout, and nothing left behind."""
    assert ran.code == 0, ran.err
    assert path.read_bytes() == toys.body
    assert ran.lines == [str(path)]
    assert remains() == [path.name]


def refused(ran: Ran, code: int, *words: str) -> None:
    """The exit code, the message, no traceback, and no file under its final name."""
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err, ran.err
    assert "toy.pt" not in remains()


def reroute(base: str, replace: Callable[[type, str, Any], None] = setattr) -> None:
    """Send what real clients ask of any other host to the server at ``base``."""
    real = requests.adapters.HTTPAdapter.send

    def send(self: Any, request: Any, **options: Any) -> Any:
        if urlsplit(request.url).hostname == "127.0.0.1":
            return real(self, request, **options)
        local = request.copy()
        local.url = f"{base}/{request.url.partition('://')[2]}"
        response = real(self, local, **options)
        response.url, response.request = request.url, request
        return response

    replace(requests.adapters.HTTPAdapter, "send", send)


def rerouted(base: str, *args: str) -> list[str]:
    """The words that start ``ilvrctl`` as a process that asks the server at ``base``."""
    start = (
        f"import sys; sys.path.append({str(Path(__file__).parent)!r}); from servers import reroute; "
        "reroute(sys.argv.pop(1)); from ilvrctl.cli.app import main; main()"
    )
    return [sys.executable, "-c", start, base, *args]
