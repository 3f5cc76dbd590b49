"""Whether the numbers of a network are whole: there as they were written, and finite. No torch here.

A number that is NaN or infinite has every bit of its exponent set, so its first byte tells enough: where no number
of a storage has such a byte, all are finite. Weights that are huge and finite have it too; these are few, and left
to who can look closer.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ilvrctl.files import Remembered
from ilvrctl.models.files.averaged import AVERAGED
from ilvrctl.models.files.described import Storage, item_size
from ilvrctl.models.files.diffusers_folder import weights_file
from ilvrctl.models.files.numbers import by_storage, open_numbers
from ilvrctl.models.files.state_dict import find_network

_KNOWN = Remembered("whole-numbers")
_REMEMBERED = 8 << 20  # bytes of a file from which on it is worth remembering that its numbers are whole
_CHUNK = 1 << 23
_FULL = bytes((0x7F, 0xFF))
_DOUBTFUL = {
    "float64": _FULL,
    "float32": _FULL,
    "bfloat16": _FULL,
    "float16": bytes(b for b in range(256) if b & 0x7C == 0x7C),
    **dict.fromkeys(("int64", "int32", "int16", "int8", "uint8", "bool"), b""),
}
"""First bytes (the last in the file) of numbers that may not be finite."""


def plainly_whole(path: Path, which: str = AVERAGED) -> bool:
    """Whether every number of the network in the file or folder ``path`` is there and finite, as far as this tells.

    WeightsError for numbers that are not those that were written.
    """
    file = weights_file(path, which)
    header, chosen = find_network(file, which if file == path else AVERAGED)
    if chosen.taken.name in known_whole(file):
        return True
    before, tensors = state_of(file), chosen.taken.tensors
    storages = by_storage(header, tensors)
    as_stored = all(tensors[name].dtype == x.dtype for x, names in storages.items() for name in names)
    room = bytearray(max((x.nbytes for x in storages), default=0))
    finite = as_stored
    with open_numbers(header) as numbers:
        for storage in storages if as_stored else ():
            with numbers.read(storage, memoryview(room)[: storage.nbytes]):
                finite = finite and _plainly_finite(room, storage)
    if finite:
        keep_whole(file, chosen.taken.name, before)
    return finite


def _plainly_finite(room: bytearray, storage: Storage) -> bool:
    doubtful, size = _DOUBTFUL.get(storage.dtype), item_size(storage.dtype)
    if doubtful is None:
        return False
    for start in range(0, storage.nbytes if doubtful else 0, _CHUNK):
        first = room[start + size - 1 : min(start + _CHUNK, storage.nbytes) : size]
        if len(first.translate(None, doubtful)) < len(first):
            return False
    return True


def known_whole(path: Path) -> list[str]:
    """The names of the networks in ``path`` whose numbers were all found as they were written, and finite."""
    with suppress(OSError):
        known = _KNOWN.get(path)
        return known if isinstance(known, list) else []
    return []


def keep_whole(path: Path, network: str, before: tuple[int, int] | None) -> None:
    """Remember that those of a network are, unless the file has changed since it was in the state ``before``."""
    if before is not None and before == state_of(path) and before[0] >= _REMEMBERED:
        with suppress(OSError):
            _KNOWN.put([*known_whole(path), network], path)


def state_of(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None for a file that is gone."""
    with suppress(OSError):
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    return None
