"""What a run would cost, for people and for programs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ilvrctl.cli.display import Display, amount, duration
from ilvrctl.cli.output import data_json, say
from ilvrctl.errors import UsageError

if TYPE_CHECKING:
    from ilvrctl.plans.pace import Cost
    from ilvrctl.plans.plan import Plan
    from ilvrctl.work.machine import Machine


def refuse_estimate(options: Mapping[str, Any]) -> None:
    """UsageError for an estimate of a run that is carried out."""
    if options["estimate"]:
        raise UsageError("--estimate belongs to --dry-run", hint="add --dry-run, or leave out --estimate")


def show_cost(
    plans: Sequence[Plan], machine: Machine, display: Display, measure: bool = False, parts: int = 1
) -> None:
    """Tell what to expect of plans: inputs that their target is not made for, and what is still to be made costs, by
    the pace of earlier work, or by ``measure``-ing some steps of it.

    Programs are told where a pace is known. ``parts``: of every picture.
    """
    from ilvrctl.work.expected import first_unexpected
    from ilvrctl.work.pace import estimate

    if not (display.quiet or display.as_json):
        for note in first_unexpected(plans):
            say(note.message)
    cost = estimate(plans, machine, measure=measure, parts=parts)
    if display.as_json:
        if measure or cost.pace is not None:
            data_json({"event": "estimate", **cost.record()})
    elif cost.results and not display.quiet:
        say(f"estimate: {_told(cost, spread=machine.spread)}")
    if short := _short_of_disk(plans, cost.disk):
        say(short, label="warning", color=display.color)


def _told(cost: Cost, *, spread: bool) -> str:
    disk = f"at most {amount(cost.disk)} on disk"
    if cost.seconds is None or cost.pace is None:
        return f"how long is not known, as nothing like it was measured here: --estimate does; {disk}"
    pace, origin = cost.pace, "an earlier run" if cost.pace.measured == "run" else "two steps"
    memory = "" if cost.peak_mb is None else f"{amount(cost.peak_mb * 1e6)} of memory, "
    where = f"{pace.device} in {pace.precision}, {pace.batch_size} at a time"
    alone = " on one device" if spread else ""
    each = f"{duration(cost.seconds / cost.results)} a picture, " if cost.results > 1 else ""
    whole = f"{each}{duration(cost.seconds)} in all{alone}"
    return f"{whole}, {memory}{disk} (from {origin}: {where})"


def _short_of_disk(plans: Sequence[Plan], needed: int) -> str:
    """A warning where the disk of the first result has no room for all that is needed; else nothing."""
    from ilvrctl.plans.places import nearest

    first = next((o.path for plan in plans for o in plan.pending if o.path is not None), None)
    if first is None:
        return ""
    there = nearest(first.absolute().parent)
    free = shutil.disk_usage(there).free
    return (
        ""
        if free > needed
        else f"{amount(free)} are free on the disk of {there}: {amount(needed)} may be needed"
    )
