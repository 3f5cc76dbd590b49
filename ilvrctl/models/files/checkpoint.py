"""The tensors of a checkpoint file: read without running code from it and without a second copy in memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from ilvrctl.errors import WeightsError
from ilvrctl.models.cpu.memory import release_freed
from ilvrctl.models.files.averaged import AVERAGED
from ilvrctl.models.files.described import Stored
from ilvrctl.models.files.header import Header, by_storage, check_numbers, not_finite, open_numbers
from ilvrctl.models.files.info import CheckpointInfo
from ilvrctl.models.files.state_dict import find_network

__all__ = [
    "CheckpointInfo",
    "StateDict",
    "check_numbers_of",
    "read_converted",
    "read_header",
    "read_network",
    "read_state_dict",
]

StateDict: TypeAlias = dict[str, Tensor]
Convert: TypeAlias = Callable[[str, Tensor], Tensor]

_GROUP = 32 << 20  # bytes read before freed memory goes back to the system


def read_state_dict(
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    which: str = AVERAGED,
    only: Collection[str] | None = None,
) -> StateDict:
    """The tensors of the network in ``path``, under bare names, on the CPU; floating ones cast to ``dtype``.

    ``which``: averaged or raw weights, or the name of one of the networks in the file, see
    :func:`~ilvrctl.models.files.state_dict.choose`. ``only``: the names to read, where they are there.
    Raises :class:`WeightsError` when ``path`` is anything but a whole state dict of finite numbers, and says what
    it is.
    """

    def cast(_: str, x: Tensor) -> Tensor:
        return x.to(dtype) if dtype is not None and x.is_floating_point() else x

    return read_converted(path, cast, which=which, only=only)


def read_converted(
    path: Path, convert: Convert, *, which: str = AVERAGED, only: Collection[str] | None = None
) -> StateDict:
    """As :func:`read_state_dict`, with every tensor replaced by ``convert(name, tensor)``.

    At no time is more than the result and one storage of the file (mostly one tensor) in memory.
    """
    header, chosen = find_network(path, which)
    tensors = {n: x for n, x in chosen.taken.tensors.items() if only is None or n in only}
    result: StateDict = {}
    used = 0
    with open_numbers(header) as read:
        for storage, names in by_storage(header, tensors).items():
            whole = torch.empty(storage.nbytes, dtype=torch.uint8)
            finite = read(storage, _memory_of(whole))
            for name in names:
                x = _tensor(whole, tensors[name])
                if not finite and not torch.isfinite(x).all():
                    raise not_finite(path, name)
                result[name] = _converted(path, name, x, convert)
            if (used := used + storage.nbytes) > _GROUP:
                release_freed()
                used = 0
    return {name: result[name] for name in tensors}


def _memory_of(x: Tensor) -> memoryview:
    if not x.nbytes:
        return memoryview(bytearray())
    return memoryview((ctypes.c_char * x.nbytes).from_address(x.data_ptr())).cast("B")


def _tensor(whole: Tensor, x: Stored) -> Tensor:
    typed = whole.view(getattr(torch, x.dtype))
    return typed.as_strided(x.shape, x.stride, x.offset)


def _converted(path: Path, name: str, x: Tensor, convert: Convert) -> Tensor:
    """``convert(name, x)``, not a small part of a large storage. WeightsError where a number becomes infinite."""
    y = convert(name, x)
    if y.dtype != x.dtype and y.is_floating_point() and not torch.isfinite(y).all():
        kind = str(y.dtype).removeprefix("torch.")
        raise WeightsError(
            f"{path}: tensor {name} holds numbers too large for {kind}", "--precision fp32, or bf16"
        )
    shared = y.device == x.device and y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    return y.clone() if shared and y.untyped_storage().nbytes() > y.nbytes else y


def read_header(path: Path, which: str = AVERAGED) -> tuple[Mapping[str, Stored], CheckpointInfo]:
    """Names, shapes and dtypes of the tensors (their data unread), and what is known of the file."""
    return read_network(path, which)[:2]


def read_network(
    path: Path, which: str = AVERAGED
) -> tuple[Mapping[str, Stored], CheckpointInfo, Header, Mapping[str, Stored]]:
    """As :func:`read_header`; then all that the file describes, and the arrays that lie around the network."""
    header, chosen = find_network(path, which)
    tensors = chosen.taken.tensors
    by_storage(header, tensors)  # that all their numbers can be used
    info = CheckpointInfo(
        format="unknown",
        container=header.container,
        wrapping=tuple(
            step.text if step.text.endswith(".") else f"[{step.text!r}]" for step in chosen.taken.steps
        ),
        parameters=sum(x.numel for x in tensors.values()),
        dtypes=tuple(sorted({x.dtype for x in tensors.values()})),
        tensor_bytes=sum(x.nbytes for x in tensors.values()),
        weights=chosen.taken.name,
        note=chosen.note,
    )
    return tensors, info, header, chosen.taken.beside


def check_numbers_of(path: Path, which: str = AVERAGED) -> None:
    """WeightsError unless the numbers of the network in ``path`` are whole, and finite; nothing is kept of them."""
    header, chosen = find_network(path, which)
    check_numbers(header, chosen.taken.tensors)
