"""Reading checkpoint files without running code from them and without a second copy in memory."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ilvrctl.errors import WeightsError
from ilvrctl.models.cpu.memory import release_freed
from ilvrctl.models.files.container import AGAIN, Container, sniff
from ilvrctl.models.files.state_dict import Unwrapped, unwrap

StateDict: TypeAlias = dict[str, Tensor]
Convert: TypeAlias = Callable[[str, Tensor], Tensor]

GROUP = 8 << 20  # bytes converted before the file is mapped anew, so that its pages do not stay in memory


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint file holds, told without reading the tensors' data.

    ``format``: a name from ``formats.FORMATS``, or "unknown". ``container``: zip, legacy or safetensors.
    ``wrapping``: keys and prefixes around the names. ``tensor_bytes``: bytes of the network's tensors.
    ``facts``: flags of the published format that the tensors tell; ``unknown``: those that they do not.
    ``memory``: bytes of the weights once loaded, by precision.
    """

    format: str
    container: Container
    wrapping: tuple[str, ...]
    parameters: int
    dtypes: tuple[str, ...]
    tensor_bytes: int
    readable: bool = False
    memory: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def read_state_dict(path: Path, *, dtype: torch.dtype | None = None) -> StateDict:
    """The tensors of the network in ``path``, under bare names, on the CPU.

    With ``dtype`` None, or that of the file, they stay on disk until used (memory-mapped, private); otherwise
    floating tensors are cast one by one. At no time is more than the result and a sixteenth (at least 8 MB)
    of the file in memory; files in PyTorch's format from before 1.6 are read whole.
    Raises :class:`WeightsError` when ``path`` is anything but a state dict, and says what it is.
    """
    source = _open(path)
    if dtype is None or all(x.dtype == dtype for x in source.tensors.values() if x.is_floating_point()):
        return source.tensors
    del source

    def cast(_: str, x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() else x

    return read_converted(path, cast)


def read_converted(path: Path, convert: Convert) -> StateDict:
    """As :func:`read_state_dict`, with every tensor replaced by ``convert(name, tensor)``."""
    source = _open(path)
    names, result, used = list(source.tensors), {}, 0
    group = max(GROUP, sum(x.nbytes for x in source.tensors.values()) // 16)
    for name in names:
        if used > group and source.container == "legacy":
            release_freed()
            used = 0
        elif used > group:
            source.tensors.clear()  # the last references to the mapping
            source, used = _open(path), 0
        used += source.tensors[name].nbytes
        result[name] = _converted(name, source.tensors.pop(name), convert)
    return result


def _converted(name: str, x: Tensor, convert: Convert) -> Tensor:
    """``convert(name, x)`` in memory of its own, not that of ``x``."""
    y = convert(name, x)
    shared = y.device == x.device and y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    return y.clone() if shared else y


def read_header(path: Path) -> tuple[StateDict, CheckpointInfo]:
    """Names, shapes and dtypes of the tensors (their data unread), and what is known of the file."""
    source = _open(path, header=True)
    tensors = source.tensors
    info = CheckpointInfo(
        format="unknown",
        container=source.container,
        wrapping=source.steps,
        parameters=sum(x.numel() for x in tensors.values()),
        dtypes=tuple(sorted({str(x.dtype).removeprefix("torch.") for x in tensors.values()})),
        tensor_bytes=sum(x.nbytes for x in tensors.values()),
    )
    return tensors, info


@dataclass(frozen=True)
class _Source(Unwrapped):
    container: Container


def _open(path: Path, *, header: bool = False) -> _Source:
    """The tensors of ``path``, mapped where the format allows; ``header``: perhaps without their data."""
    container = sniff(path)
    content = _safetensors(path) if container == "safetensors" else _pickled(path, container, header=header)
    try:
        found = unwrap(content)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.message}", error.hint) from error
    return _Source(found.tensors, found.steps, container)


def _safetensors(path: Path) -> StateDict:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, KeyError, RuntimeError, OSError) as error:
        raise WeightsError(f"{path}: a damaged safetensors file ({error})", AGAIN) from error


def _pickled(path: Path, container: Container, *, header: bool) -> object:
    """What torch.save wrote. The unpickler is restricted to tensors and plain containers."""
    location = "meta" if header and container == "legacy" else "cpu"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle protocols; what matters becomes an error
            return torch.load(str(path), map_location=location, weights_only=True, mmap=container == "zip")
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes can make the unpickler raise anything
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WeightsError:
    text = str(error)
    code = re.search(r"GLOBAL ([\w.]+)", text)
    if code or "Weights only load failed" in text:
        what = f"asks to run `{code[1]}`" if code else "holds more than tensors and plain data"
        return WeightsError(
            f"{path}: {what}, and was not loaded: a pickle can run any code, so nothing in it was run",
            "if you trust its source, load it with torch yourself and save its state dict alone",
        )
    reason = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return WeightsError(f"{path}: cut off or damaged ({reason})", AGAIN)
