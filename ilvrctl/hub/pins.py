"""The sha256 of every file that was ever fetched: noted when first seen, compared from then on.

The notes are in ``sha256.lock.json`` in the weights folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from ilvrctl import paths
from ilvrctl.hub.errors import DownloadError
from ilvrctl.hub.lock import held

NAME = "sha256.lock.json"


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
    return paths.weights_dir() / ".locks" / (name.replace("/", "--") + ".lock")


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


def save_pin(name: str, sha256: str, size: int, source: str) -> None:
    """Remember what the file ``name`` is; replaces an earlier pin."""
    seen = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    with held(lock_path(NAME)):
        pins = {**load_pins(), name: Pin(sha256, size, source, seen)}
        text = json.dumps({key: asdict(pin) for key, pin in sorted(pins.items())}, indent=1)
        part = pin_file().with_suffix(f".{os.getpid()}.part")
        try:
            part.write_text(text + "\n", encoding="utf-8")
            part.replace(pin_file())
        except OSError as error:
            raise DownloadError(f"cannot write {pin_file()}: {error.strerror or error}") from error
