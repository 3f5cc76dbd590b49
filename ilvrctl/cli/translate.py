"""``ilvrctl translate``: pictures in, pictures of the target domain out."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ilvrctl import paths
from ilvrctl.cli import options as opt
from ilvrctl.cli.display import Display
from ilvrctl.cli.output import command, say, terminal, use_color
from ilvrctl.cli.request import (
    environment_layer,
    names_of,
    only_one,
    picture_on_stdin,
)
from ilvrctl.cli.several import bounds, decimal, flag_choices, level, preset_choices, set_choices, whole, word
from ilvrctl.cli.source import Asked, Network, Source, find_source
from ilvrctl.config import Layer, merge
from ilvrctl.errors import UsageError
from ilvrctl.jobs.grid import Picked, Tier, expand

if TYPE_CHECKING:
    from ilvrctl.engine import Engine
    from ilvrctl.jobs.networks import Networks
    from ilvrctl.jobs.outputs import Destination
    from ilvrctl.jobs.plan import SourceModel
    from ilvrctl.settings import Settings

TWO_MODELS = "cyclediffusion"
"""The method where ``--from`` gives a second model and no method is asked for."""

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
    compile_: opt.Compile = False,
    weights: opt.WeightsFile = None,
    from_weights: opt.FromWeights = None,
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
    from ilvrctl.cli.carry_out import carry_out, show_plan
    from ilvrctl.jobs.digest import weights_sha256
    from ilvrctl.jobs.inputs import collect
    from ilvrctl.jobs.outputs import Destination, outputs_of
    from ilvrctl.jobs.plan import Plan, make_plan

    display = Display(as_json, quiet, verbose, use_color(color))
    only_one("--steps", steps, "--timestep-respacing", timestep_respacing, "how many steps there are")
    only_one("--range", range_, "--range-t", range_t, "what is conditioned")
    only_one("--samples", samples, "--from-image", from_image, "which samples are made")
    flags = flag_choices(
        {
            "--method": ("method.name", method, word),
            "--compat": ("compat", compat, word),
            "--N": ("method.N", N, whole(1)),
            "--range": ("method.range", range_, bounds),
            "--range-t": ("method.range_t", range_t, whole(-1)),
            "--kernel": ("method.kernel", kernel, word),
            "--blocks": ("method.blocks", blocks, whole(1)),
            "--start": ("method.start", start, level),
            "--repeats": ("method.repeats", repeats, whole(1)),
            "--sampler": ("sampler.name", sampler, word),
            "--eta": ("sampler.eta", eta, decimal(0, 1)),
            "--variance": ("sampler.variance", variance, word),
            "--steps": ("steps", steps, whole(1)),
            "--timestep-respacing": ("timestep_respacing", timestep_respacing, None),
            "--clip": ("clip_denoised", clip, None),
            "--class-label": ("class_label", class_label, whole(0)),
            "--seed": ("seed", seed, whole()),
            "--fit": ("fit", fit, word),
            "--background": ("background", background, word),
            "--precision": ("precision", precision, None),
        }
    )
    assigned, facts = set_choices(set_ or ())
    destination = Destination.parse(out)
    _check_stdout(destination, as_json)
    to = "emoji3d" if examples and not (to or weights or from_image) else to
    source = find_source(Asked(to, weights, from_image, from_, from_weights, facts))
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
    digest = weights_sha256(source.weights)
    tell(source, digest, display)
    encoder = source_model(source.encoder, display)
    plan = Plan(
        tuple(outputs),
        tuple(variants),
        source.model,
        digest,
        source.target,
        sheet,
        encoder,
        source.weights,
    )
    if plan.grid and sheet is None and destination.folder is not None:
        plan = replace(plan, sheet=destination.folder / "sheet.png")
    plan = make_plan(plan, overwrite=overwrite)
    if dry_run:
        show_plan(plan, display)
        return

    def load(networks: Networks) -> Engine:
        return networks.load(device=device, batch_size=batch_size, compiled=compile_)

    carry_out(plan, load, display)


def settings_of(source: Source, picked: Picked) -> Settings:
    """Target < preset < compat < environment < --set < flags. A replay asks the environment nothing."""
    from ilvrctl.settings import build_settings

    def layers(tier: Tier) -> list[Layer]:
        return [option.layer for choice, option in picked if choice.tier == tier]

    environment = [] if source.samples else [environment_layer()]
    two_models = source.encoder is not None and not source.samples
    default = [Layer.of("--from", {"method": {"name": TWO_MODELS}})] if two_models else []
    assigned, flags = merge(*layers("set")), merge(*layers("flag"))
    return build_settings(
        source.settings, *layers("preset"), overrides=[*default, *environment, assigned, flags]
    )


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


def source_model(encoder: Network | None, display: Display) -> SourceModel | None:
    """The source's model for the plan."""
    from ilvrctl.jobs.digest import weights_sha256
    from ilvrctl.jobs.plan import SourceModel

    if encoder is None:
        return None
    digest = weights_sha256(encoder.weights)
    tell(encoder, digest, display)
    return SourceModel(encoder.model, digest, encoder.domain, encoder.weights)


def tell(source: Source | Network, digest: str, display: Display) -> None:
    """What people should know about the weights."""
    if source.note and not display.quiet:
        say(source.note)
    if source.warning:
        say(source.warning, label="warning", color=display.color)
    if source.made_with not in (None, digest):
        say(
            f"{source.weights.name} is not the file that the picture was made with; the result will differ",
            label="warning",
            color=display.color,
        )
