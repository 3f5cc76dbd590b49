"""The tensors of a checkpoint file: read without running code from it and without a second copy in memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from ilvrctl.errors import WeightsError
from ilvrctl.models.files.averaged import AVERAGED
from ilvrctl.models.files.container import AGAIN
from ilvrctl.models.files.described import Stored
from ilvrctl.models.files.header import Header
from ilvrctl.models.files.numbers import by_storage, open_numbers
from ilvrctl.models.files.state_dict import Chosen, find_network
from ilvrctl.models.files.whole import keep_whole, known_whole, state_of

StateDict: TypeAlias = dict[str, Tensor]
Convert: TypeAlias = Callable[[str, Tensor], Tensor]

_FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


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

    At no time is more than the result and one storage of the file (mostly one tensor) in memory. The sums of
    a zip are not made again while the file stays as it was when all numbers of the network were found right.
    """
    header, chosen = find_network(path, which)
    tensors = {n: x for n, x in chosen.taken.tensors.items() if only is None or n in only}
    result: StateDict = {}

    def take(name: str, x: Tensor, bound: float) -> None:
        result[name] = _converted(path, name, x, bound, convert)

    _read_all(header, chosen, tensors, take)
    return {name: result[name] for name in tensors}


def check_numbers_of(path: Path, which: str = AVERAGED) -> None:
    """WeightsError unless the numbers of the network in ``path`` are whole, and finite; nothing is kept of them."""
    header, chosen = find_network(path, which)
    if chosen.taken.name not in known_whole(path):
        _read_all(header, chosen, chosen.taken.tensors, lambda *_: None)


def _read_all(
    header: Header, chosen: Chosen, tensors: Mapping[str, Stored], take: Callable[[str, Tensor, float], None]
) -> None:
    """Give each of ``tensors``, and a bound of its finite numbers, to ``take``, which keeps none of its memory."""
    path, network = header.path, chosen.taken.name
    before, whole = state_of(path), network in known_whole(path)
    storages = by_storage(header, tensors)
    most = max((x.nbytes for x in storages), default=0)
    room = torch.empty(most, dtype=torch.uint8)  # for one after the other
    with open_numbers(header, summed=not whole) as numbers:
        for storage, names in storages.items():
            data = room[: storage.nbytes]
            with numbers.read(storage, _memory_of(data)):
                for name in names:
                    x = _tensor(data, tensors[name])
                    if not math.isfinite(bound := _bound(x)):
                        raise _not_finite(path, name)
                    take(name, x, bound)
    if not whole and len(tensors) == len(chosen.taken.tensors):
        keep_whole(path, network, before)


def _bound(x: Tensor) -> float:
    """A number that no absolute value in ``x`` exceeds; NaN or infinite where, and only where, one of them is.

    In one pass: the root of the sum of squares where that is finite, as it is for any sane weights.
    """
    if x.dtype not in _FLOATING or not x.numel():
        return 0.0
    if x.dtype == torch.float32:
        flat = x.reshape(-1)
        bound = math.sqrt(torch.dot(flat, flat).item()) * (1 + 1e-6)
        if math.isfinite(bound):
            return bound
    least, largest = x.aminmax()  # both NaN where there is one
    return max(-least.item(), largest.item())


def _not_finite(path: Path, name: str) -> WeightsError:
    return WeightsError(
        f"{path}: tensor {name} holds NaN or infinite numbers: a training that went wrong, or a damaged file",
        AGAIN,
    )


def _memory_of(x: Tensor) -> memoryview:
    if not x.nbytes:
        return memoryview(bytearray())
    return memoryview((ctypes.c_char * x.nbytes).from_address(x.data_ptr())).cast("B")


def _tensor(data: Tensor, x: Stored) -> Tensor:
    typed = data.view(getattr(torch, x.dtype))
    return typed.as_strided(x.shape, x.stride, x.offset)


def _converted(path: Path, name: str, x: Tensor, bound: float, convert: Convert) -> Tensor:
    """``convert(name, x)`` in memory of its own. WeightsError where a number becomes infinite."""
    y = convert(name, x)
    narrow = y.is_floating_point() and bound > torch.finfo(y.dtype).max
    if narrow and not math.isfinite(_bound(y)):
        kind = str(y.dtype).removeprefix("torch.")
        raise WeightsError(
            f"{path}: tensor {name} holds numbers too large for {kind}", "--precision fp32, or bf16"
        )
    shared = y.device == x.device and y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    return y.clone() if shared else y
