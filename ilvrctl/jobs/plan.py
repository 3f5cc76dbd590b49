"""The plan of a translation: which inputs, which outputs, what is done already. Without torch or the model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ilvrctl.errors import InputError, OutputError, UsageError
from ilvrctl.images.io import PICTURE_SUFFIXES, read_bytes
from ilvrctl.images.metadata import read_record
from ilvrctl.jobs.digest import sha256_hex
from ilvrctl.settings import Settings

STDIN = "-"
Status = Literal["to do", "done"]


@dataclass(frozen=True)
class Item:
    """One input. ``key`` is what people call it, ``path`` None means ``data`` (standard input).

    ``stem``: the output's name without suffix, below the output folder.
    """

    key: str
    stem: str
    path: Path | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """The input's bytes. InputError when it cannot be read."""
        if self.data is not None:
            return self.data
        return read_bytes(self.path or Path(self.key))


@dataclass(frozen=True)
class Output:
    """One sample of one item; ``path`` None is standard output."""

    item: Item
    sample: int
    path: Path | None
    status: Status = "to do"


@dataclass(frozen=True)
class Weights:
    """The checkpoint of a job: its preset's name and the sha256 of the file."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Plan:
    """All results of a job, in the order of the inputs."""

    outputs: tuple[Output, ...]
    settings: Settings
    weights: Weights
    target: str | None = None

    @property
    def identity(self) -> str:
        """sha256 of settings and weights."""
        return self.settings.identity(self.weights.sha256)

    @property
    def todo(self) -> tuple[Output, ...]:
        """The outputs still to be made."""
        return tuple(output for output in self.outputs if output.status == "to do")


@dataclass(frozen=True)
class Destination:
    """Where results go: a ``folder``, one ``file``, or standard output (both None)."""

    folder: Path | None = None
    file: Path | None = None
    suffix: str = ".png"

    @classmethod
    def parse(cls, text: str) -> Destination:
        """``-`` is standard output, a name with a picture's suffix is a file, anything else a folder."""
        if text == "-":
            return cls()
        path = Path(text)
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.is_dir():
            return cls(file=path, suffix=path.suffix)
        return cls(folder=path)

    @property
    def parent(self) -> Path | None:
        """The folder that must exist and be writable; None for standard output."""
        return self.folder if self.folder is not None else self.file.parent if self.file is not None else None

    def prepare(self) -> None:
        """Make the folder and see that it can be written. OutputError with the reason when not."""
        if self.parent is None:
            return
        probe = self.parent / ".ilvrctl.part"
        try:
            self.parent.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"cannot write into {self.parent}: {error.strerror or error}", hint="choose another with -o FOLDER"
            ) from error


def collect(inputs: Sequence[str], *, recursive: bool, stdin: bytes | None, outside: Path | None) -> list[Item]:
    """The items that the arguments mean: files as they are, the pictures of folders, ``-`` for ``stdin``.

    Pictures below ``outside`` (the output folder) are left out of folders. A file that is missing stays an item,
    and fails when it is read. UsageError for a folder without pictures, or when nothing at all is given.
    """
    items: dict[str, Item] = {}
    for text in inputs:
        if text == STDIN and stdin is not None:
            items.setdefault(STDIN, Item(STDIN, "stdin", data=stdin))
            continue
        path = Path(text)
        found = _folder(path, recursive, outside) if path.is_dir() else [Item(text, path.stem, path)]
        for item in found:
            items.setdefault(str(item.path), item)
    if not items:
        raise UsageError("no inputs", hint="ilvrctl translate PICTURE_OR_FOLDER ... --to emoji3d")
    return _with_unique_stems(list(items.values()))


def _folder(folder: Path, recursive: bool, outside: Path | None) -> list[Item]:
    try:
        files = sorted(_pictures(folder, recursive, outside))
    except OSError as error:
        raise UsageError(f"cannot read the folder {folder}: {error.strerror}") from error
    if not files:
        deeper = not recursive and any(_pictures(folder, True, outside))
        raise UsageError(
            f"there are no pictures in {folder}",
            hint="its subfolders have some: add --recursive"
            if deeper
            else f"known suffixes: {' '.join(sorted(PICTURE_SUFFIXES))}",
        )
    return [Item(str(file), file.relative_to(folder).with_suffix("").as_posix(), file) for file in files]


