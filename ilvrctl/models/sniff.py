"""What a file is by its first bytes, so that an error can say what came in the place of weights. No torch here."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Literal, NoReturn

from ilvrctl.errors import WeightsError

Kind = Literal["zip", "pickle", "safetensors"]

_AGAIN = "download it again, or give another file with --weights FILE"
_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture or another RIFF file",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"BZh": "a bzip2 archive: unpack it first",
}


def sniff(path: Path) -> Kind:
    """The container of a checkpoint file. WeightsError for anything that is no checkpoint, saying what it is."""
    head, size = _head(path)
    if not size:
        _refuse(path, "is empty")
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if head.startswith(b"\x80"):
        return "pickle"
    if head[8:9] == b"{":
        return _safetensors(path, head, size)
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        _refuse(path, "is a web page, not weights: the server sent a quota, login or consent page")
    if text.startswith(b"version https://git-lfs"):
        _refuse(path, "is a Git LFS pointer, not the weights it points to", "git lfs pull, or download the file itself")
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            _refuse(path, f"is {what}, not weights")
    if _is_text(head):
        _refuse(path, "is a text file, not weights")
    _refuse(path, "is no checkpoint: neither a torch file nor safetensors")


def _head(path: Path) -> tuple[bytes, int]:
    try:
        if path.is_dir():
            raise WeightsError(f"{path} is a folder, not a checkpoint file", hint="give the file inside it")
        with path.open("rb") as file:
            return file.read(4096), path.stat().st_size
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}", hint="check the path given with --weights") from None
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error


def _zip(path: Path) -> Kind:
    if not zipfile.is_zipfile(path):
        _refuse(path, "is cut off: the end of the archive is missing, so the download did not finish")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        _refuse(path, f"is damaged: {error}")
    if not any(name.endswith("data.pkl") for name in names):
        _refuse(path, "is a zip archive, but no torch checkpoint", "unpack it, and give the checkpoint inside")
    return "zip"


def _safetensors(path: Path, head: bytes, size: int) -> Kind:
    """The header's length, its JSON, and that the file is as long as the header says."""
    length = int.from_bytes(head[:8], "little")
    if 8 + length > size:
        _refuse(path, "is cut off inside its safetensors header, so the download did not finish")
    with path.open("rb") as file:
        file.seek(8)
        try:
            entries = json.loads(file.read(length))
            end = max((e["data_offsets"][1] for name, e in entries.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError, IndexError):
            _refuse(path, "has a damaged safetensors header")
    if 8 + length + end > size:
        _refuse(path, f"is cut off: {size} bytes instead of {8 + length + end}, so the download did not finish")
    return "safetensors"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _refuse(path: Path, what: str, hint: str = _AGAIN) -> NoReturn:
    raise WeightsError(f"{path.name} {what}", hint=hint)
