"""Which result belongs to which picture: by what the result's record tells, else by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from ilvrctl.errors import UsageError
from ilvrctl.evaluation.sets import Picture, ResultSet, numbered

_NAMED = 5


@dataclass(frozen=True)
class Partners:
    """A result, the ``key`` of what it shows, its ``sample`` number, and its partners where there are any."""

    output: Picture
    key: str
    sample: int
    source: Picture | None = None
    truth: Picture | None = None


def pair_runs(
    runs: Sequence[ResultSet],
    sources: Sequence[Picture] | None,
    truths: Sequence[Picture] | None,
    *,
    common: bool = False,
) -> list[list[Partners]]:
    """The pairs of every run, in order of names.

    A result of ilvrctl tells its input (by content, else by name); another is paired by its own name, then by its
    name without ``_2``. Every run must have every picture of both sides and no other, so that runs are compared on
    the same pictures; with ``common`` those are taken that all have. UsageError naming what is missing, and where.
    """
    sides = {"source": sources, "truth": truths}
    given = {name: {p.stem: p for p in side} for name, side in sides.items() if side is not None}
    keys = _keys_of_sides(given, common)
    paired = [[_pair(picture, given, keys) for picture in run.pictures] for run in runs]
    if keys is None:
        return paired
    wanted = keys if not common else keys.intersection(*({pair.key for pair in pairs} for pairs in paired))
    if not wanted:
        raise UsageError(
            f"no result has a partner: the names of {runs[0].name} ({_some(p.stem for p in runs[0].pictures)}) "
            f"are not those of the {' or the '.join(given)} ({_some(sorted(keys))})",
            "results are paired by name: cat.png or cat_2.png with cat.jpg",
        )
    if not common:
        for run, pairs in zip(runs, paired, strict=True):
            _refuse_unequal(run.name, pairs, wanted)
    return [[_with_frame(pair) for pair in pairs if pair.key in wanted] for pairs in paired]


def _with_frame(pair: Partners) -> Partners:
    """The pair under a key of its own for every frame of an input."""
    frame = pair.output.frame
    return pair if frame is None else replace(pair, key=f"{pair.key}#{frame}")


def _keys_of_sides(given: Mapping[str, Mapping[str, Picture]], common: bool) -> set[str] | None:
    """The names that source and truth have; None without either."""
    if not given:
        return None
    first, *rest = (set(side) for side in given.values())
    if rest and not common and first != rest[0]:
        a, b = given
        lacking = [*_lacking(a, rest[0] - first), *_lacking(b, first - rest[0])]
        raise UsageError(
            f"source and truth have different names: {'; '.join(lacking)}", "--common compares what all have"
        )
    return first.intersection(*rest)


def _lacking(side: str, names: set[str]) -> list[str]:
    return [f"the {side} has no {_some(sorted(names))}"] if names else []


def _pair(picture: Picture, given: Mapping[str, Mapping[str, Picture]], keys: set[str] | None) -> Partners:
    key, sample = _key(picture, given.get("source", {}), keys)
    sides = {name: _frame(side.get(key), picture.frame) for name, side in given.items()}
    return Partners(picture, key, sample, sides.get("source"), sides.get("truth"))


def _frame(partner: Picture | None, frame: int | None) -> Picture | None:
    """The partner, of which that frame is meant."""
    return partner if partner is None or frame is None else replace(partner, frame=frame)


def _key(picture: Picture, sources: Mapping[str, Picture], keys: set[str] | None) -> tuple[str, int]:
    stripped, number = numbered(picture.stem)
    if picture.source_file is not None and picture.source_stem is not None:
        if keys is not None and picture.source_file in keys:
            return picture.source_file, picture.sample
        if keys is None or picture.source_stem in keys:
            return picture.source_stem, picture.sample
        same = [stem for stem, p in sources.items() if p.digest == picture.source_digest]
        if same:
            return same[0], picture.sample
    if keys is not None and picture.stem not in keys:
        if (named := PurePosixPath(picture.stem).with_name(picture.path.name).as_posix()) in keys:
            return named, picture.sample
        if stripped in keys:
            return stripped, number
    return picture.stem, picture.sample


def _refuse_unequal(name: str, pairs: Sequence[Partners], wanted: set[str]) -> None:
    have = {pair.key for pair in pairs}
    missing, extra = sorted(wanted - have), sorted(have - wanted)
    parts = [f"{len(missing)} have no result in {name} ({_some(missing)})"] if missing else []
    parts += [f"{len(extra)} of {name} have no partner ({_some(extra)})"] if extra else []
    if parts:
        raise UsageError(f"the names differ: {'; '.join(parts)}", "--common compares what all have")


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
