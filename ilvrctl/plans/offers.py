"""The names that a parameter's values can have here, for a shell that completes them. No torch, and little is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ilvrctl.presets import preset_files


def targets() -> list[str]:
    """What ``--to`` knows."""
    return [*preset_files("targets")]


def methods() -> list[str]:
    """What ``--method`` knows."""
    from ilvrctl.methods.build import method_names

    return method_names()


def presets() -> list[str]:
    """What ``--preset`` knows."""
    return [*preset_files("methods")]


def classifiers() -> list[str]:
    """What ``--guide`` knows."""
    from ilvrctl.presets import load_models

    return [name for name, model in load_models().items() if model.format == "guided-diffusion-classifier"]


def downloads() -> list[str]:
    """What can be downloaded: targets and models."""
    return [*targets(), *preset_files("models")]


def shown() -> list[str]:
    """What ``presets show`` knows."""
    return list(dict.fromkeys([*targets(), *presets(), *preset_files("models")]))


def samplers() -> list[str]:
    """What ``--sampler`` knows."""
    from ilvrctl.diffusion.samplers import SAMPLERS

    return [*SAMPLERS]


def published() -> list[str]:
    """What ``--compat`` knows."""
    from ilvrctl.settings import COMPAT

    return [*COMPAT]


def jobs(files: Sequence[str]) -> list[str]:
    """The names of the jobs in the first of some files; none where it cannot be read."""
    from ilvrctl.config import read_yaml
    from ilvrctl.errors import ConfigError

    try:
        found = read_yaml(Path(files[0])).values.get("jobs") if files else []
    except ConfigError:
        return []
    rows = found if isinstance(found, list) else []
    return [str(row["name"]) for row in rows if isinstance(row, dict) and "name" in row]
