"""What kind of file a path names, by its first bytes: a readable container, or a mistake with a name.

No torch here, and nothing is unpickled.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias

from ilvrctl.errors import WeightsError, unreadable

Container: TypeAlias = Literal["zip", "legacy", "safetensors"]

AGAIN = "fetch it again with `ilvrctl download NAME`, or give another file with --weights"
MOST_HEADER = 100_000_000  # bytes; the limit of the safetensors format
_MOST_DIRECTORY = 6 << 20
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"RIFF", "a RIFF file (WebP picture, sound or film)"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file (Keras or TensorFlow weights)"),
    (b"\x93NUMPY", "a numpy array"),
    (b"%PDF", "a PDF document"),
)


def sniff(path: Path) -> Container:
    """The container of the checkpoint at ``path``, by content and not by name.

    Raises :class:`WeightsError` that says what the file is when it is not a checkpoint.
    """
    try:
        if path.is_dir():
            _refuse(path, "a folder, not a file of weights", "give the .pt or .safetensors file inside it")
        if not stat.S_ISREG((status := path.stat()).st_mode):
            _refuse(path, "a pipe, socket or device, not a file of weights", "give a file on a disk")
        with path.open("rb") as file:
            head = file.read(4096)
        size = status.st_size
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: no such file",
            "`ilvrctl download --list` names the models that can be fetched; --weights gives your own file",
        ) from None
    except OSError as error:
        raise unreadable(path, error) from error
    _refuse_text(path, head)
    if head.startswith(b"PK"):
        return _sniff_zip(path, size)
    if _is_safetensors(path, head, size):
        return "safetensors"
    for magic, what in _MAGIC:
        if head.startswith(magic):
            of_picture = f"ilvrctl translate {path} --to emoji3d   (weights: {AGAIN})"
            _refuse(path, f"{what}, not a file of weights", of_picture if "picture" in what else AGAIN)
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "legacy"
    return _refuse(path, f"no checkpoint that is known here (begins with {head[:8].hex(' ')})")


def _refuse_text(path: Path, head: bytes) -> None:
    """Raise for an empty file, a web page, a Git LFS pointer and other text."""
    if not head:
        _refuse(path, "an empty file")
    start = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")) or b"<html" in start:
        _refuse(path, "a web page, not weights: what a server sends for a quota, a consent form or a login")
    if start.startswith(b"version https://git-lfs"):
        hint = "run `git lfs pull` in the repository it came from, or fetch the file itself"
        _refuse(path, "a Git LFS pointer, a few lines that stand for the real file", hint)
    if len(head) > 8 and _is_text(head):
        kind = "a JSON file" if start[:1] in (b"{", b"[") else "a text file"
        _refuse(path, f"{kind}, not a file of weights")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not merely cut in the middle of the last character
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)


def _sniff_zip(path: Path, size: int) -> Container:
    if not zipfile.is_zipfile(path):
        _refuse(path, f"cut off: the end of its {size:,} bytes is missing, as after a broken download")
    if _directory_size(path, size) > _MOST_DIRECTORY:
        _refuse(path, "an archive of more files than any checkpoint has")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise WeightsError(f"{path}: a damaged archive ({error})", AGAIN) from error
    parts = {name.partition("/")[2] for name in names}
    if "data.pkl" not in parts:
        _refuse(path, "a zip archive that holds no PyTorch checkpoint", "unpack it, and give a file inside")
    if any(part.startswith("code/") for part in parts):
        _refuse(path, "a TorchScript program, not a file of weights; its code was not run")
    return "zip"


def _directory_size(path: Path, size: int) -> int:
    """Bytes of a zip's list of entries, as its end says: reading the list takes time and memory for each."""
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 16) - 100))
        tail = file.read()
    at, large = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    found: int = struct.unpack("<L", tail[at + 12 : at + 16])[0] if at >= 0 and len(tail) >= at + 16 else 0
    if large >= 0 and len(tail) >= large + 48:
        found = max(
            found if found != 0xFFFFFFFF else 0, struct.unpack("<Q", tail[large + 40 : large + 48])[0]
        )
    return found


def _is_safetensors(path: Path, head: bytes, size: int) -> bool:
    """Eight bytes of length, then JSON. Raises if only a part of the header is right."""
    named = path.suffix == ".safetensors"
    length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
    if head[8:9] != b"{" or length > MOST_HEADER:
        if named and head[:1] != b"\x80":
            _refuse(path, "damaged: the header of the safetensors format is not there")
        return False
    if length + 8 > size:
        _refuse(path, f"cut off: a safetensors header of {length:,} bytes in a file of {size:,}")
    return True


def _refuse(path: Path, what: str, hint: str = AGAIN) -> NoReturn:
    raise WeightsError(f"{path}: {what}", hint)
