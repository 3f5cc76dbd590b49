from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch, and for all that tests start: they run side by side
os.environ["ILVRCTL_CONVOLUTION"] = "direct"  # nothing is measured, and no bit depends on the machine

import pytest
import torch
import yaml
from checkpoints import write_small_target
from hypothesis import settings

from ilvrctl import paths
from ilvrctl.config import Layer
from ilvrctl.methods import Method
from ilvrctl.models import opened
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.files.loading import load_network
from ilvrctl.settings import build_settings

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"
EMOJI = TESTS / "emoji"

settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")
if hasattr(signal, "SIGHUP"):  # under nohup it is ignored, and so it would be in all that tests start
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # the same of what a shell starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """With ``-n``: neighbours in a file stay in one worker, which makes what they share once."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_collection_finish() -> None:
    """What is there by now is there for good: nobody need look through it for rubbish again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """New folders; pytest's own way to make one looks at all that there are, and there are thousands."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(n) for n in count())


@pytest.fixture(autouse=True)
def _own_places(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or leaves anything in, the places of the person who runs it."""
    home = next(homes)
    home.mkdir()
    for name in ("CONFIG", "WEIGHTS", "CACHE"):
        monkeypatch.setenv(f"ILVRCTL_{name}", str(home / name.lower()))
    for name in ("DEVICE", "PRECISION", "BATCH_SIZE", "SEED"):
        monkeypatch.delenv(f"ILVRCTL_{name}", raising=False)


@pytest.fixture(scope="session")
def _stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The presets of the models that come with the package, each with a small network of 32 px for its file."""
    folder, texts = tmp_path_factory.mktemp("networks"), {}
    for seed, name in enumerate(("emoji3d-64", "emoji-flat-64")):
        small = write_small_target(folder / f"{name}.safetensors", 32, levels=3, seed=seed)
        preset = yaml.safe_load((paths.presets_dir() / "models" / f"{name}.yaml").read_text(encoding="utf-8"))
        changed = {**preset, "file": str(small), "bundled": False, "image_size": 32}
        texts[f"{name}.yaml"] = yaml.safe_dump(changed, allow_unicode=True)
    return texts


@pytest.fixture
def stand_ins(request: pytest.FixtureRequest, _own_places: None, _stand_ins: dict[str, str]) -> None:
    """The models that come with the package are small ones here, for tests to which it is all one what they make.

    Not so in a test marked ``shipped``.
    """
    if request.node.get_closest_marker("shipped") is None:
        folder = paths.config_dir() / "models"
        folder.mkdir(parents=True)
        for name, text in _stand_ins.items():
            (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def _shipped_networks_are_read_once() -> Iterator[None]:
    """Commands in this process share the networks that come with the package, for as long as nobody changes one."""
    known: dict[object, tuple[Any, int]] = {}

    def load(path: Path, hidden: HiddenFlags, **how: Any) -> Any:
        if path.parent != paths.DATA:
            return load_network(path, hidden, **how)
        key = (path, hidden, *how.items())
        network, version = known.get(key, (None, 0))
        if network is None or _version(network) != version:
            network = load_network(path, hidden, **how)
            known[key] = network, _version(network)
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened, "load_network", load)
        yield


def _version(network: torch.nn.Module) -> int:
    """Another number after every change of its weights, or of whether they need gradients."""
    return sum(2 * x._version + x.requires_grad for x in network.parameters())


@contextmanager
def in_double() -> Iterator[None]:
    """Where a network asks for float32 it gets float64: with doubles as weights and inputs its results are the same
    on every processor, but for 1e-14, whatever the order of its sums.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield


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
