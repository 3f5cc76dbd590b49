"""Writing tensors to files, all or nothing, and reading named tensors with their notes back."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ilvrctl.errors import OutputError, WeightsError
from ilvrctl.files import replacing
from ilvrctl.models.files.container import AGAIN

_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}


def save_safetensors(
    path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None
) -> None:
    """Write ``tensors`` by name in the safetensors format, with ``notes`` in its header.

    Written anew here because the library's writer needs numpy. Raises OutputError when it cannot be written.
    """
    header: dict[str, object] = {"__metadata__": dict(notes)} if notes else {}
    at = 0
    for name, x in tensors.items():
        header[name] = {
            "dtype": _CODES[x.dtype],
            "shape": list(x.shape),
            "data_offsets": [at, at + x.nbytes],
        }
        at += x.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as part, part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for x in tensors.values():
            y = x.detach().cpu().contiguous()
            if y.nbytes:
                file.write((ctypes.c_char * y.nbytes).from_address(y.data_ptr()))


def save_pt(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a bare state dict as ``torch.save`` does: what other tools read. OutputError when it cannot be."""
    plain = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    with replacing(path) as part, part.open("wb") as file:
        try:
            torch.save(plain, file)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OutputError(f"cannot write {path}: {error}", "is the disk full?") from error


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, in memory of their own, and the notes in the header. WeightsError for a damaged file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            notes: dict[str, str] = file.metadata() or {}
            return {name: file.get_tensor(name).clone() for name in file.keys()}, notes  # noqa: SIM118
    except (SafetensorError, ValueError, KeyError, RuntimeError, OSError) as error:
        raise WeightsError(f"{path}: a damaged safetensors file ({error})", AGAIN) from error
