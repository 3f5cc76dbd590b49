"""The search: one level for every reading, then all levels for the leaders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from ilvrctl.probe.findings import Findings, Table, conclude, mean_log
from ilvrctl.probe.readings import TIMINGS, Attention, Timing, attention_readings
from ilvrctl.probe.trials import LEVELS, Errors, Network, Noised, network_errors, noised, scaled_error

if TYPE_CHECKING:
    from torch import Tensor

LOOK = 100
"""The level that every reading is tried at."""
KNOWN = 3
"""So many pictures decide at least; else the half that the network knows best, which is the more like its own."""
ROUNDS = 3
"""Heads are looked for with the best levels so far and levels with the best heads, at most so often."""


@dataclass(frozen=True)
class Trial:
    """A network call that was made: the reading, the level, the errors; ``number`` counts from 1."""

    number: int
    attention: Attention
    timing: Timing
    level: int
    errors: Errors


def probe(network: Network, pictures: Tensor, names: Sequence[str]) -> Iterator[Trial | Findings]:
    """Try the readings of ``network`` on ``pictures`` (B, 3, H, W) in [-1, 1] called ``names``.

    Yields every trial, and at last what was found. Nothing is decided for a network that does not denoise
    the pictures under any reading, and no single fact whose other values do about as well.
    """
    search = _Search(network, {level: noised(pictures, level) for level in LEVELS})
    timing = TIMINGS[0]
    for _ in range(ROUNDS):
        yield from search.run([(a, timing) for a in search.attentions], [LOOK])
        best = search.leaders(timing)[0]
        yield from search.run([(best, t) for t in TIMINGS], [LOOK])
        next_timing = search.best_timing(best)
        if next_timing == timing:
            break
        timing = next_timing
    leaders = search.leaders(timing)
    known = search.focus(leaders[0], timing)
    yield from search.run([(a, timing) for a in leaders], LEVELS)
    attention = min(leaders, key=lambda a: search.score(a, timing, LEVELS))
    yield from search.run([(attention, t) for t in TIMINGS], LEVELS)
    trivial = {level: scaled_error(noisy) for level, noisy in search.noisy.items()}
    yield conclude(search.table, trivial, [names[n] for n in known])


@dataclass
class _Search:
    """The network with the trials made so far."""

    network: Network
    noisy: dict[int, Noised]
    table: Table = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    attentions: tuple[Attention, ...] = ()

    def __post_init__(self) -> None:
        self.attentions = attention_readings(self.network.architecture)

    def run(self, readings: Sequence[tuple[Attention, Timing]], levels: Sequence[int]) -> Iterator[Trial]:
        """Make the trials that have not been made."""
        for attention, timing in readings:
            row = self.table.setdefault((attention, timing), {})
            for level in levels:
                if level not in row:
                    row[level] = network_errors(self.network, self.noisy[level], attention, timing)
                    yield Trial(next(self.numbers), attention, timing, level, row[level])

    def score(self, attention: Attention, timing: Timing, levels: Sequence[int] = (LOOK,)) -> float:
        """Mean logarithm of the error over pictures and levels, under the best prediction type."""
        row = self.table[attention, timing]
        return min(mean_log([row[level][kind] for level in levels]) for kind in row[levels[0]])

    def focus(self, attention: Attention, timing: Timing) -> list[int]:
        """Go on with the better known half of the pictures, whose numbers are returned.

        How well one is known is the error as a part of what can be had without a network.
        """
        trivial = scaled_error(self.noisy[LOOK])
        errors = self.table[attention, timing][LOOK].values()
        ratios = [min(kind[n] for kind in errors) / trivial[n] for n in range(len(trivial))]
        keep = max(min(KNOWN, len(ratios)), len(ratios) // 2)
        known = sorted(sorted(range(len(ratios)), key=ratios.__getitem__)[:keep])
        self.noisy = {level: Noised(n.abar, n.x[known], n.eps[known]) for level, n in self.noisy.items()}
        for row in self.table.values():
            row[LOOK] = {kind: tuple(values[n] for n in known) for kind, values in row[LOOK].items()}
        return known

    def best_timing(self, attention: Attention) -> Timing:
        """The levels with the lowest error at the first level."""
        return min(TIMINGS, key=lambda timing: self.score(attention, timing))

    def leaders(self, timing: Timing) -> list[Attention]:
        """At the first level the best reading, the best with other heads, and the best of the other order."""
        ranked = sorted(self.attentions, key=lambda a: self.score(a, timing))
        best = ranked[0]
        heads = [a for a in ranked if a.heads != best.heads]
        order = [a for a in ranked if a.order not in (None, best.order)]
        return list(dict.fromkeys([best, *heads[:1], *order[:1]]))
