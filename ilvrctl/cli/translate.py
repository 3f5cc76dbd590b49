"""``ilvrctl translate``: pictures in, pictures of the target domain out."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ilvrctl import paths
from ilvrctl.cli import options as opt
from ilvrctl.cli.display import Display
from ilvrctl.cli.making import check_stdout, given, loading, plan_for, settings_of
from ilvrctl.cli.output import command
from ilvrctl.cli.request import names_of, only_one, picture_on_stdin
from ilvrctl.cli.several import preset_choices, set_choices
from ilvrctl.cli.source import Asked, find_source
from ilvrctl.errors import UsageError
from ilvrctl.plans.grid import expand

EPILOG = """Examples:

  ilvrctl translate --examples --sheet sheet.png

  ilvrctl translate cats/ --to dog --N 32

  ilvrctl translate cats/ --to dog --method sddm --start 0.8

  ilvrctl translate a.png b.jpg --to emoji3d --N 4 -n 3 --seed 7 -o results/ --sheet sheet.png --gif

  ilvrctl translate --examples --N 2,4,8 --steps 10,100 -o grid/

  cat cat.jpg | ilvrctl translate - --to dog -o - > dog.png

  find . -name '*.jpg' -print0 | ilvrctl translate --from-file - -0 --to dog --json | jq .
"""


@command
def translate(
    ctx: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="PICTURE|FOLDER|-", help="Pictures, folders, - for standard input."),
    ] = None,
    to: opt.To = None,
    out: opt.Out = "out",
    N: opt.Factor = None,
    samples: opt.Samples = None,
    steps: opt.Steps = None,
    seed: opt.Seed = None,
    examples: opt.Examples = False,
    sheet: opt.Sheet = None,
    speed: opt.Speed = None,
    method: opt.MethodName = None,
    from_: opt.From = None,
    range_t: opt.RangeT = None,
    range_: opt.Range = None,
    kernel: opt.Kernel = None,
    blocks: opt.Blocks = None,
    start: opt.Start = None,
    repeats: opt.Repeats = None,
    compat: opt.Compat = None,
    preset: opt.Preset = None,
    set_: opt.Set = None,
    timestep_respacing: opt.Respacing = None,
    sampler: opt.SamplerName = None,
    eta: opt.Eta = None,
    variance: opt.VarianceName = None,
    clip: opt.Clip = None,
    class_label: opt.ClassLabel = None,
    fit: opt.Fit = None,
    background: opt.Background = None,
    recursive: opt.Recursive = False,
    from_file: opt.FromFile = None,
    null: opt.Null = False,
    device: opt.Device = "auto",
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = None,
    compile_: opt.Compile = None,
    weights: opt.WeightsFile = None,
    from_weights: opt.FromWeights = None,
    quality: opt.Quality = 95,
    gif: opt.Gif = False,
    overwrite: opt.Overwrite = False,
    from_image: opt.FromImage = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    color: opt.Color = "auto",
) -> None:
    """Turn pictures into pictures of the target domain, steered by the input (ILVR, SDDM, EGSDE).

    A comma list in a setting (--N 2,4,8) makes a grid: a folder a combination, and one labelled sheet.
    """
    from ilvrctl.cli.show import show, show_plan
    from ilvrctl.plans.inputs import collect
    from ilvrctl.plans.outputs import Destination, outputs_of
    from ilvrctl.plans.plan import make_plan

    display = Display.of(as_json, quiet, verbose, color)
    only_one("--steps", steps, "--timestep-respacing", timestep_respacing, "how many steps there are")
    only_one("--range", range_, "--range-t", range_t, "what is conditioned")
    only_one("--samples", samples, "--from-image", from_image, "which samples are made")
    flags = given(ctx.params)
    assigned, facts = set_choices(set_ or ())
    destination = Destination.parse(out)
    check_stdout(destination, as_json)
    to = "emoji3d" if examples and not (to or weights or from_image) else to
    source = find_source(Asked(to, weights, from_image, from_, from_weights, facts))
    if source.samples and source.settings.values.get("edit"):
        raise UsageError(f"{from_image} was made by ilvrctl edit", hint="ilvrctl edit ... --from-image FILE")
    variants = expand(
        [*preset_choices(preset), *flags, *assigned], lambda picked: settings_of(source, picked)
    )
    arguments = [*(inputs or ()), *([str(paths.EXAMPLES)] if examples else ())]
    items = collect(
        names_of(arguments, from_file, null),
        recursive=recursive,
        stdin=picture_on_stdin(arguments),
        output=destination.folder or destination.file,
    )
    numbers = source.samples or tuple(range(1, (samples or 1) + 1))
    outputs = outputs_of(items, numbers, destination, gif=gif, folders=[v.folder for v in variants])
    plan = plan_for(source, variants, outputs, display, sheet=sheet, quality=quality)
    if plan.grid and sheet is None and destination.folder is not None:
        plan = replace(plan, sheet=destination.folder / "sheet.png")
    plan = make_plan(plan, overwrite=overwrite)
    if dry_run:
        show_plan(plan, display)
        return

    show(plan, loading(plan, device, batch_size, compile_, display), display)
