"""``ilvrctl batch``: the jobs of a file, resumable, on one machine or many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ilvrctl.cli import options as opt
from ilvrctl.cli.display import Display, Tally, duration
from ilvrctl.cli.making import compiles
from ilvrctl.cli.output import command, data, data_json, say, use_color
from ilvrctl.errors import UsageError

if TYPE_CHECKING:
    from ilvrctl.engine import Engine
    from ilvrctl.plans.networks import Networks
    from ilvrctl.plans.past import Past
    from ilvrctl.plans.plan import Plan
    from ilvrctl.work.workers import Workers as Makers

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
Estimate = Annotated[
    bool,
    typer.Option("--estimate", help="With --dry-run: measure time and memory.", rich_help_panel=_RUN),
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
BatchSize = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N|auto",
        help="Samples at a time; auto measures the fastest.",
        envvar="ILVRCTL_BATCH_SIZE",
        rich_help_panel=_SPREAD,
    ),
]


@command
def batch(
    jobs: Jobs = None,
    out: OutFolder = None,
    init: Init = False,
    schema: Schema = False,
    status: Status = None,
    dry_run: opt.DryRun = False,
    estimate: Estimate = False,
    retry_failed: Retry = False,
    fail_fast: FailFast = False,
    max_failures: MaxFailures = None,
    shard: Shard = "1/1",
    devices: Devices = None,
    engine: EngineName = "local",
    address: Address = None,
    workers: Workers = None,
    device: opt.Device = "auto",
    batch_size: BatchSize = None,
    compile_: opt.Compile = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    color: opt.Color = "auto",
) -> None:
    """Carry out the jobs of a file: resumable, spread over devices and machines.

    What is done stands in the output folder's manifest.jsonl; the same command goes on from there.
    """
    display = Display(as_json, quiet, verbose, use_color(color))
    if schema:
        from ilvrctl.plans.jobs_file import schema as spec_schema

        data_json(spec_schema())
    elif init:
        _write_example(jobs or Path("jobs.yaml"), overwrite)
    elif status is not None:
        from ilvrctl.cli.status import show_status

        show_status(status, display)
    elif jobs is None:
        raise UsageError("no jobs file", hint="ilvrctl batch --init writes an example, jobs.yaml")
    else:
        part = _shard(shard)
        size = _batch_size(batch_size)
        plans, past = _plans(jobs, out, part, display, overwrite=overwrite, retry=retry_failed)
        if dry_run:
            show_plans(plans, display)
            if estimate:
                _show_estimate(plans, display, device, size, bool(compile_))
            return
        calls = sum(plan.network_calls() for plan in plans)
        compiled = compiles(compile_, _devices(devices)[0] if devices else device, calls, display)
        crew = _crew(engine, devices, device, size, compiled, address, workers)
        _run(plans, past, crew, part, 1 if fail_fast else max_failures, display)


def _write_example(path: Path, overwrite: bool) -> None:
    from ilvrctl.files import write_text

    if path.exists() and not overwrite:
        raise UsageError(f"{path} is there already", hint="--overwrite, or give another name")
    example = Path(__file__).parents[1] / "plans" / "example.yaml"
    data(str(write_text(path, example.read_text(encoding="utf-8"))))
    say(f"next: ilvrctl batch {path} --dry-run")


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard {text!r} is not of the form K/N", hint="for example --shard 3/16")
    return int(number), int(count)


def _batch_size(text: str | None) -> int | None:
    """0 stands for auto."""
    if text is None or text == "auto":
        return None if text is None else 0
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--batch-size takes a number or auto, not {text!r}")
    return int(text)


def _plans(
    file: Path, out: Path | None, shard: tuple[int, int], display: Display, *, overwrite: bool, retry: bool
) -> tuple[tuple[Plan, ...], Past]:
    """The plans of the file's jobs, with what is done marked, and what the manifest told."""
    from ilvrctl.cli.jobs_file import plan_of
    from ilvrctl.config import read_yaml
    from ilvrctl.plans.inputs import refuse_equal
    from ilvrctl.plans.jobs_file import read_jobs
    from ilvrctl.plans.manifest import read_manifest
    from ilvrctl.plans.past import Past
    from ilvrctl.plans.plan import make_plan
    from ilvrctl.work.batches import divide

    jobs = read_jobs(read_yaml(file), file.name)
    root = out if out is not None else file.parent / jobs.out
    past = Past(root, read_manifest(root), retry)
    plans = [plan_of(job, file.parent, root, display) for job in jobs.jobs]
    written = [(str(path), f"{o.item.name} ({p.name})") for p in plans for o in p.outputs for path in o.files]
    refuse_equal([path for path, _ in written], [name for _, name in written])
    made = [make_plan(plan, overwrite=overwrite, past=past) for plan in plans]
    return divide(made, shard), past


