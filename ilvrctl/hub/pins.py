"""The sha256 of every file that was ever fetched: noted when first seen, compared from then on.

The notes are in ``sha256.lock.json`` in the weights folder.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path

from ilvrctl import paths
from ilvrctl.files import locked, write_text
from ilvrctl.hub.errors import DownloadError

NAME = "sha256.lock.json"
_LONGEST = 200  # bytes of a name


@dataclass(frozen=True)
class Pin:
    """What a file was when it came: its hash, bytes, source and day."""

    sha256: str
    size: int
    source: str
    seen: str


def pin_file() -> Path:
    """Where the pins are."""
    return paths.weights_dir() / NAME


def lock_path(name: str) -> Path:
    """The lock of a file in the weights folder."""
    plain = name.replace("/", "--")
    if len(plain.encode()) > _LONGEST:
        plain = sha256(name.encode()).hexdigest()
    return paths.weights_dir() / ".locks" / f"{plain}.lock"


def load_pins() -> dict[str, Pin]:
    """All pins by the file's name in the weights folder. DownloadError when they cannot be read."""
    try:
        found = json.loads(pin_file().read_text(encoding="utf-8"))
        return {name: Pin(**facts) for name, facts in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DownloadError(
            f"the list of known files, {pin_file()}, cannot be read: {error}",
            hint="repair it, or remove it to accept the files that are there now",
        ) from error


def save_pin(name: str, digest: str, size: int, source: str) -> None:
    """Remember that ``digest`` is the sha256 of the file ``name``; replaces an earlier pin."""
    seen = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    with locked(lock_path(NAME)):
        pins = {**load_pins(), name: Pin(digest, size, source, seen)}
        write_text(
            pin_file(), json.dumps({key: asdict(pin) for key, pin in sorted(pins.items())}, indent=1) + "\n"
        )
