"""From the errors of all trials to what is decided, by what margin, and what is not. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import Any, Literal, TypeAlias

from ilvrctl.probe.readings import Attention, Timing
from ilvrctl.probe.trials import Errors

DENOISES = 0.5
"""A trained network's error is below this times that of the best multiple of the noisy picture."""
MARGIN = 1.01
"""A fact is decided when every other value has an error larger by this factor (geometric mean): readings nearer
than that make the same pictures ..."""
SURE = 3.0
"""... when the mean difference of the errors' logarithms is so many times its standard error, and when it is
larger at every level."""

Table: TypeAlias = dict[tuple[Attention, Timing], dict[int, Errors]]
Status: TypeAlias = Literal["decided", "undecided", "either"]


@dataclass(frozen=True)
class Row:
    """A reading with its error (geometric mean over the deciding pictures) at each level that was tried."""

    attention: Attention
    timing: Timing
    predicts: str
    errors: Mapping[int, float]
    logs: Mapping[int, tuple[float, ...]]

    def score(self) -> float:
        """Mean logarithm of the error over pictures and levels."""
        return fmean(log for values in self.logs.values() for log in values)


@dataclass(frozen=True)
class Finding:
    """One fact. ``best`` is the value with the lowest error, ``next_best`` the one after it.

    ``margin``: how many times larger the error of ``next_best`` is; ``sure``: the mean difference of their
    logarithms over its standard error, which comes from the pictures' differences at a level; 0 where at some
    level ``next_best`` is better. ``either``: all values do the same.
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

    ``denoised``: the lowest error as a part of what can be had without a network. ``pictures`` decided.
    """

    findings: tuple[Finding, ...]
    facts: Mapping[str, Any]
    rows: tuple[Row, ...]
    levels: tuple[int, ...]
    pictures: tuple[str, ...]
    denoised: float

    @property
    def trained(self) -> bool:
        """Whether the network denoises the pictures at all, under some reading."""
        return self.denoised < DENOISES


def conclude(table: Table, trivial: Mapping[int, Sequence[float]], names: Sequence[str]) -> Findings:
    """The findings in all trials; ``trivial``: at each level, the error for each picture without a network."""
    levels = tuple(trivial)
    rows = sorted(_rows(table), key=lambda row: (-len(row.logs), row.score()))
    full = [row for row in rows if len(row.logs) == len(levels)]
    denoised = math.exp(min(full[0].score() - mean_log(list(trivial.values())), 700.0))
    findings = tuple(_decide(fact, full, denoised < DENOISES) for fact in _FACTS)
    if findings[0].status == "undecided":  # of one head the order does not matter, if it is one
        findings = tuple(replace(f, status="undecided") if f.status == "either" else f for f in findings)
    return Findings(findings, _facts(full[0], findings), tuple(rows), levels, tuple(names), denoised)


def mean_log(errors: Sequence[Sequence[float]]) -> float:
    """Mean logarithm of all ``errors``."""
    logs = [_log(error) for row in errors for error in row]
    return sum(logs) / len(logs)


def _log(error: float) -> float:
    return math.log(max(error, 1e-30))


def _rows(table: Table) -> list[Row]:
    rows = []
    for (attention, timing), tried in table.items():
        for kind in next(iter(tried.values())):
            logs = {level: tuple(map(_log, tried[level][kind])) for level in sorted(tried)}
            errors = {level: math.exp(min(fmean(values), 700.0)) for level, values in logs.items()}
            rows.append(Row(attention, timing, kind, errors, logs))
    return rows


_FACTS = ("heads", "attention order", "schedule", "predicts")


def _value(fact: str, row: Row) -> str | None:
    """The value of a fact in a reading; None where the reading does not tell."""
    match fact:
        case "heads":
            return row.attention.heads_name
        case "attention order":
            return row.attention.order
        case "schedule":
            return str(row.timing)
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


def _margin(best: Row, other: Row) -> tuple[float, float]:
    """The factor between the errors, and its logarithm over the standard error; (1, 0) where no number came out."""
    gaps = [
        [far - near for far, near in zip(other.logs[level], best.logs[level], strict=True)]
        for level in best.logs
    ]
    if not all(math.isfinite(gap) for level in gaps for gap in level):
        return 1.0, 0.0
    means = [fmean(level) for level in gaps]
    error = math.sqrt(sum(variance(level) / len(level) for level in gaps)) / len(gaps)
    mean = fmean(means)
    return math.exp(min(mean, 700.0)), mean / max(error, 1e-9) if min(means) > 0 else 0.0


def _facts(best: Row, findings: Sequence[Finding]) -> dict[str, Any]:
    """What is decided, under the names of a model preset; the order of attention goes with the heads."""
    settled = {finding.fact for finding in findings if finding.status != "undecided"}
    hidden = best.attention.hidden
    facts: dict[str, Any] = {}
    if "heads" in settled:
        name = "num_head_channels" if hidden.num_head_channels else "num_heads"
        facts[name] = hidden.num_head_channels or hidden.num_heads
    if "attention order" in settled:
        facts["use_new_attention_order"] = hidden.use_new_attention_order
    if "schedule" in settled:
        facts["noise_schedule"] = best.timing.noise_schedule
        facts["diffusion_steps"] = best.timing.diffusion_steps
    if "predicts" in settled:
        facts["predicts"] = best.predicts
    return facts
