"""A make-believe accelerator: tensors that say they are elsewhere, computed on the CPU, and a log of what was done.

A tensor on it is on the device ``meta`` for all that ask, so code takes its paths for accelerators; its numbers are
real, so results can be compared with those of the CPU. What would be an error on an accelerator is one here:
an operation on tensors of both sides. What would make it wait, or be slow, is told: see :class:`Accelerator`.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

PRETENDED = torch.device("meta")

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense.default: "a number was asked for",
    aten.is_nonzero.default: "a truth was asked for",
    aten.equal.default: "a truth was asked for",
    aten.nonzero.default: "as many numbers as there are",
    aten.masked_select.default: "as many numbers as there are",
    aten.unique_dim.default: "as many numbers as there are",
    aten._unique2.default: "as many numbers as there are",
}
COPIES = {aten._to_copy.default, aten.copy_.default}


class There(Tensor):
    """A tensor on the accelerator; ``numbers``: where it really is."""

    numbers: Tensor
    __slots__: ClassVar[list[str]] = ["numbers"]

    @staticmethod
    def __new__(cls, numbers: Tensor) -> There:
        made: There = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            layout=numbers.layout,
            device=PRETENDED,
        )
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the accelerator's block")


class Accelerator(TorchDispatchMode):
    """Within the block the device :data:`PRETENDED` is there.

    ``waits``: what made the host wait for it. ``uploads`` and ``downloads``: copies, each told by shape and
    how: ``plain`` ones wait, ``pinned`` ones do not. ``operators``: names of all that it computed, and how often;
    ``kinds``: the types of all its numbers. :meth:`forget` begins anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.kinds: Counter[torch.dtype] = Counter()
        self._pinned: list[Tensor] = []
        self.forget()

    def forget(self) -> None:
        """What was told so far about copies and waits."""
        self.waits: list[str] = []
        self.uploads: list[tuple[tuple[int, ...], str]] = []
        self.downloads: list[tuple[tuple[int, ...], str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is aten.is_pinned.default:
            return self._is_pinned(args[0])
        if func is aten._pin_memory.default:
            return self._pin(args[0].clone())
        pinned = kwargs.pop("pin_memory", False)
        target = kwargs.get("device")
        aimed = target is not None and torch.device(target).type == PRETENDED.type
        if aimed:
            kwargs["device"] = torch.device("cpu")
        flat = list(_tensors(args)) + list(_tensors(tuple(kwargs.values())))
        there = any(isinstance(x, There) for x in flat)
        made_there = there if target is None else aimed
        if func in COPIES:
            made_there = self._copy(func, args, kwargs, made_there)
        elif there:
            self._check(func, flat)
        found = func(*_here(args), **{name: _here(value) for name, value in kwargs.items()})
        if pinned:
            return self._pin(found)
        if not made_there:
            return found.clone() if there and found is _here(args[0]) else found
        self.operators[str(func).removeprefix("aten.")] += 1
        result = self._there(found)
        return return_and_correct_aliasing(func, args, kwargs, result) if there and _aliases(func) else result

    def _there(self, found: Any) -> Any:
        if isinstance(found, Tensor):
            self.kinds[found.dtype] += 1
            return There(found)
        return type(found)(map(self._there, found)) if isinstance(found, (list, tuple)) else found

    def _check(self, func: Any, flat: Sequence[Tensor]) -> None:
        if any(not isinstance(x, There) and x.dim() > 0 for x in flat):
            raise RuntimeError(f"{func}: expected all tensors on one device, found cpu and {PRETENDED}")
        if func in WAITS:
            self.waits.append(f"{func}: {WAITS[func]}")
        if func is aten.index.Tensor and any(x.dtype == torch.bool for x in flat[1:]):
            self.waits.append(f"{func}: as many numbers as there are")

    def _copy(self, func: Any, args: Any, kwargs: Any, made_there: bool) -> bool:
        """Note a copy from one side to the other; whether its result is there."""
        if func is aten.copy_.default:
            source, made_there = args[1], isinstance(args[0], There)
            quick = bool(kwargs.get("non_blocking", args[2] if len(args) > 2 else False))
            host = args[0]
        else:
            source, quick, host = args[0], bool(kwargs.get("non_blocking", False)), None
        was_there = isinstance(source, There)
        shape = tuple(source.shape)
        if made_there and not was_there:
            self.uploads.append((shape, "pinned" if quick and self._is_pinned(source) else "plain"))
        elif was_there and not made_there:
            fast = quick and (host is None or self._is_pinned(host))
            self.downloads.append((shape, "pinned" if fast else "plain"))
        return made_there

    def _pin(self, x: Tensor) -> Tensor:
        self._pinned.append(x)
        return x

    def _is_pinned(self, x: Tensor) -> bool:
        if isinstance(x, There):
            return False
        memory = x.untyped_storage().data_ptr()
        return any(one.untyped_storage().data_ptr() == memory for one in self._pinned)


@cache
def _aliases(func: Any) -> bool:
    """Whether it gives out what it was given, or a view of it."""
    return any(one.alias_info is not None for one in func._schema.returns)


def _tensors(things: Any) -> Iterator[Tensor]:
    for x in things:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, (list, tuple)):
            yield from _tensors(x)


def _here(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return type(x)(map(_here, x))
    return x.numbers if isinstance(x, There) else x


def put(network: torch.nn.Module) -> torch.nn.Module:
    """A copy of it there."""
    found = copy.deepcopy(network)
    for module in found.modules():
        for name, x in module._parameters.items():
            if x is not None:
                module._parameters[name] = torch.nn.Parameter(There(x.detach()), requires_grad=False)
        for name, x in module._buffers.items():
            module._buffers[name] = None if x is None else There(x)
    return found
