"""Show a run or a plan: events to the screen and to stdout, the exit code from what was counted."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import typer

from ilvrctl.cli import signals
from ilvrctl.cli.costs import refuse_estimate, show_cost
from ilvrctl.cli.display import Display, Tally
from ilvrctl.cli.job_views import first_view, job_view, note_view
from ilvrctl.cli.output import data_json, data_path, interrupted, say
from ilvrctl.cli.screen import Screen, View
from ilvrctl.errors import IlvrctlError
from ilvrctl.events import Noted

if TYPE_CHECKING:
    from ilvrctl.events import JobEvent
    from ilvrctl.plans.inbox import Watched
    from ilvrctl.plans.plan import Plan
    from ilvrctl.training.events import Published, TrainingEvent


def show_or_carry_out(
    plan: Plan,
    options: Mapping[str, Any],
    display: Display,
    *,
    before: Callable[[Plan, Display], int] = lambda plan, display: 1,
) -> None:
    """Check a plan and make its results; with ``--dry-run`` only tell what would be done and cost, ``before`` that more
    of it: in how many parts each picture is made.

    Exit code 1 when some failed, 128 and the signal's number when interrupted.
    """
    from ilvrctl.plans.check import check_networks, make_plan
    from ilvrctl.work.machine import Machine, carry_out, share_of

    machine = Machine(options["device"], options["batch_size"], options["compile"])
    try:
        check_networks([plan], numbers=options["dry_run"])
        plan = make_plan(plan, overwrite=options["overwrite"])
    except IlvrctlError:
        show_notes([plan], display)  # they may say why
        raise
    machine.check()
    if options["dry_run"]:
        show_notes([plan], display)
        parts = before(plan, display)
        show_plan(plan, display, lambda: show_cost([plan], machine, display, options["estimate"], parts))
        return
    refuse_estimate(options)
    [plan], _ = share_of([plan])
    tally = Tally(plan.mine, verb="edited" if plan.edits else "translated")
    finish(lambda aside: carry_out([plan], machine, aside=aside), tally, display, bars=bool(plan.pending))
    _close(tally, display)


def show_watch(asked: Watched, options: Mapping[str, Any], display: Display) -> None:
    """Translate what comes into folders until somebody stops it, which is a good end. Exit code 1 when some failed."""
    from ilvrctl.work.machine import Machine
    from ilvrctl.work.watch import carry_out_watch

    machine = Machine(options["device"], options["batch_size"], options["compile"])
    machine.check()
    if not display.quiet:
        folders = ", ".join(map(str, asked.inbox.folders))
        say(f"waiting for pictures in {folders}; Ctrl-C ends it")
    tally = Tally(0)
    finish(
        lambda aside: carry_out_watch(asked, machine, aside=aside), tally, display, bars=True, endless=True
    )
    _close(tally, display)


def _close(tally: Tally, display: Display) -> None:
    if not display.quiet:
        say(tally.summary())
    if tally.code:
        raise typer.Exit(tally.code)


def show_notes(plans: Sequence[Plan], display: Display) -> None:
    """What people should know before plans are carried out, and what was passed by."""
    from ilvrctl.images.folders import counted

    screen = Screen(display, bars=False)
    for plan in plans:
        for note in plan.notes:
            screen.show(note_view(note))
    passed = dict.fromkeys(one for plan in plans for one in plan.passed_by)
    for one in passed:
        screen.show(job_view(one, Tally(0)))
    if passed and not display.quiet:
        say(counted(passed))


def finish(
    begin: Callable[[Callable[[JobEvent], None]], Generator[JobEvent, None, None]],
    tally: Tally,
    display: Display,
    *,
    bars: bool,
    endless: bool = False,
) -> None:
    """Show and count the events of a run until its end, and of what happens while nobody waits for an event.

    ``begin`` gets whom to tell of the latter. Exit code 128 and the signal's number when the run is interrupted, unless
    it is ``endless`` and that is how it ends.
    """
    screen = Screen(display, bars=bars)
    stopped = False

    def tell(event: JobEvent, show: Callable[[View], None]) -> None:
        with signals.held():  # what is counted as saved is told too
            tally.add(event)
            show(job_view(event, tally))
        signals.let_go()

    def aside(event: JobEvent) -> None:
        tell(event, screen.programs.add if stopped or not isinstance(event, Noted) else screen.show)

    try:
        with screen, closing(begin(aside)) as events:
            screen.show(first_view(tally))
            for event in events:
                tell(event, screen.show)
                signals.check()
    except KeyboardInterrupt:
        stopped = True
    if display.as_json:
        data_json({**tally.record(), "interrupted": stopped})
    if stopped and not endless:
        interrupted(tally.interrupted())


def show_training(events: Iterator[TrainingEvent], display: Display) -> Published | None:
    """Show a training; the path of the weights on stdout. Returns the event that ends it well."""
    from ilvrctl.cli.training_views import training_view
    from ilvrctl.training.events import Published

    done = None
    with Screen(display) as screen:
        for event in events:
            screen.show(training_view(event))
            done = event if isinstance(event, Published) else done
    return done


def show_plan(plan: Plan, display: Display, cost: Callable[[], None]) -> None:
    """What would be done: the files to make on stdout, the rest on stderr; before the closing line its ``cost``."""
    from ilvrctl.plans.places import exists

    pending, calls = plan.pending, plan.network_calls()
    items = dict.fromkeys(output.item for output in pending)
    missing = [item for item in items if item.path is not None and not exists(item.path)]
    for item in missing:
        say(f"{item.name} does not exist", label="warning", color=display.color)
    if display.as_json:
        for output in plan.outputs:
            data_json(
                {
                    "event": "planned",
                    "input": output.item.name,
                    "sample": output.sample,
                    "output": str(output.path) if output.path else None,
                    "status": output.status,
                    **({"settings": plan.changes(output)} if plan.grid else {}),
                }
            )
        cost()
        done = len(plan.outputs) - len(pending)
        data_json({"event": "summary", "pending": len(pending), "done": done, "network_calls": calls})
    else:
        for output in pending:
            data_path(output.path or "-")
    count = "1 result" if len(plan.outputs) == 1 else f"{len(plan.outputs)} results"
    if not display.quiet:
        say(
            f"{count}: {len(pending)} to do, {len(plan.outputs) - len(pending)} there already; "
            f"{plan.direction} ({plan.model.name}), {_what(plan)}, {calls} network calls"
        )
    if not display.as_json:
        cost()
    if any(item.path is not None and not item.path.suffix for item in missing):
        raise typer.Exit(1)  # it may have been meant as a folder, of nobody knows how many pictures


def _what(plan: Plan) -> str:
    """The settings of the plan, or how many there are."""
    if plan.grid:
        return f"{len(plan.variants)} settings ({'; '.join(variant.label for variant in plan.variants)})"
    settings = plan.variants[0].settings
    return f"{settings.method.describe()}, {len(settings.chain(plan.schedule()))} steps"
