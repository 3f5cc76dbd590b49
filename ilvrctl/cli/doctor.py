"""``ilvrctl doctor``: is everything here that is needed?"""

from __future__ import annotations

from typing import Any

from ilvrctl import __version__, paths
from ilvrctl.cli.options import Json
from ilvrctl.cli.output import command, data, data_json

_PACKAGES = ("torch", "typer", "rich", "pillow", "pyyaml", "safetensors", "platformdirs")


@command
def doctor(as_json: Json = False) -> None:
    """Versions, device and precision, folders, and which weights are here."""
    facts = _facts()
    if as_json:
        data_json(facts)
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        data(f"{key.replace('_', ' '):<{width}}  {', '.join(value) if isinstance(value, list) else value}")


def _facts() -> dict[str, Any]:
    import platform

    import torch

    from ilvrctl.devices import choose_device, choose_precision, precision_name
    from ilvrctl.presets import load_models

    device = choose_device()
    models = load_models()
    return {
        "ilvrctl": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "device": _device_name(device),
        "precision": precision_name(choose_precision("auto", device)),
        "threads": str(torch.get_num_threads()),
        "presets": str(paths.presets_dir()),
        "own_presets": str(paths.config_dir()),
        "weights_folder": str(paths.weights_dir()),
        "cache": str(paths.cache_dir()),
        "weights_here": [name for name, model in models.items() if model.installed()],
        "weights_to_get": f"{sum(not model.installed() for model in models.values())}: ilvrctl download --list",
    }


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _device_name(device: Any) -> str:
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
