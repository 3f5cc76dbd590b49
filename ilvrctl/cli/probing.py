"""Running the probe: progress, its table, and the file that keeps what it found."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.cli.output import data, say
from ilvrctl.errors import OutputError
from ilvrctl.plans.facts import StoredFacts, save_facts

if TYPE_CHECKING:
    from ilvrctl.probe import Findings


def run_probe(file: Path, *, device: str, quiet: bool, color: bool, table: bool) -> dict[str, Any]:
    """Probe ``file``; show the ``table``; store the facts beside it. What was found, as plain values."""
    from ilvrctl.devices import choose_device
    from ilvrctl.models.architecture.hidden_flags import HiddenFlags
    from ilvrctl.models.files.loading import load_unet
    from ilvrctl.probe import Trial, guess_image_size, probe
    from ilvrctl.probe.pictures import probe_pictures

    start, place = time.monotonic(), choose_device(device)
    network = load_unet(file, HiddenFlags(num_heads=1), device=place)
    size = guess_image_size(network.architecture)
    pictures, names = probe_pictures(size)
    if not quiet:
        say(f"probing with {len(names)} pictures at {size} px")
    findings: Findings | None = None
    for event in probe(network, pictures.to(place), names):
        if isinstance(event, Trial):
            if not quiet and time.monotonic() - start > 5 * event.number:
                say(f"  {event.number}: {event.attention}; {event.timing}; level {event.level}")
        else:
            findings = event
    assert findings is not None
    seconds = time.monotonic() - start
    _store(file, findings, size, quiet=quiet, color=color)  # first of all: who reads the table may go away
    if table:
        show_findings(findings)
    return _record(findings, size, seconds)


def show_findings(findings: Findings) -> None:
    """Every reading with its error at each level, then every fact with its margin.

    Of other predictions than the best, only those of the best reading.
    """
    best = findings.rows[0]
    data("error of eps".ljust(58) + "".join(f"{f'level {level}':>11}" for level in findings.levels))
    for row in findings.rows:
        if row.predicts != best.predicts and (row.attention, row.timing) != (best.attention, best.timing):
            continue
        name = f"{row.attention}; {row.timing}; {row.predicts}"
        errors = "".join(
            f"{row.errors[k]:>11.4f}" if k in row.errors else f"{'-':>11}" for k in findings.levels
        )
        data(f"{name:<58}{errors}")
    data("")
    if not findings.trained:
        data(f"undecided: the lowest error is {findings.denoised:.2f} of what can be had without a network")
    for found in findings.findings:
        margin = f"{found.margin:.2f} times better than {found.next_best}" if found.next_best else ""
        data(f"{found.fact:<16} {found.status:<10} {found.best:<22} {margin}".rstrip())
    data("")


def _record(findings: Findings, size: int, seconds: float) -> dict[str, Any]:
    return {
        "facts": dict(findings.facts),
        "findings": [asdict(found) for found in findings.findings],
        "trials": [
            {
                "attention": str(row.attention),
                "schedule": str(row.timing),
                "predicts": row.predicts,
                "errors": dict(row.errors),
            }
            for row in findings.rows
        ],
        "pictures": list(findings.pictures),
        "levels": list(findings.levels),
        "picture_size": size,
        "denoised": findings.denoised,
        "seconds": round(seconds, 2),
    }


def _store(file: Path, findings: Findings, size: int, *, quiet: bool, color: bool) -> None:
    """Keep the facts beside the weights; a folder that cannot be written is a warning."""
    undecided = tuple(f.fact for f in findings.findings if f.status == "undecided")
    stored = StoredFacts(
        facts={**findings.facts, "image_size": size} if findings.trained else {},
        guesses=("image_size",) if findings.trained else (),
        undecided=undecided,
        margins={f.fact: round(f.margin, 3) for f in findings.findings if f.next_best},
        levels=findings.levels,
        pictures=findings.pictures,
    )
    try:
        path = save_facts(file, stored)
    except OutputError as error:
        say(f"not kept: {error.message}", label="warning", color=color)
        return
    if not quiet:
        say(f"kept in {path}")