def _crew(
    engine: str,
    devices: str | None,
    device: str,
    size: int | None,
    compiled: bool,
    address: str | None,
    workers: int | None,
) -> Makers:
    from ilvrctl.work.processes import Place, Processes
    from ilvrctl.work.workers import Alone, Spread

    if engine not in ("local", "ray"):
        raise UsageError(f"unknown engine {engine!r}; known: local, ray")
    if engine == "local" and devices is None:
        return Alone(lambda networks: _load(networks, device, size, compiled))
    if size == 0:
        raise UsageError("--batch-size auto measures on this machine alone", hint="give a number")
    import torch

    machine = Place(device, size, compiled, torch.get_num_threads())
    if engine == "ray":
        from ilvrctl.work.cluster import Cluster

        return Spread(Cluster(machine, address, workers))
    names = _devices(devices or "")
    return Spread(Processes([Place(name, size, compiled, machine.threads) for name in names]))


def _devices(text: str) -> list[str]:
    """The devices of a list, or so many GPUs."""
    if text.isdigit():
        return [f"cuda:{n}" for n in range(int(text))]
    return [name.strip() for name in text.split(",")]


def _load(networks: Networks, device: str, size: int | None, compiled: bool) -> Engine:
    """The engine; with a ``size`` of 0 its batch size is measured."""
    from dataclasses import replace

    engine = networks.load(device=device, batch_size=size or None, compiled=compiled)
    if size != 0:
        return engine
    from ilvrctl.timing import best_batch_size

    best, seconds = best_batch_size(engine)
    say(f"batch size {best}: {seconds * 1000:.1f} ms a picture and call")
    return replace(engine, batch_size=best)


def _run(
    plans: Sequence[Plan],
    past: Past,
    crew: Makers,
    shard: tuple[int, int],
    max_failures: int | None,
    display: Display,
) -> None:
    from ilvrctl.cli.carry_out import finish
    from ilvrctl.cli.status import table, tally_rows
    from ilvrctl.plans.manifest import ManifestWriter
    from ilvrctl.work.ledger import Ledger
    from ilvrctl.work.run import run

    counts = {plan.name: sum(o.status != "elsewhere" for o in plan.outputs) for plan in plans}
    tally = Tally(sum(counts.values()), jobs={name: Tally(count) for name, count in counts.items()})
    with ManifestWriter(past.root, shard) as manifest:
        ledger = Ledger(manifest, past)
        bars = any(plan.pending for plan in plans)
        finish(
            lambda rescued: run(plans, crew, ledger, max_failures=max_failures, rescued=rescued),
            tally,
            display,
            bars=bars,
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
        say(f"{len(plans)} jobs, {todo} results to do, {calls} network calls; --estimate measures how long")


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


def _show_estimate(
    plans: Sequence[Plan], display: Display, device: str, size: int | None, compiled: bool
) -> None:
    """Load what the plans need, make a few network calls, and tell what all of them will take."""
    from ilvrctl.timing import call_seconds, peak_memory

    seconds, memory = 0.0, None
    known: dict[Networks, float] = {}
    for plan in plans:
        key = plan.networks
        if plan.pending and key not in known:
            engine = _load(plan.networks, device, size, compiled)
            known[key] = call_seconds(engine, engine.batch_size) / engine.batch_size
            memory = peak_memory(engine.device)
        seconds += plan.network_calls() * known.get(key, 0.0)
    if display.as_json:
        peak = None if memory is None else round(memory)
        data_json({"event": "estimate", "seconds": round(seconds, 1), "peak_mb": peak})
    else:
        room = "memory not known" if memory is None else f"{memory:.0f} MB of memory"
        say(f"estimate: {duration(seconds)} of network calls, {room}")
