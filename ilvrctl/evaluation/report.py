"""The page of an evaluation, one HTML file that needs no network, and its numbers as CSV."""

from __future__ import annotations

import csv
import io
import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING, Any

from ilvrctl import __version__, paths
from ilvrctl.errors import UsageError, did_you_mean
from ilvrctl.evaluation.catalogue import ARROWS, Metric, number, plain
from ilvrctl.evaluation.plot import STYLE, pareto_svg
from ilvrctl.evaluation.sets import Picture
from ilvrctl.images.geometry import thumbnail
from ilvrctl.images.io import encode_picture

if TYPE_CHECKING:
    from ilvrctl.evaluation.result import Evaluation, RunResult

BUDGET = 27_000_000
"""Bytes of all pictures before base64, which makes them a third longer: the page stays below 40 MB."""
_SIDES = (256, 192, 128, 96, 64, 48, 32)
_QUALITY = 82


def csv_text(found: Evaluation) -> str:
    """A line a picture: run, name, sample, and every metric that a picture has of its own."""
    metrics = [m for m in found.metrics if m.of]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "picture", "sample", *(m.key for m in metrics)])
    for run in found.runs:
        for row in run.rows:
            numbers = ("" if (v := plain(row.values.get(m.key))) is None else v for m in metrics)
            writer.writerow([run.name, row.pair.key, row.pair.sample, *numbers])
    return text.getvalue()


def markdown(found: Evaluation) -> str:
    """A table for people: a row a run, the best of a column, beyond doubt, in bold."""

    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def cell(metric: Metric, i: int, run: RunResult) -> str:
        text = number(run.metrics.get(metric.key), metric)
        return f"**{text}**" if found.best(metric) == i else text

    head = row(["run", *(m.title + ARROWS[m.better] for m in found.metrics)])
    rows = [row([run.name, *(cell(m, i, run) for m in found.metrics)]) for i, run in enumerate(found.runs)]
    return "\n".join([head, "|---" + "|---:" * len(found.metrics) + "|", *rows]) + "\n"


def text_for(found: Evaluation, suffix: str) -> str:
    """The content of a file whose name ends so. UsageError for an ending that none has."""
    kinds: dict[str, Callable[[Evaluation], str]] = {
        ".html": page,
        ".csv": csv_text,
        ".json": lambda found: json.dumps(found.record(), ensure_ascii=False, indent=2) + "\n",
        ".md": markdown,
    }
    if suffix.lower() not in kinds:
        raise UsageError(
            f"an evaluation cannot be written as {suffix or 'a file without an ending'}",
            hint=did_you_mean(suffix.lower(), kinds) or f"one of {', '.join(kinds)}",
        )
    return kinds[suffix.lower()](found)


