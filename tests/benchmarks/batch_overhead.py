"""What `ilvrctl batch` costs beyond the network: ``python tests/benchmarks/batch_overhead.py [PICTURES] [--rounds 5]``.

One process translates the same pictures (copies of the examples, 512 px) with the bundled model in batches of 8,
10 steps of ILVR: by the whole job (reading, decoding, squaring, writing, manifest) and by the engine alone on tensors
in memory, in turn, so many rounds after one to warm up. Prints the ratio of the medians, of wall-clock time and of
processor time, which other work on the machine disturbs less. What a job costs once (its plan, the hash of the
weights) is in it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from PIL import Image

from ilvrctl import paths
from ilvrctl.cli.app import build
from ilvrctl.config import Layer
from ilvrctl.engine import Engine, Reference
from ilvrctl.images.tensors import to_tensor
from ilvrctl.plans.plan import Networks
from ilvrctl.presets import find_model, find_target
from ilvrctl.settings import build_settings

BATCH, STEPS = 8, 10

Times = tuple[float, float]
"""Seconds on the wall and of the processors."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=int, nargs="?", default=24)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    count = arguments.pictures
    model = find_model("emoji3d-64")
    asked = {"method": {"name": "ilvr"}, "start": 1.0, "steps": STEPS, "precision": "fp32"}
    settings = build_settings(find_target("emoji3d")[1], overrides=[Layer(asked)])
    engine = Engine.load(model, model.path(), device="cpu", precision="fp32", batch_size=BATCH)
    Networks.load = lambda self, **_: engine  # type: ignore[method-assign]  # both use the one that is loaded
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        references = _pictures(Path("in"), count)
        Path("jobs.yaml").write_text(
            f"jobs: [{{name: a, inputs: in, to: emoji3d, method: ilvr, start: 1.0, steps: {STEPS}, precision: fp32}}]"
        )
        pairs = [(_alone(engine, references, settings), _job(n)) for n in range(arguments.rounds + 1)][1:]
    for kind, name in enumerate(("wall clock", "processor")):
        alone, job = (median(times[kind] for times in side) for side in zip(*pairs, strict=True))
        print(
            f"{name}: network {alone:.2f} s, job {job:.2f} s for {count} pictures: "
            f"overhead {100 * (job / alone - 1):.1f} %"
        )


def _pictures(folder: Path, count: int) -> list[Reference]:
    folder.mkdir()
    shipped = sorted(paths.EXAMPLES.glob("*.png"))
    references = []
    for n in range(count):
        image = Image.open(shipped[n % len(shipped)]).convert("RGB").rotate(n).resize((512, 512))
        image.save(folder / f"{n}.png")
        references.append(Reference(str(n), to_tensor(image.resize((64, 64))), str(n)))
    return references


def _alone(engine: Engine, references: list[Reference], settings: object) -> Times:
    start = _now()
    for _ in engine.translate(references, settings):  # type: ignore[arg-type]
        pass
    return _since(start)


def _job(n: int) -> Times:
    words = ["batch", "jobs.yaml", "-o", f"out{n}", "--batch-size", str(BATCH), "-q"]
    start = _now()
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        try:
            build(words)(words)
        except SystemExit as done:
            if done.code:
                raise
    return _since(start)


def _now() -> Times:
    return time.perf_counter(), time.process_time()


def _since(start: Times) -> Times:
    wall, processor = _now()
    return wall - start[0], processor - start[1]


if __name__ == "__main__":
    main()
