"""The outputs of a job: where each result goes, and whether it can be written there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

from ilvrctl.errors import OutputError, UsageError, did_you_mean
from ilvrctl.images.io import PICTURE_SUFFIXES
from ilvrctl.memory import remembered
from ilvrctl.models.files.noise_file import SUFFIX
from ilvrctl.plans.inputs import Item, refuse_equal
from ilvrctl.plans.places import Folders, is_folder, nearest

Status = Literal["to do", "done", "taken", "failed", "elsewhere"]
"""``taken``: a file of that name is there, made otherwise. ``failed``: it did before, and nothing has changed
since. ``elsewhere``: another shard makes it."""
_ELSEWHERE = "choose another place with -o"
FORMATS = ("png", "jpg", "webp")
"""Formats of the results in a folder."""
MOST_SAMPLES = 100_000
MOST_RESULTS = 2_000_000
"""More than these are nothing that anybody looks at, and their plan alone takes gigabytes."""


@dataclass(frozen=True)
class Output:
    """One sample of one item; ``path`` None is standard output, ``gif`` the animation beside it and ``noise`` the
    noise that was found, if any; ``joined``: the file that holds the results of all frames of the input, if one is
    asked for.

    ``variant``: the place of its settings among those of the plan. ``digest``: of the input of what is done, where
    it is known. ``stale``: done before, from an input that has changed since. ``error``: why it failed before, or
    must fail, and ``hint``: what to do about it.
    """

    item: Item
    sample: int
    path: Path | None
    gif: Path | None = None
    status: Status = "to do"
    variant: int = 0
    digest: str = ""
    stale: bool = False
    error: str = ""
    hint: str = "--retry-failed tries it again"
    joined: Path | None = None
    noise: Path | None = None

    @property
    def files(self) -> list[Path]:
        """The files that are written."""
        return [path for path in (self.path, self.gif, self.noise) if path is not None]


@dataclass(frozen=True)
class Destination:
    """Where results go: a ``folder``, one ``file``, standard output (both None), or nowhere but to the caller
    (``memory``).

    ``usual``: nobody chose it, see :func:`ilvrctl.plans.request.apart`.
    ``suffix``: of the files in a folder. ``pattern``: of their names below it, with ``{stem}``, ``{sample}`` and
    ``{settings}`` in it; with a suffix, which then counts, or without.
    """

    folder: Path | None = None
    file: Path | None = None
    memory: bool = False
    suffix: str = ".png"
    pattern: str = ""
    usual: bool = False

    @classmethod
    def asked(cls, text: str | None) -> Destination:
        """As :meth:`parse`; None is the usual folder."""
        return cls(folder=Path("out"), usual=True) if text is None else cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> Destination:
        """``-`` is standard output, a name with a picture's suffix is a file, anything else a folder."""
        if not text:
            raise UsageError("-o needs a name", hint="-o FOLDER, -o FILE.png, or -o - for standard output")
        if text == "-":
            return cls()
        path = Path(text)
        if (
            path.suffix.lower() in PICTURE_SUFFIXES
            and not is_folder(path)
            and not text.endswith(("/", os.sep))
        ):
            return cls(file=path)
        return cls(folder=path)

    @property
    def stdout(self) -> bool:
        """Whether it is standard output."""
        return self.folder is None and self.file is None and not self.memory

    def path(self, stem: str, sample: int, samples: Sequence[int], settings: str) -> Path | None:
        """The file of a ``sample`` among ``samples`` of an input of that stem, in the folder of its ``settings``; None
        where results are not files.
        """
        number = "" if tuple(samples) == (1,) else f"_{sample}"
        if self.file is not None:
            return self.file.with_name(f"{self.file.stem}{number}{self.file.suffix}")
        if self.folder is None:
            return None
        if not self.pattern:
            return self.folder / settings / f"{stem}{number}{self.suffix}"
        path = self.folder / _filled(self.pattern, stem=stem, sample=str(sample), settings=settings or "all")
        return path if path.suffix else path.with_name(path.name + self.suffix)

    def beside(self, name: str) -> Path | None:
        """Where a picture of that name goes that stands beside the results; None where there is no such place."""
        if self.folder is not None:
            return self.folder / f"{name}.png"
        return None if self.file is None else self.file.with_name(f"{self.file.stem}_{name}.png")


