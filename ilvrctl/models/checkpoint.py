"""Reading checkpoint files: the only place that calls ``torch.load``, always with ``weights_only=True``."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ilvrctl.errors import WeightsError
from ilvrctl.models.sniff import Kind, sniff

_CONTAINERS = (
    "ema",
    "model_ema",
    "ema_model",
    "ema_state_dict",
    "params_ema",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "network",
    "net",
    "unet",
    "params",
)
"""Where training scripts put the weights inside a file; averaged (EMA) weights are preferred."""

_PREFIXES = ("module.", "ema_model.", "ema.", "model_ema.", "model.", "denoise_fn.", "network.", "net.", "unet.")

_GROUP_BYTES = 32 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by plain name, mapped from the file and not read yet, and where in it they were.

    ``stored`` gives the name in the file for each plain name; ``container`` the path of keys inside.
    """

    path: Path
    kind: Kind
    tensors: Mapping[str, Tensor]
    stored: Mapping[str, str]
    container: tuple[str, ...] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def open_checkpoint(path: Path) -> Checkpoint:
    """Map a ``.pt`` or ``.safetensors`` file, told apart by content, and find the weights in it.

    WeightsError that says what the file is, when it is something else: missing, cut off, a web page, a Git LFS
    pointer, an optimizer's state, a pickle with code in it (which is not run), or no tensors at all.
    """
    kind = sniff(path)
    raw = dict(_safetensors(path)) if kind == "safetensors" else _torch_load(path, mmap=kind == "zip")
    found, container = _find(raw, path, ())
    names = _plain_names(found)
    return Checkpoint(path, kind, {new: found[old] for new, old in names.items()}, names, container)


def cast_tensors(checkpoint: Checkpoint, dtype_of: Callable[[str], torch.dtype]) -> dict[str, Tensor]:
    """The tensors, each as ``dtype_of(name)``: mapped from the file where that is what it holds, else cast.

    Casting goes tensor by tensor and lets go of what it has read, so that the peak stays near the larger of file
    and result.
    """
    if all(tensor.dtype == dtype_of(name) for name, tensor in checkpoint.tensors.items()):
        return dict(checkpoint.tensors)
    if checkpoint.kind == "safetensors":
        return _cast_safetensors(checkpoint, dtype_of)
    raw, _ = _find(_torch_load(checkpoint.path, mmap=False), checkpoint.path, ())
    found = dict(raw)
    del raw
    return {new: found.pop(old).to(dtype_of(new)) for new, old in checkpoint.stored.items()}


def _cast_safetensors(checkpoint: Checkpoint, dtype_of: Callable[[str], torch.dtype]) -> dict[str, Tensor]:
    """In groups, closing the file after each, since pages that were read stay while it is mapped."""
    cast: dict[str, Tensor] = {}
    for group in _groups(checkpoint):
        with safe_open(checkpoint.path, framework="pt", device="cpu") as file:
            for name in group:
                cast[name] = file.get_tensor(checkpoint.stored[name]).to(dtype_of(name), copy=True)
    return cast


def _groups(checkpoint: Checkpoint) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for name, tensor in checkpoint.tensors.items():
        group.append(name)
        size += tensor.nbytes
        if size > _GROUP_BYTES:
            yield group
            group, size = [], 0
    yield group


def _safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path.name} is a damaged safetensors file: {error}", hint="download it again") from error


def _torch_load(path: Path, *, mmap: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path.name} holds Python objects that could run code, not only tensors; it was not run",
            hint="get the weights as a bare state dict or as safetensors",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path.name} is damaged or cut off: {reason}", hint="download it again") from error


def _find(value: Any, path: Path, inside: tuple[str, ...]) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The state dict somewhere in what a training script saved, and the keys on the way to it."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index in reversed(range(len(value))):  # training lists put the EMA last
            if isinstance(value[index], Mapping) and not _is_optimizer(value[index]):
                return _find(value[index], path, (*inside, str(index)))
    if isinstance(value, Mapping):
        if _is_optimizer(value):
            raise WeightsError(
                f"{path.name} is the state of an optimizer, not of a network",
                hint="the weights are the file beside it, for example ema_0.9999_050000.pt or model050000.pt",
            )
        tensors = {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
        if tensors:
            return tensors, inside
        for key in _CONTAINERS:
            if isinstance(value.get(key), Mapping):
                return _find(value[key], path, (*inside, key))
    raise WeightsError(f"{path.name} holds no named tensors, so it is no checkpoint of a network")


def _is_optimizer(value: Mapping[Any, Any]) -> bool:
    return {"state", "param_groups"} <= set(value)


def _plain_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Plain name -> stored name, without what wrappers put in front; of several copies the EMA's."""
    names = {name: name for name in tensors}
    while True:
        prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in names)), None)
        if prefix is None:
            return names
        inner = {name[len(prefix) :]: stored for name, stored in names.items() if name.startswith(prefix)}
        if len(inner) < len(names) and "ema" not in prefix:
            return names
        names = inner
