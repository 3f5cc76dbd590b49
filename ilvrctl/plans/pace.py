"""What making results costs: calls, seconds, memory and disk, by the pace that was measured on this machine before.

No torch: a pace is remembered under what was asked for (device, precision and batch size as words), not under what
that turned out to be.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilvrctl import paths
from ilvrctl.errors import IlvrctlError
from ilvrctl.files import read_text, write_text
from ilvrctl.images.decode import size_of
from ilvrctl.memory import remembered
from ilvrctl.plans.digest import sha256_hex

if TYPE_CHECKING:
    from ilvrctl.plans.grid import Variant
    from ilvrctl.plans.outputs import Output
    from ilvrctl.plans.plan import Plan

How = tuple[object, ...]
"""How a machine is asked to work, as words: device, batch size, whether to compile."""
FRAMES = 49
"""Frames that an animation has at most."""
_HEAD = 4096
"""Bytes of a file beside its pixels: its record."""


@dataclass(frozen=True)
class Pace:
    """``seconds_a_call`` of the network for one picture, everything else of a step included; ``peak_mb`` (10^6 bytes)
    of memory, None where it is not known. ``device``, ``precision`` and ``batch_size`` as they turned out.
    ``measured``: in an earlier "run", or by some "steps".
    """

    seconds_a_call: float
    peak_mb: float | None
    device: str
    precision: str
    batch_size: int
    measured: str = "run"


def known_pace(plan: Plan, variant: Variant, how: How) -> Pace | None:
    """The pace that was measured on this machine for such work; None where none was."""
    return _known_of(work_of(plan, variant, how))


@remembered
def _known_of(work: str) -> Pace | None:
    try:
        return Pace(**json.loads(read_text(_file(work))))
    except (IlvrctlError, ValueError, TypeError):
        return None


def keep_pace(plan: Plan, variant: Variant, how: How, pace: Pace) -> None:
    """Remember a pace. A cache that cannot be written is none."""
    with suppress(IlvrctlError):
        write_text(_file(work_of(plan, variant, how)), json.dumps(asdict(pace)))


def _file(work: str) -> Path:
    return paths.cache_dir() / "pace" / f"{sha256_hex(work.encode())[:20]}.json"


def work_of(plan: Plan, variant: Variant, how: How) -> str:
    """What decides the pace, as JSON: the machine, the networks, and what a step does beside calling them."""
    settings, source, trained = variant.settings, plan.source_of(variant), plan.model.picture_size
    return json.dumps(
        {
            "machine": _machine(),
            "how": how,
            "weights": [plan.weights_sha256, None if source is None else source.weights_sha256],
            "size": None if trained is None else settings.size_for(trained).plain,
            "precision": settings.precision,
            "reuse": [settings.reuse, settings.reuse_blocks],
            "native": settings.fit == "native",
            "method": [
                settings.method.constraint.name,
                sorted(settings.method.acting),
                settings.sampler.name,
            ],
        }
    )


@remembered
def _machine() -> tuple[object, ...]:
    """What tells this machine from others, and how much of it may be used; only a digest of it is kept."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    limits = [os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")]
    return (platform.node(), platform.machine(), platform.processor(), os.cpu_count(), torch, *limits)


@dataclass(frozen=True)
class Cost:
    """What ``results`` cost: so many network ``calls``, ``seconds`` in all and ``peak_mb`` of memory, None where no
    pace is known, and at most ``disk`` bytes. ``pace``: that of the last of them.
    """

    results: int
    calls: int
    seconds: float | None
    peak_mb: float | None
    disk: int
    pace: Pace | None

    def record(self) -> dict[str, Any]:
        """As plain values; what is not known is None."""
        each = None if self.seconds is None or not self.results else round(self.seconds / self.results, 3)
        return {
            "results": self.results,
            "network_calls": self.calls,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "seconds_a_result": each,
            "peak_mb": None if self.peak_mb is None else round(self.peak_mb),
            "disk_mb": round(self.disk / 1e6, 1),
            "measured": None if self.pace is None else self.pace.measured,
        }


def cost_of(plans: Sequence[Plan], pace_of: Callable[[Plan, Variant], Pace | None], parts: int = 1) -> Cost:
    """The cost of what plans still want; ``parts``: of every picture, where several are edited."""
    results, calls, disk = 0, 0, 0
    seconds: float | None = 0.0
    paces: list[Pace] = []
    for plan in plans:
        disk += _disk(plan)
        for v, variant in enumerate(plan.variants):
            wanted = [output for output in plan.pending if output.variant == v]
            if not wanted:
                continue
            mine, pace = parts * plan.network_calls(wanted), pace_of(plan, variant)
            results, calls = results + len(wanted), calls + mine
            seconds = None if pace is None or seconds is None else seconds + mine * pace.seconds_a_call
            paces += [] if pace is None else [pace]
    peak = max((pace.peak_mb for pace in paces if pace.peak_mb is not None), default=None)
    return Cost(results, calls, seconds if paces else None, peak, disk, paces[-1] if paces else None)


def _disk(plan: Plan) -> int:
    """Bytes that the files of a plan take at most: as many as their pixels have."""
    sizes: dict[str, int] = {}
    found = 0
    for output in plan.pending:
        if output.path is None:
            continue
        key = output.item.key
        if key not in sizes:
            sizes[key] = _pixels(plan, output)
        found += _HEAD + 3 * sizes[key] + (0 if output.gif is None else FRAMES * 2 * sizes[key])
    return found


def _pixels(plan: Plan, output: Output) -> int:
    """Pixels of a result: the model's, or those of the input where it keeps its size (0 where that is not known)."""
    settings, trained = plan.variants[output.variant].settings, plan.model.picture_size
    if settings.edit is None and "native" not in settings.fit:
        made = None if trained is None else settings.size_for(trained)
        return 0 if made is None else made.width * made.height
    try:
        width, height = size_of(output.item.read(), output.item.name)
    except IlvrctlError:
        return 0
    return width * height
