"""``ilvrctl batch``: the jobs of a file, resumable, on one machine or many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ilvrctl.cli.costs import refuse_estimate, show_cost
from ilvrctl.cli.display import Display, Tally
from ilvrctl.cli.options import display_of, takes
from ilvrctl.cli.output import command, data, data_json, data_path, say
from ilvrctl.cli.show import show_notes
from ilvrctl.errors import UsageError

if TYPE_CHECKING:
    from ilvrctl.plans.past import Past
    from ilvrctl.plans.plan import Plan
    from ilvrctl.work.machine import Machine

EPILOG = """Examples:

  ilvrctl batch --init                      # an annotated jobs.yaml

  ilvrctl batch jobs.yaml --dry-run

  ilvrctl batch jobs.yaml                   # again after a crash: goes on

  ilvrctl batch --status out                # from another terminal

  ilvrctl batch jobs.yaml --shard 3/16      # one part of sixteen, for job arrays

  ilvrctl batch jobs.yaml --devices cuda:0,cuda:1

  ilvrctl batch jobs.yaml --engine ray --address auto
"""
_RUN = "Run"
_SPREAD = "Devices and machines"

Jobs = Annotated[Path | None, typer.Argument(metavar="JOBS.YAML", help="The jobs.")]
Init = Annotated[
    bool, typer.Option("--init", help="Write an annotated example (jobs.yaml).", rich_help_panel=_RUN)
]
Schema = Annotated[
    bool, typer.Option("--schema", help="Print JSON Schema of a jobs file.", rich_help_panel=_RUN)
]
Status = Annotated[
    Path | None,
    typer.Option("--status", metavar="OUT", help="Where the run of a folder stands.", rich_help_panel=_RUN),
]
OutFolder = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="Instead of the file's out.", rich_help_panel=_RUN),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--job", metavar="NAME", help="Only this job; may be given again.", rich_help_panel=_RUN),
]
Retry = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what failed before.", rich_help_panel=_RUN)
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first failure.", rich_help_panel=_RUN)
]
MaxFailures = Annotated[
    int | None,
    typer.Option("--max-failures", metavar="N", min=1, help="Stop at the Nth failure.", rich_help_panel=_RUN),
]
Shard = Annotated[
    str, typer.Option("--shard", metavar="K/N", help="Make part K of N.", rich_help_panel=_SPREAD)
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="LIST",
        help="A process for each: cuda:0,cuda:1, or a number of GPUs.",
        rich_help_panel=_SPREAD,
    ),
]
EngineName = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="local, or ray.", rich_help_panel=_SPREAD)
]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="TEXT", help="Of the Ray cluster.", rich_help_panel=_SPREAD),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Ray actors; else one a GPU or CPU.", rich_help_panel=_SPREAD),
]


@command
@takes("batch")
def batch(
    options: Mapping[str, Any],
    jobs: Jobs = None,
    out: OutFolder = None,
    init: Init = False,
    schema: Schema = False,
    status: Status = None,
    only: Only = None,
    retry_failed: Retry = False,
    fail_fast: FailFast = False,
    max_failures: MaxFailures = None,
    shard: Shard = "1/1",
    devices: Devices = None,
    engine: EngineName = "local",
    address: Address = None,
    workers: Workers = None,
) -> None:
    """Carry out the jobs of a file: resumable, spread over devices and machines.

    What is done stands in the output folder's manifest.jsonl; the same command goes on from there.
    """
    display, overwrite = display_of(options), options["overwrite"]
    if schema:
        from ilvrctl.plans.jobs_file import schema as schema_of_jobs

        data_json(schema_of_jobs())
    elif init:
        _write_example(jobs or Path("jobs.yaml"), overwrite)
    elif status is not None:
        from ilvrctl.cli.status import show_status

        show_status(status, display)
    elif jobs is None:
        raise UsageError("no jobs file", hint="ilvrctl batch --init writes an example, jobs.yaml")
    else:
        from ilvrctl.cli.fetching import fetching_shown
        from ilvrctl.plans.jobs import plans_of
        from ilvrctl.work.machine import Machine, share_of

        where = options["device"], options["batch_size"], options["compile"]
        machine = Machine(*where, devices, engine, address, workers)
        with fetching_shown(display, wanted=not options["dry_run"]):
            plans, past = plans_of(jobs, out, overwrite=overwrite, retry=retry_failed, only=only or ())
        parts, part = share_of(plans, _shard(shard))
        machine.check(parts)
        if options["dry_run"]:
            show_notes(parts, display)
            show_plans([plan for plan in parts if plan.mine], display)
            show_cost(parts, machine, display, measure=options["estimate"])
            return
        refuse_estimate(options)
        _run(parts, past, machine, part, 1 if fail_fast else max_failures, display)


def _write_example(path: Path, overwrite: bool) -> None:
    from ilvrctl.files import write_text

    if path.exists() and not overwrite:
        raise UsageError(f"{path} is there already", hint="--overwrite, or give another name")
    example = Path(__file__).parents[1] / "plans" / "example.yaml"
    data_path(write_text(path, example.read_text(encoding="utf-8")))
    say(f"next: ilvrctl batch {path} --dry-run")


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard {text!r} is not of the form K/N", hint="for example --shard 3/16")
    return int(number), int(count)


def _run(
    plans: Sequence[Plan],
    past: Past,
    machine: Machine,
    shard: tuple[int, int],
    max_failures: int | None,
    display: Display,
) -> None:
    from ilvrctl.cli.show import finish
    from ilvrctl.cli.status import table, tally_rows
    from ilvrctl.work.machine import carry_out

    counts = {plan.name: plan.mine for plan in plans if plan.mine or not plan.outputs}
    tally = Tally(sum(counts.values()), jobs={name: Tally(count) for name, count in counts.items()})
    finish(
        lambda aside: carry_out(
            plans, machine, past=past, shard=shard, max_failures=max_failures, aside=aside
        ),
        tally,
        display,
        bars=any(plan.pending for plan in plans),
    )
    if not display.quiet and not display.as_json:
        targets = {plan.name: plan.target or plan.model.name for plan in plans}
        for line in table(tally_rows(tally.jobs, targets)):
            say(line)
        say(tally.summary())
    if tally.failed:
        raise typer.Exit(1)


def show_plans(plans: Sequence[Plan], display: Display) -> None:
    """What would be done, a line a job. Nothing is loaded or written."""
    rows = [_planned(plan) for plan in plans]
    if display.as_json:
        for row in rows:
            data_json({"event": "planned", **row})
        return
    for plan, row in zip(plans, rows, strict=True):
        shape = f"{row['inputs']} inputs x {len(plan.variants)} settings x {row['samples']} samples"
        failed = f", {row['failed']} failed before" if row["failed"] else ""
        data(
            f"{plan.name}: {shape} = {row['results']} results; {row['to_do']} to do, {row['done']} there already"
            f"{failed}, {row['network_calls']} network calls"
        )
        if plan.grid and not display.quiet:
            say("  " + "; ".join(variant.label for variant in plan.variants))
    if not display.quiet:
        todo, calls = (sum(row[key] for row in rows) for key in ("to_do", "network_calls"))
        say(f"{len(plans)} jobs, {todo} results to do, {calls} network calls")


def _planned(plan: Plan) -> dict[str, Any]:
    statuses = [output.status for output in plan.outputs]
    return {
        "job": plan.name,
        "to": plan.target or plan.model.name,
        "inputs": len({output.item.key for output in plan.outputs}),
        "settings": [dict(variant.changes) for variant in plan.variants],
        "samples": len({output.sample for output in plan.outputs}),
        "results": len(statuses),
        "to_do": statuses.count("to do"),
        "done": statuses.count("done"),
        "failed": statuses.count("failed"),
        "network_calls": plan.network_calls(),
    }
