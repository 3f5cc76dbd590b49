"""The page on a port of this machine, served by a thread of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from ilvrctl.draw.guard import LARGEST, Access, Guard
from ilvrctl.errors import UsageError

if TYPE_CHECKING:
    from ilvrctl.draw.session import Session

STOP = 2
"""Seconds that open connections are given at the end."""


class Server:
    """The page of a session, as long as the ``with`` block lasts. ``port`` 0 is a free one;
    ``largest``: bytes that a request may bring.

    Raises UsageError where it cannot be served there.
    """

    def __init__(self, session: Session, access: Access, port: int = 0, largest: int = LARGEST) -> None:
        import uvicorn

        from ilvrctl.draw.app import Pages

        self._access = access
        family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
        try:
            self._socket = socket.create_server((access.host, port), family=family)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"the page cannot be served at {access.host}, port {port}: {reason}", hint="another --port"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._pages = Pages(session)
        how = uvicorn.Config(
            Guard(self._pages.application(), access, largest),
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            http="h11",
            loop="asyncio",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP,
        )
        self._server = uvicorn.Server(how)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    @property
    def address(self) -> str:
        """What the browser opens."""
        anywhere = self._access.host in ("0.0.0.0", "::")
        host = socket.gethostname() if anywhere else self._access.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{self._access.token}/"

    @property
    def forward(self) -> str:
        """The command that brings the page to another machine, where it has the same address."""
        words = ["ssh", "-N", "-L", f"{self.port}:{self._access.host}:{self.port}"]
        reached = os.environ.get("SSH_CONNECTION", "").split()
        if len(reached) == 4 and reached[3] != "22":
            words += ["-p", reached[3]]
        return shlex.join([*words, f"{_user()}@{reached[2] if len(reached) == 4 else socket.gethostname()}"])

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._pages.end()
        self._thread.join(2 * STOP)
        self._socket.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return "USER"
