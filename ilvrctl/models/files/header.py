"""What a checkpoint file describes, and where in it the numbers lie: read without torch, and without the numbers.

Three containers: the zip of ``torch.save``, its format from before 1.6 ("legacy"), and safetensors.
"""

from __future__ import annotations

import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ilvrctl.errors import WeightsError
from ilvrctl.models.files.container import AGAIN, MOST_HEADER, Container, sniff
from ilvrctl.models.files.described import Storage, Stored, contiguous, inside, item_size
from ilvrctl.models.files.foreign import known_pickle
from ilvrctl.models.files.pickled import NotPickleError, NotPlainError, read_pickle

_LARGEST_PICKLE = 32 << 20
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64",
}  # fmt: skip
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What the file ``path`` describes.

    ``content``: as the file nests it, tensors as :class:`Stored`. ``places``: where each storage is, the name of
    its zip entry or its first byte. ``notes``: texts in the header of a safetensors file.
    """

    path: Path
    container: Container
    content: Any
    places: Mapping[str, str | int]
    notes: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """What the file describes. WeightsError for a file that is damaged, or no checkpoint, or asks to run code."""
    container = sniff(path)
    try:
        with told(path):
            return _READERS[container](path)
    except NotPlainError as error:
        if (known := known_pickle(path)) is not None:
            raise WeightsError(f"{path}: this is {known[0]}; nothing in it was run", known[1]) from error
        raise WeightsError(
            f"{path}: asks to run `{error}`, and was not loaded: a pickle can run any code, so nothing in it was "
            "run",
            "if you trust its source, load it with torch yourself and save its state dict alone",
        ) from error
    except NotPickleError as error:
        raise damaged(path, error) from error


def damaged(path: Path, why: object) -> WeightsError:
    """The error of a file that is not as it was written."""
    return WeightsError(
        f"{path}: cut off or damaged ({str(why).splitlines()[0] if str(why) else 'no end'})", AGAIN
    )


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Whatever a reader of damaged bytes raises becomes the error of :func:`damaged`."""
    try:
        yield
    except _ZIP_ERRORS as error:
        raise damaged(path, error) from error


def _read_zip(path: Path) -> Header:
    """Through the archive's directory, whose names are all different."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (main,) = (name for name in names if name.partition("/")[2] == "data.pkl")
        folder = main.removesuffix("data.pkl")
        if len(set(names)) != len(names):
            raise damaged(path, "an entry of the archive is there twice")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder")[:3] == b"big":
            raise WeightsError(
                f"{path}: written by a big-endian machine", "load it with torch and save it again"
            )
        if archive.getinfo(main).file_size > _LARGEST_PICKLE:
            raise damaged(path, "its list of tensors is larger than that of any network")
        content = read_pickle(io.BytesIO(archive.read(main)))
    data = f"{folder}data/"
    places = {name.removeprefix(data): name for name in names if name.startswith(data)}
    return Header(path, "zip", content, places)


def _read_legacy(path: Path) -> Header:
    """Pickles one after another, then the storages: for each the count of its numbers, and they."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if read_pickle(file) != _LEGACY_MAGIC:
            raise WeightsError(
                f"{path}: damaged, or a pickle of another program: it was not loaded, and nothing in it was run",
                AGAIN,
            )
        read_pickle(file), read_pickle(file)
        content, keys = read_pickle(file), read_pickle(file)
        start = file.tell()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise NotPickleError("its list of storages is missing")
    known = {storage.key: storage for storage in _storages(content)}
    places: dict[str, str | int] = {}
    with path.open("rb") as file:
        for key in keys:
            file.seek(start)
            numel = struct.unpack("<q", file.read(8))[0]
            storage = known.get(key)
            if storage is None or numel != storage.numel:
                raise NotPickleError("its list of storages does not fit its tensors")
            places[key] = start + 8
            start += 8 + storage.nbytes
    if start > size:
        raise NotPickleError("the end of its data is missing")
    return Header(path, "legacy", content, places)


def _storages(content: Any) -> Iterator[Storage]:
    """Every storage in ``content``, each container opened once."""
    pending, seen = [content], set()
    while pending:
        thing = pending.pop()
        if isinstance(thing, (Stored, Storage)):
            yield thing.storage if isinstance(thing, Stored) else thing
        elif id(thing) not in seen:
            seen.add(id(thing))
            pending.extend(inside(thing))


def _read_safetensors(path: Path) -> Header:
    """Every byte behind the header belongs to just one tensor, as the format wants it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if length > min(MOST_HEADER, size - 8):
            raise damaged(path, "its header ends early")
        text = file.read(length)
    try:
        entries = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path}: a damaged safetensors file ({str(error).splitlines()[0]})", AGAIN
        ) from error
    notes = entries.pop("__metadata__", {}) if isinstance(entries, dict) else None
    try:
        found = {name: _described(name, entry) for name, entry in entries.items()}
        if not isinstance(notes, dict):
            raise ValueError("its notes are no texts")
        _check_layout([span for _, span in found.values()], size - 8 - length)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: a damaged safetensors file ({error})", AGAIN) from error
    places: dict[str, str | int] = {name: 8 + length + first for name, (_, (first, _)) in found.items()}
    texts = {key: value for key, value in notes.items() if isinstance(value, str)}
    return Header(path, "safetensors", {name: x for name, (x, _) in found.items()}, places, texts)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _described(name: str, entry: Any) -> tuple[Stored, tuple[int, int]]:
    """A tensor of a safetensors header, and its first byte and the one behind its last."""
    shape, (first, end) = tuple(entry["shape"]), entry["data_offsets"]
    if any(type(n) is not int or n < 0 for n in (*shape, first, end)) or len(shape) > 16:
        raise ValueError(f"{name} has an impossible shape or place")
    dtype = _DTYPES.get(entry["dtype"], str(entry["dtype"]).lower())
    x = Stored(shape, dtype, Storage(name, dtype, (end - first) // item_size(dtype)), 0, contiguous(shape))
    if x.nbytes != end - first and entry["dtype"] in _DTYPES:
        raise ValueError(f"{name} has {end - first:,} bytes, not the {x.nbytes:,} of its shape")
    return x, (first, end)


def _check_layout(spans: list[tuple[int, int]], size: int) -> None:
    at = 0
    for first, end in sorted(spans):
        if first != at:
            raise ValueError("the data of its tensors overlap or have holes")
        at = end
    if at != size:
        raise ValueError(f"{size:,} bytes of data where {at:,} belong")


_READERS: Mapping[Container, Callable[[Path], Header]] = {
    "zip": _read_zip,
    "legacy": _read_legacy,
    "safetensors": _read_safetensors,
}
