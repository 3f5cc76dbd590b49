"""Running the probe: progress, its table, and the file that keeps what it found."""

from __future__ import annotations

import time
from collections.abc import Mapping
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
    pictures, names = probe_pictures(size, network.architecture.channels)
    if not quiet:
        say(f"probing with {len(names)} pictures at {size} px")
    findings: Findings | None = None
    for event in probe(network, pictures.to(place), names):
        if isinstance(event, Trial):
            if not quiet and time.monotonic() - start > 5 * event.number:
                say(f"  {event.number}: {event.attention}; noise {event.strength}; level {event.level}")
        else:
            findings = event
    assert findings is not None
    seconds = time.monotonic() - start
    _store(file, findings, size, quiet=quiet, color=color)  # first of all: who reads the table may go away
    if table:
        show_findings(findings)
    return _record(findings, size, seconds)


def show_findings(findings: Findings) -> None:
    """Every reading with its error at each noise strength, then every fact with its margin.

    Of other predictions than the best, only those of the best reading.
    """
    best = findings.rows[0]
    rows = [
        r
        for r in findings.rows
        if r.predicts == best.predicts or (r.attention == best.attention and not r.timing)
    ]
    names = [f"{row.attention}; {row.timing or 'levels found'}; {row.predicts}" for row in rows]
    width = max(map(len, names)) + 2
    data(f"{'error of eps at noise':<{width}}" + "".join(f"{k:>9}" for k in findings.strengths))
    for name, row in zip(names, rows, strict=True):
        errors = (f"{row.errors[k]:>9.4f}" if k in row.errors else f"{'-':>9}" for k in findings.strengths)
        data(f"{name:<{width}}{''.join(errors)}")
    data("")
    if not findings.trained:
        data(f"undecided: the lowest error is {findings.denoised:.2f} of what can be had without a network")
    for found in findings.findings:
        margin = f"{found.margin:.2f} times better than {found.next_best}" if found.next_best else ""
        data(f"{found.fact:<16} {found.status:<10} {found.best:<22} {margin}".rstrip())
    if findings.of("schedule").best in ("linear, 1000 levels", "cosine, 1000 levels"):
        data("(1000 levels, or another number rescaled to 0 .. 1000: these act the same)")
    if findings.curve and findings.of("schedule").status == "undecided":
        _show_curve(findings)
    data("")


def _show_curve(findings: Findings) -> None:
    """The levels of a schedule that is not decided, and how to go on."""
    data("\nlevels found, as the network counts them, where sigma / alpha of the noise is")
    data("  " + "   ".join(f"{point.strength:.2f}: {point.level:.0f}" for point in findings.curve))
    if not findings.familiar:
        data("they are not exact: the network knows these pictures too little")
    for timing in findings.possible[:5]:
        data(f"may be {timing}: {_flags(timing.facts)}")
    if not findings.possible:
        data("no known schedule has them; what its training says goes into")
        data("  " + _flags({"noise_schedule": "NAME", "diffusion_steps": "T"}))


def _flags(facts: Mapping[str, object]) -> str:
    return " ".join(f"--set model.{name}={value}" for name, value in facts.items())


def _curve(findings: Findings) -> dict[str, float]:
    """The level found at each sigma / alpha."""
    return {f"{point.strength:.3f}": round(point.level, 1) for point in findings.curve}


def _record(findings: Findings, size: int, seconds: float) -> dict[str, Any]:
    return {
        "facts": dict(findings.facts),
        "findings": [asdict(found) for found in findings.findings],
        "curve": _curve(findings),
        "possible": [dict(timing.facts) for timing in findings.possible],
        "trials": [
            {
                "attention": str(row.attention),
                "schedule": str(row.timing) if row.timing else None,
                "predicts": row.predicts,
                "errors": row.errors,
            }
            for row in findings.rows
        ],
        "pictures": list(findings.pictures),
        "levels": list(findings.strengths),
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
        curve=_curve(findings),
        levels=findings.strengths,
        pictures=findings.pictures,
    )
    try:
        path = save_facts(file, stored)
    except OutputError as error:
        say(f"not kept: {error.message}", label="warning", color=color)
        return
    if not quiet:
        say(f"kept in {path}")
