"""What the commands that make pictures share: from flags to settings, and loading the networks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ilvrctl.cli.display import Display
from ilvrctl.cli.output import say, terminal
from ilvrctl.cli.request import environment_layer
from ilvrctl.cli.several import Reader, bounds, decimal, flag_choices, jumps, level, whole, word
from ilvrctl.cli.source import Network, Source
from ilvrctl.config import Layer, merge
from ilvrctl.errors import UsageError, did_you_mean
from ilvrctl.plans.grid import Choice, Picked, Tier, Variant
from ilvrctl.plans.jobs_file import PARAMETERS

if TYPE_CHECKING:
    from ilvrctl.engine import Engine
    from ilvrctl.plans.networks import Networks
    from ilvrctl.plans.outputs import Destination, Output
    from ilvrctl.plans.plan import Plan, SourceModel
    from ilvrctl.settings import Settings

TWO_MODELS = "cyclediffusion"
"""The method where ``--from`` gives a second model and no method is asked for."""

READERS: Mapping[str, Reader] = {
    "method": word,
    "compat": word,
    "N": whole(1),
    "range": bounds,
    "range_t": whole(-1),
    "kernel": word,
    "blocks": whole(1),
    "start": level,
    "repeats": whole(1),
    "resample": jumps,
    "sampler": word,
    "eta": decimal(0, 1),
    "variance": word,
    "steps": whole(1),
    "class_label": whole(0),
    "seed": whole(),
    "fit": word,
    "background": word,
    "threshold": whole(1),
    "grow": whole(0),
    "feather": whole(0),
    "context": decimal(0, 100),
}
"""How the text of a parameter's flag is read; the others take one value as it stands."""


def given(parameters: Mapping[str, Any]) -> list[Choice]:
    """The choices of a command's parameters (``ctx.params``); a value of None was not given."""
    names = {
        name: f"{name}_" if f"{name}_" in parameters else name for name in PARAMETERS if name != "preset"
    }
    return flag_choices(
        {
            "--" + name.replace("_", "-"): (PARAMETERS[name], parameters.get(own), READERS.get(name))
            for name, own in names.items()
        }
    )


def plan_for(
    source: Source,
    variants: Sequence[Variant],
    outputs: Sequence[Output],
    display: Display,
    *,
    sheet: Path | None,
    quality: int,
    name: str = "",
) -> Plan:
    """The plan, nothing judged yet; tells what people should know about the weights."""
    from ilvrctl.plans.digest import weights_sha256
    from ilvrctl.plans.plan import Plan

    digest = weights_sha256(source.weights)
    tell(source, digest, display)
    return Plan(
        tuple(outputs),
        tuple(variants),
        source.model,
        digest,
        target=source.target,
        sheet=sheet,
        source=source_model(source.encoder, display),
        quality=quality,
        weights=source.weights,
        name=name,
    )


def loading(
    plan: Plan, device: str, batch_size: int | None, compile_: bool | None, display: Display
) -> Callable[[Networks], Engine]:
    """How the networks of a plan are loaded."""

    def load(networks: Networks) -> Engine:
        compiled = compiles(compile_, device, plan.network_calls(), display)
        return networks.load(device=device, batch_size=batch_size, compiled=compiled)

    return load


def compiles(asked: bool | None, device: str, calls: int, display: Display) -> bool:
    """Whether to compile: as asked for, else where it pays; a choice for it is told."""
    if asked is not None:
        return asked
    from ilvrctl.devices import choose_device, compile_pays

    pays = compile_pays(choose_device(device), calls)
    if pays and not display.quiet:
        say(f"compiling the network, which pays for {calls} calls; --no-compile leaves it out")
    return pays


def settings_of(source: Source, picked: Picked, way: Layer | None = None) -> Settings:
    """Target < way < preset < compat < environment < --speed < --set < other flags, ``way`` being how the command
    works. A replay asks the environment nothing.
    """
    from ilvrctl.settings import build_settings

    def layers(tier: Tier) -> list[Layer]:
        return [option.layer for choice, option in picked if choice.tier == tier and choice.key != "speed"]

    speed = [option.layer for choice, option in picked if choice.key == "speed"]
    environment = [] if source.samples else [environment_layer()]
    two_models = source.encoder is not None and not source.samples
    default = [Layer.of("--from", {"method": {"name": TWO_MODELS}})] if two_models else []
    assigned, flags = merge(*layers("set")), merge(*layers("flag"))
    below = [source.settings] if way is None else [source.settings, way]
    overrides = [*default, *environment, *speed, assigned, flags]
    return build_settings(*below, *layers("preset"), overrides=overrides)


def way_of(source: Source, mode: str, *, masked: bool) -> Layer:
    """The settings of a way of editing, for the size of the model. UsageError for a mode that there is not, and
    where the size is not known before the model is loaded.
    """
    from ilvrctl.work.edit import Mode, mode_layer

    known: dict[str, Mode] = {name: name for name in get_args(Mode)}
    if mode not in known:
        raise UsageError(f"unknown mode {mode!r}; known: {', '.join(known)}", hint=did_you_mean(mode, known))
    if source.model.image_size is None:
        raise UsageError(
            f"{source.weights.name} does not tell its picture size", hint="add --set model.image_size=256"
        )
    return mode_layer(known[mode], source.model.image_size, masked=masked)


def check_stdout(destination: Destination, as_json: bool) -> None:
    """UsageError where the picture on standard output would meet JSON lines, or a terminal."""
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
    from ilvrctl.plans.digest import weights_sha256
    from ilvrctl.plans.plan import SourceModel

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
