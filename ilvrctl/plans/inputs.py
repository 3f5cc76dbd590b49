"""The inputs of a job: files as they are, the pictures of folders, and standard input."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path, PurePosixPath

from ilvrctl import paths
from ilvrctl.errors import InputError, UsageError
from ilvrctl.events import PassedBy
from ilvrctl.files import as_utf8
from ilvrctl.images.folders import pictures_in
from ilvrctl.images.io import read_bytes
from ilvrctl.images.kinds import kind_of
from ilvrctl.images.load import frames_in
from ilvrctl.plans.digest import sha256_hex
from ilvrctl.plans.places import Folders, exists, is_folder, place, real, real_folder

STDIN = "-"
FRAMES = ("first", "all")
"""Which of the frames of an animation or the pages of a TIFF are meant."""
_SINGLE = ("JPEG", "PNG", "BMP", "DIB", "PBM", "PGM", "PPM", "TGA")
"""Kinds of files that hold one picture."""
_RELATIVE = "check the path; relative ones start here"
_LARGEST_LIST = 1 << 28
"""Bytes of a list of names."""


@dataclass(frozen=True)
class Contents:
    """The bytes of an input: the ``picture``, and where it is edited its scribbled copy and a mask, if any."""

    picture: bytes
    guide: bytes | None = None
    mask: bytes | None = None

    @property
    def digest(self) -> str:
        """sha256 of the picture, if it is alone; else of the digests of all."""
        digests = {name: sha256_hex(data) for name, data in vars(self).items() if data is not None}
        if len(digests) == 1:
            return digests["picture"]
        return sha256_hex("\n".join(f"{name} {digest}" for name, digest in digests.items()).encode())


@dataclass(frozen=True)
class Item:
    """One input. ``name`` is what people call it; ``path`` None means ``data`` (standard input).

    ``stem``: the output's name without suffix, below the output folder. Of an edit ``guide`` is the scribbled copy
    and ``mask`` tells what is edited. ``noise``: the file holds noise, and the picture in it. ``frame``: the one
    that is meant of several in the file, from 0; None is the first, with a note. ``whole``: the stem of the file as a
    whole, where a frame is meant.
    """

    name: str
    stem: str
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    guide: Item | None = None
    mask: Item | None = None
    frame: int | None = None
    whole: str = field(default="", compare=False)
    where: str = field(default="", repr=False, compare=False)
    noise: bool = False

    @cached_property
    def key(self) -> str:
        """What tells it from all other inputs: its place, however it was written (``where``, if that is known), and
        those of its companions.
        """
        own = (self.where or (STDIN if self.path is None else str(place(self.path)))) + self._number
        return "\n".join([own, *(item.key for item in (self.guide, self.mask) if item is not None)])

    @property
    def files(self) -> list[Path]:
        """The files that are read, and never changed."""
        more = [file for item in (self.guide, self.mask) if item is not None for file in item.files]
        return more if self.path is None else [self.path, *more]

    @property
    def file_name(self) -> str:
        """Its own name, without folders, and the number of its frame: results tell it."""
        return self.stem if self.path is None else f"{self.path.name}{self._number}"

    def record(self) -> dict[str, str | int]:
        """What the record of a result tells: the name of its file, and which frame was taken where one was chosen."""
        name = self.stem if self.path is None else self.path.name
        return {"name": name, **({} if self.frame is None else {"frame": self.frame + 1})}

    @property
    def _number(self) -> str:
        return "" if self.frame is None else f"#{self.frame + 1}"

    @property
    def joined_stem(self) -> str:
        """Of a frame: its output's name without the number, for what is made of all frames."""
        return self.whole + re.sub(r"^-\d+", "", self.stem.removeprefix(self.whole))

    @property
    def short(self) -> str:
        """Its name below the folder that was given."""
        folder, slash, _ = self.stem.rpartition("/")
        return self.stem if self.path is None else f"{folder}{slash}{self.file_name}"

    def state(self) -> tuple[int, int] | None:
        """Size in bytes and time of the last change in ns, of all its files; None where there are none."""
        if self.path is None:
            return None
        try:
            found = [file.stat() for file in self.files]
        except (OSError, ValueError):
            return None
        return sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)

    def read(self) -> bytes:
        """The input's bytes. InputError when it cannot be read."""
        return read_bytes(self.path) if self.path is not None else self.data or b""

    def contents(self) -> Contents:
        """All its bytes. InputError when one of its files cannot be read."""
        guide, mask = (None if item is None else item.read() for item in (self.guide, self.mask))
        return Contents(self.read(), guide, mask)


