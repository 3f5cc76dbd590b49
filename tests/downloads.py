"""Fixtures of the download tests: a plugin of pytest, named in ``pytest_plugins`` of the modules that use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Server, Toys, reroute

from ilvrctl.hub import limits


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on this machine."""
    with Server() as running:
        yield running


@pytest.fixture
def drive(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The same, and it gets whatever clients ask of any other host."""
    reroute(server.base, monkeypatch.setattr)
    return server


@pytest.fixture(scope="session")
def toys() -> Toys:
    """Models to download."""
    return Toys()


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, and no proxies but a test's own."""
    monkeypatch.setattr(limits, "BACKOFF", 0.01)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
