"""A server on this machine that plays Hugging Face: repositories, commits, tokens, terms, broken lines."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from checkpoints import write_small_network

from ilvrctl.api import convert

LARGE = 100_000
"""Bytes from which a file is known by its sha256, as those of LFS are."""
FACTS = {"image_size": 32, "num_heads": 2}
"""What the network's one file does not tell."""


@dataclass
class Repository:
    """Files at each commit, newest last. ``token``: who may have them; ``gated``: nobody has accepted its terms.

    ``cuts``: for each request of a large file in turn, the share after which the line breaks. ``busy``: how many
    requests are turned away first. ``damaged``: what is sent is not what is told of it.
    """

    commits: dict[str, dict[str, bytes]]
    licence: str = "apache-2.0"
    token: str = ""
    gated: bool = False
    cuts: list[float] = field(default_factory=list)
    busy: int = 0
    damaged: bool = False

    def commit(self, revision: str) -> str | None:
        """The commit that a revision means."""
        if revision == "main":
            return list(self.commits)[-1]
        return revision if revision in self.commits else None


class HuggingFace:
    """The server; a context manager. ``repositories`` by name; ``asked``: methods and paths of all requests."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def put(self, name: str, files: Mapping[str, bytes], **facts: Any) -> str:
        """A new commit of a repository; which it is."""
        text = json.dumps({path: digest_of(content) for path, content in files.items()})
        commit = hashlib.sha1(f"{name} {text}".encode()).hexdigest()
        repository = self.repositories.setdefault(name, Repository({}))
        repository.commits[commit] = dict(files)
        for fact, value in facts.items():
            setattr(repository, fact, value)
        return commit

    def files_asked(self) -> list[str]:
        """The files that were sent, without their repository."""
        sent = [line.partition("/resolve/")[2] for line in self.asked if line.startswith("GET ")]
        return [path.partition("/")[2] for path in sent if path]

    def __enter__(self) -> HuggingFace:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def digest_of(content: bytes) -> str:
    """What the repository knows a file by: sha256 of a large one, git's own digest of others."""
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _handler(server: HuggingFace) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            server.asked.append(f"{self.command} {path}")
            about = path.startswith("/api/models/")
            parts = path.removeprefix("/api/models/").strip("/").split("/")
            found = server.repositories.get("/".join(parts[:2]))
            word = self.headers.get("Authorization", "")
            if found is None or (found.token and word != f"Bearer {found.token}"):
                return self._refuse(401 if not word else 404, "RepoNotFound")
            if found.busy:
                found.busy -= 1
                return self._refuse(503, "")
            if found.gated and not about:
                return self._refuse(403, "GatedRepo")
            revision = parts[3] if len(parts) > 3 else "main"
            commit = found.commit(revision)
            if commit is None:
                return self._refuse(404, "RevisionNotFound")
            files = found.commits[commit]
            if about:
                return self._send(json.dumps(_told("/".join(parts[:2]), found, commit)).encode(), {})
            content = files.get("/".join(parts[4:]))
            if content is None:
                return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
            headers = {"X-Repo-Commit": commit, "ETag": f'"{digest_of(content)}"'}
            if found.damaged:
                content = content[:-1] + bytes([content[-1] ^ 1])
            return self._send(content, headers, found.cuts if len(content) >= LARGE else [])

        def _send(self, content: bytes, headers: Mapping[str, str], cuts: list[float] | None = None) -> None:
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            self.send_response(206 if start else 200)
            for name, value in headers.items():
                self.send_header(name, value)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command == "GET":
                end = int(cuts.pop(0) * len(content)) if cuts else len(content)
                self.wfile.write(content[start:end])
            self.close_connection = True

        def _refuse(self, code: int, word: str, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(code)
            for name, value in {"X-Error-Code": word, **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


def _told(name: str, repository: Repository, commit: str) -> dict[str, Any]:
    """What is told of a repository, with the sizes and digests of its files."""
    siblings = []
    for path, content in repository.commits[commit].items():
        digest = digest_of(content)
        large = (
            {"lfs": {"sha256": digest, "size": len(content), "pointerSize": 130}} if len(digest) == 64 else {}
        )
        siblings.append({"rfilename": path, "size": len(content), "blobId": digest[:40], **large})
    card = {"cardData": {"license": repository.licence}} if repository.licence else {}
    gated = "manual" if repository.gated else False
    return {
        "id": name,
        "modelId": name,
        "sha": commit,
        "siblings": siblings,
        "gated": gated,
        "private": False,
        **card,
    }


@dataclass(frozen=True)
class Networks:
    """A network as one file and as a folder of diffusers, by the names that they have in a repository."""

    file: bytes
    folder: Mapping[str, bytes]


def real_environment(server: HuggingFace, home: Path, **more: str) -> dict[str, str]:
    """What a person would set to ask this server, from a process of its own."""
    return {
        "HF_ENDPOINT": server.base,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "",
        **more,
    }


def small_networks(place: Path) -> Networks:
    """A small network in both forms, made in a folder."""
    file = write_small_network(place / "net.pt")
    folder = convert(file, place / "net", to="diffusers", **FACTS)
    found = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
    return Networks(file.read_bytes(), found)
