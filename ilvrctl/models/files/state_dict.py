"""Finding the network in what a checkpoint file holds: where the tensors of a known network lie. No torch here.

Any nesting and any prefix will do. Averaged (EMA) weights beside the raw ones may be a second copy, a copy under
names without dots (LitEma), or a list in the order of the named parameters (``shadow_params``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ilvrctl.errors import UsageError, WeightsError
from ilvrctl.models.files.averaged import AVERAGED, RAW, choice_note, is_averaged
from ilvrctl.models.files.described import Stored
from ilvrctl.models.files.formats import CLASSIFIER, identify
from ilvrctl.models.files.header import Header, read_header
from ilvrctl.models.files.rows import Format

_DEPTH = 12
_MOST = 100_000
_FEWEST = 16  # tensors of a network

Tensors = Mapping[str, Stored]


@dataclass(frozen=True)
class Step:
    """A step to a network: the ``text`` of a key or a prefix, and whether it says that the weights are averaged."""

    text: str
    averaged: bool = False


@dataclass(frozen=True)
class Candidate:
    """A network in the file: its ``tensors`` under bare names, the ``steps`` to them, and its format if known.

    ``beside``: arrays that lie next to it, such as ``betas``. ``counted``: an ``n_averaged`` is among them.
    """

    tensors: Tensors
    steps: tuple[Step, ...] = ()
    row: Format | None = None
    beside: Tensors = field(default_factory=dict)
    counted: bool = False

    @property
    def name(self) -> str:
        """What ``--set model.weights=`` calls it: keys and prefix, with / between them."""
        return "/".join(step.text.strip(".") for step in self.steps) or "all"

    @property
    def averaged(self) -> bool:
        """Whether something says that these are averaged weights."""
        return self.counted or any(step.averaged for step in self.steps)


@dataclass(frozen=True)
class Chosen:
    """The network that was taken, and the names of the ``others`` in the file."""

    taken: Candidate
    which: str = AVERAGED
    others: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """What people should know of the choice; None where there was none."""
        if self.passed:
            return (
                f"{self.passed[0]} holds averaged weights that do not fit the network beside them: not used"
            )
        averaged = self.which != RAW and self.taken.averaged
        return choice_note(self.taken.name, averaged, list(self.others)) if self.others else None


def find_network(path: Path, which: str = AVERAGED) -> tuple[Header, Chosen]:
    """What the checkpoint file ``path`` describes, and the network in it; errors as :func:`choose` has them."""
    header = read_header(path)
    try:
        return header, choose(header.content, which)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.message}", error.hint) from error


def choose(content: object, which: str = AVERAGED) -> Chosen:
    """The network in ``content``, whatever a file described, and of several the one that ``which`` says.

    ``which``: "averaged" (where there are such), "raw", or the name of one of them. Raises WeightsError where there
    is no network, or where nothing tells which of several is meant; UsageError for a name that none has.
    """
    shelves = list(_shelves(content))
    found = _copies([c for shelf in shelves for c in _networks(shelf)])
    known = [c for c in found if c.row is not None and c.row.denoises]
    known = known or [
        c for c in found if c.row is not None and c.row.name == CLASSIFIER and not _foreign(found)
    ]
    if not known:
        return Chosen(_best_guess(found, shelves, content))
    lists, passed = _lists(content, known)
    known += [*_dotless(shelves, known), *lists]
    taken = _resolve(known, which == AVERAGED, 0) if which in (AVERAGED, RAW) else _named(known, which)
    if which == RAW and taken.averaged and len(known) == 1:
        raise UsageError(
            "the file holds averaged weights alone, no raw ones", "leave out --set model.weights=raw"
        )
    others = tuple(c.name for c in known if c is not taken)
    return Chosen(taken, which, others, tuple(passed) if which == AVERAGED and not taken.averaged else ())


@dataclass(frozen=True)
class _Shelf:
    """A mapping of the file, with its named tensors, and the steps to it."""

    tensors: Tensors
    steps: tuple[Step, ...]


def _walk(content: object) -> Iterator[tuple[Any, tuple[Step, ...]]]:
    """Every dict and list in ``content`` once, the outermost first, with the steps to it."""
    pending: list[tuple[Any, tuple[Step, ...]]] = [(content, ())]
    seen: set[int] = set()
    for thing, steps in pending:  # grows while it is walked
        if id(thing) in seen or len(seen) > _MOST or len(steps) > _DEPTH:
            continue
        seen.add(id(thing))
        yield thing, steps
        if isinstance(thing, dict):
            pending += [
                (value, (*steps, _step(f"{key}"[:200]))) for key, value in thing.items() if _opens(value)
            ]
        elif isinstance(thing, (list, tuple)):
            pending += [(v, (*steps, Step(f"{i}"))) for i, v in enumerate(thing) if _opens(v)]


def _opens(thing: object) -> bool:
    return isinstance(thing, (dict, list, tuple)) and len(thing) > 0


def _step(text: str) -> Step:
    return Step(text, is_averaged(text))


def _shelves(content: object) -> Iterator[_Shelf]:
    for thing, steps in _walk(content):
        if isinstance(thing, dict):
            named = {k: v for k, v in thing.items() if isinstance(k, str) and isinstance(v, Stored)}
            if named:
                yield _Shelf(named, steps)


def _networks(shelf: _Shelf) -> Iterator[Candidate]:
    """The known networks among the tensors of a mapping, each under its prefix."""
    found = list(_search(shelf.tensors, ""))
    for prefix, row in found:
        inner = tuple(other for other, _ in found if other != prefix and other.startswith(prefix))
        group = {
            name[len(prefix) :]: x
            for name, x in shelf.tensors.items()
            if name.startswith(prefix) and not (inner and name.startswith(inner))
        }
        bare = {name: x for name, x in group.items() if not _stray(name, x)} if _readable(row) else group
        beside = _beside(shelf.tensors, prefix)
        steps = (*shelf.steps, _step(prefix)) if prefix else shelf.steps
        yield Candidate(bare, steps, row, beside, "n_averaged" in beside)


def _search(tensors: Tensors, prefix: str, *, inside: bool = False) -> Iterator[tuple[str, Format]]:
    """Prefixes with the format of what lies under them; one that cannot be read is not searched for others.

    ``inside``: below a network that can be read, where only such networks are looked for.
    """
    if prefix.count(".") > _DEPTH:
        return
    names = [name for name in tensors if name.startswith(prefix)]
    parts = Counter(name[len(prefix) :].partition(".")[0] for name in names if "." in name[len(prefix) :])
    row = identify({name[len(prefix) :]: tensors[name] for name in names}, readable=inside)
    if len(parts) == 1 and (row is None or not _readable(row)):  # a wrapper's name before all
        (part,) = parts
        inner = list(_search(tensors, f"{prefix}{part}.", inside=inside)) if len(names) > 1 else []
        if inner:
            yield from inner
            return
    if row is not None:
        yield prefix, row
    if row is None or _readable(row):
        for part, count in parts.items():
            if count >= _FEWEST and not (len(parts) == 1 and row is None):
                yield from _search(tensors, f"{prefix}{part}.", inside=inside or row is not None)


def _readable(row: Format) -> bool:
    return row.denoises or row.name == CLASSIFIER


def _stray(name: str, x: Stored) -> bool:
    """Whether a tensor is a count or a table that a trainer registered beside the layers: those have dots."""
    return (len(x.shape) < 2 and "." not in name) or (not x.shape and not name.endswith((".weight", ".bias")))


def _beside(tensors: Tensors, prefix: str) -> dict[str, Stored]:
    """Single numbers and arrays registered in the modules around the network, under their last names."""
    found: dict[str, Stored] = {}
    parts = prefix.split(".")[:-1]
    for depth in range(len(parts) + 1):  # the nearest win
        around = "".join(f"{part}." for part in parts[:depth])
        for name, x in tensors.items():
            if name.startswith(around) and _stray(name[len(around) :], x) and "." not in name[len(around) :]:
                found[name[len(around) :]] = x
    return found


def _foreign(found: Sequence[Candidate]) -> bool:
    return any(c.row is not None and not _readable(c.row) for c in found)


def _copies(found: list[Candidate]) -> list[Candidate]:
    """Without those that are the same tensors as another: dicts that hold each other, two names of one thing."""
    different: list[Candidate] = []
    for candidate in found:
        if all(candidate.tensors != other.tensors for other in different):
            different.append(candidate)
    return different


def _best_guess(found: Sequence[Candidate], shelves: Sequence[_Shelf], content: object) -> Candidate:
    """What to show where no readable network was found: one with a name, else the most tensors.

    WeightsError where there are no named tensors, or those of an optimizer.
    """
    if found:
        return max(found, key=lambda c: (len(c.tensors), sum(len(step.text) for step in c.steps)))
    if any(isinstance(t, dict) and {"state", "param_groups"} <= set(t) and not s for t, s in _walk(content)):
        raise WeightsError(
            "the state of an optimizer (an opt*.pt file), not the weights of a network",
            "give the ema_*.pt or model*.pt file beside it",
        )
    if not shelves:
        raise WeightsError("holds no network: no named tensors in it", f"found {_describe(content)}")
    shelf = max(shelves, key=lambda shelf: len(shelf.tensors))
    tensors, steps = dict(shelf.tensors), list(shelf.steps)
    while (prefix := next(iter(tensors)).partition(".")[0] + ".") and all(
        name.startswith(prefix) and name != prefix for name in tensors
    ):
        tensors = {name[len(prefix) :]: x for name, x in tensors.items()}
        steps.append(Step(prefix))
    return Candidate(tensors, tuple(steps))


def _dotless(shelves: Sequence[_Shelf], known: Sequence[Candidate]) -> Iterator[Candidate]:
    """Averaged copies whose names have lost their dots, as LitEma's buffers."""
    for candidate in known:
        flat = {name.replace(".", ""): name for name in candidate.tensors}
        longest = max(flat, key=len, default="-")
        for shelf in shelves:
            for prefix in {n[: -len(longest)] for n in shelf.tensors if n.endswith(longest)}:
                found = {name: shelf.tensors.get(prefix + bare) for bare, name in flat.items()}
                if all(
                    x is not None and x.shape == candidate.tensors[n].shape for n, x in found.items()
                ) and any("." in name for name in candidate.tensors):
                    tensors = {name: x for name, x in found.items() if x is not None}
                    step = Step(prefix or "names without dots", averaged=True)
                    yield replace(candidate, tensors=tensors, steps=(*shelf.steps, step))


