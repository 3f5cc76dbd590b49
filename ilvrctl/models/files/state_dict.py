"""Finding the state dict inside what a checkpoint file holds: containers, EMA copies, prefixes of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ilvrctl.errors import WeightsError

# containers by preference: averaged weights make better pictures
EMA_KEYS = (
    "ema", "model_ema", "ema_model", "ema_state_dict", "model_ema_state_dict", "state_dict_ema", "ema_params",
    "params_ema", "ema_weights",
)  # fmt: skip
PLAIN_KEYS = (
    "state_dict", "model_state_dict", "model", "params", "net", "network", "unet", "weights", "module",
    "shadow",
)  # fmt: skip
EMA_PREFIXES = ("ema_model.", "model_ema.", "ema.")
PLAIN_PREFIXES = ("module.", "_orig_mod.", "model.", "online_model.", "unet.", "net.")
_DEPTH = 4


@dataclass(frozen=True)
class Unwrapped:
    """The tensors under their bare names, and the ``steps`` taken to reach them (keys, then prefixes)."""

    tensors: dict[str, Tensor]
    steps: tuple[str, ...]


def unwrap(content: object) -> Unwrapped:
    """The state dict in ``content``, whatever was unpickled from a file.

    Averaged (EMA) weights win over the raw ones beside them; of a list the last state dict is taken.
    Raises :class:`WeightsError` for the state of an optimizer, and where no tensors are found.
    """
    steps: list[str] = []
    for _ in range(_DEPTH):
        found = _open(content)
        if found is None:
            break
        step, content = found
        steps.append(step)
    tensors = _tensors(content)
    if not tensors:
        raise WeightsError("holds no network: no named tensors in it", f"found {_describe(content)}")
    tensors, prefixes = _strip(tensors)
    return Unwrapped(tensors, (*steps, *prefixes))


def _open(content: object) -> tuple[str, object] | None:
    """One container taken off: the key and what it held; None when ``content`` is no container."""
    if isinstance(content, Mapping):
        if "state" in content and "param_groups" in content:
            raise WeightsError(
                "the state of an optimizer (an opt*.pt file), not the weights of a network",
                "give the ema_*.pt or model*.pt file beside it",
            )
        for key in (*EMA_KEYS, *PLAIN_KEYS):
            inside = content.get(key)
            if isinstance(inside, Mapping) and (_tensors(inside) or _open(inside)):
                return f"[{key!r}]", inside
    elif isinstance(content, Sequence) and not isinstance(content, str | bytes):
        for inside in reversed(content):
            if isinstance(inside, Mapping) and _tensors(inside):
                return "[last state dict of a list]", inside
    return None


def _tensors(content: object) -> dict[str, Tensor]:
    """The named tensors of ``content``, without the numbers and strings that trainers put beside them."""
    if not isinstance(content, Mapping):
        return {}
    return {k: v.detach() for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _strip(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Names without the prefixes of wrappers; of an EMA copy beside the raw weights, only the copy."""
    steps: list[str] = []
    while True:
        prefix = _prefix(tensors)
        if prefix is None:
            return tensors, steps
        tensors = {name[len(prefix) :]: x for name, x in tensors.items() if name.startswith(prefix)}
        steps.append(prefix)


def _prefix(tensors: Mapping[str, Tensor]) -> str | None:
    for prefix in EMA_PREFIXES:
        if any(name.startswith(prefix) and name.endswith(".weight") for name in tensors):
            return prefix
    for prefix in PLAIN_PREFIXES:
        if all(name.startswith(prefix) for name in tensors) and tensors:
            return prefix
    return None


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return "a dict with the keys " + (", ".join(repr(key) for key in list(content)[:5]) or "none")
    return f"an object of type {type(content).__name__}"
