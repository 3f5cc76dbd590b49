"""A folder of pictures, decoded once into a file that is mapped into memory. No torch here.

The file is named by what is in it, sha256 over the pictures' bytes and how they are made square, so that a
changed folder never gets the pixels of another state, and a renamed or copied one is not decoded again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from ilvrctl import paths
from ilvrctl.errors import InputError, UsageError
from ilvrctl.events import PassedBy, Warned
from ilvrctl.files import Digests, make_folder, replacing
from ilvrctl.images.channels import eight_bits, in_channels
from ilvrctl.images.folders import Found, pictures_in
from ilvrctl.images.geometry import fit_picture, parse_color
from ilvrctl.images.io import open_picture, read_bytes, read_picture
from ilvrctl.training.disk import check_room, try_alone

if TYPE_CHECKING:
    from PIL.Image import Image

FEWEST = 16
"""Fewer pictures than this are refused: a model of them is a copy of them."""
SENSIBLE = 200
"""From here on a fine-tuned model is worth its time; from nothing it takes thousands."""
_VERSION = "1"  # of what is stored; change it when the pixels would differ


@dataclass(frozen=True)
class Square:
    """How pictures become squares of ``size`` pixels: see :func:`~ilvrctl.images.geometry.fit_picture`.

    ``channels``: 1 for grey ones, to which ``fit`` with "grey" in it makes coloured ones too; 3, or 4 with an opacity.
    """

    size: int
    fit: str = "crop"
    background: str = "white"
    channels: int = 3

    def identity(self) -> str:
        """Text that differs where the pixels would."""
        channels = "" if self.channels == 3 else f":{self.channels}"
        return f"{_VERSION}:{self.size}:{self.fit}:{self.background}{channels}"

    @property
    def bytes_each(self) -> int:
        """Of a picture."""
        return self.channels * self.size**2

    def made_of(self, data: bytes, name: str) -> tuple[Image, bool]:
        """The square of a picture's bytes, and whether it was smaller. InputError where it cannot be one."""
        color = parse_color(self.background)
        shape, _, more = self.fit.partition("+")
        if self.channels == 3:
            picture = open_picture(data, name, background=color)
        else:
            found, grey = read_picture(data, name, background=color), "grey" in (shape, more)
            picture, _ = in_channels(found, name, self.channels, color, grey=grey)
        fitted = fit_picture(picture, self.size, "crop" if shape == "grey" else shape, color)
        return fitted, min(picture.size) < self.size


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures: ``count`` times (size, size, channels) bytes in ``file``; in the order of ``digests``.

    ``digests``: sha256 of each picture's file, ascending, each once, so that neither names nor the order of a
    listing matter; ``stems``: the files' names without suffix, in the same order. ``enlarged``: how many were
    smaller than ``size``. ``failed``: names and reasons; ``passed_by``: what else is in the folder;
    ``copies``: how many are the same as another.
    """

    file: Path
    size: int
    digests: tuple[str, ...]
    stems: tuple[str, ...]
    enlarged: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    passed_by: tuple[PassedBy, ...] = ()
    copies: int = 0
    channels: int = 3

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.digests)

    @property
    def digest(self) -> str:
        """sha256 that stands for all of them, and for their order."""
        return sha256("".join(self.digests).encode()).hexdigest()


@dataclass(frozen=True)
class Decoded:
    """``done`` of ``total`` files are read."""

    done: int
    total: int


def look_into(folder: Path) -> Found:
    """What is in ``folder`` and below. UsageError when it is no folder, or has no pictures."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {what}", "give a folder with the pictures to learn from")
    return pictures_in(folder, needed=True)


def load_pictures(
    folder: Path, square: Square, fewest: int = FEWEST
) -> Generator[Decoded | Warned, None, Pictures]:
    """Decode what is not decoded yet, telling how far it is; returns the :class:`Pictures`.

    A picture that cannot be read is left out and named. UsageError when less than ``fewest`` are left. While
    another process decodes the same pictures, it is waited for.
    """
    found = look_into(folder)
    name = sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    known = Digests(paths.cache_dir() / "training" / f"index-{name}.json")
    digests: dict[str, Path] = {}
    failed: list[tuple[str, str]] = []
    copies = 0
    for n, (path, digest) in enumerate(_hashed(found.pictures, known), 1):
        if isinstance(digest, InputError):
            failed.append((path.name, digest.message))
        else:
            copies += digest in digests
            digests.setdefault(digest, path)
        if n % 100 == 0:
            yield Decoded(0, len(found.pictures))
    known.keep()
    key = sha256(f"{square.identity()}:{''.join(sorted(digests))}".encode()).hexdigest()[:32]
    target = paths.cache_dir() / "training" / f"{key}.rgb"
    stored = yield from _stored(dict(sorted(digests.items())), square, target)
    failed += [(digests[digest].name, why) for digest, why in stored.failed]
    stems = tuple(digests[digest].stem for digest in stored.digests)
    result = Pictures(
        target,
        square.size,
        stored.digests,
        stems,
        stored.enlarged,
        tuple(failed),
        tuple(found.passed_by),
        copies,
        square.channels,
    )
    _check_count(result, folder, fewest)
    return result


