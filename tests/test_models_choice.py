"""Which way of convolving is chosen: measured once for a machine, remembered, or named by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from ilvrctl import paths
from ilvrctl.errors import UsageError
from ilvrctl.models.cpu import choice, kernels, threads
from ilvrctl.models.cpu.choice import KERNELS, kernel_for
from ilvrctl.models.cpu.kernels import Direct, Kernel, Nnpack
from ilvrctl.models.cpu.winograd import Winograd

LAYER = nn.Conv2d(128, 128, 3, padding=1)
F32 = torch.float32


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every way fits and is timed by a table; which were asked for. Nothing is known from before."""
    seconds = {"direct": 1.0, "nnpack": 0.95, "winograd": 0.5}
    names = {kind: name for name, kind in KERNELS.items()}
    found: list[str] = []

    def measured(kind: type[Kernel], layer: nn.Conv2d, height: int, width: int) -> float:
        found.append(names[kind])
        return seconds[names[kind]]

    monkeypatch.delenv(choice.VARIABLE)
    monkeypatch.setattr(kernels, "_has_nnpack", lambda: True)
    monkeypatch.setattr(choice, "_seconds", measured)
    monkeypatch.setattr(choice, "_known", {})
    return found


def file() -> Path:
    return paths.cache_dir() / "convolutions.json"


def test_narrow_layers_are_convolved_directly(asked: list[str]) -> None:
    """In strips a whole picture takes longer there, whatever one strip takes: as those of the bundled network."""
    for width in (32, 64, 96):
        for layer in (nn.Conv2d(width, 128, 3, padding=1), nn.Conv2d(128, width, 3, padding=1)):
            assert kernel_for(layer, F32, 64, 64) is Direct
            assert kernel_for(layer, F32, 256, 256) is Direct
    assert asked == []


def test_the_fastest_is_measured_once_and_remembered(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert kernel_for(LAYER, F32, 64, 64) is Winograd
    assert asked == ["direct", "nnpack", "winograd"]
    monkeypatch.setattr(choice, "_known", {})  # another run
    assert kernel_for(LAYER, F32, 64, 64) is Winograd
    assert len(asked) == 3
    ((machine, shapes),) = json.loads(file().read_text()).items()
    assert shapes == {"128x128 64x64 float32": "winograd"}
    assert torch.__version__ in machine
    assert f"{torch.get_num_threads()} threads" in machine
    assert kernel_for(LAYER, F32, 64, 128) is Winograd  # another shape
    assert len(asked) == 6


def test_a_small_gain_is_none(asked: list[str]) -> None:
    assert kernel_for(LAYER, F32, 64, 62) is Direct  # whose sides Winograd's F(4x4) cannot divide
    assert asked == ["direct", "nnpack"]


def test_half_precision_is_convolved_directly(asked: list[str]) -> None:
    assert kernel_for(LAYER, torch.bfloat16, 64, 64) is Direct
    assert asked == []


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"a": 1}', "\x00", '{"m": {"128x128 64x64 float32": "gone"}}']
)
def test_a_cache_of_rubbish_is_no_error(content: str, asked: list[str]) -> None:
    file().parent.mkdir(parents=True)
    file().write_text(content)
    assert kernel_for(LAYER, F32, 64, 64) is Winograd


def test_a_cache_that_cannot_be_written_is_no_error(asked: list[str]) -> None:
    paths.cache_dir().parent.mkdir(parents=True, exist_ok=True)
    paths.cache_dir().write_text("a file in the way")
    for _ in range(2):
        assert kernel_for(LAYER, F32, 64, 64) is Winograd
    assert len(asked) == 3


def test_an_unknown_way_of_the_cache_is_measured_anew(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_for(LAYER, F32, 64, 64)
    file().write_text(file().read_text().replace("winograd", "gone"))
    monkeypatch.setattr(choice, "_known", {})
    assert kernel_for(LAYER, F32, 64, 64) is Winograd
    assert "gone" not in file().read_text()


def test_a_way_can_be_named(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "nnpack")
    assert kernel_for(LAYER, F32, 64, 64) is Nnpack
    with choice.forced("winograd"):
        assert kernel_for(LAYER, F32, 64, 64) is Winograd
        assert kernel_for(LAYER, torch.bfloat16, 64, 64) is Direct  # which it does not fit
    with choice.directly():
        assert kernel_for(LAYER, F32, 64, 64) is Direct
    monkeypatch.setenv(choice.VARIABLE, "fast")
    with pytest.raises(UsageError, match="no way to convolve") as raised:
        kernel_for(LAYER, F32, 64, 64)
    assert "winograd" in str(raised.value.hint)
    assert asked == []


def test_where_there_is_one_way_nothing_is_measured(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_has_nnpack", lambda: False)
    assert kernel_for(LAYER, torch.bfloat16, 64, 64) is Direct
    assert kernel_for(nn.Conv2d(8, 8, 3, stride=2, padding=1), F32, 64, 64) is Direct
    assert asked == []


def test_ways_are_really_timed() -> None:
    layer = nn.Conv2d(128, 128, 3, padding=1).requires_grad_(False)
    fitting = [kind for kind in KERNELS.values() if kind.fits(layer, F32, 64, 64)]
    assert {Direct, Winograd} <= {*fitting}
    for kind in fitting:
        assert 0 < choice._seconds(kind, layer, 64, 64) < 60


def test_work_is_done_once_by_threads_that_compute_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen: list[tuple[int, int]] = []
    threads.share(lambda items: seen.extend((j, torch.get_num_threads()) for j in items), range(20))
    assert sorted(seen) == [(j, 1) for j in range(20)]
    assert torch.get_num_threads() == 3
    with threads.in_this_thread():
        threads.share(lambda items: seen.extend((j, torch.get_num_threads()) for j in items), [-1])
    assert seen[-1] == (-1, 3)
    threads.release_threads()
    threads.share(lambda items: seen.extend((j, 0) for j in items), [-2])
    assert seen[-1] == (-2, 0)
    torch.set_num_threads(before)


def test_an_error_of_a_thread_ends_the_work() -> None:
    done: list[int] = []

    def work(items: object) -> None:
        for j in items:  # type: ignore[attr-defined]
            if j == 2:
                raise MemoryError("no more")
            done.append(j)

    with pytest.raises(MemoryError, match="no more"):
        threads.share(work, range(100))
    assert len(done) < 100
    threads.share(work, [0])  # and the threads are there for more
