"""What an accelerator does here, in under ten minutes, as the Markdown page for RESULTS.md:

    python tests/benchmarks/gpu.py [-o page.md] [--device cuda] [--minutes 9]

How exact it is (the vectors of the published code), pictures a second of a 256 px network of `ilvr_adm`'s
architecture with random weights under ILVR for batches of 1 to 64 in every precision, its share of what the device
makes of one large matrix product, memory, power where nvidia-smi tells it, what compiling brings a small batch, what
drawing noise costs, and two GPUs beside each other where there are two. What there is no time for is left out, and
said so. With --tiny all of it runs on a CPU in seconds, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from checkpoints import ILVR_ADM_256, hidden_of, write_random_checkpoint
from published import BOUND, errors

from ilvrctl.arithmetic import Arithmetic
from ilvrctl.config import Layer
from ilvrctl.devices import choose_device, out_of_memory
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.noise import NoiseStream
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.engine import Engine, Reference
from ilvrctl.events import BatchShrunk, BatchStarted, SampleId, StepDone
from ilvrctl.models.compiled import CompiledNetwork
from ilvrctl.models.cpu.choice import directly, processor
from ilvrctl.models.files.loading import load_network
from ilvrctl.settings import Settings, build_settings
from ilvrctl.timing import peak_memory

CALLS = 100
"""Network calls a picture: the published number of steps."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TINY = {
    "image_size": 32,
    "num_channels": 32,
    "channel_mult": "1,1",
    "num_res_blocks": 1,
    "num_head_channels": 16,
    "attention_resolutions": "16",
    "resblock_updown": True,
    "use_scale_shift_norm": True,
    "learn_sigma": True,
}


@dataclass(frozen=True)
class Scale:
    """How much is measured: the network, the ``batches``, at least so many ``rounds`` and ``seconds`` of each, the side
    of the matrix product.
    """

    flags: Any
    batches: tuple[int, ...]
    rounds: int
    side: int
    seconds: float

    @property
    def size(self) -> int:
        """Of the pictures, in pixels."""
        return int(self.flags["image_size"])


FULL = Scale(ILVR_ADM_256, (1, 2, 4, 8, 16, 32, 64), 8, 8192, 1.0)
SEEN_TO_RUN = Scale(TINY, (1, 2), 2, 64, 0.0)


class Bench:
    """The device, the network's file, and the time that is left."""

    def __init__(self, device: torch.device, scale: Scale, minutes: float, folder: Path) -> None:
        self.device, self.scale = device, scale
        self._seconds, self._begun = 60 * minutes, time.monotonic()
        self._weights = write_random_checkpoint(folder / "random.pt", scale.flags)
        self.settings: Settings = build_settings(Layer({"steps": CALLS, "method": {"name": "ilvr", "N": 8}}))

    def has_time(self, share: float) -> bool:
        """Whether that share of the time is left."""
        return self._seconds - (time.monotonic() - self._begun) > share * self._seconds

    def engine(self, precision: str, batch: int) -> Engine:
        dtype, size = DTYPES[precision], self.scale.size
        network = load_network(self._weights, hidden_of(self.scale.flags), dtype=dtype, device=self.device)
        denoiser = Denoiser(network, arithmetic=Arithmetic(half=dtype != torch.float32))
        schedule = Schedule.named("linear")
        return Engine(denoiser, schedule, size, self.device, dtype, batch, "learned")

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def seconds(self, call: Callable[[], object]) -> float:
        """The median of some rounds, after one that warms up."""
        self._once(call)
        times: list[float] = []
        while len(times) < self.scale.rounds or sum(times) < self.scale.seconds:
            times.append(self._once(call))
        return statistics.median(times)

    def _once(self, call: Callable[[], object]) -> float:
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - start

    def free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self, precision: str) -> float:
        """Floating-point operations a second of one large matrix product."""
        n, dtype = self.scale.side, DTYPES[precision]
        a = torch.randn(n, n, device=self.device).to(dtype)
        with Arithmetic(half=dtype != torch.float32).stated(self.device):
            return 2 * n**3 / self.seconds(lambda: a @ a)


@dataclass(frozen=True)
class Row:
    """One batch size in one precision; ``call`` and ``step`` in seconds, ``watts`` None where nobody tells it."""

    precision: str
    batch: int
    call: float
    step: float
    share: float
    memory_mb: float | None
    watts: float | None

    @property
    def pictures(self) -> float:
        """A second."""
        return self.batch / self.step / CALLS


def flop_of(bench: Bench) -> int:
    """Floating-point operations of a call for one picture."""
    from torch.utils.flop_counter import FlopCounterMode

    x, k = noise(bench, 1), bench.settings.chain(Schedule.named("linear"))[0]
    denoiser = bench.engine("fp32", 1).denoiser
    with FlopCounterMode(display=False) as counter, directly(), torch.no_grad():
        denoiser(x, k)
    return int(counter.get_total_flops())


