"""Statistics of a set for the Fréchet distance as a file: ``.npz`` with ``mu`` and ``sigma``, as pytorch-fid and
guided-diffusion write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ilvrctl.errors import InputError, MissingExtraError
from ilvrctl.files import make_folder, replacing


@dataclass(frozen=True)
class SetStatistics:
    """Mean (d,) and covariance (d, d), float64, of the features of ``count`` pictures (None: not told).

    ``extractor``: the name of what made the features, "" when the file does not tell, as those of others.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None = None
    extractor: str = ""


def read_statistics(path: Path) -> SetStatistics:
    """The statistics in ``path``. InputError for a file without ``mu`` and ``sigma``, other shapes, or NaN."""
    arrays = _arrays(path)
    missing = [key for key in ("mu", "sigma") if key not in arrays]
    if missing:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise InputError(f"{path} holds no {' and no '.join(missing)} (it has {found})", _HINT)
    try:
        mean, covariance = (torch.from_numpy(arrays[key].astype("float64")) for key in ("mu", "sigma"))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} does not hold numbers: {error}", _HINT) from error
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        shapes = f"{tuple(mean.shape)} and {tuple(covariance.shape)}"
        raise InputError(f"{path}: mu and sigma have the shapes {shapes}, not (d,) and (d, d)", _HINT)
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise InputError(f"{path} holds NaN or infinite numbers", _HINT)
    count = int(arrays["count"]) if "count" in arrays else None
    return SetStatistics(mean, covariance, count, str(arrays["extractor"]) if "extractor" in arrays else "")


_HINT = "statistics are written by ilvrctl eval --save-stats FILE.npz, pytorch-fid and guided-diffusion"


def _arrays(path: Path) -> Mapping[str, Any]:
    numpy = _numpy()
    try:
        with numpy.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", "check the path; relative ones start here") from error
    except (OSError, ValueError, AttributeError, TypeError, EOFError) as error:
        raise InputError(f"{path} is no archive of arrays (.npz): {error}", _HINT) from error


def write_statistics(path: Path, statistics: SetStatistics) -> None:
    """Write all or nothing, with the keys ``mu`` and ``sigma`` and ours: ``count`` and ``extractor``."""
    numpy = _numpy()
    make_folder(path.parent)
    with replacing(path) as part, part.open("wb") as file:
        numpy.savez(
            file,
            mu=statistics.mean.numpy(),
            sigma=statistics.covariance.numpy(),
            count=numpy.int64(statistics.count or 0),
            extractor=numpy.array(statistics.extractor),
        )


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise MissingExtraError("statistics files need numpy", "pip install numpy") from error
    return numpy
