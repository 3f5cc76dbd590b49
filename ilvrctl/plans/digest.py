"""sha256 of inputs and weights; those of large files are remembered by path, size and time of change."""

from __future__ import annotations

import contextlib
import json
import os
from hashlib import sha256
from pathlib import Path

from ilvrctl import paths
from ilvrctl.errors import WeightsError
from ilvrctl.models.files.diffusers_folder import network_files

_CHUNK = 1 << 20
_REMEMBER_ABOVE = 32 << 20


def sha256_hex(data: bytes) -> str:
    """sha256 of bytes in hexadecimal."""
    return sha256(data).hexdigest()


def weights_sha256(path: Path) -> str:
    """sha256 of a checkpoint file; of a diffusers folder that of its files' digests, weights then config.json.

    WeightsError when a file cannot be read.
    """
    digests = [_file_sha256(file) for file in network_files(path)]
    return digests[0] if len(digests) == 1 else sha256_hex("".join(digests).encode())


def _file_sha256(path: Path) -> str:
    try:
        state = path.stat()
        key = f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}"
        known = _remembered()
        if key in known:
            return known[key]
        digest = sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror or error}") from error
    if state.st_size > _REMEMBER_ABOVE:
        _remember({**known, key: digest.hexdigest()})
    return digest.hexdigest()


def _cache_file() -> Path:
    return paths.cache_dir() / "sha256.json"


def _remembered() -> dict[str, str]:
    try:
        known = json.loads(_cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(known: dict[str, str]) -> None:
    """A cache that cannot be written is no error: the digest is made again next time."""
    file = _cache_file()
    part = file.with_suffix(f".{os.getpid()}.part")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known), encoding="utf-8")
        part.replace(file)