def _stored(files: dict[str, Path], square: Square, target: Path) -> Generator[Decoded | Warned, None, _Note]:
    """The note of the pixels at ``target``, which are decoded by one process and waited for by the others."""
    lock = FileLock(target.with_suffix(".lock"), thread_local=False)
    told = False
    while (stored := _read_note(target)) is None:
        if not try_alone(lock, 0.5):
            if not told:
                yield Warned("another training is decoding these pictures: waiting for it")
            told = True
            yield Decoded(0, len(files))
            continue
        try:
            if _read_note(target) is None:
                check_room({target.parent: square.bytes_each * len(files)})
                yield from _decode(files, square, target)
        finally:
            lock.release()
    return stored


def _check_count(pictures: Pictures, folder: Path, fewest: int) -> None:
    if pictures.count < fewest:
        broken = f" ({len(pictures.failed)} more cannot be read)" if pictures.failed else ""
        raise UsageError(
            f"{folder} holds {pictures.count} different pictures{broken}: too few to learn from",
            f"at least {fewest}; sensible are {SENSIBLE} and more with --init, some thousands from nothing",
        )


def _hashed(files: Sequence[Path], known: Digests) -> Iterator[tuple[Path, str | InputError]]:
    """Each file with the sha256 of its bytes, or why it cannot be read."""

    def digest(path: Path) -> str | InputError:
        try:
            return known.of(path, read_bytes)
        except OSError as error:
            return InputError(f"{path} cannot be read: {error.strerror or error}")
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count(), "hash") as pool:
        yield from zip(files, pool.map(digest, files), strict=True)


@dataclass(frozen=True)
class _Note:
    """What stands beside the stored pixels."""

    digests: tuple[str, ...]
    enlarged: int
    failed: tuple[tuple[str, str], ...]


def _read_note(target: Path) -> _Note | None:
    """The note of stored pixels; None when they are not there, or not whole."""
    try:
        values = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        note = _Note(
            tuple(values["digests"]), int(values["enlarged"]), tuple((a, b) for a, b in values["failed"])
        )
        whole = target.stat().st_size == len(note.digests) * int(values["bytes_each"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if whole else None


def _decode(files: dict[str, Path], square: Square, target: Path) -> Iterator[Decoded]:
    """Pixels of every file that can be read, in order, into ``target``, and the note beside it."""
    make_folder(target.parent)
    good: list[str] = []
    failed: list[tuple[str, str]] = []
    enlarged = 0

    def pixels(path: Path) -> tuple[bytes, bool] | InputError:
        try:
            picture, small = square.made_of(read_bytes(path), path.name)
            return eight_bits(picture).tobytes(), small
        except InputError as error:
            return error
        except Exception as error:  # whatever it is, it is this picture's, and the others are used
            return InputError(f"{path.name}: {type(error).__name__}: {error}")

    with (
        replacing(target) as part,
        part.open("wb") as out,
        ThreadPoolExecutor(os.cpu_count(), "decode") as pool,
    ):
        done = 0
        for start in range(0, len(files), 256):  # in groups, so that no more than these wait in memory
            group = list(files.items())[start : start + 256]
            for (digest, _), made in zip(group, pool.map(pixels, [path for _, path in group]), strict=True):
                done += 1
                if isinstance(made, InputError):
                    failed.append((digest, made.message))
                    continue
                out.write(made[0])
                good.append(digest)
                enlarged += made[1]
            yield Decoded(done, len(files))
    note = {
        "digests": good,
        "enlarged": enlarged,
        "failed": failed,
        "bytes_each": square.bytes_each,
    }
    with replacing(target.with_suffix(".json")) as part:
        part.write_text(json.dumps(note), encoding="utf-8")