def page(found: Evaluation) -> str:
    """The HTML: summary, plot, a slider over every pair, best and worst cases, a sortable table, settings."""
    pictures = _Thumbnails(found)
    template = Template((paths.DATA / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{', '.join(run.name for run in found.runs)}"),
        version=escape(__version__),
        style=STYLE,
        counts=escape(_counts(found)),
        warnings="".join(f"<p class=warning>{escape(text)}</p>" for text in found.warnings),
        plot=_figure(found),
        summary=_summary(found),
        definitions="".join(
            f"<dt>{escape(m.title)}</dt><dd>{escape(m.definition)}</dd>" for m in found.metrics
        ),
        settings=_settings(found),
        data=_json({"runs": [_run(found, run, pictures) for run in found.runs], **_parts(found, pictures)}),
    )


def _counts(found: Evaluation) -> str:
    runs = f"{len(found.runs)} runs" if len(found.runs) > 1 else "one run"
    return f"{runs}, {found.provenance['inputs']} inputs, {sum(len(run.rows) for run in found.runs)} results"


def _figure(found: Evaluation) -> str:
    svg = pareto_svg(found)
    if not svg or len(found.runs) < 2:
        return ""
    caption = "Lower left is better. Filled: no other run is better on both. Bars: 95 % intervals."
    figure = f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
    return f"<section><h2>Realism against faithfulness</h2>{figure}</section>"


def _summary(found: Evaluation) -> str:
    """A row a run, with intervals; the best of a column in bold."""
    head = "".join(
        f'<th scope=col title="{escape(m.definition)}">{escape(m.title)}{ARROWS[m.better]}</th>'
        for m in found.metrics
    )
    rows = []
    for i, run in enumerate(found.runs):
        cells = []
        for metric in found.metrics:
            text = escape(number(run.metrics.get(metric.key), metric))
            best = found.best(metric) == i
            cells.append(
                f"<td class=best>{text} <abbr title=best>★</abbr></td>" if best else f"<td>{text}</td>"
            )
        rows.append(f"<tr><th scope=row>{escape(run.name)}</th>{''.join(cells)}</tr>")
    return (
        f"<table><thead><tr><th scope=col>run</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _settings(found: Evaluation) -> str:
    rows = list(_flat(found.provenance))
    for run in found.runs:
        rows += [(f"{run.name}: {key}", value) for key, value in _flat(run.settings)]
    return "".join(f"<tr><th scope=row>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in rows)


def _flat(values: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if hasattr(value, "items"):
            yield from _flat(value, f"{name}, ")
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _parts(found: Evaluation, pictures: _Thumbnails) -> dict[str, Any]:
    metrics = [
        {"key": m.key, "title": m.title, "better": m.better, "digits": m.digits, "scale": m.scale}
        for m in found.metrics
        if m.of
    ]
    partners = {
        row.pair.key: {
            side: pictures.place(picture)
            for side, picture in (("source", row.pair.source), ("truth", row.pair.truth))
            if picture is not None
        }
        for run in found.runs
        for row in run.rows
    }
    stored = {"pictures": pictures.encoded, "kind": pictures.kind}
    return {"metrics": metrics, "partners": partners, **stored}


def _run(found: Evaluation, run: RunResult, pictures: _Thumbnails) -> dict[str, Any]:
    keys = [m.key for m in found.metrics if m.of]
    rows = [
        {
            "key": row.pair.key,
            "sample": row.pair.sample,
            "picture": pictures.place(row.pair.output),
            "values": [plain(_short(row.values.get(key))) for key in keys],
        }
        for row in run.rows
    ]
    return {"name": run.name, "rows": rows}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _json(value: Any) -> str:
    """JSON that may stand in a script element: no tag can begin inside it."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


class _Thumbnails:
    """Every picture of the page once: as it is, in PNG, where all of them may be that large together; else smaller and
    as WebP. ``kind``: which of the two.
    """

    def __init__(self, found: Evaluation) -> None:
        every = [
            picture
            for run in found.runs
            for row in run.rows
            for picture in (row.pair.output, row.pair.source, row.pair.truth)
            if picture is not None
        ]
        unique = list({picture.digest: picture for picture in every}.values())
        self._places = {picture.digest: i for i, picture in enumerate(unique)}
        self.kind, self.encoded = _encoded(unique)

    def place(self, picture: Picture) -> int:
        """Its number among :attr:`encoded`."""
        return self._places[picture.digest]


def _encoded(pictures: Sequence[Picture]) -> tuple[str, list[str]]:
    """Base64 of all, and their format: the first of the ladder that a sample says will fit, the next if it does not."""
    sample = pictures[:: max(1, len(pictures) // 24)]
    ladder: list[int | None] = [None, *_SIDES]
    share = BUDGET * 0.9 * len(sample) / max(1, len(pictures))
    side = next((s for s in ladder if sum(len(_small(one, s)) for one in sample) < share), _SIDES[-1])
    for smaller in ladder[ladder.index(side) :]:
        made = [_small(picture, smaller) for picture in pictures]
        if sum(map(len, made)) <= BUDGET:
            break
    return "png" if smaller is None else "webp", [b64encode(data).decode() for data in made]


def _small(picture: Picture, side: int | None) -> bytes:
    """With a longer side of at most so many pixels, or without a loss."""
    if side is None:
        return encode_picture(picture.open(), "png")
    return encode_picture(thumbnail(picture.open(), side), "webp", quality=_QUALITY)