@dataclass(frozen=True)
class Collected:
    """The inputs of a run, each once, and what else was found in their folders."""

    items: tuple[Item, ...]
    passed_by: tuple[PassedBy, ...] = ()


def collect(
    names: Sequence[str | Item],
    *,
    recursive: bool,
    stdin: bytes | None,
    outputs: Sequence[Path] = (),
    frames: str = FRAMES[0],
    needed: bool = True,
) -> Collected:
    """The items that ``names`` mean: files, the pictures of folders, ``-`` for the bytes of ``stdin``; or items.

    What lies at or below ``outputs`` is left out of folders. A file that is missing stays an item, and fails
    when it is read. An input given twice is taken once. ``frames``: of :data:`FRAMES` which are meant of files that
    hold several. UsageError for a folder without pictures, or when nothing at all is given, where something is
    ``needed``.
    """
    if frames not in FRAMES:
        raise UsageError(f"--frames {frames!r} is neither of {', '.join(FRAMES)}")
    items: dict[str, Item] = {}
    passed_by: dict[PassedBy, None] = {}
    for name in names:
        found = (
            Collected((name,)) if isinstance(name, Item) else _items(name, recursive, stdin, outputs, needed)
        )
        passed_by |= dict.fromkeys(found.passed_by)
        for item in found.items:
            items.setdefault(item.key, item)
    if not items and needed:
        raise UsageError("no inputs", hint="ilvrctl translate PICTURE_OR_FOLDER ... --to emoji3d")
    every = list(items.values())
    meant = every if frames == FRAMES[0] else [one for item in every for one in _frames(item)]
    return Collected(tuple(meant), tuple(passed_by))


def _frames(item: Item) -> list[Item]:
    """An item for every frame or page of a file; the item itself where there is one, or that cannot be told."""
    try:
        if item.path is not None and ((kind := kind_of(item.path)) is None or kind.name in _SINGLE):
            return [item]
        count = frames_in(item.read(), item.name)
    except (OSError, InputError):
        return [item]
    if count < 2:
        return [item]
    digits = len(str(count))
    return [
        replace(
            item, name=f"{item.name} #{n}", stem=f"{item.stem}-{n:0{digits}}", frame=n - 1, whole=item.stem
        )
        for n in range(1, count + 1)
    ]


def read_list(file: str, *, null: bool = False, stdin: bytes | None = None, empty: bool = False) -> list[str]:
    """The names in a list, one a line or ended by zero bytes; ``stdin``: what ``-`` is.

    The list is in the encoding of file names here, or as its byte order mark says. UsageError when it cannot be
    read, or names nothing, unless it may be ``empty``.
    """
    try:
        raw = as_utf8(stdin if file == STDIN and stdin is not None else _read_list(Path(file)))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the list {file}: {reason}") from error
    entries = raw.split(b"\0") if null else [line.removesuffix(b"\r") for line in raw.split(b"\n")]
    names = [os.fsdecode(entry) for entry in entries if entry.strip()]
    if not names and not empty:
        where = "on standard input" if file == STDIN else file
        raise UsageError(f"the list {where} names no pictures")
    return ["./-" if name == STDIN else name for name in names]


def _read_list(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_LARGEST_LIST + 1)
    if len(content) > _LARGEST_LIST:
        raise ValueError(f"it is larger than {_LARGEST_LIST >> 20} MB")
    return content


