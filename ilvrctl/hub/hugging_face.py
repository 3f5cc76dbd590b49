"""Models on Hugging Face, fetched and kept by its own library, huggingface_hub.

Where files are (HF_HOME), who asks for them (HF_TOKEN), of whom (HF_ENDPOINT) and whether at all (HF_HUB_OFFLINE) is
up to that library and its environment. What is fetched is known by its commit, and proved by the digests that the
repository tells.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from ilvrctl import __version__
from ilvrctl.errors import IlvrctlError, MissingExtraError, WeightsError
from ilvrctl.events import Noted
from ilvrctl.files import file_sha256, inside, write_text
from ilvrctl.hub.address import Address, choose, holds_network
from ilvrctl.hub.errors import BrokenOffError, ContentError, DownloadError
from ilvrctl.hub.events import (
    Asking,
    Checking,
    Failed,
    Fetched,
    HubEvent,
    Present,
    Received,
    Retrying,
    Verified,
)
from ilvrctl.hub.hugging_face_errors import translated
from ilvrctl.hub.limits import Limits
from ilvrctl.hub.pins import load_pins, save_pin
from ilvrctl.hub.threads import told
from ilvrctl.text import visible

_MARGIN = 8 << 20  # bytes left free on the disk
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

Opens = Callable[[Path], None]
"""Opens a file or folder as a network; raises WeightsError that says what it is instead."""


@dataclass(frozen=True)
class Kept:
    """What is in the cache: the ``address`` with commit and file, and where it lies."""

    address: Address
    path: Path


@dataclass(frozen=True)
class _Listed:
    """A repository at a commit: sizes and digests of its files, and its licence."""

    commit: str
    sizes: Mapping[str, int]
    digests: Mapping[str, str]
    licence: str


def here(address: Address) -> Kept | None:
    """What an address means among the files that were fetched before; None where they are not here.

    No network is used. MissingExtraError without the library.
    """
    root = root_of(address)
    commit = _commit(root, address.revision or "main")
    snapshot = root / "snapshots" / commit
    if not commit or not snapshot.is_dir():
        return None
    file = address.file
    if not file and not holds_network(snapshot):
        pin = load_pins().get(str(address.at(commit)))
        if pin is None:
            return None
        file = Address.parse(pin.source).file
    path = snapshot / file
    there = path.is_file() or (path.is_dir() and holds_network(path))
    return Kept(address.at(commit, file), path) if there else None


def fetch(
    address: Address,
    opens: Opens,
    limits: Limits | None = None,
    *,
    overwrite: bool = False,
    offline: bool = False,
) -> Iterator[HubEvent]:
    """Have the files of an address here; what fails is told in a :class:`Failed`."""
    try:
        yield from _have(address, opens, limits or Limits(), overwrite, offline)
    except IlvrctlError as error:
        yield Failed(str(address), error)


def verify(address: Address, opens: Opens) -> Iterator[HubEvent]:
    """Read the files of an address again; a bad or missing one is told in a :class:`Failed`.

    Their names in the cache are the digests that the repository told.
    """
    try:
        kept = here(address)
        if kept is None:
            raise DownloadError(f"{address} is not here", hint=address.command)
        files = [kept.path] if kept.path.is_file() else sorted(p for p in kept.path.rglob("*") if p.is_file())
        yield Checking(str(address))
        for path in files:
            if _DIGEST.fullmatch(path.resolve().name):  # not so where the system has no links
                _compare(address, path, path.resolve().name)
        _opened(address, kept.path, opens)
        main = max(files, key=lambda path: path.stat().st_size)
        size = sum(path.stat().st_size for path in files)
        yield Verified(str(address), kept.path, size, file_sha256(main), "published")
    except IlvrctlError as error:
        yield Failed(str(address), error)


def _have(
    address: Address, opens: Opens, limits: Limits, overwrite: bool, offline: bool
) -> Generator[HubEvent, None, None]:
    hub, name, start = library(), str(address), time.monotonic()
    offline_too = bool(hub.constants.HF_HUB_OFFLINE)
    if not overwrite and (offline or offline_too or address.pinned) and (kept := here(address)) is not None:
        yield Present(name, kept.path)
        return
    if offline or offline_too:
        flag, way = ("HF_HUB_OFFLINE", "unset it") if offline_too else ("--offline", "leave it out")
        raise DownloadError(
            f"{name} is not here, and {flag} forbids to fetch it", hint=f"{way}, with a network"
        )
    host = urlsplit(hub.constants.ENDPOINT).netloc
    yield Asking(name, host)
    listed = yield from _patiently(address, limits, lambda tell: _list(hub, address, limits))
    path, files = choose(tuple(listed.sizes), address)
    for file in files:
        inside(Path(), file, f"a file of {name}", "the repository")
    pinned = address.at(listed.commit, path)
    snapshot = root_of(address) / "snapshots" / listed.commit
    missing = [file for file in files if overwrite or not (snapshot / file).is_file()]
    if not missing:
        _remember(address, pinned, listed, files)
        yield Present(name, snapshot / path)
        return
    yield Noted(f"licence of {name}: {listed.licence or 'none is stated'}")
    yield from _transfer(hub, address, listed, missing, limits, overwrite)
    yield Checking(name)
    for file in missing:
        try:
            _compare(address, snapshot / file, listed.digests[file])
        except ContentError:
            _discard(snapshot / file)
            raise
    _opened(address, snapshot / path, opens)
    _remember(address, pinned, listed, files)
    size, digest = sum(listed.sizes[file] for file in files), file_sha256(snapshot / _largest(listed, files))
    use = f"ilvrctl translate PICTURES --weights {shlex.quote(name)}"
    yield Fetched(name, snapshot / path, host, size, digest, "published", time.monotonic() - start, use)


def _list(hub: ModuleType, address: Address, limits: Limits) -> _Listed:
    """What the repository has."""
    found = hub.HfApi().model_info(
        address.repo, revision=address.revision or None, files_metadata=True, timeout=limits.timeout
    )
    sizes = {one.rfilename: one.size or 0 for one in found.siblings or ()}
    digests = {
        one.rfilename: str(one.lfs.sha256 if one.lfs else one.blob_id or "") for one in found.siblings or ()
    }
    card = found.card_data.to_dict() if found.card_data else {}
    licence = card.get("license_name") or card.get("license") or ""
    if not _COMMIT.fullmatch(str(found.sha)):
        raise DownloadError(f"{address}: the server tells no commit")
    return _Listed(str(found.sha), sizes, digests, visible(str(licence)))


def _transfer(
    hub: ModuleType, address: Address, listed: _Listed, files: list[str], limits: Limits, again: bool
) -> Iterator[HubEvent]:
    """Bring the files one after another, telling how many bytes of all are here."""
    total = sum(listed.sizes[file] for file in files)
    _need_room(hub, address, total)
    done = 0
    for file in files:
        work = partial(_one, hub, address.at(listed.commit, file), limits, again)
        event = partial(_received, str(address), done, total)
        yield from _patiently(address, limits, work, event)
        done += listed.sizes[file]
    yield Received(str(address), total, total)


def _one(hub: ModuleType, file: Address, limits: Limits, again: bool, tell: Callable[[int], None]) -> None:
    hub.hf_hub_download(
        file.repo,
        file.file,
        revision=file.revision,
        etag_timeout=limits.timeout,
        force_download=again,
        library_name="ilvrctl",
        library_version=__version__,
        tqdm_class=_bar(tell),
    )


def _received(name: str, before: int, total: int, come: int) -> Received:
    return Received(name, min(before + come, total), total)


def _patiently(
    address: Address,
    limits: Limits,
    work: Callable[[Callable[[int], None]], Any],
    received: Callable[[int], HubEvent] | None = None,
) -> Generator[HubEvent, None, Any]:
    """Do what asks the network, again where the connection broke; the generator's value is what it gives."""
    for failures in range(limits.retries + 1):
        try:
            with _patience(library(), limits):
                return (yield from told(work, received))
        except IlvrctlError:
            raise
        except Exception as error:
            known = translated(error, address)
            if not isinstance(known, BrokenOffError) or failures >= (limits.retries if known.hopeful else 1):
                raise known from error
            wait = limits.wait(failures, known.wait)
            yield Retrying(str(address), known.message, 0, wait)
            time.sleep(wait)
    raise AssertionError  # pragma: no cover  (the last attempt raises)


