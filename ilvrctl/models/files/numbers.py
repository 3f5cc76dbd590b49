"""The numbers of a checkpoint file, read into memory of the caller's. No torch here.

They are read, never mapped: a file that shrinks meanwhile gives an error, not a signal.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast
from zlib import crc32

from ilvrctl.errors import WeightsError
from ilvrctl.models.files.container import AGAIN
from ilvrctl.models.files.described import Storage, Stored
from ilvrctl.models.files.header import Header, damaged, told

CHUNK = 1 << 20
_MOST_VALUES = 100_000
_LOCAL_HEADER = struct.Struct(
    "<4s22xHH"
)  # of a zip: its mark, the lengths of the name and of the extra field


@dataclass(frozen=True)
class Numbers:
    """Reads the storages of the file that ``header`` describes.

    ``summed``: whether those of a zip are checked against the sums (CRC-32) that it has of them.
    """

    header: Header
    file: BufferedIOBase
    archive: zipfile.ZipFile | None
    beside: ThreadPoolExecutor
    summed: bool

    @contextmanager
    def read(self, storage: Storage, view: memoryview) -> Iterator[None]:
        """Fill ``view`` with ``storage``; its sum is made beside the block and compared at the end of it.

        WeightsError for bytes that are not there, or not those that were written.
        """
        place = self.header.places[storage.key]
        if isinstance(place, int) or self.archive is None:
            self._fill(cast(int, place), view)
            yield
            return
        with told(self.header.path):
            entry = self.archive.getinfo(place)
        if entry.file_size != storage.nbytes:
            why = f"{entry.file_size:,} bytes where {storage.nbytes:,} of a tensor belong"
            raise damaged(self.header.path, why)
        if entry.compress_type != zipfile.ZIP_STORED:
            self._inflate(entry, view)
            yield
            return
        self._fill(self._start(entry), view)
        sum_ = self.beside.submit(crc32, view) if self.summed else None
        try:
            yield
        finally:  # also after an error: damaged bytes are the cause of many
            if sum_ is not None and sum_.result() != entry.CRC:
                raise damaged(self.header.path, f"Bad CRC-32 for file '{entry.filename}'")

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """The first byte of an entry that is not compressed."""
        with told(self.header.path):
            self.file.seek(entry.header_offset)
            mark, name, extra = _LOCAL_HEADER.unpack(self.file.read(_LOCAL_HEADER.size))
            if (
                mark != b"PK\3\4"
                or self.file.read(name) != entry.orig_filename.encode()
                or entry.flag_bits & 1
            ):
                raise damaged(self.header.path, f"'{entry.filename}' is not where its directory says")
        return entry.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)

    def _fill(self, start: int, view: memoryview) -> None:
        with told(self.header.path):
            self.file.seek(start)
            _filled(self.header.path, self.file, view)

    def _inflate(self, entry: zipfile.ZipInfo, view: memoryview) -> None:
        with told(self.header.path), cast(zipfile.ZipFile, self.archive).open(entry) as file:
            _filled(self.header.path, cast(BufferedIOBase, file), view)


def _filled(path: Path, file: BufferedIOBase, view: memoryview) -> None:
    at = 0
    while at < len(view):
        if not (count := file.readinto(view[at : at + CHUNK])):
            raise damaged(path, "the data of a tensor end early")
        at += count


@contextmanager
def open_numbers(header: Header, *, summed: bool = True) -> Iterator[Numbers]:
    """Numbers to be read. WeightsError for a file that is not there any more."""
    with told(header.path):
        file = header.path.open("rb")
    with file, ThreadPoolExecutor(1) as beside:
        with told(header.path):
            archive = zipfile.ZipFile(file) if header.container == "zip" else None
        yield Numbers(header, file, archive, beside, summed)


def values(header: Header, x: Stored) -> tuple[float, ...]:
    """The numbers of a small float32 or float64 tensor, such as ``betas``; () for one of another kind."""
    code = {"float64": "d", "float32": "f"}.get(x.dtype)
    if code is None or x.odd or x.numel != x.storage.numel or x.numel > _MOST_VALUES:
        return ()
    buffer = bytearray(x.nbytes)
    with open_numbers(header) as numbers, numbers.read(x.storage, memoryview(buffer)):
        return struct.unpack(f"<{x.numel}{code}", buffer)


def by_storage(header: Header, tensors: Mapping[str, Stored]) -> dict[Storage, list[str]]:
    """The names of the tensors in each storage.

    WeightsError for a tensor whose numbers cannot be used, or whose storage is not in the file or beyond sense.
    """
    found: dict[Storage, list[str]] = {}
    used = sum(x.nbytes for x in tensors.values())
    for name, x in tensors.items():
        if x.odd:
            raise WeightsError(f"{header.path}: tensor {name} is {x.odd}", AGAIN)
        if x.storage.key not in header.places:
            raise damaged(header.path, f"the data of tensor {name} are missing")
        if x.storage.nbytes > 8 * used + (64 << 20):
            raise damaged(header.path, f"tensor {name} is a small part of {x.storage.nbytes:,} bytes")
        found.setdefault(x.storage, []).append(name)
    return found
