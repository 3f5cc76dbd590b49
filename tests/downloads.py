"""Fixtures of the download tests: a plugin of pytest, named in ``pytest_plugins`` of the modules that use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hugging import HuggingFace, Networks, small_networks
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


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """A small network in both forms."""
    return small_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HuggingFace]:
    """The server, which the library takes for the real one; an empty cache, and nobody is logged in."""
    constants = pytest.importorskip("huggingface_hub.constants")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "hf"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with HuggingFace() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.base)
        template = server.base + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
