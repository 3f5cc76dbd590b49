"""``ilvrctl translate``: pictures in, pictures of the target domain out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ilvrctl import paths
from ilvrctl.cli import options as opt
from ilvrctl.cli.output import command, data, data_json, say
from ilvrctl.cli.progress import Bars, Plain, Renderer, Results, Tally
from ilvrctl.config import Layer, build, merge, parse_assignment
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.errors import InputError, UsageError, WeightsError
from ilvrctl.presets import (
    ModelPreset,
    find_method,
    find_model,
    find_target,
    load_models,
    override_model,
    require_weights,
)
from ilvrctl.settings import Settings, build_settings

if TYPE_CHECKING:
    from ilvrctl.engine import Engine
    from ilvrctl.jobs.plan import Destination, Plan

EPILOG = """Examples:

  ilvrctl translate --examples --sheet sheet.png

  ilvrctl translate cats/ --to dog --N 32

  ilvrctl translate a.png b.jpg --to emoji3d --N 4 -n 3 --seed 7 -o results/ --sheet sheet.png --gif

  cat cat.jpg | ilvrctl translate - --to dog -o - > dog.png

  find . -name '*.jpg' -print0 | ilvrctl translate --from-file - -0 --to dog --json | jq .
"""


@dataclass(frozen=True)
class Source:
    """What the network and the starting settings come from: a target, a weights file, or an earlier result."""

    target: str | None
    model: ModelPreset
    settings: Layer
    samples: tuple[int, ...] | None = None
    weights_sha256: str | None = None


@command
def translate(
    inputs: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="[PICTURE|FOLDER|-]...", help="Pictures, folders, - for standard input."),
    ] = None,
    to: opt.To = None,
    out: opt.Out = "out",
    N: opt.Factor = None,
    samples: opt.Samples = 1,
    steps: opt.Steps = None,
    seed: opt.Seed = None,
    examples: opt.Examples = False,
    sheet: opt.Sheet = None,
    method: opt.MethodName = None,
    range_t: opt.RangeT = None,
    range_: opt.Range = None,
    kernel: opt.Kernel = None,
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
    """Turn pictures into pictures of the target domain, keeping their low frequencies (ILVR)."""
    from ilvrctl.jobs.plan import Destination, collect, make_plan, outputs_of
    from ilvrctl.jobs.run import Extras

    flags = _flag_layers(
        {
            "--N": ("method.N", N),
            "--range-t": ("method.range_t", range_t),
            "--kernel": ("method.kernel", kernel),
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
    flags = merge(flags, *_exclusive(steps, timestep_respacing, range_t, range_))
    assigned = merge(*(parse_assignment(text) for text in set_ or ()))
    source = _source(to, weights, from_image, examples, assigned)
    settings = build_settings(
        source.settings,
        find_method(preset) if preset else Layer({}),
        _without(assigned, "model"),
        flags,
    )
    file = weights or require_weights(source.model, source.target or source.model.name)
    destination = Destination.parse(out)
    _check_stdout(destination, as_json)
    names = [*(inputs or ()), *_names(from_file, null)]
    items = collect(
        [*names, str(paths.EXAMPLES)] if examples else names,
        recursive=recursive,
        stdin=sys.stdin.buffer.read() if "-" in names else None,
        outside=destination.folder,
    )
    outputs = outputs_of(items, source.samples or tuple(range(1, samples + 1)), destination)
    plan = make_plan(outputs, settings, _weights(file, source), source.target, overwrite=overwrite)
    _check_model(source.model, settings)
    if dry_run:
        _show_plan(plan, source, as_json=as_json)
        return
    if plan.todo:
        destination.prepare()

    def load() -> Engine:
        from ilvrctl.engine import Engine

        return Engine.load(
            source.model,
            file,
            device=device,
            precision=settings.precision,
            batch_size=batch_size,
            compiled=compile_,
        )

    tally = _carry_out(plan, load, Extras(sheet, gif), as_json=as_json, quiet=quiet, verbose=verbose, color=color)
    if tally.failures:
        raise typer.Exit(1)


def _flag_layers(flags: Mapping[str, tuple[str, Any]]) -> Layer:
    layers = []
    for flag, (key, value) in flags.items():
        if value is not None:
            nested: Any = value
            for part in reversed(key.split(".")):
                nested = {part: nested}
            layers.append(Layer.of(flag, nested))
    return merge(*layers)


def _exclusive(
    steps: int | None, respacing: str | None, range_t: int | None, range_: str | None
) -> list[Layer]:
    """Pairs of flags of which one takes the place of the other, and of what a preset said about it."""
    if steps is not None and respacing is not None:
        raise UsageError("--steps and --timestep-respacing both say how many steps there are; give one of them")
    if range_t is not None and range_ is not None:
        raise UsageError("--range-t and --range both say what is conditioned; give one of them")
    layers = []
    if steps is not None:
        layers.append(Layer.of("--steps", {"timestep_respacing": None}))
    if range_ is not None:
        layers.append(Layer.of("--range", {"method": {"range": _parse_range(range_), "range_t": None}}))
    return layers


def _parse_range(text: str) -> list[int | float]:
    try:
        high, low = text.split(":")
        return [float(bound) if "." in bound else int(bound) for bound in (high, low)]
    except ValueError:
        raise UsageError(
            f"--range {text!r} is not of the form HIGH:LOW", hint="for example --range 1000:200 or --range 1.0:0.2"
        ) from None


def _without(layer: Layer, key: str) -> Layer:
    return Layer({k: value for k, value in layer.values.items() if k != key}, layer.origins)


def _source(
    to: str | None, weights: Path | None, from_image: Path | None, examples: bool, assigned: Layer
) -> Source:
    overrides = Layer(assigned.values.get("model") or {}, assigned.origins)
    if from_image is not None:
        source = _replay(from_image, to)
    elif to is not None or (examples and weights is None):
        target, settings = find_target(to or "emoji3d")
        source = Source(target.name, find_model(target.model), settings)
    elif weights is not None:
        known = [model for model in load_models().values() if model.file == weights.name]
        if known:
            say(f"{weights.name} is known as {known[0].name}: using its facts")
        source = Source(None, known[0] if known else ModelPreset(name=weights.stem), Layer({}))
    else:
        raise UsageError("no target: --to says what the pictures become", hint="--to emoji3d, or see: ilvrctl presets")
    return replace(source, model=override_model(source.model, overrides)) if overrides.values else source


def _replay(result: Path, to: str | None) -> Source:
    """What made an earlier result, from the record in its file; its precision is the one that was used."""
    from ilvrctl.images.io import read_bytes
    from ilvrctl.images.metadata import read_record

    if to is not None:
        raise UsageError("--from-image brings its own target; leave out --to")
    try:
        record = json.loads(read_record(read_bytes(result), str(result)))
        settings = {**record["settings"], "precision": record["run"]["precision"]}
        name, sha256 = record["weights"]["name"], record["weights"]["sha256"]
        target, sample = record["target"], int(record["sample"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"the record in {result} cannot be read: it was not made by this ilvrctl") from error
    model = load_models().get(name) or ModelPreset(name=name)
    return Source(target, model, Layer.of(f"{result.name}", settings), (sample,), sha256)


def _names(from_file: str | None, null: bool) -> list[str]:
    """Input names, one a line or ended by zero bytes, from a file or standard input."""
    if from_file is None:
        if null:
            raise UsageError("-0 belongs to --from-file")
        return []
    try:
        raw = sys.stdin.buffer.read() if from_file == "-" else Path(from_file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the list {from_file}: {error.strerror}") from error
    names = raw.split(b"\0" if null else b"\n")
    return [name.removesuffix(b"\r").decode("utf-8", "surrogateescape") for name in names if name.strip()]


def _check_stdout(destination: Destination, as_json: bool) -> None:
    if destination.parent is not None:
        return
    if as_json:
        raise UsageError("-o - and --json both want standard output; give -o a folder or a file")
    if sys.stdout.isatty():
        raise UsageError(
            "will not write the bytes of a picture to a terminal", hint="-o FILE, or pipe them: ... -o - > out.png"
        )


def _weights(file: Path, source: Source) -> Any:
    from ilvrctl.jobs.digest import weights_sha256
    from ilvrctl.jobs.plan import Weights

    found = Weights(source.model.name, weights_sha256(file))
    if source.weights_sha256 not in (None, found.sha256):
        say(f"warning: {file.name} is not the file that the picture was made with; the result will differ")
    return found


def _check_model(model: ModelPreset, settings: Settings) -> None:
    """What can be said before the network is loaded."""
    if model.image_size is not None:
        settings.check(Schedule.named(model.noise_schedule, model.diffusion_steps), model.image_size)


def _show_plan(plan: Plan, source: Source, *, as_json: bool) -> None:
    todo = plan.todo
    chain = plan.settings.chain(Schedule.named(source.model.noise_schedule, source.model.diffusion_steps))
    if as_json:
        for output in plan.outputs:
            data_json(
                {
                    "event": "planned",
                    "input": output.item.key,
                    "sample": output.sample,
                    "output": str(output.path) if output.path else None,
                    "status": output.status,
                }
            )
    else:
        for output in todo:
            data(str(output.path or "-"))
    say(
        f"{len(plan.outputs)} results: {len(todo)} to do, {len(plan.outputs) - len(todo)} done already; "
        f"to {source.target or source.model.name} ({source.model.name}), {plan.settings.method.describe()}, "
        f"{len(chain)} steps, {len(todo) * len(chain)} network calls"
    )


def _carry_out(
    plan: Plan, load: Any, extras: Any, *, as_json: bool, quiet: bool, verbose: int, color: str
) -> Tally:
    from ilvrctl.jobs.run import run

    bars = sys.stderr.isatty() and not quiet and verbose == 0
    renderer: Renderer = Bars(plan, color) if bars else Plain(plan, quiet=quiet, verbose=verbose)
    results = Results(as_json=as_json, hold=bars and sys.stdout.isatty())
    tally = Tally()
    try:
        with renderer, closing(run(plan, load, extras)) as events:  # type: ignore[type-var]
            for event in events:
                tally.add(event)
                renderer.show(event)
                results.add(event)
    except KeyboardInterrupt:
        say(
            f"interrupted: {tally.done + tally.skipped} of {len(plan.outputs)} results are saved; "
            "the same command goes on from there"
        )
        raise typer.Exit(130) from None
    finally:
        results.flush()
    if as_json:
        data_json(tally.record())
    if not quiet:
        say(tally.summary())
    return tally
