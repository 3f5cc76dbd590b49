"""What results are called: each after its own input, and as it was called before."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ilvrctl.plans.digest import sha256_hex
from ilvrctl.plans.inputs import Item, refuse_equal
from ilvrctl.plans.outputs import Destination
from ilvrctl.plans.past import Past
from ilvrctl.plans.record import made_from


@dataclass
class Earlier:
    """The results that are there: of which input each was made, as the manifest or its own record tells.

    ``files``: where the results of a name are, or would be.
    """

    files: Callable[[str], Iterable[Path]]
    past: Past | None = None
    _listed: dict[str, frozenset[str]] = field(default_factory=dict)

    def inputs_of(self, stem: str) -> Iterator[tuple[str, bool]]:
        """The names of the files whose results have this name, and whether such a result is there."""
        for path in self.files(stem):
            there = self._there(path)
            entry = None if self.past is None else self.past.entry_at(path)
            if entry is not None:
                yield PurePosixPath(entry.input).name, there
            elif there and (name := made_from(path)) is not None:
                yield name.input, True

    def _there(self, path: Path) -> bool:
        """Whether a file is there; a folder is listed once."""
        top, name = os.path.split(path)
        if top not in self._listed:
            try:
                self._listed[top] = frozenset(path.name for path in Path(top).iterdir())
            except OSError:
                self._listed[top] = frozenset()
        return name in self._listed[top]


def name_results(
    items: Sequence[Item],
    destination: Destination,
    numbers: Sequence[int],
    folders: Sequence[str],
    past: Past | None = None,
) -> list[Item]:
    """The items with the names of their results in the folder of ``destination``, by the rule of :func:`named`."""

    def files(stem: str) -> Iterator[Path]:
        for folder in folders:
            for n in numbers:
                if (path := destination.path(stem, n, numbers, folder)) is not None:
                    yield path

    fresh = destination.folder is None or not destination.folder.is_dir()
    return named(items, Earlier((lambda stem: ()) if fresh else files, past))


def named(items: Sequence[Item], earlier: Earlier) -> list[Item]:
    """The items with a name of its own for the results of each, in ``stem``.

    The names that an input can have, in this order: its own without the suffix (``photo``), with it
    (``photo-jpg``), and with eight digits of the sha256 of its whole name (``photo-jpg-1c0ffee5``). It has

    1. the one that its results have already, which tell what they were made of; else
    2. the first that is free: that belongs to no result of another input, and is not among the names of another
       input of this run, capitals and small letters being the same; the names with suffix of others do not count
       against a plain one.

    So what is made once is found again whatever comes beside it later, nothing is made twice, and no input takes the
    name of another's result. UsageError for two inputs of the same name from different folders.
    """
    every = [_names(item) for item in items]
    _refuse_same(items, every)
    plain, longer = (Counter(names[n].casefold() for names in every) for n in (0, 1))
    chosen = [_claimed(item, names, earlier) for item, names in zip(items, every, strict=True)]
    taken = {name.casefold() for name in chosen if name is not None}

    def free(item: Item, names: Sequence[str], n: int) -> bool:
        key = names[n].casefold()
        own = [name.casefold() for name in names[:2]]
        rivals = plain[key] - (own[0] == key) + (0 if n == 0 else longer[key] - (own[1] == key))
        return not rivals and key not in taken and not _anothers(item, names[n], earlier)

    return [
        replace(item, stem=name or next((names[n] for n in (0, 1) if free(item, names, n)), names[2]))
        for item, names, name in zip(items, every, chosen, strict=True)
    ]


def _names(item: Item) -> tuple[str, str, str]:
    """The names that its results can have, in order; what is no file has one alone."""
    if item.path is None:
        return item.stem, item.stem, item.stem
    longer = f"{item.stem}-{item.path.suffix[1:].lower()}" if item.path.suffix else item.stem
    return item.stem, longer, f"{longer}-{sha256_hex(os.fsencode(item.path.name))[:8]}"


def _refuse_same(items: Sequence[Item], every: Sequence[tuple[str, str, str]]) -> None:
    """UsageError when two inputs have the same names, all of them."""
    count = Counter(names[2] for names in every)
    same = [(item, names) for item, names in zip(items, every, strict=True) if count[names[2]] > 1]
    refuse_equal([names[1] for _, names in same], [item.name for item, _ in same])


def _claimed(item: Item, names: Sequence[str], earlier: Earlier) -> str | None:
    """The name that the input's results have already."""
    own = item.file_name
    return next((name for name in names if any(own == of for of, _ in earlier.inputs_of(name))), None)


def _anothers(item: Item, name: str, earlier: Earlier) -> bool:
    """Whether a result of that name is there that was made of another input."""
    return any(there and of != item.file_name for of, there in earlier.inputs_of(name))
