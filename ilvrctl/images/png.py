"""The chunks of PNG files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

MARK = b"\x89PNG\r\n\x1a\n"


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each, as far as the file goes."""
    at = len(MARK)
    while len(kind := data[at + 4 : at + 8]) == 4:
        [length] = struct.unpack_from(">I", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def chunk(kind: bytes, content: bytes) -> bytes:
    """One of them, as it stands in a file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def check(data: bytes) -> None:
    """ValueError where a checksum is wrong: the decoder of imagecodecs goes on with broken pixels."""
    at = len(MARK)
    for kind, content in chunks(data):
        at += 12 + len(content)
        if data[at - 4 : at] != struct.pack(">I", zlib.crc32(kind + content)):
            raise ValueError(f"the checksum of a {kind!r} chunk is wrong")
