"""How fast this machine runs a network: calls against the machine's own matrix products, memory, batch sizes."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl.devices import out_of_memory, precision_name

if TYPE_CHECKING:
    import torch

    from ilvrctl.diffusion.schedule import Step
    from ilvrctl.engine import Engine
    from ilvrctl.settings import Settings

CALLS = 3
GAIN = 0.05
"""A batch twice as large must save this share of the time of a picture, to be worth its memory."""
FOLDER = 100
"""Pictures of the folder that a time is told for."""


@dataclass(frozen=True)
class Measured:
    """``ms_a_call``: of ``batch_size`` pictures, the median. ``gflop_a_call``: of matrix products and convolutions
    computed directly (a multiplication and an addition are two). ``peak_gflops``: of one large matrix product in
    the same precision on the same device; ``share_of_peak`` of the call (above 1 where convolutions save products).
    ``peak_memory_mb`` (10^6 bytes) of the process, on CUDA of the device; None where it is not known.
    ``images_per_second`` and ``folder_seconds`` (100 pictures) for ``network_calls`` a picture, of which
    ``whole_calls`` run the deep part; the others were timed too.
    """

    device: str
    precision: str
    threads: int
    image_size: int | str
    batch_size: int
    ms_a_call: float
    gflop_a_call: float
    peak_gflops: float
    share_of_peak: float
    peak_memory_mb: float | None
    network_calls: int
    whole_calls: int
    images_per_second: float
    folder_seconds: float

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def measure(engine: Engine, settings: Settings) -> Measured:
    """Time calls of the engine's network on noise, at its size and batch size, for pictures with these settings."""
    import torch

    B, device = engine.batch_size, engine.device
    steps = engine.check(settings)
    calls = settings.network_calls(engine.schedule)
    denoise = engine.denoise_batch(settings, None if engine.class_count is None else (0,) * B)
    size = settings.size_for(engine.size)
    x = torch.randn(B, engine.channels, size.height, size.width, device=device)

    def seconds_of(k: Step) -> float:
        return statistics.median(_timed(lambda: denoise(x, k), device) for _ in range(CALLS))

    with torch.inference_mode():
        gflop = _flop(lambda: denoise(x, steps[0])) / 1e9
        whole = seconds_of(steps[0])
        shallow = seconds_of(steps[1]) if settings.reuse > 1 and len(steps) > 1 else whole
        peak = _peak_gflops(device, engine.dtype)
    whole_calls = calls - sum(k.i % settings.reuse > 0 for k in steps)
    a_picture = (whole_calls * whole + (calls - whole_calls) * shallow) / B
    return Measured(
        device=str(device),
        precision=precision_name(engine.dtype),
        threads=torch.get_num_threads(),
        image_size=size.plain,
        batch_size=B,
        ms_a_call=1e3 * whole,
        gflop_a_call=gflop,
        peak_gflops=peak,
        share_of_peak=gflop / whole / peak,
        peak_memory_mb=peak_memory(device),
        network_calls=calls,
        whole_calls=whole_calls,
        images_per_second=1 / a_picture,
        folder_seconds=FOLDER * a_picture,
    )


def call_seconds(engine: Engine, size: int, rounds: int = CALLS) -> float:
    """Seconds that a network call for ``size`` pictures takes: the best of ``rounds``, after one to warm up."""
    import torch

    step = engine.schedule.steps([engine.schedule.T // 2])[0]
    x = torch.zeros(size, engine.channels, engine.size.height, engine.size.width, device=engine.device)
    denoiser = replace(engine.denoiser, class_label=None if engine.class_count is None else 0)
    with torch.no_grad():
        return min([_timed(lambda: denoiser(x, step), engine.device) for _ in range(rounds + 1)][1:])


def step_seconds(engine: Engine, settings: Settings) -> tuple[float, int]:
    """Seconds that a call takes for one picture, with all else that a step does, and of how many pictures at a time.

    A batch of grey pictures begins as it would in a run: the first step warms up, one (where deep features are
    reused one of each kind) is timed, and nothing more is made.
    """
    import torch

    from ilvrctl.engine import Reference
    from ilvrctl.events import BatchShrunk, BatchStarted, SampleId, StepDone

    shape = settings.size_for(engine.size)
    grey = Reference(None, torch.zeros(engine.channels, shape.height, shape.width), "")
    batch = [(SampleId(None, n), grey) for n in range(engine.batch_size)]
    ends: list[float] = []
    size, steps = engine.batch_size, 1
    with closing(engine.make(batch, settings, settings.method.load(engine.device))) as events:
        for event in events:
            if isinstance(event, BatchShrunk):
                ends, size = [], event.now
            elif isinstance(event, (BatchStarted, StepDone)):
                _wait(engine.device)
                ends.append(time.perf_counter())
                steps = event.steps if isinstance(event, BatchStarted) else event.n
            if len(ends) == settings.reuse + 2:
                break
    timed = ends[1:] if len(ends) > 2 else ends
    a_step = (timed[-1] - timed[0]) / max(1, len(timed) - 1)
    return a_step * steps / settings.network_calls(engine.schedule) / size, size


def best_batch_size(
    engine: Engine, most: int = 64, seconds: Callable[[Engine, int], float] = call_seconds
) -> tuple[int, float]:
    """The largest batch that is faster than its half by ``GAIN`` a picture, and its seconds a picture.

    Sizes are doubled until nothing is gained, or memory runs out.
    """
    best, least = 1, seconds(engine, 1)
    size = 2
    while size <= most:
        try:
            each = seconds(engine, size) / size
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            break
        if each > least * (1 - GAIN):
            break
        best, least, size = size, each, size * 2
    return best, least


def _flop(call: Callable[[], object]) -> int:
    """Floating-point operations of a call by the direct arithmetic; the call also warms up."""
    from torch.utils.flop_counter import FlopCounterMode

    from ilvrctl.models.cpu.choice import directly

    with FlopCounterMode(display=False) as counter, directly():
        call()
    return int(counter.get_total_flops())


def _timed(call: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _peak_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """The best of some square matrix products."""
    import torch

    n = 2048 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device).to(dtype)
    _timed(lambda: a @ a, device)
    return 2 * n**3 / min(_timed(lambda: a @ a, device) for _ in range(CALLS)) / 1e9


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(device: torch.device) -> float | None:
    """Most memory of the process so far, on CUDA of the device, in 10^6 bytes; None where it is not known."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="utf-8").splitlines()
        found = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
        return None if found is None else found * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6
