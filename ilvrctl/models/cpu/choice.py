"""Which way of convolving is used for a layer on this machine: the one that is fastest when it is first asked.

What was measured is remembered in the cache, by processor, torch and number of threads: later runs compute what the
first did, to the bit. ``ILVRCTL_CONVOLUTION`` in the environment names one way for all (``direct`` is PyTorch's own).
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from ilvrctl import paths
from ilvrctl.errors import IlvrctlError, UsageError
from ilvrctl.files import write_text
from ilvrctl.models.cpu.kernels import Direct, Kernel, Nnpack
from ilvrctl.models.cpu.threads import in_this_thread, share
from ilvrctl.models.cpu.winograd import Winograd

KERNELS: Mapping[str, type[Kernel]] = MappingProxyType(
    {"direct": Direct, "nnpack": Nnpack, "winograd": Winograd}
)
VARIABLE = "ILVRCTL_CONVOLUTION"
GAIN = 0.1  # share of the direct way's time that another must save
PROBE = 1 << 28  # multiplications of a strip that the direct way is timed with
ROUNDS = 2

_forced: ContextVar[str | None] = ContextVar("forced", default=None)
_known: dict[tuple[Path, str, str], str] = {}


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Within it layers are convolved in the way of that name, where it fits them, else directly."""
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


@contextmanager
def directly() -> Iterator[None]:
    """Within it this thread alone convolves, with PyTorch's own operations: to count these, or to compare."""
    with forced("direct"), in_this_thread():
        yield


def kernel_for(layer: nn.Conv2d, dtype: torch.dtype, height: int, width: int) -> type[Kernel]:
    """The way to convolve maps (B, C, ``height``, ``width``) in ``dtype`` with ``layer``; :class:`Direct` for layers
    that do not keep the size too.

    UsageError where the environment names an unknown way.
    """
    fitting = [name for name, kind in KERNELS.items() if kind.fits(layer, dtype, height, width)]
    if len(fitting) < 2:
        return Direct
    name = _forced.get() or _named()
    if name is None:
        name = _fastest(layer, dtype, height, width, fitting)
    return KERNELS[name] if name in fitting else Direct


def _named() -> str | None:
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    if name not in KERNELS:
        raise UsageError(
            f"{VARIABLE}={name} is no way to convolve", f"one of {', '.join(KERNELS)}, or unset it"
        )
    return name


def _fastest(layer: nn.Conv2d, dtype: torch.dtype, height: int, width: int, names: list[str]) -> str:
    """Known from before, or measured now and remembered."""
    shape = f"{layer.in_channels}x{layer.out_channels} {height}x{width} {str(dtype).removeprefix('torch.')}"
    file, machine = paths.cache_dir() / "convolutions.json", _machine(torch.get_num_threads())
    key = (file, machine, shape)
    if key not in _known:
        remembered = _read(file).get(machine, {}).get(shape)
        _known[key] = remembered if remembered in names else _measure(layer, dtype, height, width, names)
        if remembered != _known[key]:
            _remember(file, machine, shape, _known[key])
    return _known[key]


def layout_for(channels: int, dtype: torch.dtype, height: int, width: int) -> torch.memory_format:
    """How maps of so many channels are best laid out: as the way to convolve them likes it."""
    return kernel_for(_square(channels), dtype, height, width).LAYOUT


@cache
def _square(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, device="meta")


def _measure(layer: nn.Conv2d, dtype: torch.dtype, height: int, width: int, names: list[str]) -> str:
    like = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1, device="meta", dtype=dtype)
    like = like.to_empty(device="cpu").requires_grad_(False)
    for parameter in like.parameters():
        parameter.zero_()
    seconds = {name: _seconds(KERNELS[name], like, height, width) for name in names}
    best = min(seconds, key=lambda name: seconds[name])
    return best if seconds[best] < (1 - GAIN) * seconds["direct"] else "direct"


def _seconds(kind: type[Kernel], layer: nn.Conv2d, height: int, width: int) -> float:
    """Seconds that ``kind`` takes for a map, by the processor time of one thread for one strip."""
    kernel = kind(layer, height, width)
    rows, strips = kernel.bounds[1], float(len(kernel.bounds) - 1)
    if kind is Direct:
        rows = max(1, min(rows, PROBE // (9 * layer.in_channels * layer.out_channels * width)))
        strips = height / rows
    found: list[float] = []

    def work(items: Iterator[int]) -> None:
        for _ in items:
            start = _clock()
            kernel.convolve(memory, rows, layer.bias, None, out)
            found.append(_clock() - start)

    memory = kernel.memory()
    kernel.strip(memory, rows).zero_()
    shape = (1, layer.out_channels, rows, width)
    out = torch.empty(shape, dtype=layer.weight.dtype, memory_format=kind.LAYOUT)[0]
    share(work, range(ROUNDS + 1))
    threads = torch.get_num_threads()
    return min(found[1:]) * (strips / threads if kind is Direct else math.ceil(strips / threads))


_clock = time.thread_time if time.get_clock_info("thread_time").resolution < 1e-4 else time.perf_counter


def _machine(threads: int) -> str:
    """What times depend on: processor, what torch uses of it, torch and its threads."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{processor()}, {capability}, torch {torch.__version__}, {threads} threads"


@cache
def processor() -> str:
    """The name of this machine's processor."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _read(file: Path) -> dict[str, dict[str, str]]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    machines = known.items() if isinstance(known, dict) else ()
    return {machine: shapes for machine, shapes in machines if isinstance(shapes, dict)}


def _remember(file: Path, machine: str, shape: str, name: str) -> None:
    """Beside what other processes have remembered meanwhile; a cache that cannot be written is no error."""
    known = _read(file)
    known.setdefault(machine, {})[shape] = name
    with suppress(IlvrctlError):
        write_text(file, json.dumps(known, indent=1))
