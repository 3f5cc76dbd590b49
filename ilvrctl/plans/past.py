"""What of a plan is done: by the manifest of the folder where it tells, else by the records in the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ilvrctl.errors import InputError
from ilvrctl.plans.inputs import Item
from ilvrctl.plans.manifest import Entry, Manifest
from ilvrctl.plans.outputs import Output
from ilvrctl.plans.places import exists
from ilvrctl.plans.record import made_from


@dataclass(frozen=True)
class Past:
    """What earlier runs left: the ``manifest`` of the folder ``root``. ``retry``: try again what failed."""

    root: Path
    manifest: Manifest = field(default_factory=Manifest)
    retry: bool = False

    def entry(self, output: Output) -> Entry | None:
        """What the manifest tells of an output."""
        return None if output.path is None else self.entry_at(output.path)

    def entry_at(self, path: Path) -> Entry | None:
        """What the manifest tells of a file below ``root``."""
        return self.manifest.entries.get(relative(path, self.root)) if self.manifest.entries else None


def relative(path: Path, root: Path) -> str:
    """The name of an output in the manifest of ``root``."""
    return path.relative_to(root).as_posix()


def mark_done(outputs: Sequence[Output], identities: Sequence[str], past: Past | None = None) -> list[Output]:
    """The outputs with their status; ``identities`` are those of their variants.

    Done when all files are there and are what would be made; taken when they are something else. A result without
    its animation was made halfway, and one whose input cannot be read fails by itself. A failure counts until the
    input or the settings change, but for one whose reason may have passed. A result whose input has changed since is
    made again, as the manifest shows that it was this input's.
    """
    digests = _Digests()
    return [_marked(output, identities[output.variant], past, digests) for output in outputs]


def _marked(output: Output, identity: str, past: Past | None, digests: _Digests) -> Output:
    there = [file for file in output.files if exists(file)]
    entry = past.entry(output) if past is not None else None
    if entry is not None and entry.config_sha256 == identity:
        return _by_entry(output, entry, there, past is not None and past.retry, digests)
    if not there:
        return replace(output, status="to do")
    ours = _is_ours(output, identity, digests.of(output.item))
    if ours is False:
        return replace(output, status="taken")
    done = ours and there == output.files
    return replace(output, status="done" if done else "to do", digest=digests.of(output.item) or "")


def _by_entry(output: Output, entry: Entry, there: list[Path], retry: bool, digests: _Digests) -> Output:
    """By what the manifest tells of this output under these very settings."""
    whole = bool(there) and there == output.files
    if entry.status == "done" and not whole:
        return replace(output, status="to do")
    if entry.status == "failed" and (retry or entry.again or not entry.input_sha256):
        return replace(output, status="to do")
    if not _unchanged(output.item, entry, digests):
        return replace(output, status="to do", stale=whole)
    if entry.status == "failed":
        return replace(output, status="failed", error=entry.error or "failed before")
    return replace(output, status="done", digest=entry.input_sha256)


def _unchanged(item: Item, entry: Entry, digests: _Digests) -> bool:
    """Whether the input is the one that the entry tells of: of the same size and time, or with the same bytes."""
    state = item.state()
    if state is not None and state == (entry.input_size, entry.input_mtime_ns):
        return True
    return digests.of(item) == entry.input_sha256


class _Digests:
    """sha256 of the inputs' bytes, each read once however many variants ask; None for one that cannot be read."""

    def __init__(self) -> None:
        self._known: dict[Item, str | None] = {}

    def of(self, item: Item) -> str | None:
        if item not in self._known:
            try:
                self._known[item] = item.contents().digest
            except InputError:
                self._known[item] = None
        return self._known[item]


def _is_ours(output: Output, identity: str, digest: str | None) -> bool | None:
    """Whether the file is the result that the plan would make; None when its input cannot be read."""
    if digest is None:
        return None
    made = None if output.path is None else made_from(output.path)
    return made is not None and (made.identity, made.sample, made.digest) == (identity, output.sample, digest)
