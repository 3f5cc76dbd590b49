"""``ilvrctl doctor``: is everything here that is needed?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ilvrctl import __version__, paths
from ilvrctl.cli import options as opt
from ilvrctl.cli.display import duration
from ilvrctl.cli.output import command, data, data_json
from ilvrctl.errors import UsageError
from ilvrctl.text import visible

if TYPE_CHECKING:
    from ilvrctl.timing import Measured

_PACKAGES = ("torch", "typer", "rich", "pillow", "pyyaml", "safetensors", "platformdirs")

EPILOG = """Examples:

  ilvrctl doctor

  ilvrctl doctor --bench --to emoji3d

  ilvrctl doctor --bench --to dog --speed turbo --json
"""


@command
def doctor(
    bench: Annotated[
        bool, typer.Option("--bench", help="Also time a network: some calls, nothing is written.")
    ] = False,
    to: opt.To = None,
    speed: opt.Speed = None,
    device: opt.Device = "auto",
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = None,
    compile_: opt.CompileAsked = False,
    as_json: opt.Json = False,
) -> None:
    """Versions, device and precision, folders, and which weights are here; with --bench how fast it runs."""
    if not bench and any(value is not None for value in (to, speed, precision, batch_size, compile_ or None)):
        raise UsageError(
            "--to and what else says how to run belong to --bench", hint="ilvrctl doctor --bench"
        )
    facts = _facts(device)
    if bench:
        measured = _bench(to or "emoji3d", speed, device, precision, batch_size, compile_)
        facts = {**facts, "bench": {"target": to or "emoji3d", **measured.record()}}
    if as_json:
        data_json(facts)
        return
    lines = _lines(measured) if bench else _told(facts)
    width = max(map(len, lines))
    for key, text in lines.items():
        data(f"{key.replace('_', ' '):<{width}}  {visible(text)}")


def _told(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts for people."""
    lists = {key: ", ".join(value) or "none" for key, value in facts.items() if isinstance(value, list)}
    if broken := facts.get("broken_presets"):
        lists["broken_presets"] = ", ".join(f"{path} ({error})" for path, error in broken.items())
    name, build = facts["device_name"], facts["torch_build"]
    fits = facts["torch_advice"] or "which fits this machine"
    return {
        **{
            key: "missing" if value is None else str(value)
            for key, value in facts.items()
            if key not in ("device_name", "torch_advice")
        },
        "torch_build": f"{build}; {fits}",
        "device": f"{facts['device']} ({name})" if name else facts["device"],
        **lists,
        "weights_to_get": f"{len(facts['weights_to_get'])}: ilvrctl download --list",
    }


def _bench(
    to: str, speed: str | None, device: str, precision: str | None, batch_size: str | None, compiled: bool
) -> Measured:
    """Load the target's network and time it with the target's settings. WeightsError when it is not here."""
    from ilvrctl.plans.asked import environment_layer, layer_of
    from ilvrctl.plans.check import networks_of
    from ilvrctl.plans.find_networks import NetworksAsked, find_networks
    from ilvrctl.settings import build_settings
    from ilvrctl.timing import measure
    from ilvrctl.work.machine import Machine

    networks = find_networks(NetworksAsked(to=to))
    flags = layer_of({"--speed": ("speed", speed), "--precision": ("precision", precision)})
    settings = build_settings(networks.settings, overrides=[environment_layer(), flags])
    machine = Machine(device, batch_size, compiled)
    engine = machine.load(networks_of(networks, settings.precision), lambda event: None)
    return measure(engine, settings)


def _lines(found: Measured) -> dict[str, str]:
    """The figures for people."""
    memory = "not known here" if found.peak_memory_mb is None else f"{found.peak_memory_mb:.0f} MB"
    return {
        "machine": f"{found.device}, {found.precision}, {found.threads} threads; matrix products reach "
        f"{found.peak_gflops:.0f} GFLOP/s",
        "a_call": f"{found.ms_a_call:.1f} ms for {found.batch_size} of {found.image_size} px "
        f"({found.gflop_a_call:.0f} GFLOP), {found.share_of_peak:.0%} of that peak",
        "a_picture": f"{found.network_calls} calls ({found.whole_calls} whole), {found.images_per_second:.2f} "
        "images/s",
        "100_pictures": duration(found.folder_seconds),
        "peak_memory": memory,
    }


def _facts(name: str) -> dict[str, Any]:
    import platform

    import torch

    from ilvrctl.devices import (
        choose_device,
        choose_precision,
        gpu_maker,
        precision_name,
        torch_advice,
        torch_build,
    )
    from ilvrctl.presets import broken_presets, load_models, load_targets

    broken = {str(bad.path): bad.error.message for bad in broken_presets()}
    device, build = choose_device(name), torch_build()
    seen = torch.cuda.is_available() or torch.backends.mps.is_available()
    models = load_models()
    ready = [
        n
        for n, target in load_targets().items()
        if target.model in models and models[target.model].installed()
    ]
    return {
        "ilvrctl": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "torch_build": build,
        "torch_advice": torch_advice(build, gpu_maker(), seen),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "precision": precision_name(choose_precision("auto", device)),
        "threads": torch.get_num_threads(),
        "presets": str(paths.presets_dir()),
        "own_presets": str(paths.config_dir()),
        "weights_folder": str(paths.weights_dir()),
        "cache": str(paths.cache_dir()),
        "weights_here": [name for name, model in models.items() if model.installed()],
        "targets_ready": ready,
        **({"broken_presets": broken} if broken else {}),
        "weights_to_get": [name for name, model in models.items() if not model.installed()],
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
