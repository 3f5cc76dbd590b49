"""Proof of what arrived: bytes, hashes, and that it opens as what it is announced to be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ilvrctl import paths
from ilvrctl.errors import IlvrctlError, WeightsError
from ilvrctl.events import Warned
from ilvrctl.hub.errors import ContentError, DownloadError
from ilvrctl.hub.events import Checking, Failed, HubEvent, Present, Received, Trust, Verified
from ilvrctl.hub.pins import Pin, load_pins, pin_file, save_pin
from ilvrctl.hub.registry import Item, items_of
from ilvrctl.model_preset import ModelPreset, parts_of

Check: TypeAlias = Callable[[Item, Path], None]
"""Opens a file as what it is announced to be; raises WeightsError that says what it is instead."""

_CHUNK = 4 << 20
_TOLERANCE = (0.95, 1.25)  # of the computed size, which leaves out names and optimiser states


@dataclass(frozen=True)
class Proof:
    """What a file is, and what vouches for it."""

    size: int
    sha256: str
    trust: Trust


def hashes(path: Path, *, md5: bool = False) -> tuple[str, str]:
    """sha256 and md5 ("" unless asked for) of a file, in hexadecimal."""
    sha256, second = hashlib.sha256(), hashlib.md5(usedforsecurity=False) if md5 else None
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            if second is not None:
                second.update(chunk)
    return sha256.hexdigest(), second.hexdigest() if second is not None else ""


def prove(item: Item, path: Path, check: Check, source: str) -> Generator[HubEvent, None, Proof]:
    """Compare the file at ``path`` with all that is known of ``item``.

    The generator's value is the proof. Raises :class:`ContentError` for anything but the file.
    """
    size = path.stat().st_size
    if item.size is not None and size != item.size:
        raise ContentError(f"{item.name}: {size:,} bytes came from {source}, and the file has {item.size:,}")
    yield Checking(item.name)
    try:
        check(item, path)
    except WeightsError as error:
        what = error.message.removeprefix(f"{path}: ")
        raise ContentError(f"{item.name}: what came from {source} is {what}", error.hint) from error
    if (odd := _odd_size(item, size)) is not None:
        yield Warned(odd)
    sha256, md5 = hashes(path, md5=bool(item.md5))
    return Proof(size, sha256, compare(item, sha256, md5, source))


def compare(item: Item, sha256: str, md5: str, source: str) -> Trust:
    """What vouches for a file with these hashes. ContentError when something speaks against it."""
    if item.sha256:
        if sha256 != item.sha256:
            raise _wrong(item, source, f"its sha256 is {sha256}, and the published one is {item.sha256}")
        return "published"
    if not sha256.startswith(item.sha256_start):
        begins = f"its sha256 is {sha256}, and the published one begins with {item.sha256_start}"
        raise _wrong(item, source, begins)
    if item.md5 and md5 != item.md5:
        raise _wrong(item, source, f"its md5 is {md5}, and the published one is {item.md5}")
    pin = load_pins().get(item.key)
    if pin is not None:
        if pin.sha256 != sha256:
            raise _changed(item, pin, sha256, source)
        return "pinned"
    return "published" if item.md5 else "first seen"


def _wrong(item: Item, source: str, why: str) -> ContentError:
    return ContentError(
        f"{item.name}: the file from {source} is not the one that was published: {why}",
        hint="if you know that this is the right file: ilvrctl download "
        f"{item.model.name} --sha256 HEX, with the hash you trust",
    )


def _changed(item: Item, pin: Pin, sha256: str, source: str) -> ContentError:
    return ContentError(
        f"{item.name}: the file from {source} is not the one first seen on {pin.seen} from {pin.source}: "
        f"its sha256 is {sha256}, and that was {pin.sha256}",
        hint=f"if you trust this one, say so: ilvrctl download {item.model.name} --sha256 {sha256}  "
        f"(the pins are in {pin_file()})",
    )


def _odd_size(item: Item, size: int) -> str | None:
    if item.size_about is None or item.size is not None or item.sha256:
        return None
    low, high = (share * item.size_about for share in _TOLERANCE)
    if low <= size <= high:
        return None
    return f"{item.name} has {size:,} bytes, where the architecture asks for about {item.size_about:,}"


def verify(item: Item, check: Check) -> Iterator[HubEvent]:
    """Read an installed file again. ContentError when it is not what it was, or never was right."""
    path = item.path
    size = path.stat().st_size
    yield Received(item.name, 0, size)
    try:
        proof = yield from prove(item, path, check, "this folder")
    except ContentError as error:
        again = f"ilvrctl download {item.model.name} --overwrite"
        what = error.message.replace("what came from this folder", str(path))
        hint = error.hint if error.hint and "--sha256" in error.hint else None
        raise ContentError(what, f"fetch it again: {again}" + (f"; or {hint}" if hint else "")) from error
    if proof.trust == "first seen":
        save_pin(item.key, proof.sha256, size, "this folder")
    yield Verified(item.name, path, size, proof.sha256, proof.trust)


def verify_all(models: Iterable[ModelPreset], check: Check) -> Iterator[HubEvent]:
    """Read the files of all ``models`` again; a bad or missing one is told in a :class:`Failed`."""
    for model in parts_of(models):
        try:
            alternatives = items_of(model) if model.downloaded else ()
            if not alternatives:
                yield own_place(model)
        except IlvrctlError as error:
            yield Failed(model.name, error)
            continue
        for items in alternatives:
            here = next((item for item in items if item.path.is_file()), items[0])
            try:
                if not here.path.is_file():
                    hint = f"ilvrctl download {model.name}"
                    raise DownloadError(f"{here.name} is not in {paths.weights_dir()}", hint)
                yield from verify(here, check)
            except IlvrctlError as error:
                yield Failed(here.name, error)
            except OSError as error:
                what = f"{here.path} cannot be read: {error.strerror or error}"
                yield Failed(here.name, ContentError(what))


def own_place(model: ModelPreset) -> Present:
    """A model that is not in the weights folder is where its preset says. DownloadError when it is not."""
    if not model.installed():
        who = "comes with ilvrctl" if model.bundled else "is a file of your own"
        hint = "install ilvrctl again" if model.bundled else "put it back, or change its preset"
        raise DownloadError(f"{model.name} {who}, and is missing: no {model.path()}", hint)
    return Present(model.name, model.path())
