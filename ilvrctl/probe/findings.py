"""From the errors of all trials to what is decided, by what margin, and what is not. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import Any, Literal, TypeAlias

from ilvrctl.probe.curve import APART, CLOSE, DENOISES, Fit, Point, Tried
from ilvrctl.probe.readings import Attention, Timing

MARGIN = 1.01
"""A fact is decided when every other value has an error larger by this factor (geometric mean): readings nearer
than that make the same pictures ..."""
SURE = 3.0
"""... when the mean difference of the errors' logarithms is so many times its standard error, and when it is
larger at every noise strength."""

KNOWS = 0.15
"""A network's pictures are of the kind that it was trained with when its error is below this part of what can be had
without it. With others it prefers wrong levels, by half at strong noise, and its schedule is not decided."""

Status: TypeAlias = Literal["decided", "undecided", "either"]


@dataclass(frozen=True)
class Row:
    """A reading with the logarithms of its errors, picture by picture, at the noise strengths that were tried.

    ``timing``: the schedule that told the levels; None for those that were found without one.
    """

    attention: Attention
    timing: Timing | None
    predicts: str
    logs: Tried

    def score(self) -> float:
        """Mean logarithm of the error over pictures and strengths."""
        return fmean(log for values in self.logs.values() for log in values)

    @property
    def errors(self) -> dict[int, float]:
        """Geometric mean over the pictures, at each strength."""
        return {
            strength: math.exp(min(fmean(values), 700.0)) for strength, values in sorted(self.logs.items())
        }


@dataclass(frozen=True)
class Finding:
    """One fact. ``best`` is the value with the lowest error, ``next_best`` the one after it.

    ``margin``: how many times larger the error of ``next_best`` is; ``sure``: the mean difference of their
    logarithms over its standard error, which comes from the pictures' differences at a strength; 0 where at some
    strength ``next_best`` is better. For the schedule, how far the levels of ``next_best`` are from those found,
    in parts of what measuring allows. ``either``: all values do the same.
    """

    fact: str
    status: Status
    best: str
    next_best: str = ""
    margin: float = 1.0
    sure: float = 0.0


@dataclass(frozen=True)
class Findings:
    """What the probe found. ``facts`` are the decided ones under the names of a model preset.

    ``curve``: the level found at each noise strength; ``possible``: the schedules that may have them, best first;
    both empty for a network that was not trained.
    ``denoised``: the lowest error as a part of what can be had without a network. ``pictures`` decided.
    """

    findings: tuple[Finding, ...]
    facts: Mapping[str, Any]
    rows: tuple[Row, ...]
    curve: tuple[Point, ...]
    possible: tuple[Timing, ...]
    pictures: tuple[str, ...]
    denoised: float

    @property
    def trained(self) -> bool:
        """Whether the network denoises the pictures at all, under some reading."""
        return self.denoised < DENOISES

    @property
    def familiar(self) -> bool:
        """Whether the pictures are of the kind that the network was trained with."""
        return self.denoised < KNOWS

    @property
    def strengths(self) -> tuple[int, ...]:
        """The noise strengths that were tried, as levels of the linear schedule."""
        return tuple(sorted({strength for row in self.rows for strength in row.logs}))

    def of(self, fact: str) -> Finding:
        """What was found about ``heads``, ``attention order``, ``predicts`` or ``schedule``."""
        return next(finding for finding in self.findings if finding.fact == fact)


def logs(errors: Iterable[float]) -> tuple[float, ...]:
    """The logarithms of ``errors``, of which none is minus infinity."""
    return tuple(math.log(max(error, 1e-30)) for error in errors)


def conclude(
    rows: Sequence[Row],
    trivial: Tried,
    curve: Sequence[Point],
    fitted: Sequence[Fit],
    names: Sequence[str],
) -> Findings:
    """The findings in all trials. ``trivial``: at each strength what can be had without a network.

    ``rows``: those of the found levels, and those of the two schedules in ``fitted`` that fit them best; without a
    ``curve`` there are no such.
    """
    free = sorted((row for row in rows if row.timing is None), key=lambda row: row.score())
    gap = free[0].score() - fmean(log for k in free[0].logs for log in trivial[k])
    denoised = math.exp(min(gap, 700.0))
    trained = denoised < DENOISES
    findings = tuple(_decide(fact, free, trained) for fact in ("heads", "attention order", "predicts"))
    if findings[0].status == "undecided":  # of one head the order does not matter, if it is one
        findings = tuple(replace(f, status="undecided") if f.status == "either" else f for f in findings)
    timed = [row for row in rows if row.timing is not None and row.predicts == free[0].predicts]
    findings += (_decide_schedule(fitted, timed, denoised < KNOWS),)
    possible = tuple(fit.timing for fit in fitted if fit.off <= APART)
    facts = _facts(free[0], findings) | (fitted[0].timing.facts if findings[-1].status == "decided" else {})
    ordered = (*free, *(row for row in rows if row.timing is not None))
    return Findings(findings, facts, ordered, tuple(curve), possible, tuple(names), denoised)


def _value(fact: str, row: Row) -> str | None:
    """The value of a fact in a reading; None where the reading does not tell."""
    match fact:
        case "heads":
            return row.attention.heads_name
        case "attention order":
            return row.attention.order
        case _:
            return row.predicts


def _decide(fact: str, rows: Sequence[Row], trained: bool) -> Finding:
    best = rows[0]
    value = _value(fact, best)
    if value is None:
        return Finding(fact, "either" if trained else "undecided", "legacy or new")
    other = next((row for row in rows if _value(fact, row) not in (None, value)), None)
    if other is None:
        return Finding(fact, "decided" if trained else "undecided", value)
    margin, sure = _margin(best, other)
    decided = trained and margin >= MARGIN and sure >= SURE
    return Finding(
        fact, "decided" if decided else "undecided", value, _value(fact, other) or "", margin, sure
    )


def _decide_schedule(fitted: Sequence[Fit], rows: Sequence[Row], known: bool) -> Finding:
    """Decided when one known schedule has the curve at every strength, and all others are surely off somewhere."""
    if not fitted:
        return Finding("schedule", "undecided", "unknown")
    best, other = fitted[:2]
    tried = {row.timing: row for row in rows}
    margin, _ = _margin(tried[best.timing], tried[other.timing])
    decided = known and best.apart <= CLOSE and best.off <= APART < other.off and margin >= 1
    return Finding(
        "schedule",
        "decided" if decided else "undecided",
        str(best.timing) if best.off <= APART else "unknown",
        str(other.timing),
        margin,
        min(other.off, 1e6),
    )


def _margin(best: Row, other: Row) -> tuple[float, float]:
    """The factor between the errors, and its logarithm over the standard error: 0 where one picture leaves it unknown;
    (1, 0) where no number came out.
    """
    gaps = [
        [far - near for far, near in zip(other.logs[level], best.logs[level], strict=True)]
        for level in best.logs
    ]
    if not all(math.isfinite(gap) for level in gaps for gap in level):
        return 1.0, 0.0
    means = [fmean(level) for level in gaps]
    spread = (variance(level) / len(level) if len(level) > 1 else math.inf for level in gaps)
    error = math.sqrt(sum(spread)) / len(gaps)
    mean = fmean(means)
    return math.exp(min(mean, 700.0)), mean / max(error, 1e-9) if min(means) > 0 else 0.0


def _facts(best: Row, findings: Sequence[Finding]) -> dict[str, Any]:
    """What is decided of heads, order and prediction, under the names of a model preset."""
    settled = {finding.fact for finding in findings if finding.status != "undecided"}
    hidden = best.attention.hidden
    facts: dict[str, Any] = {}
    if "heads" in settled:
        name = "num_head_channels" if hidden.num_head_channels else "num_heads"
        facts[name] = hidden.num_head_channels or hidden.num_heads
    if "attention order" in settled:
        facts["use_new_attention_order"] = hidden.use_new_attention_order
    if "predicts" in settled:
        facts["predicts"] = best.predicts
    return facts
