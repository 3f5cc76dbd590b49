"""The comparison of runs as a table."""

from __future__ import annotations

import os
import sys
from io import StringIO
from typing import TYPE_CHECKING

from ilvrctl.evaluation.catalogue import ARROWS, number
from ilvrctl.text import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ilvrctl.evaluation.catalogue import Metric
    from ilvrctl.evaluation.result import Evaluation
    from ilvrctl.metrics.intervals import Estimate

_FEW = 3
"""So many runs stand beside each other; more stand below each other."""


def comparison(found: Evaluation, *, color: bool) -> list[str]:
    """The lines of a table: value and half of its 95 % interval; the best, beyond doubt, marked with a star."""
    from rich.console import Console

    few = len(found.runs) <= _FEW
    width = int(os.environ.get("COLUMNS") or 0) or (_terminal_width() if color else 160)
    console = Console(
        file=_Page(),
        width=width,
        force_terminal=color,
        no_color=not color,
        highlight=False,
        legacy_windows=False,
    )
    console.print(_beside(found) if few else _below(found))
    console.print(_legend(found), style="dim" if color else None, markup=False, soft_wrap=not color)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in str(text).rstrip("\n").split("\n")]


class _Page(StringIO):
    """Text in memory that is drawn in letters which stdout has."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(sys.stdout, "encoding", None) or "utf-8"


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size((100, 40)).columns


def _beside(found: Evaluation) -> RenderableType:
    """A row a metric, a column a run."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for run in found.runs:
        table.add_column(Text(visible(run.name)), justify="right", overflow="fold")
    for metric in found.metrics:
        cells = [
            _cell(run.metrics.get(metric.key), metric, found.best(metric) == i)
            for i, run in enumerate(found.runs)
        ]
        table.add_row(Text(_title(metric)), *cells)
    return table


def _below(found: Evaluation) -> RenderableType:
    """A row a run, a column a metric."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    front = found.pareto()
    table.add_column("run", overflow="fold")
    for metric in found.metrics:
        table.add_column(Text(_title(metric)), justify="right")
    for i, run in enumerate(found.runs):
        cells = [_cell(run.metrics.get(m.key), m, found.best(m) == i) for m in found.metrics]
        table.add_row(Text(f"{visible(run.name)}{' (front)' if i in front else ''}"), *cells)
    return table


def _title(metric: Metric) -> str:
    return f"{metric.title}{ARROWS[metric.better]}"


def _cell(estimate: Estimate | None, metric: Metric, best: bool) -> RenderableType:
    from rich.text import Text

    return Text(number(estimate, metric) + (" *" if best else ""), style="bold green" if best else "")


def _legend(found: Evaluation) -> str:
    origin = found.provenance
    lines = [f"{origin['inputs']} inputs; ± half of the 95 % interval over inputs"]
    if len(found.runs) > 1:
        lines[0] += "; * best: its interval meets no other"
    if "realism" in origin:
        real = origin["realism"]
        count = f"{real['real_pictures']} real pictures, " if real["real_pictures"] else ""
        lines.append(f"features: {real['title']}, {count}resized to {real['resize']}")
    lines.append(f"protocol {origin['protocol']}; resize: {origin['resize']}")
    return "\n".join(lines)
