"""Seconds a network call, fp32 against bf16, of the 256 px `ilvr_adm` architecture with random weights.

    python tests/benchmarks/unet_speed.py

The variants are measured in turn in one process; the figures are medians, the last column is the ratio to fp32.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from checkpoints import ILVR_ADM_256, hidden_of, write_ilvr_adm_256

from ilvrctl.devices import choose_device
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.loading import load_network


def seconds(network: AdmUNet, x: torch.Tensor, t: torch.Tensor) -> float:
    start = time.perf_counter()
    network(x, t)
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    device = choose_device()
    with tempfile.TemporaryDirectory() as folder:
        weights = write_ilvr_adm_256(Path(folder) / "random.pt")
        networks = {
            name: load_network(weights, hidden_of(ILVR_ADM_256), dtype=dtype, device=device)
            for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        }
    x = torch.randn(args.batch_size, 3, 256, 256, device=device)
    t = torch.full((args.batch_size,), 500.0, device=device)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for round_ in range(args.rounds + 1):
        for name, network in networks.items():
            elapsed = seconds(network, x, t)
            if round_:  # the first round warms up
                times[name].append(elapsed)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, batch {args.batch_size}")
    exact = statistics.median(times["fp32"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name}  {median:.3f} s a call  {exact / median:.2f} x")


if __name__ == "__main__":
    main()
