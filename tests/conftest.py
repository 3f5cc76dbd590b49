from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch: tests may run side by side

import pytest
import torch
from hypothesis import settings

from ilvrctl.config import Layer
from ilvrctl.methods import Method
from ilvrctl.settings import build_settings

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"
EMOJI = TESTS / "emoji"

torch.set_num_threads(max(1, min(2, os.cpu_count() or 1)))
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")
if hasattr(signal, "SIGHUP"):  # under nohup it is ignored, and so it would be in all that tests start
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or leaves anything in, the places of the person who runs it."""
    home = tmp_path_factory.mktemp("home")
    for name in ("CONFIG", "WEIGHTS", "CACHE"):
        monkeypatch.setenv(f"ILVRCTL_{name}", str(home / name.lower()))
    for name in ("DEVICE", "PRECISION", "BATCH_SIZE", "SEED"):
        monkeypatch.delenv(f"ILVRCTL_{name}", raising=False)


def method(name: str = "ilvr", **changes: Any) -> Method:
    """The method of that name with some of its settings changed."""
    return build_settings(Layer({"method": {"name": name, **changes}})).method


def golden(name: str) -> Any:
    """A reference vector of the published code."""
    return torch.load(GOLDEN / name, weights_only=True)


def recorded(noise: Sequence[torch.Tensor]) -> Callable[[], torch.Tensor]:
    """Recorded noise through the seam of the real one: draws in order."""
    draws = iter(noise)
    return lambda: next(draws)
