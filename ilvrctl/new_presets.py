"""New presets: what they may be called, and writing them where every command finds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ilvrctl import paths
from ilvrctl.errors import ConfigError, UsageError
from ilvrctl.files import inside, write_text
from ilvrctl.presets import NAME_HINT, PRESET_NAME, Kind, load_models, load_targets
from ilvrctl.yaml_core import dump_yaml


def check_preset_name(name: str) -> None:
    """UsageError for a name that no preset can have."""
    try:
        if not PRESET_NAME.fullmatch(name):
            raise ConfigError(name)
        inside(paths.config_dir(), name, "the name of a preset")
    except ConfigError:
        what = f"{name!r} cannot be a name, as it cannot be the name of a preset's file"
        raise UsageError(what, NAME_HINT) from None


def check_new_name(name: str, *, overwrite: bool, also: Iterable[Path] = ()) -> None:
    """UsageError for a name that no new model or target can have, as it is none or is taken.

    ``also``: files of that name that will be written besides the presets; ``overwrite`` allows one's own.
    """
    check_preset_name(name)
    kinds = ("models", "targets")
    mine = [path for kind in kinds if (path := paths.config_dir() / kind / f"{name}.yaml").exists()]
    shipped = {path.stem for kind in kinds for path in (paths.presets_dir() / kind).glob("*.yaml")}
    shipped.update(*(preset.aliases for preset in load_models().values()))
    shipped.update(*(preset.aliases for preset in load_targets().values()))
    if name in shipped and not mine:
        raise UsageError(f"the name {name!r} is taken: it ships with ilvrctl", "choose another name")
    there = [*mine, *(path for path in also if path.exists())]
    if there and not overwrite:
        what = f"the name {name!r} is taken: {there[0]} is there already"
        raise UsageError(what, "--overwrite, or choose another name")


def write_preset(
    kind: Kind, name: str, facts: Mapping[str, Any], remarks: Mapping[str, str] | None = None
) -> Path:
    """Write a preset to the configuration folder, where every command finds it; its path.

    ``remarks`` become comments behind keys. UsageError for a name that none can have, OutputError when it cannot be
    written.
    """
    check_preset_name(name)
    return write_text(paths.config_dir() / kind / f"{name}.yaml", dump_yaml(facts, remarks or {}))
