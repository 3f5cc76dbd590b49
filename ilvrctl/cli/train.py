"""``ilvrctl train``: a target of one's own from a folder of pictures, or a domain classifier from two."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ilvrctl.cli import options as opt
from ilvrctl.cli import signals
from ilvrctl.cli.display import Display, duration
from ilvrctl.cli.output import command, data_json, data_path, interrupted, say
from ilvrctl.config import Layer, merge, parse_assignment
from ilvrctl.errors import UsageError
from ilvrctl.plans.asked import environment_layer, layer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ilvrctl.training.events import TrainingEvent
    from ilvrctl.training.job import Job, Outlook
    from ilvrctl.training.recipe import DomainRecipe

T = TypeVar("T")

EPILOG = """Examples:

  ilvrctl train glossy/ --name glossy --size 64 --for 8h

  ilvrctl train drawings/ --name drawings --init emoji3d --images 50000 --references photos/

  torchrun --nproc-per-node 4 -m ilvrctl train faces/ --name faces --recipe photos128 --batch-size 128

  ilvrctl train --dse cats/ dogs/ --name cat2dog --size 64
"""

_TRAIN = "Training"

Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="What --to will call it.", rich_help_panel="Common options"),
]
Size = Annotated[
    int | None, typer.Option("--size", min=8, help="Pixels a side.", rich_help_panel="Common options")
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe", metavar="NAME|FILE", help="Settings by name or from a YAML file.", rich_help_panel=_TRAIN
    ),
]
Init = Annotated[
    str | None,
    typer.Option(
        "--init", metavar="NAME|FILE", help="Start from the weights of a model.", rich_help_panel=_TRAIN
    ),
]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="Train so long: 8h, 90m, 45s, 2d.", rich_help_panel=_TRAIN),
]
Images = Annotated[
    int | None, typer.Option("--images", min=1, help="Pictures to see.", rich_help_panel=_TRAIN)
]
Batch = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Pictures a step, over all GPUs.", rich_help_panel=_TRAIN),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of everything random.", rich_help_panel=_TRAIN)]
Dse = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--dse",
        metavar="A/ B/",
        help="Train EGSDE's domain classifier for two folders instead.",
        rich_help_panel=_TRAIN,
    ),
]
References = Annotated[
    Path | None,
    typer.Option(
        "--references",
        metavar="FOLDER",
        help="Pictures that the sheets show translated.",
        rich_help_panel=_TRAIN,
    ),
]
HeldOut = Annotated[
    Path | None,
    typer.Option(
        "--held-out",
        metavar="FOLDER",
        help="Pictures for the validation loss, never learned from; else a share of the others.",
        rich_help_panel=_TRAIN,
    ),
]
SaveEvery = Annotated[
    str, typer.Option("--save-every", metavar="TIME", help="Time between two saves.", rich_help_panel=_TRAIN)
]
SheetEvery = Annotated[
    int,
    typer.Option("--sheet-every", min=0, help="Saves between two sheets; 0: none.", rich_help_panel=_TRAIN),
]
SetRecipe = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any part of the recipe, for instance learning_rate=1e-4 or network.channels=64.",
        rich_help_panel=_TRAIN,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FOLDER",
        help="State, log and sheets.",
        show_default="NAME-training",
        rich_help_panel="Common options",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Begin again, and replace a model of yours.", rich_help_panel="Output"),
]


@command
def train(
    pictures: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Pictures of what to learn, subfolders too.")
    ] = None,
    name: Name = None,
    size: Size = None,
    out: Out = None,
    recipe: RecipeName = None,
    init: Init = None,
    for_: For = None,
    images: Images = None,
    batch_size: Batch = None,
    seed: Seed = None,
    dse: Dse = None,
    references: References = None,
    held_out: HeldOut = None,
    save_every: SaveEvery = "5m",
    sheet_every: SheetEvery = 6,
    set_: SetRecipe = None,
    device: opt.Device = "auto",
    precision: opt.Precision = None,
    compile_: opt.CompileAsked = False,
    overwrite: Overwrite = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    color: opt.Color = "auto",
) -> None:
    """Train a model of a folder of pictures, so that other pictures can be translated to it.

    Stop it at any time: the same command goes on where it was.
    """
    from ilvrctl.training.job import Job
    from ilvrctl.training.recipe import DomainRecipe, Recipe, load_recipe

    display = Display.of(as_json, quiet, verbose, color)
    if name is None:
        raise UsageError("the model needs a name", "--name glossy, then: ilvrctl translate cats/ --to glossy")
    flags = merge(
        *(parse_assignment(text) for text in set_ or ()),
        layer_of(
            {
                "--size": ("size", size),
                "--init": ("init", init),
                "--images": ("images", images),
                "--batch-size": ("batch_size", batch_size),
                "--seed": ("seed", seed),
            }
        ),
    )
    if dse is not None:
        if pictures is not None:
            raise UsageError(
                "--dse takes two folders, and there is a third", "ilvrctl train --dse A/ B/ --name X"
            )
        domains = load_recipe(DomainRecipe, recipe, flags)
        _train_domains(domains, dse, name, device, display, overwrite=overwrite, dry_run=dry_run)
        return
    if pictures is None:
        raise UsageError("no pictures to learn from", "ilvrctl train FOLDER --name NAME")
    job = Job(
        name=name,
        folder=pictures,
        recipe=load_recipe(Recipe, recipe, _endless(flags, for_, images)),
        run=out or Path(f"{name}-training"),
        held_out=held_out,
        references=references,
        seconds=None if for_ is None else seconds(for_, "--for"),
        save_every=seconds(save_every, "--save-every"),
        sheet_every=sheet_every,
        device=device,
        precision=precision or str(environment_layer().values.get("precision", "auto")),
        compiled=compile_,
    )
    _train(job, display, overwrite=overwrite, dry_run=dry_run)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FOR_EVER = 1 << 40
"""Pictures, where only the time limits."""


def seconds(text: str, flag: str) -> float:
    """``8h``, ``90m``, ``45s``, ``2d`` or ``1h30m`` in seconds. UsageError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total <= 0:
        raise UsageError(f"{flag} {text!r} is no time", "for example 8h, 90m, 45s, 2d or 1h30m")
    return total


