"""sha256 of inputs and weights; those of large files are remembered by path, size and time of change."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from ilvrctl import paths
from ilvrctl.errors import unreadable
from ilvrctl.files import Digests
from ilvrctl.memory import remembered
from ilvrctl.models.files.diffusers_folder import network_files

_REMEMBER_ABOVE = 32 << 20


def sha256_hex(data: bytes) -> str:
    """sha256 of bytes in hexadecimal."""
    return sha256(data).hexdigest()


@remembered
def weights_sha256(path: Path) -> str:
    """sha256 of a checkpoint file; of a diffusers folder that of its files' digests, weights then config.json.

    WeightsError when a file cannot be read.
    """
    known = Digests(paths.cache_dir() / "sha256.json", above=_REMEMBER_ABOVE)
    try:
        digests = [known.of(file) for file in network_files(path)]
    except OSError as error:
        raise unreadable(Path(error.filename or path), error) from error
    known.keep(unused=True)
    return digests[0] if len(digests) == 1 else sha256_hex("".join(digests).encode())
