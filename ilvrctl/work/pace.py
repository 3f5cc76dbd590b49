"""The pace of work: measured by some steps, or while results are made, and remembered."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ilvrctl.memory import remembering
from ilvrctl.plans.pace import Cost, Pace, cost_of, keep_pace, known_pace, work_of

if TYPE_CHECKING:
    from ilvrctl.plans.grid import Variant
    from ilvrctl.plans.plan import Plan
    from ilvrctl.work.batches import Made
    from ilvrctl.work.machine import Machine
    from ilvrctl.work.worker import Facts


class Paces:
    """Notes how long the results of a run take, and remembers it at the end; the median, as first batches warm up."""

    def __init__(self, machine: Machine) -> None:
        self._how = machine.how
        self._seen: dict[tuple[str, str], tuple[Plan, Variant, Facts, list[float]]] = {}

    def add(self, plan: Plan, variant: Variant, made: Made, facts: Facts) -> None:
        """A result is made."""
        mine = self._seen.setdefault((plan.name, variant.folder), (plan, variant, facts, []))
        mine[-1].append(made.seconds / len(made.images))

    @remembering()
    def keep(self) -> None:
        """Remember what was noted, that of all jobs with the same kind of work together."""
        if not self._seen:
            return  # a signal in the middle of torch's import must not lead to another
        import torch

        from ilvrctl.timing import peak_memory

        calls: dict[str, list[float]] = defaultdict(list)
        last: dict[str, tuple[Plan, Variant, Facts]] = {}
        for plan, variant, facts, seconds in self._seen.values():
            work = work_of(plan, variant, self._how)
            each = variant.settings.network_calls(plan.schedule())
            calls[work] += [one / each for one in seconds]
            last[work] = plan, variant, facts
        for work, (plan, variant, facts) in last.items():
            peak, a_call = peak_memory(torch.device(facts.device)), statistics.median(calls[work])
            pace = Pace(a_call, peak, facts.device, facts.precision, facts.batch_size)
            keep_pace(plan, variant, self._how, pace)


@remembering()
def estimate(plans: Sequence[Plan], machine: Machine, *, measure: bool = False, parts: int = 1) -> Cost:
    """What the rest of plans will cost, by what is remembered; or loading their networks and ``measure``-ing some steps
    of each kind of work, which is remembered too.
    """
    if not measure:
        return cost_of(plans, lambda plan, variant: known_pace(plan, variant, machine.how), parts)
    from ilvrctl.timing import peak_memory, step_seconds

    known: dict[str, Pace] = {}
    kept = machine.keeping()

    def measured(plan: Plan, variant: Variant) -> Pace:
        work, networks = work_of(plan, variant, machine.how), plan.networks_of(variant)
        if work not in known:
            engine = kept.load(networks, lambda event: None)
            seconds, size = step_seconds(engine, variant.settings)
            peak = peak_memory(engine.device)
            known[work] = Pace(seconds, peak, str(engine.device), engine.precision, size, "steps")
            keep_pace(plan, variant, machine.how, known[work])
        return known[work]

    return cost_of(plans, measured, parts)
