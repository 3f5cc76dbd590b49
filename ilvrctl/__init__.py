"""ilvrctl: training-free image translation with diffusion models (ILVR and the methods built on it).

What ``__all__`` names is promised; everything else may change. It is described in :mod:`ilvrctl.api`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ilvrctl.api import (
        Model,
        Result,
        batch,
        convert,
        download,
        edit,
        evaluate,
        examples,
        load,
        train,
        translate,
    )
    from ilvrctl.errors import (
        ConfigError,
        DeviceError,
        IlvrctlError,
        InputError,
        MissingExtraError,
        NonFiniteError,
        OutputError,
        UsageError,
        WeightsError,
    )

__version__ = "0.1.0"
__all__ = [
    "ConfigError",
    "DeviceError",
    "IlvrctlError",
    "InputError",
    "MissingExtraError",
    "Model",
    "NonFiniteError",
    "OutputError",
    "Result",
    "UsageError",
    "WeightsError",
    "__version__",
    "batch",
    "convert",
    "download",
    "edit",
    "evaluate",
    "examples",
    "load",
    "train",
    "translate",
]


def __getattr__(name: str) -> Any:
    """A promised name, imported when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'ilvrctl' has no attribute {name!r}")
    return getattr(import_module("ilvrctl.errors" if name.endswith("Error") else "ilvrctl.api"), name)


def __dir__() -> list[str]:
    return __all__
