"""One model after another: its sources in turn, each with patience, and nothing under the final name unproved."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial as bound

from ilvrctl.errors import IlvrctlError
from ilvrctl.events import Warned
from ilvrctl.files import lock_of, try_acquire
from ilvrctl.hub import drive, partial, web
from ilvrctl.hub.errors import BrokenOffError, ContentError, DownloadError, SourceError
from ilvrctl.hub.events import Asking, Failed, Fetched, HubEvent, Present, Retrying, SourceFailed, Waiting
from ilvrctl.hub.limits import LONGEST_WAIT, Limits, Pace
from ilvrctl.hub.partial import Part, part_of, unfinished
from ilvrctl.hub.pins import load_pins, lock_path, save_pin
from ilvrctl.hub.registry import Item, Source, items_of, use_of
from ilvrctl.hub.verify import Check, Proof, own_place, prove
from ilvrctl.model_preset import ModelPreset, parts_of

_POLL = 0.2  # seconds
_MOST = 200  # attempts at one source, however well each goes


@dataclass(frozen=True)
class Order:
    """How to fetch. ``check`` opens a file as what it should be; ``overwrite``: also what is there already."""

    check: Check
    limits: Limits = field(default_factory=Limits)
    overwrite: bool = False
    offline: bool = False


def fetch(models: Sequence[ModelPreset], order: Order) -> Iterator[HubEvent]:
    """Have all ``models`` here; what fails is told in a :class:`Failed`, and the others go on."""
    for model in parts_of(models):
        try:
            if model.unsupported:
                yield Warned(f"{model.name} cannot be used for translation: {model.unsupported}")
            if not model.downloaded:
                yield own_place(model)
                continue
            for alternatives in items_of(model):
                yield from _one_of(alternatives, order)
        except IlvrctlError as error:
            yield Failed(model.name, error, _unfinished(model))


def _unfinished(model: ModelPreset) -> int:
    try:
        return sum(unfinished(item) for alternatives in items_of(model) for item in alternatives)
    except IlvrctlError:
        return 0


def _one_of(alternatives: Sequence[Item], order: Order) -> Iterator[HubEvent]:
    """The first of the alternatives that some source has."""
    if not order.overwrite and (here := [item for item in alternatives if item.path.is_file()]):
        yield present(here[0])
        return
    for number, item in enumerate(alternatives, 1):
        try:
            yield from locked(item, order.overwrite, bound(_from_sources, item, order))
            return
        except (ContentError, partial.NoRoomError):
            raise
        except DownloadError as error:
            if number == len(alternatives):
                raise
            yield SourceFailed(item.name, item.key, error, len(alternatives) - number)


def present(item: Item, *, after_waiting: bool = False) -> Present:
    """The file is there. ContentError when it cannot be the right one by its size."""
    size, pin = item.path.stat().st_size, load_pins().get(item.key)
    expected = pin.size if pin is not None else item.size
    if expected is not None and size != expected:
        raise ContentError(
            f"{item.path} is there, but has {size:,} bytes and should have {expected:,}",
            hint=f"fetch it again: ilvrctl download {item.model.name} --overwrite",
        )
    if item.sha256 and pin is not None and pin.sha256 != item.sha256:
        raise ContentError(
            f"{item.path} is there, with the sha256 {pin.sha256} and not {item.sha256}",
            hint=f"fetch it again with --overwrite, or read it again: ilvrctl download {item.model.name} --verify",
        )
    return Present(item.name, item.path, after_waiting)


def locked(item: Item, overwrite: bool, work: Callable[[], Iterator[HubEvent]]) -> Iterator[HubEvent]:
    """Do the work while no other process works on the same file; what that one leaves is not made again."""
    try:
        lock, waited = lock_of(lock_path(item.key)), False
        while not try_acquire(lock):
            if not waited:
                yield Waiting(item.name)
            waited = True
            time.sleep(_POLL)
        try:
            if item.path.is_file() and (waited or not overwrite):
                yield present(item, after_waiting=waited)
                return
            item.path.parent.mkdir(parents=True, exist_ok=True)
            yield from work()
        finally:
            lock.release()
    except OSError as error:
        raise DownloadError(
            f"{item.name}: cannot write to {item.path.parent}: {error.strerror or error}",
            hint="make room or give permission there, or name another folder in ILVRCTL_WEIGHTS",
        ) from error


def _from_sources(item: Item, order: Order) -> Iterator[HubEvent]:
    """Ask one source after another until one delivers what can be proved."""
    _need_sources(item, order)
    sources, errors = _begun_first(item), list[IlvrctlError]()
    for left, source in zip(range(len(sources) - 1, -1, -1), sources, strict=True):
        start, part = time.monotonic(), part_of(item, source)
        yield Asking(item.name, str(source), part.kept(source))
        try:
            if not part.whole(source):
                yield from _persist(item, source, order.limits)
            proof = yield from _proved(item, part, order.check, source.short())
        except partial.NoRoomError:
            raise
        except (SourceError, ContentError) as error:
            errors.append(error)
            yield SourceFailed(item.name, source.short(), error, left)
            continue
        put(item, part, proof, str(source))
        yield fetched(item, proof, str(source), time.monotonic() - start)
        return
    raise _summary(item, errors)


def _need_sources(item: Item, order: Order) -> None:
    own = f"ilvrctl download {item.model.name} --file PATH"
    if not item.sources and item.model.unsupported:
        raise DownloadError(f"{item.name}: {item.model.unsupported}", hint=item.model.notes or None)
    if not item.sources:
        raise DownloadError(
            f"{item.name}: nobody is known to have this file", hint=f"if you have it: {own}; or --url URL"
        )
    if order.offline:
        raise DownloadError(
            f"{item.name} is not here, and --offline forbids to fetch it",
            hint=f"leave out --offline, or: {own}",
        )


def _begun_first(item: Item) -> tuple[Source, ...]:
    """The sources, beginning with the one of which there are bytes already."""
    return tuple(sorted(item.sources, key=lambda source: part_of(item, source).kept(source) == 0))


def _persist(item: Item, source: Source, limits: Limits) -> Iterator[HubEvent]:
    """Attempts at one source until all bytes are here. SourceError when they bring nothing new any more."""
    attempt, failures = (web.attempt if source.kind == "web" else drive.attempt), 0
    part, pace = part_of(item, source), Pace(limits)
    for _ in range(_MOST):
        before = part.kept(source)
        pace.begin()
        try:
            yield from attempt(item, source, limits, pace)
            return
        except BrokenOffError as error:
            kept = part.kept(source)
            failures = 1 if kept > before else failures + 1
            if failures > (limits.retries if error.hopeful else min(limits.retries, 1)):
                raise _gave_up(error, part, kept) from error
            if error.wait > LONGEST_WAIT:
                raise SourceError(f"{error.message}, for another {error.wait:.0f} s") from error
            wait = limits.wait(failures - 1, error.wait)
            yield Retrying(item.name, error.message, kept, wait)
            time.sleep(wait)
        except SourceError as error:
            raise _gave_up(error, part, part.kept(source)) from error
    raise SourceError(f"{source.short()} breaks off again and again")


def _gave_up(error: SourceError, part: Part, kept: int) -> SourceError:
    """The error with what can be gone on with; what cannot is removed."""
    if not kept:
        part.discard()
        return error
    return SourceError(error.message, f"{kept:,} bytes are kept, and the same command goes on from there")


def _proved(item: Item, part: Part, check: Check, source: str) -> Generator[HubEvent, None, Proof]:
    """As :func:`prove`; a file that is not the one is removed."""
    try:
        return (yield from prove(item, part.path, check, source))
    except ContentError:
        part.discard()
        raise


def put(item: Item, part: Part, proof: Proof, source: str) -> None:
    """Give a proved file its name, and remember what it is."""
    with part.path.open("rb") as file:
        os.fsync(file.fileno())
    if proof.trust != "pinned":
        save_pin(item.key, proof.sha256, proof.size, source)
    part.path.replace(item.path)
    partial.discard(item)


def fetched(item: Item, proof: Proof, source: str, seconds: float) -> Fetched:
    """The file is in place."""
    return Fetched(
        item.name, item.path, source, proof.size, proof.sha256, proof.trust, seconds, use_of(item.model)
    )


def _summary(item: Item, errors: Sequence[IlvrctlError]) -> IlvrctlError:
    """What to tell when no source delivered: exit code 3 when something came that was not the file."""
    if len(errors) == 1:
        message = errors[0].message
    else:
        message = f"none of the {len(errors)} sources of {item.name} delivered it:" + "".join(
            f"\n  - {error.message}" for error in errors
        )
    hints = [error.hint for error in errors if error.hint]
    hint = hints[0] if hints else f"if you have the file: ilvrctl download {item.model.name} --file PATH"
    kind = ContentError if any(isinstance(error, ContentError) for error in errors) else DownloadError
    return kind(message, hint)