def _pictures(folder: Path, recursive: bool, outside: Path | None) -> Iterator[Path]:
    skip = outside.resolve() if outside is not None else None
    for path in folder.rglob("*") if recursive else folder.iterdir():
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() not in PICTURE_SUFFIXES or hidden or not path.is_file():
            continue
        inside = skip is not None and skip != folder.resolve() and skip in path.resolve().parents
        if not inside:
            yield path


def _with_unique_stems(items: list[Item]) -> list[Item]:
    """Inputs of one name get their suffix into it (``cat-jpg``), so that no output overwrites another."""
    counts = Counter(item.stem.casefold() for item in items)
    unique = [
        Item(item.key, f"{item.stem}-{item.path.suffix[1:].lower()}", item.path)
        if counts[item.stem.casefold()] > 1 and item.path is not None and item.path.suffix
        else item
        for item in items
    ]
    _refuse_equal([item.stem for item in unique], [item.key for item in unique])
    return unique


def _refuse_equal(names: Sequence[str], keys: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name, key in zip(names, keys, strict=True):
        other = first.setdefault(name.casefold(), key)
        if other != key:
            raise UsageError(
                f"{other} and {key} would both be written as {name!r}",
                hint="translate them into different folders, or their common folder with --recursive",
            )


def outputs_of(items: Sequence[Item], samples: Sequence[int], destination: Destination) -> list[Output]:
    """The results asked for: ``cat.png``, or ``cat_1.png``, ``cat_2.png`` for several samples.

    UsageError when one file (or standard output) is to take several results.
    """
    single = destination.folder is None
    if single and (len(items) > 1 or (destination.file is None and len(samples) > 1)):
        raise UsageError(
            f"{len(items)} inputs with {len(samples)} samples each do not fit into one output",
            hint="-o FOLDER",
        )
    outputs = [Output(item, n, _path(item, n, samples, destination)) for item in items for n in samples]
    _refuse_equal([str(o.path) for o in outputs], [f"{o.item.key} (sample {o.sample})" for o in outputs])
    return outputs


def _path(item: Item, n: int, samples: Sequence[int], destination: Destination) -> Path | None:
    number = "" if tuple(samples) == (1,) else f"_{n}"
    if destination.folder is not None:
        return destination.folder / f"{item.stem}{number}{destination.suffix}"
    if destination.file is not None:
        return destination.file.with_name(f"{destination.file.stem}{number}{destination.suffix}")
    return None


def make_plan(
    outputs: Sequence[Output], settings: Settings, weights: Weights, target: str | None, *, overwrite: bool
) -> Plan:
    """Mark what is done: there, and made from the same input bytes with the same settings and weights.

    UsageError naming the files that are there but were made otherwise, unless ``overwrite``; and for an output
    that is one of the inputs, always: inputs are never touched.
    """
    plan = Plan(tuple(outputs), settings, weights, target)
    _refuse_inputs(plan)
    if overwrite:
        return plan
    marked, others = [], []
    for output in plan.outputs:
        there = output.path is not None and output.path.exists()
        done = there and _is_ours(output, plan.identity)
        if there and not done:
            others.append(str(output.path))
        marked.append(Output(output.item, output.sample, output.path, "done" if done else "to do"))
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise UsageError(
            f"{', '.join(others[:3])}{more} {'are' if len(others) > 1 else 'is'} there already, made from another "
            "input or with other settings",
            hint="--overwrite, or another folder with -o",
        )
    return Plan(tuple(marked), settings, weights, target)


def _refuse_inputs(plan: Plan) -> None:
    inputs = {output.item.path.resolve() for output in plan.outputs if output.item.path is not None}
    for output in plan.outputs:
        if output.path is not None and output.path.resolve() in inputs:
            raise UsageError(
                f"the output {output.path} is one of the inputs, which are never changed",
                hint="choose another with -o",
            )


def _is_ours(output: Output, identity: str) -> bool:
    """Whether the file at the output's path is the result that the plan would make."""
    if output.path is None:
        return False
    try:
        record = json.loads(read_record(output.path.read_bytes(), output.path.name))
        same = record["identity"] == identity and record["sample"] == output.sample
        return bool(same and record["input"]["sha256"] == sha256_hex(output.item.read()))
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return False
