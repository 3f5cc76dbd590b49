"""Realism against faithfulness, one point a run, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ilvrctl.evaluation.result import Evaluation

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 130, 16, 48
_LINE = 15  # pixels from one label to the next

STYLE = """
.pareto text{font:12px system-ui,sans-serif;fill:#333}
.pareto .axis,.pareto .tick{stroke:#999}.pareto .tick{opacity:.25}
.pareto .bar{stroke:#4477aa;opacity:.6}.pareto .dot{fill:#fff;stroke:#4477aa;stroke-width:2}
.pareto .front{fill:#4477aa}.pareto .line{fill:none;stroke:#4477aa;stroke-dasharray:4 3}
@media (prefers-color-scheme:dark){.pareto text{fill:#ddd}.pareto .axis,.pareto .tick{stroke:#888}
.pareto .bar,.pareto .line{stroke:#77aadd}.pareto .dot{fill:#16181c;stroke:#77aadd}.pareto .front{fill:#77aadd}}
"""


@dataclass(frozen=True)
class _Point:
    name: str
    x: float
    y: float
    x_bar: tuple[float, float]
    y_bar: tuple[float, float]
    front: bool


@dataclass(frozen=True)
class _Scale:
    """From values ``low`` to ``high`` to pixels ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Four to eight round values."""
        raw = (self.high - self.low) / 6
        power = 10 ** math.floor(math.log10(raw))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step) + 1)]


def pareto_svg(found: Evaluation, *, standalone: bool = False) -> str:
    """The plot, or "" where realism and faithfulness were not both measured. Bars are 95 % intervals.

    Filled points are the Pareto front. ``standalone``: as a file of its own, with its styles.
    """
    if found.axes is None or not (points := _points(found)):
        return ""
    across, up = found.axes
    x = _scale([v for p in points for v in p.x_bar], _LEFT, _WIDTH - _RIGHT)
    y = _scale([v for p in points for v in p.y_bar], _HEIGHT - _BOTTOM, _TOP)
    front = sorted((p for p in points if p.front), key=lambda p: p.x)
    line = " ".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in front)
    label = f"{up.title} against {across.title}; lower left is better"
    parts = [
        f'<svg class="pareto" role="img" aria-label="{escape(label)}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' xmlns="http://www.w3.org/2000/svg">',
        f"<style>{STYLE}</style>" if standalone else "",
        *_axes(x, y, across.title, up.title),
        f'<polyline class="line" points="{line}"/>' if len(front) > 1 else "",
        *(_drawn(point, x, y) for point in points),
        *_labels(points, x, y),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


def _points(found: Evaluation) -> list[_Point]:
    front = found.pareto()
    points = []
    for i, run in enumerate(found.runs):
        values = [(run.metrics.get(m.key), m.scale) for m in found.axes or ()]
        known = [(e, scale) for e, scale in values if e is not None and math.isfinite(e.value)]
        if len(known) == 2:
            (x, x_bar), (y, y_bar) = (
                (
                    e.value * scale,
                    (
                        (e.value if e.low is None else e.low) * scale,
                        (e.value if e.high is None else e.high) * scale,
                    ),
                )
                for e, scale in known
            )
            points.append(_Point(run.name, x, y, x_bar, y_bar, i in front))
    return points


def _scale(values: Sequence[float], start: float, end: float) -> _Scale:
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or max(abs(high), 1.0) * 0.1
    return _Scale(low - margin, high + margin, start, end)


def _axes(x: _Scale, y: _Scale, across: str, up: str) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [f'<path class="axis" fill="none" d="M{_LEFT},{_TOP}V{bottom}H{right}"/>']
    for value in x.ticks:
        at = f"{x(value):.1f}"
        parts.append(f'<path class="tick" d="M{at},{_TOP}V{bottom}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    for value in y.ticks:
        at = f"{y(value):.1f}"
        parts.append(f'<path class="tick" d="M{_LEFT},{at}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at}" dy="4" text-anchor="end">{value:g}</text>')
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(across)} →</text>'
    )
    parts.append(
        f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">{escape(up)} →</text>'
    )
    return parts


def _drawn(point: _Point, x: _Scale, y: _Scale) -> str:
    at_x, at_y = f"{x(point.x):.1f}", f"{y(point.y):.1f}"
    bars = (
        f'<path class="bar" d="M{x(point.x_bar[0]):.1f},{at_y}H{x(point.x_bar[1]):.1f}'
        f'M{at_x},{y(point.y_bar[0]):.1f}V{y(point.y_bar[1]):.1f}"/>'
    )
    kind = "dot front" if point.front else "dot"
    name = f"<title>{escape(point.name)}</title>"
    return f'{bars}<circle class="{kind}" cx="{at_x}" cy="{at_y}" r="4.5">{name}</circle>'


def _labels(points: Sequence[_Point], x: _Scale, y: _Scale) -> list[str]:
    """Names to the right of the points, moved down where they would lie on each other."""
    parts, taken = [], list[tuple[float, float]]()
    for point in sorted(points, key=lambda p: y(p.y)):
        at_x, at_y = x(point.x) + 9, y(point.y) - 7
        while any(abs(at_x - other_x) < 90 and abs(at_y - other_y) < _LINE for other_x, other_y in taken):
            at_y += 1
        taken.append((at_x, at_y))
        name = point.name if len(point.name) <= 24 else f"…{point.name[-23:]}"
        parts.append(f'<text x="{at_x:.1f}" y="{at_y:.1f}">{escape(name)}</text>')
    return parts
