"""From folders to an :class:`~ilvrctl.evaluation.result.Evaluation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl import __version__
from ilvrctl.errors import IlvrctlError, UsageError
from ilvrctl.evaluation.catalogue import DIVERSITY, Metric, Side, pixel_metrics
from ilvrctl.evaluation.failures import Failures
from ilvrctl.evaluation.features import Extractor, Tell, choose_extractor, extract, of_pictures, packages
from ilvrctl.evaluation.measure import Protocol, diversity, factor_of, measure_pair
from ilvrctl.evaluation.pairing import Partners, pair_runs
from ilvrctl.evaluation.realism import Judged, Real, realism_metrics
from ilvrctl.evaluation.result import Evaluation, Measured, RunResult
from ilvrctl.evaluation.sets import Picture, ResultSet, is_ours, pictures_of, runs_of
from ilvrctl.images.folders import counted, pictures_in

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ilvrctl.metrics.intervals import Estimate
    from ilvrctl.metrics.statistics import SetStatistics

FID_PICTURES = 2048
"""Below as many pictures as features the covariance is singular, and FID mostly measures that."""


@dataclass(frozen=True)
class Comparison:
    """What is asked for: the runs, what to compare them with, and how."""

    runs: tuple[Path, ...]
    source: Path | None = None
    truth: Path | None = None
    against: Path | None = None
    extractor: str = "auto"
    egsde: bool = False
    fit: str | None = None
    N: int | None = None
    lpips: bool = False
    common: bool = False
    resamples: int = 2000
    seed: int = 0

    @property
    def reference(self) -> Path | None:
        """What realism is measured against: the truth where nothing else is said."""
        return self.against or self.truth


def evaluate(order: Comparison, device: torch.device, progress: Tell) -> Evaluation:
    """Measure. What is wrong with a single picture is told in the result, and the others are measured.

    UsageError for folders that do not go together, WeightsError or MissingExtraError for networks, InputError when no
    picture can be measured.
    """
    runs = runs_of(order.runs)
    sides = {
        "source": pictures_of(order.source) if order.source else None,
        "truth": pictures_of(order.truth) if order.truth else None,
    }
    pairs = pair_runs(runs, sides["source"], sides["truth"], common=order.common)
    failures = Failures()
    protocol = _protocol(order, pairs, device)
    real = _real(order, device, progress, failures)
    metrics = [metric for rows in protocol.metrics.values() for metric in rows]
    total = sum(map(len, pairs))
    measured, done = [], 0
    for members in pairs:
        rows: list[Measured] = []
        for pair in members:
            with failures.noted("measuring", pair.output.path):
                rows.append(Measured(pair, measure_pair(pair, protocol)))
            done += 1
            progress("pictures", done, total)
        measured.append(rows)
    features: dict[str, Tensor] = {}
    if real is not None:
        outputs = [row.pair.output for rows in measured for row in rows]
        features = extract(outputs, real.extractor, device, progress, failures)
        measured = [[row for row in rows if row.pair.output.digest in features] for rows in measured]
    measured = _in_all(pairs, measured)
    if not all(measured):
        raise failures.none()
    results = [
        _result(run, rows, metrics, real, features, order, failures)
        for run, rows in zip(runs, measured, strict=True)
    ]
    found = _together(results, metrics, real, order, protocol)
    return replace(found, failures=failures.all, left_out=total - sum(map(len, measured)))


def _in_all(
    pairs: Sequence[Sequence[Partners]], measured: Sequence[Sequence[Measured]]
) -> list[list[Measured]]:
    """The rows without those that another run lacks because they failed there: runs are compared on the same."""
    lost = set()
    for members, rows in zip(pairs, measured, strict=True):
        wanted = {(pair.key, pair.sample) for pair in members}
        lost |= wanted - {(row.pair.key, row.pair.sample) for row in rows}
    return [[row for row in rows if (row.pair.key, row.pair.sample) not in lost] for rows in measured]


def _protocol(order: Comparison, pairs: Sequence[Sequence[Partners]], device: torch.device) -> Protocol:
    from ilvrctl.models.extractors import lpips_alex
    from ilvrctl.presets import find_model

    lpips = lpips_alex(find_model("alexnet"), device) if order.lpips else None
    N = (order.N or factor_of(pairs)) if order.source else None
    given: dict[Side, Path | None] = {"source": order.source, "truth": order.truth}
    return Protocol(
        order.egsde,
        order.fit,
        N,
        {side: pixel_metrics(side, N, egsde=order.egsde, lpips=lpips) for side, at in given.items() if at},
    )


def _real(order: Comparison, device: torch.device, progress: Tell, failures: Failures) -> Real | None:
    """What realism is measured against; None where nothing is, or no extractor is installed and none was named."""
    if order.reference is None:
        return None
    extractor = choose_extractor(
        "inception" if order.egsde and order.extractor == "auto" else order.extractor
    )
    unnamed = order.extractor == "auto" and not order.egsde
    if unnamed and not extractor.installed and (order.source or order.truth):
        return None
    if order.reference.suffix.lower() == ".npz":
        return Real(extractor, statistics=_statistics(order.reference, extractor))
    pictures = pictures_of(order.reference)
    rows = extract(pictures, extractor, device, progress, failures)
    good = [picture for picture in pictures if picture.digest in rows]
    if not good:
        raise failures.none()
    return Real(extractor, of_pictures(good, rows), [p.stem for p in good])


def _statistics(path: Path, extractor: Extractor) -> SetStatistics:
    from ilvrctl.metrics.statistics import read_statistics

    found = read_statistics(path)
    made_by = found.extractor or "inception"
    if made_by != extractor.name or len(found.mean) != extractor.d:
        raise UsageError(
            f"{path} holds statistics of {made_by} ({len(found.mean)} features), "
            f"and {extractor.name} has {extractor.d}",
            f"--extractor {made_by}",
        )
    return found


def _result(
    run: ResultSet,
    rows: Sequence[Measured],
    metrics: Sequence[Metric],
    real: Real | None,
    features: Mapping[str, Tensor],
    order: Comparison,
    failures: Failures,
) -> RunResult:
    import torch

    from ilvrctl.metrics.intervals import bootstrap_means

    found: dict[str, Estimate] = {}
    groups = [row.pair.key for row in rows]
    if real is not None:
        judged = Judged(
            of_pictures([row.pair.output for row in rows], features),
            groups,
            real,
            order.resamples,
            order.seed,
        )
        numbers = {m.key: m.of_set(judged) for m in realism_metrics(real.extractor.name).values() if m.of_set}
        found |= {key: estimate for key, estimate in numbers.items() if estimate is not None}
    keys = [m.key for m in metrics if all(row.values.get(m.key) is not None for row in rows)]
    columns = torch.tensor([[row.values[key] for key in keys] for row in rows], dtype=torch.float64)
    if keys:
        means = bootstrap_means(columns, groups, resamples=order.resamples, seed=order.seed)
        found |= dict(zip(keys, means, strict=True))
    if spread := diversity([row.pair for row in rows], failures):
        values = torch.tensor([[value] for _, value in spread], dtype=torch.float64)
        found[DIVERSITY.key] = bootstrap_means(
            values, [key for key, _ in spread], resamples=order.resamples, seed=order.seed
        )[0]
    return RunResult(run.name, run.settings, rows, found)


def _together(
    results: Sequence[RunResult],
    metrics: Sequence[Metric],
    real: Real | None,
    order: Comparison,
    protocol: Protocol,
) -> Evaluation:
    realism = realism_metrics(real.extractor.name) if real else {}
    measured = {key for result in results for key in result.metrics}
    listed = [m for m in (*realism.values(), *metrics, DIVERSITY) if m.key in measured]
    return Evaluation(
        results,
        listed,
        _provenance(results, real, order, protocol),
        [*_warnings(results, metrics, realism, real), *_passed_by(order)],
        _axes(listed, realism),
    )


def _passed_by(order: Comparison) -> list[str]:
    """What else is in the folders, but for what ilvrctl itself puts beside results."""
    given = (*order.runs, order.source, order.truth, order.reference)
    told = []
    for folder in dict.fromkeys(path for path in given if path is not None and path.is_dir()):
        found = [one for one in pictures_in(folder).passed_by if not is_ours(one)]
        told += [f"{folder}: {counted(found)}"] if found else []
    return told


def _axes(listed: Sequence[Metric], realism: Mapping[str, Metric]) -> tuple[Metric, Metric] | None:
    by_key = {m.key: m for m in listed}
    across = next((by_key[k] for k in ("l2_source", "l2_truth") if k in by_key), None)
    up = next((realism[k] for k in ("kid", "frechet") if k in realism and realism[k].key in by_key), None)
    return (across, up) if across is not None and up is not None else None


def _warnings(
    results: Sequence[RunResult], metrics: Sequence[Metric], realism: Mapping[str, Metric], real: Real | None
) -> list[str]:
    found = []
    if real is None and not choose_extractor("auto").installed:
        found.append(
            "pixel metrics alone: pip install 'ilvrctl[kid]' adds KID, and 'ilvrctl[eval]' FID and LPIPS too"
        )
    counts = [len(result.rows) for result in results]
    if realism and any(realism["frechet"].key in result.metrics for result in results):
        fewest = min([*counts, len(real.stems)] if real and real.stems else counts)
        if fewest < FID_PICTURES:
            found.append(
                f"{realism['frechet'].title} of {fewest} pictures is biased upwards (below {FID_PICTURES:,}): "
                "compare it only with sets of the same size, or use KID"
            )
    if any(result.inputs < 2 for result in results):
        found.append("one picture has no spread: there are no intervals, and no KID")
    absent = [m.title for m in metrics if not any(m.key in result.metrics for result in results)]
    if absent:
        found.append(f"not defined for pictures of this size: {', '.join(absent)}")
    if (
        real is not None
        and real.features is not None
        and not any(realism["precision"].key in result.metrics for result in results)
    ):
        found.append("precision and recall need at least four pictures a side")
    return found


def _provenance(
    results: Sequence[RunResult], real: Real | None, order: Comparison, protocol: Protocol
) -> dict[str, Any]:
    names = (
        ["torch", "pillow"] + ([real.extractor.package] if real else []) + (["lpips"] if order.lpips else [])
    )
    found: dict[str, Any] = {
        "protocol": "egsde" if order.egsde else "ilvrctl",
        "resize": protocol.resize(row.pair.output for result in results for row in result.rows),
        "intervals": f"95 %, bootstrap over inputs, {order.resamples} resamples, seed {order.seed}",
        "pictures": [len(result.rows) for result in results],
        "inputs": results[0].inputs,
        "versions": {"ilvrctl": __version__, **packages(*names)},
    }
    if protocol.N is not None and not order.egsde:
        found["N"] = protocol.N
    if real is not None:
        real_count = len(real.stems) or (real.statistics.count if real.statistics else None)
        shown = real.shown_by([row.pair.key for row in results[0].rows])
        paired = any(place is not None for place in shown)
        found["realism"] = {
            "extractor": real.extractor.name,
            "title": real.extractor.title,
            "resize": real.extractor.rule,
            "real_pictures": real_count or None,
            "pairs_left_out_of_kid": paired,
        }
    return found


def save_statistics(
    folder: Path, path: Path, extractor: Extractor, device: torch.device, progress: Tell
) -> tuple[int, list[IlvrctlError]]:
    """Write the statistics of the pictures in ``folder`` to ``path``; returns how many there are, and what is wrong
    with those that could not be measured.
    """
    from ilvrctl.metrics.distances import moments
    from ilvrctl.metrics.statistics import SetStatistics, write_statistics

    pictures: list[Picture] = pictures_of(folder)
    failures = Failures()
    rows = extract(pictures, extractor, device, progress, failures)
    good = [picture for picture in pictures if picture.digest in rows]
    if len(good) < 2:
        raise UsageError(f"statistics need at least two pictures, and {folder} has {len(good)}")
    found = moments(of_pictures(good, rows))
    write_statistics(path, SetStatistics(found.mean, found.covariance, found.n, extractor.name))
    return found.n, failures.all
