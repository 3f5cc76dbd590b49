"""What an evaluation found: numbers with their intervals, per run and per picture, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.errors import IlvrctlError
from ilvrctl.evaluation.catalogue import Metric, plain
from ilvrctl.evaluation.pairing import Partners
from ilvrctl.files import write_text

if TYPE_CHECKING:
    from ilvrctl.metrics.intervals import Estimate


@dataclass(frozen=True)
class Measured:
    """One result and its own numbers."""

    pair: Partners
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class RunResult:
    """One run: ``metrics`` by key, and a row a picture. ``settings`` that tell it from other runs."""

    name: str
    settings: Mapping[str, Any]
    rows: Sequence[Measured]
    metrics: Mapping[str, Estimate]

    @property
    def inputs(self) -> int:
        """How many different inputs its results have."""
        return len({row.pair.key for row in self.rows})


@dataclass(frozen=True)
class Evaluation:
    """All runs on the same pictures. ``provenance``: everything that decides the numbers beside the pictures."""

    runs: Sequence[RunResult]
    metrics: Sequence[Metric]
    provenance: Mapping[str, Any]
    warnings: Sequence[str] = ()
    axes: tuple[Metric, Metric] | None = None
    """Faithfulness and realism, where both were measured."""
    failures: Sequence[IlvrctlError] = ()
    """What could not be measured, each reason once."""
    left_out: int = 0
    """Results that are missing for these reasons; their inputs are left out of all runs."""

    def best(self, metric: Metric) -> int | None:
        """The run that is better than every other beyond doubt: its interval meets no other's. None otherwise."""
        found = [run.metrics.get(metric.key) for run in self.runs]
        estimates = [e for e in found if e is not None]
        if metric.better is None or len(self.runs) < 2 or len(estimates) < len(self.runs):
            return None
        values = [e.value for e in estimates]
        place = values.index(min(values) if metric.better == "low" else max(values))
        others = [e for i, e in enumerate(estimates) if i != place]
        return place if all(estimates[place].apart(other) for other in others) else None

    def pareto(self) -> list[int]:
        """The runs of which no other is at least as good on both axes and better on one."""
        if self.axes is None:
            return []
        points = [self._point(run) for run in self.runs]
        return [
            i
            for i, p in enumerate(points)
            if p is not None
            and not any(q is not None and q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)
        ]

    def _point(self, run: RunResult) -> tuple[float, float] | None:
        """Its place on the axes, smaller being better on both."""
        found = []
        for metric in self.axes or ():
            estimate = run.metrics.get(metric.key)
            if estimate is None:
                return None
            found.append(estimate.value if metric.better == "low" else -estimate.value)
        return found[0], found[1]

    @property
    def table(self) -> str:
        """For people, in Markdown: a row a run, value and half of its 95 % interval, the best beyond doubt in bold."""
        from ilvrctl.evaluation.report import markdown

        return markdown(self)

    def save(self, path: str | Path) -> Path:
        """Write it, by the ending of the name: ``.html`` the page, ``.csv`` the numbers of every picture, ``.json``
        :meth:`record`, ``.md`` the :attr:`table`. UsageError for another ending, OutputError where it cannot be.
        """
        from ilvrctl.evaluation.report import text_for

        return write_text(Path(path), text_for(self, Path(path).suffix))

    def record(self) -> dict[str, Any]:
        """For programs: plain JSON values; infinity as "inf"."""
        front = self.pareto()
        return {
            "runs": [
                {
                    "name": run.name,
                    "settings": dict(run.settings),
                    "pictures": len(run.rows),
                    "inputs": run.inputs,
                    "metrics": {
                        m.key: _estimate(run.metrics[m.key]) for m in self.metrics if m.key in run.metrics
                    },
                    "pareto": i in front,
                }
                for i, run in enumerate(self.runs)
            ],
            "best": {
                metric.key: self.runs[place].name
                for metric in self.metrics
                if (place := self.best(metric)) is not None
            },
            "definitions": {m.key: m.definition for m in self.metrics},
            "provenance": dict(self.provenance),
            "warnings": list(self.warnings),
            "failed": [{"message": error.message, "hint": error.hint} for error in self.failures],
            "left_out": self.left_out,
        }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": plain(estimate.value),
        "low": plain(estimate.low),
        "high": plain(estimate.high),
        "n": estimate.n,
    }
