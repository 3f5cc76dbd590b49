"""Where things are: what ships with the package, the user's own presets, downloaded weights, the cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from ilvrctl.errors import UsageError

_PACKAGE = Path(__file__).resolve().parent
DATA = _PACKAGE / "data"
EXAMPLES = DATA / "examples"
PHOTOS = DATA / "photos"


def presets_dir() -> Path:
    """The presets that ship."""
    return _shipped("presets", "presets")


def docs_dir() -> Path:
    """The pages of the documentation."""
    return _shipped("docs", ".github/docs")


def _shipped(name: str, in_checkout: str) -> Path:
    """A folder that ships: inside an installed package, or beside it in a checkout."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / in_checkout


def config_dir() -> Path:
    """The user's own presets; ``ILVRCTL_CONFIG`` overrides the platform's place. Not created."""
    return _place("ILVRCTL_CONFIG", platformdirs.user_config_path)


def weights_dir() -> Path:
    """Downloaded checkpoints; ``ILVRCTL_WEIGHTS`` overrides the platform's place. Not created."""
    return _place("ILVRCTL_WEIGHTS", platformdirs.user_data_path, "weights")


def cache_dir() -> Path:
    """What can be made again; ``ILVRCTL_CACHE`` overrides the platform's place. Not created."""
    return _place("ILVRCTL_CACHE", platformdirs.user_cache_path)


def _place(variable: str, usual: Callable[[str], Path], below: str = "") -> Path:
    """The folder that the variable names, or the platform's. UsageError where that needs an unknown home."""
    value = os.environ.get(variable)
    try:
        place = Path(value).expanduser() if value else usual("ilvrctl") / below
    except RuntimeError:  # pathlib's word for it
        place = Path("~")
    if place.parts[:1] == ("~",):  # and platformdirs' way of leaving it
        raise UsageError("the home folder of this user is not known", f"name a folder in {variable}")
    return place