def one_picture(name: str, stdin: bytes | None) -> Item:
    """The item that ``name`` means, ``-`` for the bytes of ``stdin``. UsageError for a folder."""
    if name and is_folder(Path(name)):
        raise UsageError(
            f"{name} is a folder, and one picture is edited at a time",
            hint=f"give a picture inside it; ilvrctl translate {shlex.quote(name)} takes all of them",
        )
    [item] = _items(name, False, stdin, ()).items
    return item


def _items(
    name: str, recursive: bool, stdin: bytes | None, outputs: Sequence[Path], needed: bool = True
) -> Collected:
    if name == STDIN and stdin is not None:
        return Collected((Item("standard input", "stdin", data=stdin),))
    if not name or "\0" in name:
        raise UsageError(
            f"{name!r} is no name of a file",
            hint="-0 reads names that end with a zero byte" if name else None,
        )
    refuse_address(name)
    path = Path(name)
    if is_folder(path):
        return _folder(path, recursive, outputs, needed)
    if name.endswith(("/", os.sep)) and not exists(path):
        close = get_close_matches(path.name, _beside(path), n=1)
        hint = f"did you mean {path.parent / close[0]}{os.sep}?" if close else _RELATIVE
        raise UsageError(f"the folder {name} does not exist", hint)
    return Collected((Item(_shown(path, name), path.stem, path, where=str(place(path))),))


def refuse_address(name: str) -> None:
    """UsageError for an address in the place of a file's name: only ``ilvrctl download`` uses the network."""
    scheme, _, rest = name.partition("://")
    if not (rest and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", scheme)):
        return
    if scheme.lower() == "file":
        raise UsageError(
            f"{name} is an address, not the name of a file", hint=f"without {scheme}://: /{rest.lstrip('/')}"
        )
    file = PurePosixPath(rest.partition("?")[0]).name if "/" in rest.rstrip("/") else ""
    raise UsageError(
        f"{name} is an address: pictures are read from files, not from the network",
        hint=f"fetch it first: curl -L -o {shlex.quote(file or 'picture')} {shlex.quote(name)}",
    )


def _beside(path: Path) -> list[str]:
    """The names of the folders where ``path`` would be."""
    try:
        return [one.name for one in path.parent.iterdir() if is_folder(one)]
    except OSError:
        return []


def _folder(folder: Path, recursive: bool, outputs: Sequence[Path], needed: bool) -> Collected:
    if real(folder) in map(real, outputs):
        raise UsageError(
            f"{folder} is the input and the output folder: results would be taken for inputs the next time",
            hint="choose another with -o",
        )
    folders, top, own = Folders(), len(folder.parts), {str(place(output)) for output in outputs}
    found = pictures_in(
        folder, recursive=recursive, leave_out=lambda path: folders.place(path) in own, needed=needed
    )
    shipped = real_folder(folder) == real_folder(paths.EXAMPLES)
    items = (
        Item(
            _shown(file, str(file)) if shipped else str(file),
            "/".join((*file.parts[top:-1], file.stem)),
            file,
            where=folders.place(file),
        )
        for file in found.pictures
    )
    return Collected(tuple(items), tuple(found.passed_by))


def _shown(path: Path, name: str) -> str:
    """The name for people; that of an example that ships does not tell where the package is."""
    shipped = real_folder(path.parent) == real_folder(paths.EXAMPLES)
    return f"{paths.EXAMPLES.name}/{path.name}" if shipped else name


def refuse_equal(results: Sequence[str], inputs: Sequence[str]) -> None:
    """UsageError when two inputs have one result; case does not count, as on some file systems."""
    first: dict[str, str] = {}
    for result, name in zip(results, inputs, strict=True):
        if result.casefold() in first:
            raise UsageError(
                f"{first[result.casefold()]} and {name} would both be written as {result!r}",
                hint="translate them into different folders, or their common folder with --recursive",
            )
        first[result.casefold()] = name
