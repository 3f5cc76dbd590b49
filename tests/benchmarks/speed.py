"""How fast the 256 px network of ilvr_adm's architecture runs here, random weights: the share of the machine's peak.

    python tests/benchmarks/speed.py --against-plain            the ratios of the README, in about 4 minutes
    python tests/benchmarks/speed.py --batch-size 4 --compile --device cuda
    OMP_NUM_THREADS=1 taskset -c 0 python tests/benchmarks/speed.py --against-plain --processor-time

All calls are measured in turn in one process; the figures are medians. `exact` is fp32; `bf16` (or fp16) the precision
that the processor computes natively, left out where it has none; `direct` is fp32 with PyTorch's own convolutions;
`shallow` a call that reuses deep features, as turbo does. `peak` is the share of what one large matrix product of that
precision reaches, if all products of the direct arithmetic were made: it passes 1 where Winograd's method saves some.
`--against-plain` also runs plain_network.py, the published arithmetic written as the published code does it, in NCHW
fp32, and tells the time of whole pictures: 100 calls, and turbo from the input to the sample. `error` is the largest
difference to the first call over its largest value. `--processor-time` counts the seconds that processors worked, for
a machine that is busy with something else; it says nothing of how well threads share the work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from checkpoints import ILVR_ADM_256, hidden_of, write_ilvr_adm_256
from plain_network import PlainUNet
from torch import Tensor

from ilvrctl.config import Layer
from ilvrctl.devices import choose_device, choose_precision, precision_name
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.engine import Engine, Reference
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.compiled import CompiledNetwork
from ilvrctl.models.cpu.choice import forced, processor
from ilvrctl.models.files.loading import load_network
from ilvrctl.settings import build_settings

GFLOP = 388.0  # of a call by the direct arithmetic
TURBO = build_settings(Layer({"speed": "turbo"}))
PUBLISHED_STEPS = 100


@dataclass(frozen=True)
class Variant:
    """A network call of so many pictures, in a precision."""

    call: Callable[[], Tensor]
    dtype: torch.dtype
    whole: bool = True


@dataclass(frozen=True)
class Clock:
    """Seconds of a call on ``device``: of the clock on the wall, or ``processor`` time."""

    device: torch.device
    processor: bool

    def seconds(self, call: Callable[[], object]) -> float:
        now = time.process_time if self.processor else time.perf_counter
        start = now()
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return now() - start

    def median(self, call: Callable[[], object], rounds: int) -> float:
        """Of some rounds, after one to warm up."""
        return statistics.median([self.seconds(call) for _ in range(rounds + 1)][1:])

    def peak(self, dtype: torch.dtype) -> float:
        """GFLOP/s of one large matrix product."""
        n = 2048 if self.device.type == "cpu" else 8192
        a = torch.randn(n, n, device=self.device).to(dtype)
        return 2 * n**3 / min(self.seconds(lambda: a @ a) for _ in range(5)) / 1e9


def turbo_seconds(network: AdmUNet, clock: Clock, batch: int, rounds: int) -> float:
    """Of ``batch`` pictures, from references to samples."""
    device = clock.device
    engine = Engine(Denoiser(network), Schedule.named("linear"), 256, device, network.dtype, batch, "learned")
    pictures = torch.rand(batch, 3, 256, 256) * 2 - 1
    references = [Reference(str(i), picture, f"{i:064x}") for i, picture in enumerate(pictures)]
    return clock.median(lambda: list(engine.translate(references, TURBO)), rounds)


def variants(
    device: torch.device, batch: int, plain: bool, compiled: bool
) -> tuple[AdmUNet, dict[str, Variant]]:
    """The fastest network, and the calls to measure by name."""
    fp32, native = torch.float32, choose_precision("auto", device)
    with tempfile.TemporaryDirectory() as folder:
        weights = write_ilvr_adm_256(Path(folder) / "random.pt")
        exact, half = (
            load_network(weights, hidden_of(ILVR_ADM_256), dtype=dtype, device=device)
            for dtype in (fp32, native)
        )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, 256, 256, generator=generator).to(device)
    t = torch.full((batch,), 500.0, device=device)
    blocks = TURBO.reuse_blocks
    deep = half.keeping(x, t, None, blocks)[1]
    assert deep is not None

    def direct() -> Tensor:
        with forced("direct"):
            return exact(x, t)

    found: dict[str, Variant] = {}
    if plain:
        published = PlainUNet(exact)
        found["plain"] = Variant(lambda: published(x, t), fp32)
    found["exact"] = Variant(lambda: exact(x, t), fp32)
    if device.type == "cpu":
        found["exact, direct"] = Variant(direct, fp32)
    if native != fp32:
        found[precision_name(native)] = Variant(lambda: half(x, t), native)
    if compiled:
        fast = CompiledNetwork(half, device, Path(tempfile.mkdtemp()))
        found["fast, compiled"] = Variant(lambda: fast(x, t), native)
    found["shallow"] = Variant(lambda: half.shallow(x, t, None, deep, blocks), native, whole=False)
    return half, found


def measured(
    calls: dict[str, Variant], clock: Clock, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each call, measured in turn, and its largest difference to the first."""
    outputs = {name: variant.call() for name, variant in calls.items()}  # which warms up
    reference = next(iter(outputs.values()))
    errors = {
        name: float((out - reference).abs().max() / reference.abs().max()) for name, out in outputs.items()
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, variant in calls.items():
            times[name].append(clock.seconds(variant.call))
    return {name: statistics.median(found) for name, found in times.items()}, errors


def call_table(
    calls: dict[str, Variant],
    seconds: dict[str, float],
    errors: dict[str, float],
    peaks: dict[torch.dtype, float],
    batch: int,
) -> list[str]:
    """Rows of Markdown: a call each, against the first."""
    first = next(iter(calls))
    rows = [f"| call | seconds | times {first} | share of the peak | error |", "|---|---|---|---|---|"]
    for name, found in seconds.items():
        share = f"{GFLOP * batch / found / peaks[calls[name].dtype]:.2f}" if calls[name].whole else ""
        rows.append(f"| {name} | {found:.3f} | {seconds[first] / found:.2f} | {share} | {errors[name]:.1e} |")
    return rows


def picture_table(seconds: dict[str, float], turbo: float, fast: str) -> list[str]:
    """Rows of Markdown: whole pictures against 100 calls of the plain network, the three ratios."""
    plain = PUBLISHED_STEPS * seconds["plain"]
    calls = TURBO.network_calls(Schedule.named("linear"))
    pictures = {
        f"plain, {PUBLISHED_STEPS} calls": plain,
        f"exact, {PUBLISHED_STEPS} calls": PUBLISHED_STEPS * seconds["exact"],
        f"fast ({fast}), {PUBLISHED_STEPS} calls": PUBLISHED_STEPS * seconds[fast],
        f"turbo, {calls} calls": turbo,
    }
    rows = ["| picture | seconds | times plain |", "|---|---|---|"]
    return rows + [f"| {name} | {found:.1f} | {plain / found:.1f} |" for name, found in pictures.items()]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against-plain", action="store_true", help="beside the published arithmetic")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="also the compiled network")
    parser.add_argument("--processor-time", action="store_true", help="for a machine that is busy")
    args = parser.parse_args()
    clock = Clock(choose_device(args.device), args.processor_time)
    network, calls = variants(clock.device, args.batch_size, args.against_plain, args.compile)
    seconds, errors = measured(calls, clock, args.rounds)
    native = choose_precision("auto", clock.device)
    peaks = {dtype: clock.peak(dtype) for dtype in dict.fromkeys((torch.float32, native))}
    where = processor() if clock.device.type == "cpu" else torch.cuda.get_device_name(clock.device)
    capability = torch.backends.cpu.get_cpu_capability()
    print(
        f"{where}, {capability}, torch {torch.__version__}, {clock.device}, {torch.get_num_threads()} threads, "
        f"batch {args.batch_size}, {'processor' if args.processor_time else 'wall'} time"
    )
    products = (f"{precision_name(dtype)} {found:.0f} GFLOP/s" for dtype, found in peaks.items())
    print(f"matrix products: {', '.join(products)}\n")
    print(*call_table(calls, seconds, errors, peaks, args.batch_size), sep="\n")
    if args.against_plain:
        fast = next(name for name in ("fast, compiled", precision_name(native), "exact") if name in seconds)
        turbo = turbo_seconds(network, clock, args.batch_size, args.rounds)
        print("", *picture_table(seconds, turbo, fast), sep="\n")


if __name__ == "__main__":
    main()
