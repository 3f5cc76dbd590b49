"""Seconds of every method against plain sampling with the same number of network calls, and the ratio.

    python tests/benchmarks/method_overhead.py

The bundled network, a batch of pictures, energies without networks of their own. All methods are measured in turn
in one process; the figures are medians, per call of the denoising network. What a method adds must stay below 5 %.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from ilvrctl.config import Layer
from ilvrctl.engine import Engine, Reference
from ilvrctl.presets import find_model
from ilvrctl.settings import Settings, build_settings

FREE: dict[str, Any] = {"dse": 0}
METHODS: dict[str, dict[str, Any]] = {
    "plain": {"name": "sdedit", "start": 1.0},
    "ILVR": {"name": "ilvr", "N": 4},
    "SDDM": {"name": "sddm", "range": [1.0, 0.0]},
    "EGSDE without its classifier": {
        "name": "egsde",
        "start": 1.0,
        "energies": {**FREE, "low_pass": {"N": 8}},
    },
    "SDDM + EGSDE without its classifier": {
        "name": "sddm+egsde",
        "start": 1.0,
        "range": [1.0, 0.0],
        "energies": {**FREE, "low_pass": {"N": 8}},
    },
}


def seconds(engine: Engine, settings: Settings, references: list[Reference]) -> float:
    """Per call of the network: processor time on a CPU, which other programs disturb less, else wall clock."""
    clock = time.process_time if engine.device.type == "cpu" else time.perf_counter
    start = clock()
    for _ in engine.translate(references, settings):
        pass
    if engine.device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) / settings.network_calls(engine.schedule)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    model = find_model("emoji3d-64")
    engine = Engine.load(model, model.path(), precision=args.precision, batch_size=args.batch_size)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(args.batch_size, 3, 64, 64, generator=generator) * 2 - 1
    references = [Reference(str(b), picture, f"{b:064x}") for b, picture in enumerate(pictures)]
    chosen = {
        name: build_settings(Layer({"method": method, "steps": args.steps}))
        for name, method in METHODS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in chosen}
    for round_ in range(args.rounds + 1):
        for name, settings in chosen.items():
            elapsed = seconds(engine, settings, references)
            if round_:  # the first round warms up
                times[name].append(elapsed)
    print(
        f"torch {torch.__version__}, {engine.device}, {engine.precision}, {torch.get_num_threads()} threads"
    )
    plain = statistics.median(times["plain"])
    for name, values in times.items():
        median = statistics.median(values)
        ratio = statistics.median(a / b for a, b in zip(values, times["plain"], strict=True))
        print(
            f"{name:36s} {1000 * median:7.1f} ms a call  {median / plain:.3f} x  (median of rounds {ratio:.3f} x)"
        )


if __name__ == "__main__":
    main()
