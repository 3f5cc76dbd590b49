"""``ilvrctl translate``: pictures in, pictures of the target domain out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ilvrctl import paths
from ilvrctl.cli import options as opt
from ilvrctl.cli.carry_out import carry_out, show_plan
from ilvrctl.cli.display import Display
from ilvrctl.cli.output import command, say, terminal, use_color
from ilvrctl.cli.request import (
    environment_layer,
    flag_layer,
    names_of,
    only_one,
    parse_range,
    parse_start,
    picture_on_stdin,
    preset_layer,
)
from ilvrctl.cli.source import Source, find_source
from ilvrctl.config import Layer, merge, parse_assignment
from ilvrctl.errors import UsageError

if TYPE_CHECKING:
    from ilvrctl.engine import Engine
    from ilvrctl.jobs.outputs import Destination
    from ilvrctl.settings import Settings

EPILOG = """Examples:

  ilvrctl translate --examples --sheet sheet.png

  ilvrctl translate cats/ --to dog --N 32

  ilvrctl translate cats/ --to dog --method sddm --start 0.8

  ilvrctl translate a.png b.jpg --to emoji3d --N 4 -n 3 --seed 7 -o results/ --sheet sheet.png --gif

  cat cat.jpg | ilvrctl translate - --to dog -o - > dog.png

  find . -name '*.jpg' -print0 | ilvrctl translate --from-file - -0 --to dog --json | jq .
"""


@command
def translate(
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
    method: opt.MethodName = None,
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
    compile_: opt.Compile = False,
    weights: opt.WeightsFile = None,
    gif: opt.Gif = False,
    overwrite: opt.Overwrite = False,
    from_image: opt.FromImage = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    color: opt.Color = "auto",
) -> None:
    """Turn pictures into pictures of the target domain, steered by the input (ILVR, SDDM, EGSDE, SDEdit)."""
    from ilvrctl.jobs.digest import weights_sha256
    from ilvrctl.jobs.inputs import collect
    from ilvrctl.jobs.outputs import Destination, outputs_of
    from ilvrctl.jobs.plan import Plan, make_plan

    display = Display(as_json, quiet, verbose, use_color(color))
    only_one("--steps", steps, "--timestep-respacing", timestep_respacing, "how many steps there are")
    only_one("--range", range_, "--range-t", range_t, "what is conditioned")
    only_one("--samples", samples, "--from-image", from_image, "which samples are made")
    flags = flag_layer(
        {
            "--N": ("method.N", N),
            "--range": ("method.range", parse_range(range_)),
            "--range-t": ("method.range_t", range_t),
            "--kernel": ("method.kernel", kernel),
            "--blocks": ("method.blocks", blocks),
            "--start": ("method.start", parse_start(start)),
            "--repeats": ("method.repeats", repeats),
            "--method": ("method.name", method),
            "--compat": ("compat", compat),
            "--steps": ("steps", steps),
            "--timestep-respacing": ("timestep_respacing", timestep_respacing),
            "--sampler": ("sampler.name", sampler),
            "--eta": ("sampler.eta", eta),
            "--variance": ("sampler.variance", variance),
            "--clip": ("clip_denoised", clip),
            "--class-label": ("class_label", class_label),
            "--seed": ("seed", seed),
            "--fit": ("fit", fit),
            "--background": ("background", background),
            "--precision": ("precision", precision),
        }
    )
    assigned = merge(*(parse_assignment(text) for text in set_ or ()))
    destination = Destination.parse(out)
    _check_stdout(destination, as_json)
    to = "emoji3d" if examples and not (to or weights or from_image) else to
    source = find_source(to, weights, from_image, Layer(assigned.values.get("model", {}), assigned.origins))
    settings = _settings(source, preset, assigned, flags)
    arguments = [*(inputs or ()), *([str(paths.EXAMPLES)] if examples else ())]
    items = collect(
        names_of(arguments, from_file, null),
        recursive=recursive,
        stdin=picture_on_stdin(arguments),
        output=destination.folder or destination.file,
    )
    numbers = source.samples or tuple(range(1, (samples or 1) + 1))
    outputs = outputs_of(items, numbers, destination, gif=gif)
    digest = weights_sha256(source.weights)
    _tell(source, digest, display)
    plan = Plan(tuple(outputs), settings, source.model, digest, source.target, sheet)
    plan = make_plan(plan, overwrite=overwrite)
    if dry_run:
        show_plan(plan, display)
        return

    def load() -> Engine:
        from ilvrctl.engine import Engine

        return Engine.load(
            source.model,
            source.weights,
            device=device,
            precision=settings.precision,
            batch_size=batch_size,
            compiled=compile_,
        )

    carry_out(plan, load, display)


def _settings(source: Source, preset: str | None, assigned: Layer, flags: Layer) -> Settings:
    """Target < preset < compat < environment < flags. A replay asks the environment nothing."""
    from ilvrctl.settings import build_settings

    presets = [source.settings, *([preset_layer(preset)] if preset else [])]
    settings = Layer({k: v for k, v in assigned.values.items() if k != "model"}, assigned.origins)
    environment = [] if source.samples else [environment_layer()]
    return build_settings(*presets, overrides=[*environment, settings, flags])


def _check_stdout(destination: Destination, as_json: bool) -> None:
    if not destination.stdout:
        return
    if as_json:
        raise UsageError("-o - and --json both want standard output", hint="-o FOLDER or -o FILE.png")
    if terminal(sys.stdout):
        raise UsageError(
            "will not write the bytes of a picture to a terminal",
            hint="-o FILE, or pipe them: ... -o - > out.png",
        )


def _tell(source: Source, digest: str, display: Display) -> None:
    """What people should know about the weights."""
    if source.note and not display.quiet:
        say(source.note)
    if source.made_with not in (None, digest):
        name = source.weights.name
        say(
            f"{name} is not the file that the picture was made with; the result will differ",
            label="warning",
            color=display.color,
        )
