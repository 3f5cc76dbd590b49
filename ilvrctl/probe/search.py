"""The search: heads and levels at one noise strength in turn, then the best level at every strength."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import fmean
from typing import TYPE_CHECKING

from ilvrctl.probe.curve import DENOISES, STEP, Point, Tried, fits, next_level, point_of
from ilvrctl.probe.findings import Findings, Row, conclude, logs
from ilvrctl.probe.readings import Attention, Timing, attention_readings
from ilvrctl.probe.trials import (
    HEAD_STRENGTHS,
    LOOK,
    STRENGTHS,
    Errors,
    Network,
    Noised,
    network_errors,
    noised,
    scaled_error,
)

if TYPE_CHECKING:
    from torch import Tensor

COARSE = tuple(round(5 * 1.6**n) for n in range(13))
"""Levels tried first: those with the noise of LOOK are 10 in 100 linear levels and 814 in 4000 cosine ones."""
ROUNDS = 3
"""Heads are looked for at the best level so far and levels with the best heads, at most so often."""
RISE = 0.6
"""How levels rise from strength to strength, as a power of the linear schedule's: less than in most schedules,
because levels that are too high are not levels at all."""
KNOWN = 3
"""So many pictures decide at least; else the half that the network knows best, which is the more like its own."""


@dataclass(frozen=True)
class Trial:
    """A network call that was made; ``number`` counts from 1.

    ``strength``: that of the noise, as the level of the linear schedule that has it; ``level``: what the network was
    told.
    """

    number: int
    attention: Attention
    strength: int
    level: int
    errors: Errors


def probe(network: Network, pictures: Tensor, names: Sequence[str]) -> Iterator[Trial | Findings]:
    """Try the readings of ``network`` on ``pictures`` (B, 3, H, W) in [-1, 1] called ``names``.

    Yields every trial, and at last what was found. Nothing is decided for a network that does not denoise
    the pictures under any reading, and no single fact whose other values do about as well.
    """
    search = _Search(network, {strength: noised(pictures, strength) for strength in STRENGTHS})
    attention = search.attentions[0]
    for levels in (COARSE[::2], *[COARSE] * ROUNDS):
        yield from search.run(attention, LOOK, levels)
        level = search.best_level(attention, LOOK)
        for other in search.attentions:
            yield from search.run(other, LOOK, [level])
        leaders = search.leaders(level)
        if levels is COARSE and leaders[0] == attention:
            break
        attention = leaders[0]
    known = [names[n] for n in search.focus(attention)]
    shared = {LOOK: search.best_level(attention, LOOK)}
    if search.score(attention, shared) - fmean(search.trivial[LOOK]) >= math.log(DENOISES):
        yield conclude(search.all_rows(leaders, shared), search.trivial, (), (), known)
        return
    yield from search.follow(attention)
    shared = {strength: search.best_level(attention, strength) for strength in HEAD_STRENGTHS}
    for other in leaders:
        yield from search.run_all(other, shared)
    attention = min(leaders, key=lambda a: search.score(a, shared))
    yield from search.follow(attention)
    curve = search.curve(attention)
    fitted, rows = fits(curve), search.all_rows(leaders, shared)
    for timing in (fit.timing for fit in fitted[:2]):
        levels_of = {k: timing.nearest(noisy.abar) for k, noisy in search.noisy.items()}
        yield from search.run_all(attention, levels_of)
        rows += search.rows(attention, timing, levels_of)
    yield conclude(rows, search.trivial, curve, fitted, known)


@dataclass
class _Search:
    """The network with the trials made so far: of each attention and noise strength, the errors by level."""

    network: Network
    noisy: dict[int, Noised]
    table: dict[tuple[Attention, int], dict[int, Errors]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    attentions: tuple[Attention, ...] = ()
    trivial: dict[int, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.attentions = attention_readings(self.network.architecture)
        self.trivial = {strength: logs(scaled_error(noisy)) for strength, noisy in self.noisy.items()}

    def run(self, attention: Attention, strength: int, levels: Iterable[int]) -> Iterator[Trial]:
        """Make the trials that have not been made."""
        tried = self.table.setdefault((attention, strength), {})
        for level in levels:
            if level not in tried:
                tried[level] = network_errors(self.network, self.noisy[strength], attention, level)
                yield Trial(next(self.numbers), attention, strength, level, tried[level])

    def run_all(self, attention: Attention, levels: Mapping[int, int]) -> Iterator[Trial]:
        """As :meth:`run`, with one level for each strength."""
        for strength, level in levels.items():
            yield from self.run(attention, strength, [level])

    def follow(self, attention: Attention) -> Iterator[Trial]:
        """Find the best level of every strength, starting from that of the strength before."""
        for strength, before in STRENGTHS.items():
            start = round(self.best_level(attention, before) * (strength / before) ** RISE)
            if not self.table.get((attention, strength)):
                yield from self.run(attention, strength, [start, round(start * STEP)])
            while (level := next_level(self.tried(attention, strength))) is not None:
                yield from self.run(attention, strength, [level])

    def predicts(self, attention: Attention) -> str:
        """What the network seems to predict: that with the lowest error at the first strength."""
        tried = self.table[attention, LOOK].values()
        return min(next(iter(tried)), key=lambda kind: min(fmean(logs(errors[kind])) for errors in tried))

    def tried(self, attention: Attention, strength: int) -> Tried:
        """The logarithms of the errors by level."""
        kind = self.predicts(attention)
        return {t: logs(errors[kind]) for t, errors in self.table[attention, strength].items()}

    def best_level(self, attention: Attention, strength: int) -> int:
        """The level with the lowest error so far."""
        tried = self.tried(attention, strength)
        return min(tried, key=lambda t: (fmean(tried[t]), t))

    def score(self, attention: Attention, levels: Mapping[int, int]) -> float:
        """Mean logarithm of the error over pictures and strengths, under the best prediction type."""
        return min(row.score() for row in self.rows(attention, None, levels))

    def rows(self, attention: Attention, timing: Timing | None, levels: Mapping[int, int]) -> list[Row]:
        """The trials with one level for each strength, for every prediction type; ``timing`` gave the levels."""
        errors = {strength: self.table[attention, strength][level] for strength, level in levels.items()}
        kinds = next(iter(errors.values()))
        return [Row(attention, timing, kind, {k: logs(e[kind]) for k, e in errors.items()}) for kind in kinds]

    def all_rows(self, attentions: Iterable[Attention], levels: Mapping[int, int]) -> list[Row]:
        """The :meth:`rows` of some readings."""
        return [row for attention in attentions for row in self.rows(attention, None, levels)]

    def focus(self, attention: Attention) -> list[int]:
        """Go on with the better known half of the pictures, whose numbers are returned.

        How well one is known is the error as a part of what can be had without a network.
        """
        best = self.tried(attention, LOOK)[self.best_level(attention, LOOK)]
        ratios = [error - trivial for error, trivial in zip(best, self.trivial[LOOK], strict=True)]
        keep = max(min(KNOWN, len(ratios)), len(ratios) // 2)
        known = sorted(sorted(range(len(ratios)), key=ratios.__getitem__)[:keep])
        self.noisy = {k: Noised(n.abar, n.x[known], n.eps[known]) for k, n in self.noisy.items()}
        self.trivial = {k: tuple(values[n] for n in known) for k, values in self.trivial.items()}
        for tried in self.table.values():
            for level, errors in tried.items():
                tried[level] = {kind: tuple(values[n] for n in known) for kind, values in errors.items()}
        return known

    def leaders(self, level: int) -> list[Attention]:
        """At the first strength the best reading, the best with other heads, and the best of the other order."""
        ranked = sorted(self.attentions, key=lambda a: self.score(a, {LOOK: level}))
        best = ranked[0]
        heads = [a for a in ranked if a.heads != best.heads]
        order = [a for a in ranked if a.order not in (None, best.order)]
        return list(dict.fromkeys([best, *heads[:1], *order[:1]]))

    def curve(self, attention: Attention) -> tuple[Point, ...]:
        """The best levels of all strengths, the weakest noise first."""
        return tuple(
            point_of(self.noisy[k].abar, self.tried(attention, k), self.trivial[k])
            for k in sorted(self.noisy)
        )
