"""Make tests/golden/fidelity.json: what torch-fidelity says about recorded random features.

    pip install --no-deps torch-fidelity && python tests/benchmarks/fidelity_golden.py

torch-fidelity imports torchvision, which its arithmetic does not use; where that cannot be imported (it must fit
the installed torch to the letter) an empty module stands in for it. That is also why this is recorded.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from unittest.mock import MagicMock

import numpy
import torch

try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms"):
        sys.modules[name] = MagicMock()
    sys.modules["torchvision.transforms.functional"] = MagicMock()

from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kernel_mmd, kernel_poly, kid_features_to_metric, mmd2
from torch_fidelity.metric_prc import prc_features_to_metric

N, D = 24, 8


def main() -> None:
    random = numpy.random.default_rng(0)
    a = random.normal(size=(N, D)).round(4)
    b = (random.normal(size=(N, D)) * 1.3 + 0.4).round(4)
    first, second = torch.from_numpy(a), torch.from_numpy(b)
    fid = fid_statistics_to_metric(
        fid_features_to_statistics(first), fid_features_to_statistics(second), verbose=False
    )
    kid = kid_features_to_metric(first, second, kid_subsets=1, kid_subset_size=N, verbose=False)
    kernels = [kernel_poly(*sides) for sides in ((a, a), (a, b), (b, b))]
    prc = prc_features_to_metric(first, second, verbose=False)
    found = {
        "torch_fidelity": version("torch-fidelity"),
        "a": a.tolist(),
        "b": b.tolist(),
        "fid": fid["frechet_inception_distance"],
        "kid": kid["kernel_inception_distance_mean"],
        "kid_pairs_left_out": float(mmd2(*kernels, mmd_est="u-statistic")),
        "precision": prc["precision"],
        "recall": prc["recall"],
    }
    assert abs(kernel_mmd(a, b) - found["kid"]) < 1e-12
    path = Path(__file__).parents[1] / "golden" / "fidelity.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print({key: value for key, value in found.items() if key not in "ab"})


if __name__ == "__main__":
    main()