def _bar(tell: Callable[[int], None]) -> type[Any]:
    """What the library takes for a progress bar: it tells us how many bytes have come, and draws nothing."""

    class Bar:
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            tell(initial)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, n: int = 1) -> None:
            tell(n)

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_, **__: None

    return Bar


@contextmanager
def _patience(hub: ModuleType, limits: Limits) -> Iterator[None]:
    """The seconds of silence that end a transfer, which the library knows as a constant; and no lines of its own."""
    constants, log = hub.constants, hub.utils.logging
    before = constants.HF_HUB_DOWNLOAD_TIMEOUT, log.get_verbosity()
    constants.HF_HUB_DOWNLOAD_TIMEOUT = limits.timeout
    log.set_verbosity_error()
    try:
        yield
    finally:
        constants.HF_HUB_DOWNLOAD_TIMEOUT = before[0]
        log.set_verbosity(before[1])


def _need_room(hub: ModuleType, address: Address, wanted: int) -> None:
    folder = Path(hub.constants.HF_HUB_CACHE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise translated(error, address) from error
    free = shutil.disk_usage(folder).free
    if wanted + _MARGIN > free:
        raise DownloadError(
            f"{address} needs {wanted:,} more bytes, and {free:,} are free in {folder}",
            hint="make room, or name another folder in HF_HOME",
        )


def _compare(address: Address, path: Path, digest: str) -> None:
    """ContentError unless the file has the digest: sha256 of large files, git's own of the others."""
    if len(digest) == 64:
        found = file_sha256(path)
    else:
        content = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if found != digest:
        raise ContentError(
            f"{address}: {path.name} is not the file of the repository: its digest is {found}, and that is {digest}",
            hint=f"fetch it again: {address.command} --overwrite",
        )


def _discard(path: Path) -> None:
    """Forget a file that is not the one: its name, and its bytes where the library keeps them."""
    content = path.resolve()
    for one in (path, content):
        with suppress(OSError):
            one.unlink()


def _opened(address: Address, path: Path, opens: Opens) -> None:
    try:
        opens(path)
    except WeightsError as error:
        what = error.message.removeprefix(f"{path}: ")
        raise ContentError(f"{address}: {what}", error.hint) from error


def _largest(listed: _Listed, files: tuple[str, ...]) -> str:
    return max(files, key=lambda file: listed.sizes[file])


def _remember(address: Address, pinned: Address, listed: _Listed, files: tuple[str, ...]) -> None:
    """Note what is here, which file a repository without a name of one means, and where a branch stands.

    The last is the library's own note, which it makes only of files that it is asked for by the branch.
    """
    main, size = _largest(listed, files), sum(listed.sizes[file] for file in files)
    for key in {str(pinned), str(address.at(listed.commit))}:
        if key not in load_pins():
            save_pin(key, listed.digests[main], size, str(pinned))
    if not address.pinned:
        write_text(root_of(address) / "refs" / (address.revision or "main"), listed.commit)


def _commit(root: Path, revision: str) -> str:
    """The commit that a revision is, as far as is known here; "" for an unknown one."""
    with suppress(OSError):
        revision = (root / "refs" / revision).read_text(encoding="utf-8").strip()
    return revision if _COMMIT.fullmatch(revision) else ""


def root_of(address: Address) -> Path:
    """Where the library keeps what it has of a repository."""
    return Path(library().constants.HF_HUB_CACHE) / f"models--{address.repo.replace('/', '--')}"


def library() -> ModuleType:
    """huggingface_hub. MissingExtraError with the command that installs it where it is not here."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.utils
    except ImportError as error:
        raise MissingExtraError(
            "models on Hugging Face need the package huggingface_hub", "pip install 'ilvrctl[hf]'"
        ) from error
    found: ModuleType = huggingface_hub
    return found