def noise(bench: Bench, batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, bench.scale.size, bench.scale.size, device=bench.device)


def step_seconds(bench: Bench, engine: Engine) -> float:
    """The median of some steps of a run, with all that they do beside the network."""
    size, batch = bench.scale.size, engine.batch_size
    asked = [(SampleId(n, 1), Reference(n, torch.zeros(3, size, size), f"{n:064x}")) for n in range(batch)]
    times: list[float] = []
    with closing(engine.make(asked, bench.settings, {})) as events:
        for event in events:
            if isinstance(event, BatchShrunk):
                raise torch.OutOfMemoryError("out of memory")
            if isinstance(event, (BatchStarted, StepDone)):
                bench.wait()
                times.append(time.perf_counter())
            if len(times) > bench.scale.rounds + 2:
                break
    return statistics.median(b - a for a, b in pairwise(times[1:]))  # the first step warms up


def rows(bench: Bench, precision: str, flop: int) -> Iterator[Row]:
    """From the smallest batch on, until one does not fit or time is over."""
    peak = bench.peak(precision)
    whole = bench.engine(precision, 1)
    for batch in bench.scale.batches:
        if not bench.has_time(0.4):
            return
        engine = replace(whole, batch_size=batch)
        denoise, k, x = engine.denoise(bench.settings), engine.check(bench.settings)[0], noise(bench, batch)
        bench.free()
        try:
            with torch.no_grad(), power() as watts:
                call = bench.seconds(lambda denoise=denoise, x=x, k=k: denoise(x, k))  # type: ignore[misc]
                step = step_seconds(bench, engine)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return
        yield Row(
            precision, batch, call, step, batch * flop / call / peak, peak_memory(bench.device), mean(watts)
        )


@contextmanager
def power() -> Iterator[list[float]]:
    """Watts of all GPUs together while the block runs, as nvidia-smi tells them; empty where it is not there."""
    told: list[float] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                query = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
                out = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout
                told.append(sum(float(line) for line in out.split()))
            except (OSError, ValueError, subprocess.SubprocessError):
                return
            done.wait(0.2)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield told
    finally:
        done.set()
        asking.join()


def mean(numbers: Sequence[float]) -> float | None:
    return statistics.fmean(numbers) if numbers else None


# --- the page --------------------------------------------------------------------------------------------------


def table(head: str, *lines: Sequence[object]) -> Iterator[str]:
    columns = head.split("|")
    yield f"| {' | '.join(column.strip() for column in columns)} |"
    yield "|" + "---|" * len(columns)
    for line in lines:
        yield f"| {' | '.join('-' if cell is None else str(cell) for cell in line)} |"
    yield ""


def exactness(bench: Bench) -> Iterator[str]:
    yield f"In float32, against the recorded vectors of the published code; at most {BOUND:.0e} of the largest value."
    yield ""
    found = list(errors(bench.device))
    yield from table(
        "vector | error | kept", *((n, f"{e:.1e}", "yes" if e <= BOUND else "NO") for n, e in found)
    )


def speed(bench: Bench) -> Iterator[str]:
    flop, size = flop_of(bench), bench.scale.size
    yield (
        f"A network of {flop / 1e9:.1f} GFLOP a call at {size} px under ILVR; pictures a second at {CALLS} calls each, "
        "noise and filter included. Share: of one large matrix product in the same precision."
    )
    yield ""
    found = [row for precision in ("bf16", "fp32", "fp16") for row in rows(bench, precision, flop)]
    head = "precision | batch | ms a call | ms a step | pictures/s | share of peak | MB | W | J a picture"
    yield from table(head, *map(cells, found))
    if len(found) < 3 * len(bench.scale.batches):
        yield "Batches that are not listed did not fit into memory, or into the time."
        yield ""


def cells(row: Row) -> list[object]:
    watts, memory = row.watts, row.memory_mb
    return [
        row.precision,
        row.batch,
        f"{1e3 * row.call:.2f}",
        f"{1e3 * row.step:.2f}",
        f"{row.pictures:.3g}",
        f"{row.share:.2f}",
        None if memory is None else f"{memory:.0f}",
        None if watts is None else f"{watts:.0f}",
        None if watts is None else f"{watts / row.pictures:.0f}",
    ]


