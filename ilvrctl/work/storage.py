"""What lies in the folders of ilvrctl, by name: weights, what was remembered, what kills have left; and its removal.

Nothing that ships, and nothing outside the folders of weights and of the cache, is ever removed; links are removed and
not followed. What another process is fetching or training with stays.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ilvrctl import paths
from ilvrctl.errors import ConfigError, OutputError, UsageError, did_you_mean
from ilvrctl.files import lock_of, try_acquire, try_lock, unwritable, write_text
from ilvrctl.hub import hugging_face_cache
from ilvrctl.hub.pins import NAME as PINS
from ilvrctl.hub.pins import lock_path
from ilvrctl.plans.facts import SUFFIX
from ilvrctl.presets import ModelPreset, load_models, resolve_model

Kind = Literal["weights", "cache", "hugging face", "leftover"]

_CACHES = {
    "features": "features of pictures, for ilvrctl eval",
    "training": "pictures decoded for ilvrctl train",
    "inductor": "compiled code (--compile)",
}
"""Folders of the cache, and what is in them."""
FACTS = "facts"
"""What the small files of the cache are called together."""
_PARTIAL = re.compile(r".+\.(part|drive|drive\.part|drive\w{8}\.part)(\.json)?")
_AGE = 60.0
"""Seconds after which a part of the cache that nobody has locked was left by a kill."""


@dataclass(frozen=True)
class Stored:
    """Files under a name. ``what`` they are, in words; ``locks``: who holds one of them is working on them."""

    name: str
    kind: Kind
    what: str
    files: tuple[Path, ...]
    locks: tuple[Path, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(map(_size, self.files))


def stored() -> list[Stored]:
    """Everything that lies here, weights first."""
    return [*_weights(), *_caches(), *_from_hugging_face()]


def called(name: str) -> Stored:
    """What ``name`` means. UsageError for an unknown one, and for what is not to be removed."""
    everything = {one.name: one for one in stored()}
    if name in everything:
        return everything[name]
    commits = [one for one in everything if one.partition("@")[0] == name]
    if len(commits) == 1:
        return everything[commits[0]]
    if commits:
        raise UsageError(f"{name} is here at {len(commits)} commits", hint=f"name one: {', '.join(commits)}")
    try:
        model = resolve_model(name)
    except UsageError as error:
        hint = did_you_mean(name, everything) or "ilvrctl cache"
        raise UsageError(f"nothing here is called {name!r}", hint) from error
    if model.name not in everything:
        raise UsageError(_why_not(model))
    return everything[model.name]


def _why_not(model: ModelPreset) -> str:
    if model.bundled:
        return f"{model.name} ships with ilvrctl, and stays"
    if not model.downloaded:
        return f"{model.name} is a file of your own, {model.path()}: remove it yourself"
    return f"{model.name} is not here"


def leftovers() -> list[Stored]:
    """What kills have left: unfinished downloads and parts, and facts of weights that are gone."""
    found = []
    for path in _walk(paths.weights_dir()):
        if _PARTIAL.fullmatch(path.name):
            key = re.sub(r"(\.drive)?(\w{8})?\.part(\.json)?$|\.drive(\.json)?$", "", _relative(path))
            found.append(
                Stored(_relative(path), "leftover", "an unfinished download", (path,), (lock_path(key),))
            )
        elif path.name.endswith(SUFFIX) and not path.with_name(path.name.removesuffix(SUFFIX)).exists():
            found.append(Stored(_relative(path), "leftover", "facts of a file that is gone", (path,)))
    for path in _walk(paths.cache_dir()):
        if path.name.endswith(".part") and _left_behind(path):
            found.append(Stored(path.name, "leftover", "a file half written", (path,)))
    return found


def remove(one: Stored) -> int:
    """Remove it; how many bytes that frees. OutputError while another process works on it, or where it cannot be."""
    size = one.size
    with ExitStack() as held:
        for path in one.locks:
            if path.exists():
                lock = lock_of(path)
                if not try_acquire(lock):
                    raise OutputError(
                        f"{one.name} is in use by another process, and stays", "wait for its end"
                    )
                held.callback(lock.release)
        if one.kind == "hugging face":
            hugging_face_cache.remove(one.name)
            return size
        for path in one.files:
            _unlink(path)
    return size


def forget_gone() -> int:
    """Take out of the remembered facts those of files that are gone or were changed; how many those were."""
    count = 0
    for file in sorted(paths.cache_dir().glob("*.json")):
        with suppress(OSError, ValueError):
            known = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(known, dict):
                continue
            kept = {key: value for key, value in known.items() if _still_so(key)}
            count += len(known) - len(kept)
            if len(kept) < len(known):
                write_text(file, json.dumps(kept))
    return count


def _still_so(key: str) -> bool:
    """Whether the files of a fact are as they were: ``path|path:size:time,size:time``, or ``path:size:time:time``.

    A fact that is not of files stays.
    """
    found = re.fullmatch(r"(.+?):(\d+:\d+(?::\d+)?(?:,\d+:\d+)*)", key, re.DOTALL)
    if found is None:
        return True
    files, states = found[1].split("|"), found[2].split(",")
    if len(files) != len(states):
        files = [found[1]]
    return all(map(_as_it_was, files, states))


def _as_it_was(file: str, state: str) -> bool:
    try:
        now = os.stat(file)  # noqa: PTH116  a key is text, whatever it names
    except (OSError, ValueError):
        return False
    return state.split(":")[:2] == [str(now.st_size), str(now.st_mtime_ns)]


def _weights() -> Iterator[Stored]:
    """The files of models, then those of none."""
    known: set[Path] = set()
    for model in load_models().values():
        with suppress(ConfigError):
            places = [path for places in model.choices() for path in places] if model.downloaded else []
            beside = [path.with_name(path.name + SUFFIX) for path in places]
            here = tuple(path for path in (*places, *beside) if os.path.lexists(path))
            known |= set(here)
            if here:
                locks = tuple(lock_path(_relative(path)) for path in places)
                yield Stored(model.name, "weights", model.title, here, locks)
    for path in _walk(paths.weights_dir()):
        if path not in known and path.name != PINS:
            what = "an unfinished download" if _PARTIAL.fullmatch(path.name) else "of no model that is known"
            yield Stored(_relative(path), "weights", what, (path,))


def _caches() -> Iterator[Stored]:
    root = paths.cache_dir()
    facts = tuple(sorted(path for path in root.glob("*.json") if path.is_file()))
    if facts:
        yield Stored(FACTS, "cache", "digests and what is known of checkpoints", facts)
    for name in sorted(path.name for path in root.glob("*") if path.is_dir()):
        files = tuple(_walk(root / name))
        if files:
            locks = tuple(path for path in files if path.suffix == ".lock")
            yield Stored(name, "cache", _CACHES.get(name, "of another release"), files, locks)


def _from_hugging_face() -> Iterator[Stored]:
    for name, files in hugging_face_cache.fetched().items():
        yield Stored(name, "hugging face", "from Hugging Face", files)


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below, no link followed; nothing where there is no such folder. Locks of downloads are left out."""
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".locks")
        yield from (Path(top) / name for name in sorted(names))


def _relative(path: Path) -> str:
    return path.relative_to(paths.weights_dir()).as_posix()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _left_behind(path: Path) -> bool:
    """Whether nobody writes the part: it is old, and not locked."""
    try:
        if time.time() - path.stat().st_mtime < _AGE:
            return False
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


def _unlink(path: Path) -> None:
    """Remove a file of the folders, and the folders above it that are empty then."""
    own = (paths.weights_dir(), paths.cache_dir())
    home = next((folder for folder in own if path.is_relative_to(folder)), None)
    real = Path(os.path.realpath(path.parent))
    if home is None or not real.is_relative_to(Path(os.path.realpath(home))):
        raise UsageError(f"{path} is outside of the folders of ilvrctl, and stays")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    for folder in path.parents:
        if folder == home:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def free_room() -> int:
    """Bytes that are free where weights go."""
    folder = paths.weights_dir()
    return shutil.disk_usage(next(one for one in (folder, *folder.parents) if one.exists())).free