def outputs_of(
    items: Sequence[Item],
    samples: Sequence[int],
    destination: Destination,
    *,
    gif: bool = False,
    join: str | None = None,
    noise: bool = False,
    folders: Sequence[str] = ("",),
) -> list[Output]:
    """The results asked for: ``cat.png``, or ``cat_1.png``, ``cat_2.png`` for several samples.

    ``folders``, below the destination, of the variants of a grid. ``join``: the format in which the results of all
    frames of an input are also together.

    UsageError when one file (or standard output) is to take several results, or an animation without a name.
    """
    if (count := len(items) * len(samples) * len(folders)) > MOST_RESULTS:
        raise UsageError(
            f"{len(items):,} inputs x {len(folders):,} settings x {len(samples):,} samples are {count:,} results, "
            f"and one run plans {MOST_RESULTS:,} at most",
            hint="fewer samples or settings, or several runs",
        )
    results = len(samples) if destination.stdout else 1
    one_place = destination.folder is None and not destination.memory
    if one_place and any(folders):
        what = "standard output" if destination.stdout else str(destination.file)
        raise UsageError(f"a grid of settings does not fit into {what}", hint="-o FOLDER")
    if one_place and (len(items) > 1 or results > 1):
        many = f"{len(items)} inputs" if len(items) > 1 else f"{results} samples"
        raise UsageError(f"{many} do not fit into one output", hint="-o FOLDER")
    if gif and (
        destination.stdout
        or destination.memory
        or (destination.file and destination.file.suffix.lower() == ".gif")
    ):
        raise UsageError("--gif writes an animation beside the result", hint="-o FILE.png or -o FOLDER")
    if join is not None:
        _check_joined(items, destination)
    if noise and (destination.stdout or destination.memory):
        raise UsageError("--save-noise writes a file beside the result", hint="-o FILE.png or -o FOLDER")
    outputs = []
    for variant, folder in enumerate(folders):
        for item, n in product(items, samples):
            path = destination.path(item.stem, n, samples, folder)
            animation = path.with_suffix(".gif") if gif and path is not None else None
            found = path.with_suffix(SUFFIX) if noise and path is not None else None
            whole = None
            if join is not None and item.frame is not None:
                whole = replace(destination, suffix=f".{join}").path(item.joined_stem, n, samples, folder)
                whole = None if whole is None else whole.with_suffix(f".{join}")
            outputs.append(Output(item, n, path, animation, variant=variant, joined=whole, noise=found))
    written = [(str(path), output.item.name) for output in outputs for path in output.files]
    joined = {str(output.joined): output.item.name for output in outputs if output.joined is not None}
    written += joined.items()
    refuse_equal([path for path, _ in written], [name for _, name in written])
    return outputs


def _check_joined(items: Sequence[Item], destination: Destination) -> None:
    """UsageError where there is no place for the results of all frames together, or nothing to put there."""
    if destination.folder is None:
        raise UsageError("--join writes a file beside numbered results", hint="-o FOLDER")
    if all(item.frame is None for item in items):
        raise UsageError(
            "--join puts the results of all frames of a file together, and no input has several",
            hint="--frames all takes all frames of animations and all pages of TIFFs",
        )


def _filled(pattern: str, **fields: str) -> str:
    for name, value in fields.items():
        pattern = pattern.replace(f"{{{name}}}", value)
    return pattern


def suffix_of(ext: str) -> str:
    """The suffix of files in the format ``ext``. UsageError where it is none of :data:`FORMATS`."""
    if ext not in FORMATS:
        close = did_you_mean(ext, FORMATS)
        raise UsageError(
            f"--ext {ext!r} is none of {', '.join(FORMATS)}", hint=close or "-o FILE.tiff for one file"
        )
    return f".{ext}"


def numbers_to(count: int) -> range:
    """The numbers of ``count`` samples. UsageError for more than :data:`MOST_SAMPLES`."""
    if count > MOST_SAMPLES:
        raise UsageError(
            f"{count:,} samples of an input are more than one run can plan: {MOST_SAMPLES:,}",
            hint="fewer with -n, or other samples with --seed",
        )
    return range(1, count + 1)


def check_sheet(sheet: Path) -> None:
    """UsageError when the contact sheet's name is not that of a picture."""
    if sheet.suffix.lower() not in PICTURE_SUFFIXES:
        what = (
            f"{sheet.suffix} is no picture format" if sheet.suffix else "the sheet needs a picture's suffix"
        )
        close = did_you_mean(sheet.suffix.lower(), PICTURE_SUFFIXES)
        raise UsageError(f"--sheet {sheet}: {what}", hint=close or f"--sheet {sheet.with_suffix('.png')}")


def check_places(files: Iterable[Path], inputs: Iterable[Path]) -> None:
    """See, without writing anything, that ``files`` can be written and are none of the ``inputs``.

    UsageError for an input, which is never changed, and for a folder; OutputError for a place that is not
    writable.
    """
    at = Folders()
    taken = {at.real(path) for path in inputs}
    parents: dict[Path, None] = {}
    for file in files:
        if at.real(file) in taken:
            raise UsageError(
                f"the output {file} is one of the inputs, which are never changed", hint="choose another name"
            )
        if is_folder(file):
            raise UsageError(f"the output {file} is a folder that exists", hint="choose another name")
        parents.setdefault(file.parent)
    for parent in parents:
        _check_writable(parent)


def _check_writable(folder: Path) -> None:
    if reason := _not_writable(nearest(folder)):
        raise OutputError(f"cannot write into {folder}: {reason}", hint=_ELSEWHERE)


@remembered
def _not_writable(folder: Path) -> str | None:
    """Why nothing can be written into a folder; None where it can."""
    if not is_folder(folder):
        return f"{folder} is not a folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "permission denied, or the disk is read-only"
    return None
