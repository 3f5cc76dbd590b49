"""Seconds a call and a picture of the 256 px `ilvr_adm` architecture, random weights, against a plain network.

    python tests/benchmarks/unet_speed.py
    python tests/benchmarks/unet_speed.py --device cuda --compile     the same table on a GPU

The variants are measured in turn in one process; the figures are medians. `plain` is plain_network.py, NCHW fp32.
`exact` is fp32, `bf16` the native half precision (left out where the processor has none), `shallow` a call that
reuses deep features as turbo does. `peak` is the share of what one large matrix product reaches on this machine; it
may pass 1 for Winograd, which needs fewer products. `error` is the largest difference to plain over its largest
value. The second table is of whole pictures: `turbo` is timed from the input to the sample, the others are calls.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from checkpoints import ILVR_ADM_256, hidden_of, write_ilvr_adm_256
from plain_network import PlainUNet
from torch import Tensor

from ilvrctl.config import Layer
from ilvrctl.devices import choose_device, choose_precision
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.engine import Engine, Reference
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.compiled import CompiledNetwork
from ilvrctl.models.cpu.choice import directly
from ilvrctl.models.files.loading import load_network
from ilvrctl.settings import build_settings

GFLOP = 388.0
TURBO = build_settings(Layer({"speed": "turbo"}))
PUBLISHED_STEPS = 100
Call = Callable[[], Tensor]


def seconds(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(device: torch.device, dtype: torch.dtype) -> float:
    n = 2048 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device).to(dtype)
    return 2 * n**3 / min(seconds(lambda: a @ a, device) for _ in range(4)) / 1e9


def turbo_seconds(network: AdmUNet, device: torch.device, batch: int, rounds: int) -> float:
    """The median time of ``batch`` pictures, from references to samples."""
    engine = Engine(Denoiser(network), Schedule.named("linear"), 256, device, network.dtype, batch, "learned")
    pictures = torch.rand(batch, 3, 256, 256) * 2 - 1
    references = [Reference(str(i), picture, f"{i:064x}") for i, picture in enumerate(pictures)]
    return statistics.median(
        seconds(lambda: list(engine.translate(references, TURBO)), device) for _ in range(rounds + 1)
    )


def variants(
    device: torch.device, batch: int, compiled: bool
) -> tuple[AdmUNet, dict[str, tuple[Call, torch.dtype]]]:
    with tempfile.TemporaryDirectory() as folder:
        weights = write_ilvr_adm_256(Path(folder) / "random.pt")
        native = choose_precision("auto", device)
        exact, half = (
            load_network(weights, hidden_of(ILVR_ADM_256), dtype=dtype, device=device)
            for dtype in (torch.float32, native)
        )
    plain = PlainUNet(exact)
    x = torch.randn(batch, 3, 256, 256, device=device)
    t = torch.full((batch,), 500.0, device=device)
    blocks = TURBO.reuse_blocks
    deep = half.keeping(x, t, None, blocks)[1]
    assert deep is not None

    def direct() -> Tensor:
        with directly():
            return exact(x, t)

    found: dict[str, tuple[Call, torch.dtype]] = {
        "plain": (lambda: plain(x, t), torch.float32),
        "exact": (lambda: exact(x, t), torch.float32),
        "exact, direct": (direct, torch.float32),
    }
    if native != torch.float32:
        found[str(native).removeprefix("torch.")] = (lambda: half(x, t), native)
    if compiled:
        fast = CompiledNetwork(half, device, Path(tempfile.mkdtemp()))
        found["fast, compiled"] = (lambda: fast(x, t), native)
    found["shallow"] = (lambda: half.shallow(x, t, None, deep, blocks), native)
    return half, found


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="also the compiled network")
    args = parser.parse_args()
    device = choose_device(args.device)
    network, calls = variants(device, args.batch_size, args.compile)
    times: dict[str, list[float]] = {name: [] for name in calls}
    reference = calls["plain"][0]()
    errors = {
        name: float((call() - reference).abs().max() / reference.abs().max())  # and warms up
        for name, (call, _) in calls.items()
    }
    for _ in range(args.rounds):
        for name, (call, _) in calls.items():
            times[name].append(seconds(call, device))
    a_call = {name: statistics.median(found) for name, found in times.items()}
    peaks = {dtype: peak(device, dtype) for dtype in {dtype for _, dtype in calls.values()}}
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, batch {args.batch_size}")
    print("| call | seconds | times plain | peak | error |\n|---|---|---|---|---|")
    for name, found in a_call.items():
        share = "" if name == "shallow" else f"{GFLOP * args.batch_size / found / peaks[calls[name][1]]:.2f}"
        print(f"| {name} | {found:.3f} | {a_call['plain'] / found:.2f} | {share} | {errors[name]:.1e} |")
    fast = min(found for name, found in a_call.items() if name not in ("plain", "shallow"))
    turbo = turbo_seconds(network, device, args.batch_size, args.rounds)
    plain = PUBLISHED_STEPS * a_call["plain"]
    print("| picture | seconds | times plain |\n|---|---|---|")
    for name, found in (
        ("plain, 100 calls", plain),
        ("exact, 100 calls", PUBLISHED_STEPS * a_call["exact"]),
        ("fast, 100 calls", PUBLISHED_STEPS * fast),
        (f"turbo, {TURBO.network_calls(Schedule.named('linear'))} calls", turbo),
    ):
        print(f"| {name} | {found:.1f} | {plain / found:.1f} |")


if __name__ == "__main__":
    main()
