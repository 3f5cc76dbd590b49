"""Who gets in: nobody but the person who was told the address.

A page of another site that the same browser shows is kept out by the token, which it cannot know; by the Host, which
is its own where it points a name of its own at this machine; and by the Origin, which a browser tells truly.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from ilvrctl.errors import UsageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST = 64 << 20
"""Bytes of a request."""
SHORTEST = 8
"""Letters of a password."""
WAIT = 0.5
"""Seconds until somebody with a wrong password or token is told so."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Access:
    """What a request must bring. ``host``: where the page is served. UsageError for others than this machine itself
    without a ``password``.
    """

    host: str = "127.0.0.1"
    password: str | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def __post_init__(self) -> None:
        if self.password is not None and len(self.password) < SHORTEST:
            raise UsageError(f"--password needs {SHORTEST} letters at least")
        if self.password is None and not self.local:
            raise UsageError(
                f"--host {self.host} lets others on the network in, and needs a --password",
                hint="leave out --host and forward the port: ilvrctl prints the ssh line",
            )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or (_is_number(self.host) and _number(self.host).is_loopback)

    def refusal(self, headers: Headers, method: str, path: str) -> tuple[int, str] | None:
        """Status and reason for a request that is not answered."""
        host = headers.get("host", "")
        if not self._known(host):
            return 403, f"this page does not answer to the name {host!r}"
        if not hmac.compare_digest(path.split("/")[1].encode() if "/" in path else b"", self.token.encode()):
            return 404, "the address needs the token that ilvrctl printed"
        origin = headers.get("origin")
        if (origin is None and method not in ("GET", "HEAD")) or origin not in (None, f"http://{host}"):
            return 403, "another page may not ask this one"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return 403, "another page may not ask this one"
        if self.password is not None and not self._lets_in(headers.get("authorization", "")):
            return 401, "the password that ilvrctl was given, please"
        return None

    def _known(self, host: str) -> bool:
        """Whether a Host is this machine's: a number can be pointed nowhere else, a name could."""
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        name = name.strip("[]").lower()
        if self.local:
            return name == "localhost" or (_is_number(name) and _number(name).is_loopback)
        return _is_number(name) or name in {"localhost", self.host.lower(), socket.gethostname().lower()}

    def _lets_in(self, authorization: str) -> bool:
        assert self.password is not None
        kind, _, text = authorization.partition(" ")
        try:
            given = base64.b64decode(text, validate=True).partition(b":")[2]
        except ValueError:
            return False
        return kind.lower() == "basic" and hmac.compare_digest(given, self.password.encode())


def _is_number(host: str) -> bool:
    try:
        return bool(_number(host))
    except ValueError:
        return False


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(host)


class Guard:
    """In front of an application, which gets paths without the token, and requests of ``largest`` bytes at most."""

    def __init__(self, app: ASGIApp, access: Access, largest: int = LARGEST) -> None:
        self._app, self._access, self._largest = app, access, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name for name, _ in message["headers"]}
                new = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] += [pair for pair in new if pair[0] not in known]
            await send(message)

        headers, path = Headers(scope=scope), scope["path"]
        if (refused := self._access.refusal(headers, scope["method"], path)) is not None:
            await asyncio.sleep(WAIT if refused[0] != 403 else 0)
            challenge = {"WWW-Authenticate": 'Basic realm="ilvrctl"'} if refused[0] == 401 else None
            await PlainTextResponse(refused[1], refused[0], challenge)(scope, receive, answer)
            return
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._largest:
            await _too_large(scope, receive, answer)
            return
        left, started = self._largest, False

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await answer(message)

        inner = {**scope, "path": path[1 + len(self._access.token) :] or "/"}
        try:
            await self._app(inner, counted, noted)
        except _TooLargeError:
            if not started:
                await _too_large(scope, receive, answer)


class _TooLargeError(Exception):
    """More came than a request may bring."""


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("too large", 413)(scope, receive, send)