def _endless(flags: Layer, for_: str | None, images: int | None) -> Layer:
    """With ``--for`` alone the recipe's number of pictures is no limit."""
    return (
        flags if for_ is None or images is not None else merge(flags, Layer.of("--for", {"images": FOR_EVER}))
    )


def _train(job: Job, display: Display, *, overwrite: bool, dry_run: bool) -> None:
    from ilvrctl.cli.show import show_training
    from ilvrctl.training.job import forget, outlook

    before = outlook(job, overwrite=overwrite)
    if dry_run:
        _show_plan(job, before, display)
        return
    if before.finished:
        say(f"nothing to do: {job.name} has seen {_seen(job, before):,} pictures; more: --images or --for")
        return
    if overwrite:
        forget(job)
    with signals.noted() as stop:
        finished = show_training(_events(job, stop), display)
    if not _leads():
        return
    if finished is None:
        interrupted(f"interrupted: saved in {job.run}; the same command goes on from there")
    if not display.quiet:
        say(f"try it: ilvrctl translate PICTURES --to {job.name}")


def _events(job: Job, stop: Callable[[], bool]) -> Generator[TrainingEvent, None, None]:
    """Everything that happens, logged in the run's folder; of a team only the first process tells."""
    from ilvrctl.files import make_folder
    from ilvrctl.training.events import logged
    from ilvrctl.training.job import read_data
    from ilvrctl.training.loop import train as training
    from ilvrctl.training.team import team

    with team() as members:
        if not members.leads:
            members.wait()
        data = yield from read_data(job) if members.leads else _silent(read_data(job))
        if members.leads:
            members.wait()
        make_folder(job.run)
        events = training(job, data, members, stop)
        yield from logged(events, job.run / "log.jsonl") if members.leads else _silent(events)


def _show_plan(job: Job, before: Outlook, display: Display) -> None:
    from ilvrctl.training.pictures import find_pictures
    from ilvrctl.training.recipe import record

    count, seen = len(find_pictures(job.folder)), _seen(job, before)
    limit = f"{job.recipe.images:,} pictures" if job.recipe.images < FOR_EVER else ""
    span = duration(job.seconds) if job.seconds else ""
    until = " or ".join(text for text in (limit, span) if text)
    if display.as_json:
        data_json(
            {
                "event": "planned",
                "name": job.name,
                "files": count,
                "images_seen": seen,
                "run": str(job.run),
                "recipe": record(job.recipe),
            }
        )
        return
    data_path(job.run)
    start = f"goes on after {seen:,}" if seen else f"from {job.recipe.init or 'nothing'}"
    say(f"{job.name}: {count:,} files, {job.recipe.size} px, {start}, until {until} are done")


def _seen(job: Job, before: Outlook) -> int:
    return before.progress.step * job.recipe.batch_size if before.progress else 0


def _leads() -> bool:
    """Whether this is the process of a team that tells; torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"


def _silent(events: Generator[Any, None, T]) -> Generator[Any, None, T]:
    """What a generator returns, without its events."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: T = end.value
            return result
    yield


def _train_domains(
    recipe: DomainRecipe,
    folders: tuple[Path, Path],
    name: str,
    device: str,
    display: Display,
    *,
    overwrite: bool,
    dry_run: bool,
) -> None:
    from ilvrctl.training.pictures import find_pictures
    from ilvrctl.training.publish import check_name

    check_name(name, overwrite=overwrite)
    recipe.network.classifier(recipe.size, 2)
    if dry_run:
        counts = " and ".join(f"{len(find_pictures(folder)):,} files of {folder}" for folder in folders)
        say(
            f"{name}: domain classifier, {recipe.size} px, {counts}, until {recipe.images:,} pictures are seen"
        )
        return
    from ilvrctl.cli.show import show_training
    from ilvrctl.training.domains import train_domains

    with signals.noted() as stop:
        finished = show_training(train_domains(recipe, folders, name, device, stop), display)
    if finished is None:
        interrupted("interrupted: a domain classifier takes minutes, and nothing of it was saved")