def drawing(bench: Bench) -> Iterator[str]:
    """What is left of drawing noise beside a step, and what one thread takes for it."""
    found = []
    for batch in bench.scale.batches:
        seeds, shape = list(range(batch)), (3, bench.scale.size, bench.scale.size)
        with NoiseStream(seeds, shape, torch.device("cpu")) as alone:
            one = bench.seconds(alone)
        with NoiseStream(seeds, shape, bench.device) as ahead:
            several = bench.seconds(ahead)
        found.append((batch, f"{1e3 * one:.2f}", f"{1e3 * several:.2f}"))
    yield from table("batch | ms a draw, one thread | ms a draw, as it is made", *found)


def compiling(bench: Bench) -> Iterator[str]:
    """What `--compile` brings, with CUDA graphs, which spare a small batch the launches, and from when it pays."""
    batches = bench.scale.batches
    found = [
        _compiled(bench, batch) for batch in (batches[0], batches[len(batches) // 2]) if bench.has_time(0.2)
    ]
    yield from table("batch | ms a call | compiled | seconds to compile | pays from so many calls", *found)


def _compiled(bench: Bench, batch: int) -> Sequence[object]:
    engine, x = bench.engine("bf16", batch), noise(bench, batch)
    k = engine.check(bench.settings)[0]
    network: Any = engine.denoiser.network
    plainly = patch(
        "torch.compile", partial(torch.compile, backend="eager")
    )  # inductor takes minutes of a CPU
    with (
        tempfile.TemporaryDirectory() as cache,
        torch.no_grad(),
        nullcontext() if bench.scale is FULL else plainly,
    ):
        compiled = replace(engine.denoiser, network=CompiledNetwork(network, bench.device, Path(cache)))
        eager = bench.seconds(lambda: engine.denoiser(x, k))
        start = time.perf_counter()
        compiled(x, k)
        bench.wait()
        took = time.perf_counter() - start
        fast = bench.seconds(lambda: compiled(x, k))
    pays = f"{took / (eager - fast):.0f}" if fast < eager else "never"
    return batch, f"{1e3 * eager:.2f}", f"{1e3 * fast:.2f}", f"{took:.0f}", pays


def several(bench: Bench, arguments: Sequence[str]) -> Iterator[str]:
    """Two processes at once, each with a GPU of its own, against one alone."""
    count = torch.cuda.device_count() if bench.device.type == "cuda" else 0
    if count < 2 and bench.scale is FULL:
        yield f"{count} here: nothing to compare."
        yield ""
        return
    names = ["cuda:0", "cuda:1"] if count > 1 else [str(bench.device)] * 2
    alone = sum(_elsewhere(names[:1], arguments))
    both = sum(_elsewhere(names, arguments))
    yield from table(
        "pictures/s of one | of two | times", (f"{alone:.3g}", f"{both:.3g}", f"{both / alone:.2f}")
    )


def _elsewhere(names: Sequence[str], arguments: Sequence[str]) -> list[float]:
    """Pictures a second of processes that run at once."""
    command = [sys.executable, __file__, *arguments, "--one", "--device"]
    started = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in names]
    return [float(json.loads(process.communicate()[0])["pictures"]) for process in started]


def one(bench: Bench) -> str:
    """A middle batch in bf16, as JSON."""
    engine = bench.engine("bf16", bench.scale.batches[len(bench.scale.batches) // 2])
    end = time.monotonic() + 5 * bench.scale.seconds  # long enough for two processes to be at it together
    times = [step_seconds(bench, engine)]
    while time.monotonic() < end:
        times.append(step_seconds(bench, engine))
    step = statistics.median(times)
    row = Row("bf16", engine.batch_size, step, step, 0.0, None, None)
    return json.dumps({**asdict(row), "pictures": row.pictures})


def name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()


def page(bench: Bench, arguments: Sequence[str]) -> Iterator[str]:
    """Line by line, as it is measured."""
    yield f"## {name_of(bench.device)}"
    yield ""
    yield f"torch {torch.__version__}; `python tests/benchmarks/gpu.py{''.join(f' {one}' for one in arguments)}`."
    yield ""
    parts: dict[str, Iterator[str]] = {
        "Exactness": exactness(bench),
        "Speed": speed(bench),
        "Noise": drawing(bench),
        "Compiling": compiling(bench),
        "Two GPUs": several(bench, arguments),
    }
    for title, lines in parts.items():
        yield f"### {title}"
        yield ""
        yield from lines if bench.has_time(0.15) else ("Left out: no time.", "")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", type=Path, metavar="FILE", help="write the page there too")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--tiny", action="store_true", help="a tiny network, to see that all of it runs")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    device, scale = choose_device(args.device), SEEN_TO_RUN if args.tiny else FULL
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, scale, args.minutes, Path(folder))
        if args.one:
            print(one(bench))
            return
        with args.o.open("w", encoding="utf-8") if args.o else nullcontext() as file:
            for line in page(bench, ["--tiny"] if args.tiny else []):
                print(line, flush=True)
                if file is not None:
                    print(line, file=file, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