def _lists(content: object, known: Sequence[Candidate]) -> tuple[list[Candidate], list[str]]:
    """Averaged weights that are a list in the order of a network's tensors; the names of those that fit none."""
    found, passed = [], []
    for thing, steps in _walk(content):
        tensors = [x for x in thing if isinstance(x, Stored)] if isinstance(thing, (list, tuple)) else []
        if len(tensors) < 4 or len(tensors) != len(thing) or not any(step.averaged for step in steps):
            continue
        shapes = [x.shape for x in tensors]
        fits = [c for c in known if [x.shape for x in c.tensors.values()] == shapes]
        if fits:
            named = dict(zip(fits[0].tensors, tensors, strict=True))
            found.append(replace(fits[0], tensors=named, steps=steps))
        else:
            passed.append("/".join(step.text for step in steps))
    return found, passed


def _resolve(known: Sequence[Candidate], averaged: bool, depth: int) -> Candidate:
    """Of several networks the one that the marks at their first different steps tell."""
    if len(known) == 1:
        return known[0]
    groups: dict[Step, list[Candidate]] = {}
    for candidate in known:
        step = candidate.steps[depth] if depth < len(candidate.steps) else Step("", candidate.counted)
        groups.setdefault(step, []).append(candidate)
    if len(groups) == 1 and depth <= _DEPTH:
        return _resolve(known, averaged, depth + 1)
    marked = [step for step in groups if step.averaged or all(c.counted for c in groups[step])]
    if not marked and all(step.text.isdecimal() for step in groups):
        marked = [max(groups, key=lambda step: int(step.text))]  # ddim's list: the averaged weights come last
    wanted = [step for step in groups if (step in marked) == averaged] or list(groups)
    if len(wanted) != 1 or len(groups) == 1:
        names = ", ".join(c.name for c in known)
        raise WeightsError(
            f"holds several networks, and nothing tells which is meant: {names}",
            f"--set model.weights={known[0].name}   (or another of them)",
        )
    return _resolve(groups[wanted[0]], averaged, depth + 1)


def _named(known: Sequence[Candidate], name: str) -> Candidate:
    wanted = name.replace(".", "/").strip("/")
    for candidate in known:
        if candidate.name.replace(".", "/") == wanted:
            return candidate
    raise UsageError(
        f"no weights are called {name!r} in the file; there are: {', '.join(c.name for c in known)}",
        f"--set model.weights={known[0].name}, averaged or raw",
    )


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return "a dict with the keys " + (", ".join(repr(key)[:40] for key in list(content)[:5]) or "none")
    return f"an object of type {type(content).__name__}"
