"""How real a set of results is: metrics of the set on the features of one extractor, against real pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ilvrctl.evaluation.catalogue import Metric
from ilvrctl.evaluation.features import Extractor

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.metrics.intervals import Estimate
    from ilvrctl.metrics.statistics import SetStatistics


@dataclass(frozen=True)
class Real:
    """The real pictures' features (n, d), with their names, or statistics alone."""

    extractor: Extractor
    features: Tensor | None = None
    stems: Sequence[str] = ()
    statistics: SetStatistics | None = None

    def shown_by(self, keys: Sequence[str]) -> list[int | None]:
        """Which real picture shows the same thing as a result of that key, by name; None where there is none."""
        place = {stem: i for i, stem in enumerate(self.stems)}
        return [place.get(key) for key in keys]


@dataclass(frozen=True)
class Judged:
    """Results by their ``features`` (n, d) and the ``keys`` of what they show, beside the real pictures."""

    features: Tensor
    keys: Sequence[str]
    real: Real
    resamples: int
    seed: int

    def near(self, k: int = 1) -> Tensor | None:
        """The real pictures' features where both sides have more than k; None where there are too few, or none."""
        theirs = self.real.features
        return theirs if theirs is not None and min(len(self.features), len(theirs)) > k else None


def _frechet(judged: Judged) -> Estimate | None:
    from ilvrctl.metrics import distances
    from ilvrctl.metrics.intervals import Estimate

    real = judged.real
    if len(judged.features) < 2 or (real.extractor.name != "inception" and real.features is not None):
        return None
    mine = distances.moments(judged.features)
    theirs = real.statistics if real.features is None else distances.moments(real.features)
    if theirs is None or (real.features is not None and len(real.features) < 2):
        return None
    value = distances.frechet(mine.mean, mine.covariance, theirs.mean, theirs.covariance)
    return Estimate(value, None, None, len(judged.features))


def _kid(judged: Judged) -> Estimate | None:
    from ilvrctl.metrics.distances import kid

    theirs = judged.near()
    return None if theirs is None else kid(judged.features, theirs, judged.real.shown_by(judged.keys))


def _precision(judged: Judged) -> Estimate | None:
    from ilvrctl.metrics.distances import NEIGHBOURS

    theirs = judged.near(NEIGHBOURS)
    return None if theirs is None else _share(judged, judged.features, theirs, judged.keys)


def _recall(judged: Judged) -> Estimate | None:
    from ilvrctl.metrics.distances import NEIGHBOURS

    theirs = judged.near(NEIGHBOURS)
    return None if theirs is None else _share(judged, theirs, judged.features, judged.real.stems)


def _share(judged: Judged, points: Tensor, cloud: Tensor, names: Sequence[str]) -> Estimate:
    """How many of the points lie inside the cloud, over their names."""
    from ilvrctl.metrics.distances import inside
    from ilvrctl.metrics.intervals import bootstrap_means

    values = inside(points, cloud).double()[:, None]
    return bootstrap_means(values, names, resamples=judged.resamples, seed=judged.seed)[0]


def realism_metrics(extractor: str) -> dict[str, Metric]:
    """Fréchet distance, KID, precision and recall on the features of ``extractor``: FID and KID are Inception's."""
    published = extractor == "inception"
    tail, named = ("", "") if published else (f"_{extractor.replace('-', '_')}", f" ({extractor})")
    frechet = "FID" if published else "Fréchet distance"
    return {
        "frechet": Metric(
            "fid" if published else f"frechet{tail}",
            f"{frechet}{named}",
            "Fréchet distance of Gaussians; biased upwards by few pictures, no interval",
            of_set=_frechet,
        ),
        "kid": Metric(
            f"kid{tail}",
            f"KID x1000{named}",
            "unbiased squared MMD of all pictures, kernel (x.y/d + 1)^3; +- 1.96 jackknife standard errors",
            scale=1000,
            digits=1,
            of_set=_kid,
        ),
        "precision": Metric(
            f"precision{tail}",
            f"precision{named}",
            "results within the real set, k = 3",
            "high",
            digits=3,
            of_set=_precision,
        ),
        "recall": Metric(
            f"recall{tail}",
            f"recall{named}",
            "real pictures within the results, k = 3",
            "high",
            digits=3,
            of_set=_recall,
        ),
    }
