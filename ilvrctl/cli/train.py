"""``ilvrctl train``: a target of one's own from a folder of pictures, or a domain classifier from two."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ilvrctl.cli import options as opt
from ilvrctl.cli import signals
from ilvrctl.cli.display import Display, duration
from ilvrctl.cli.output import command, data_json, data_path, interrupted, say
from ilvrctl.config import merge, parse_assignment
from ilvrctl.errors import UsageError
from ilvrctl.plans.asked import environment_layer, layer_of

if TYPE_CHECKING:
    from ilvrctl.training.job import Job, Outlook

EPILOG = """Examples:

  ilvrctl train glossy/ --name glossy --size 64 --for 8h

  ilvrctl train drawings/ --name drawings --init emoji3d --images 50000 --references photos/

  ilvrctl train glossy/ --name glossy --size 64 --for 8h --decay 30   # the last half hour of it

  ilvrctl train glossy/ --name v --init emoji3d --predicts v --levels below600:40% --for 8h --decay 22

  torchrun --nproc-per-node 4 -m ilvrctl train faces/ --name faces --recipe photos128 --batch-size 128

  ilvrctl train --dse cats/ dogs/ --name cat2dog --size 64
"""

_COMMON, _TRAIN, _LOSS, _OUTPUT = "Common options", "Training", "What is learned", "Output"


def _option(flag: str, text: str, metavar: str | None = None, panel: str = _TRAIN, **more: Any) -> Any:
    return typer.Option(*flag.split(), metavar=metavar, help=text, rich_help_panel=panel, **more)


Pictures = Annotated[
    Path | None, typer.Argument(metavar="FOLDER", help="Pictures of what to learn, subfolders too.")
]
Name = Annotated[str | None, _option("--name", "What --to will call it.", "NAME", _COMMON)]
Size = Annotated[int | None, _option("--size", "Pixels a side.", panel=_COMMON, min=8)]
Channels = Annotated[
    int | None,
    _option(
        "--channels",
        "Of the pictures: 1 grey, 3, or 4 with an opacity. Coloured ones become grey with --set fit=grey.",
        "1|3|4",
        show_default="3",
    ),
]
Out = Annotated[
    Path | None,
    _option(
        "--out -o",
        "State, averaged weights, log and sheets.",
        "FOLDER",
        _COMMON,
        show_default="NAME-training",
    ),
]
RecipeName = Annotated[str | None, _option("--recipe", "Settings by name or from a YAML file.", "NAME|FILE")]
Init = Annotated[str | None, _option("--init", "Start from the weights of a model.", "NAME|FILE")]
For = Annotated[str | None, _option("--for", "Train so long: 8h, 90m, 45s, 2d.", "TIME")]
Images = Annotated[int | None, _option("--images", "Pictures to see.", min=1)]
Decay = Annotated[
    str | None,
    _option(
        "--decay",
        "Let the learning rate fall to 0 over the last MINUTES; 22m or '5000 pictures' too. Of a training that is "
        "done, or has no other limit, these come on top, from now on.",
        "MINUTES",
    ),
]
Batch = Annotated[int | None, _option("--batch-size", "Pictures a step, over all GPUs.", min=1)]
Seed = Annotated[int | None, _option("--seed", "Of everything random.")]
Ema = Annotated[
    float | None,
    _option("--ema", "Decay of the averaged weights, which are kept; 0: the last.", min=0, max=1),
]
Shift = Annotated[int | None, _option("--shift", "Move pictures by up to so many pixels.", "PIXELS", min=0)]
Dse = Annotated[
    tuple[Path, Path] | None,
    _option("--dse", "Train EGSDE's domain classifier for two folders instead.", "A/ B/"),
]
References = Annotated[
    Path | None, _option("--references", "Pictures that the sheets show translated.", "FOLDER")
]
HeldOut = Annotated[
    list[Path] | None,
    _option(
        "--held-out",
        "Pictures for validation, never learned from; else a share of the others. With --dse twice.",
        "FOLDER",
    ),
]
SaveEvery = Annotated[str, _option("--save-every", "Time between two saves.", "TIME")]
SheetEvery = Annotated[
    int | None, _option("--sheet-every", "Saves between two sheets; 0: none.", min=0, show_default="6")
]
SetRecipe = Annotated[
    list[str] | None,
    _option(
        "--set",
        "Any part of the recipe, for instance learning_rate=1e-4 or network.channels=64.",
        "KEY=VALUE",
    ),
]
Predicts = Annotated[
    str | None,
    _option("--predicts", "eps, v or x0.", "NAME", _LOSS, show_default="that of --init, else eps"),
]
Schedule = Annotated[
    str | None,
    _option("--schedule", "Noise schedule.", "NAME", _LOSS, show_default="that of --init, else linear"),
]
Levels = Annotated[
    str | None,
    _option(
        "--levels",
        "How noise levels are drawn: uniform, or below600:40%, which draws 40 % of them from those below 600.",
        "uniform|belowT:P%",
        _LOSS,
    ),
]
Teacher = Annotated[
    str | None,
    _option(
        "--teacher",
        "A model whose clean estimate is learned instead of the pictures below a level.",
        "NAME|FILE",
        _LOSS,
    ),
]
TeacherBelow = Annotated[int | None, _option("--teacher-below", "This level.", "LEVEL", _LOSS, min=1)]
TeacherSteps = Annotated[
    int | None,
    _option("--teacher-steps", "It teaches in so many steps, then the pictures.", "N", _LOSS, min=1),
]
Half = Annotated[bool, _option("--half", "Keep the weights in fp16, as files that ship are.", panel=_OUTPUT)]
Overwrite = Annotated[
    bool, _option("--overwrite", "Begin again, and replace a model of yours.", panel=_OUTPUT)
]


@command
def train(
    pictures: Pictures = None,
    name: Name = None,
    size: Size = None,
    channels: Channels = None,
    out: Out = None,
    recipe: RecipeName = None,
    init: Init = None,
    for_: For = None,
    images: Images = None,
    decay: Decay = None,
    batch_size: Batch = None,
    seed: Seed = None,
    ema: Ema = None,
    shift: Shift = None,
    dse: Dse = None,
    predicts: Predicts = None,
    schedule: Schedule = None,
    levels: Levels = None,
    teacher: Teacher = None,
    teacher_below: TeacherBelow = None,
    teacher_steps: TeacherSteps = None,
    references: References = None,
    held_out: HeldOut = None,
    save_every: SaveEvery = "5m",
    sheet_every: SheetEvery = None,
    set_: SetRecipe = None,
    half: Half = False,
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
    from ilvrctl.training.asked import job_asked

    display = Display.of(as_json, quiet, verbose, color)
    if name is None:
        raise UsageError("the model needs a name", "--name glossy, then: ilvrctl translate cats/ --to glossy")
    settings = merge(
        *(parse_assignment(text) for text in set_ or ()),
        layer_of(
            {
                "--size": ("size", size),
                "--channels": ("channels", channels),
                "--init": ("init", init),
                "--images": ("images", images),
                "--batch-size": ("batch_size", batch_size),
                "--seed": ("seed", seed),
                "--ema": ("ema", ema),
                "--shift": ("shift", shift),
                "--schedule": ("noise_schedule", schedule),
                "--levels": ("levels", levels),
                "--half": ("store", "fp16" if half else None),
                "--predicts": ("predicts", predicts),
                "--teacher": ("teacher", teacher),
                "--teacher-below": ("teacher_below", teacher_below),
                "--teacher-steps": ("teacher_steps", teacher_steps),
            }
        ),
    )
    if dse is not None and pictures is not None:
        raise UsageError(
            "--dse takes two folders, and there is a third", "ilvrctl train --dse A/ B/ --name X"
        )
    if dse is None and pictures is None:
        raise UsageError("no pictures to learn from", "ilvrctl train FOLDER --name NAME")
    others = {
        "for": for_,
        "decay": decay,
        "save_every": save_every,
        "out": out,
        "held_out": held_out,
        "references": references,
        "sheet_every": sheet_every,
        "device": device,
        "precision": precision or environment_layer().values.get("precision"),
        "compile": compile_,
    }
    job = job_asked(dse or (Path(str(pictures)),), name, settings, recipe, others)
    _train(job, display, overwrite=overwrite, dry_run=dry_run)


def _train(job: Job, display: Display, *, overwrite: bool, dry_run: bool) -> None:
    from ilvrctl.cli.show import show_training
    from ilvrctl.training.job import outlook

    before = outlook(job, overwrite=overwrite)
    if dry_run:
        _show_plan(job, before, display)
        return
    if before.finished:
        more = "" if job.decay else "; --decay lets it settle"
        say(
            f"nothing to do: {job.name} has seen {_seen(job, before):,} pictures; more: --images or --for{more}"
        )
        return
    from ilvrctl.training.run import run

    with signals.noted() as stop:
        finished = show_training(run(job, stop, overwrite=overwrite), display)
    if os.environ.get("RANK", "0") != "0":  # torchrun numbers a team's processes; the first tells
        return
    if finished is None:
        interrupted(f"interrupted: saved in {job.run}; the same command goes on from there")
    if not display.quiet and len(job.folders) == 1:
        say(f"try it: ilvrctl translate PICTURES --to {job.name}")


def _show_plan(job: Job, before: Outlook, display: Display) -> None:
    from ilvrctl.training.course import FOR_EVER
    from ilvrctl.training.pictures import look_into
    from ilvrctl.training.recipe import record

    count = sum(len(look_into(folder).pictures) for folder in job.folders)
    seen = _seen(job, before)
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
    limits = [f"{job.recipe.images:,} pictures"] if job.recipe.images < FOR_EVER else []
    limits += [duration(job.seconds)] if job.seconds else []
    until = f"until {' or '.join(limits)} are done" if limits else "and decays from now on"
    data_path(job.run)
    start = f"goes on after {seen:,}" if seen else f"from {job.recipe.init or 'nothing'}"
    say(f"{job.name}: {count:,} files, {job.recipe.size} px, {start}, {until}")


def _seen(job: Job, before: Outlook) -> int:
    return before.progress.step * job.recipe.batch_size if before.progress else 0
