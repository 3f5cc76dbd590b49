"""What of huggingface_hub's cache was fetched from here: listed, and removed through that library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ilvrctl.errors import MissingExtraError
from ilvrctl.files import lock_of, try_acquire
from ilvrctl.hub.address import Address
from ilvrctl.hub.errors import DownloadError
from ilvrctl.hub.hugging_face import library, root_of
from ilvrctl.hub.pins import load_pins


def fetched() -> dict[str, tuple[Path, ...]]:
    """The files of each repository at each commit that was fetched, as ``hf:user/repo@commit``.

    Of what other programs fetched nothing is listed; without the library nothing at all.
    """
    found = {}
    with suppress(MissingExtraError):
        for address in _pinned():
            snapshot = root_of(address) / "snapshots" / address.revision
            if files := tuple(sorted(path for path in snapshot.rglob("*") if path.is_file())):
                found[str(address)] = files
    return found


def _pinned() -> Iterator[Address]:
    pins = (Address.parse(key) for key in load_pins() if key.startswith("hf:"))
    yield from dict.fromkeys(replace(address, file="") for address in pins)


def remove(name: str) -> None:
    """Remove a repository at a commit; bytes that other commits share stay.

    DownloadError while another process fetches from that repository.
    """
    address = Address.parse(name)
    root = root_of(address)
    locks = [lock_of(path) for path in (root.parent / ".locks" / root.name).glob("*.lock")]
    held = []
    try:
        for lock in locks:
            if not try_acquire(lock):
                raise DownloadError(
                    f"another process fetches {name}; nothing of it is removed", "wait for its end"
                )
            held.append(lock)
        library().scan_cache_dir(root.parent).delete_revisions(address.revision).execute()
    finally:
        for lock in held:
            lock.release()
