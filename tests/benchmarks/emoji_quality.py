"""Quality of flat -> 3D translation against the true 3D pictures: the figures of the README.

    python tests/benchmarks/emoji_quality.py                      the README's table
    python tests/benchmarks/emoji_quality.py --steps 10 20 --N 4  other settings

65 characters that the bundled model was not trained on (tests/emoji). PSNR, SSIM and L2 are means over pictures on
[0, 1], to the truth; `phi` is the mean absolute |phi(out) - phi(in)| of the pictures in units of 1/255.
Several seeds give the spread. Seconds are wall clock on this machine, the model's loading left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from ilvrctl.config import Layer
from ilvrctl.engine import Engine, Reference
from ilvrctl.events import SampleDone
from ilvrctl.images.io import open_picture, save_picture
from ilvrctl.images.sheets import SheetRow, contact_sheet
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.methods import ILVR
from ilvrctl.metrics.pixel import l2, psnr, ssim
from ilvrctl.presets import find_model
from ilvrctl.settings import Settings, build_settings

EMOJI = Path(__file__).parents[1] / "emoji"


@dataclass(frozen=True)
class Figures:
    psnr: float
    ssim: float
    l2: float
    phi: float
    psnr_to_input: float
    seconds: float


def load(folder: str) -> dict[str, Tensor]:
    files = sorted((EMOJI / folder).glob("*.png"))
    return {file.stem: to_tensor(open_picture(file.read_bytes(), file.name)) for file in files}


def references() -> Iterator[Reference]:
    for file in sorted((EMOJI / "flat").glob("*.png")):
        data = file.read_bytes()
        yield Reference(file.stem, to_tensor(open_picture(data, file.name)), sha256(data).hexdigest())


def unit(pictures: list[Tensor]) -> Tensor:
    return (torch.stack(pictures) + 1) / 2


def measure(engine: Engine, settings: Settings) -> tuple[Figures, dict[str, Tensor]]:
    flat, truth = load("flat"), load("3d")
    start = time.perf_counter()
    made = {
        event.sample.key: to_tensor(to_image(event.x))  # as written: rounded to 8 bits
        for event in engine.translate(references(), settings)
        if isinstance(event, SampleDone)
    }
    seconds = time.perf_counter() - start
    out, target, source = (unit([table[key] for key in flat]) for table in (made, truth, flat))
    method = settings.method
    assert isinstance(method, ILVR)
    phi = (method.low_pass(out) - method.low_pass(source)).abs().mean() * 255
    figures = Figures(
        psnr=float(psnr(out, target).mean()),
        ssim=float(ssim(out, target).mean()),
        l2=float(l2(out, target).mean()),
        phi=float(phi),
        psnr_to_input=float(psnr(out, source).mean()),
        seconds=seconds,
    )
    return figures, made


def draw(path: Path, columns: dict[str, dict[str, Tensor]], caption: str) -> None:
    """Every fourth character: the input, the truth, and a column a setting."""
    names = list(columns["input"])[::4]
    rows = [
        SheetRow(name.partition("_")[2], tuple(to_image(table[name]) for table in columns.values()))
        for name in names
    ]
    save_picture(contact_sheet(rows, list(columns), caption, cell=96), path)


def row(name: str, runs: list[Figures]) -> str:
    def cell(key: str, digits: int) -> str:
        values = [getattr(run, key) for run in runs]
        spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.{digits}f}{spread}"

    return (
        f"| {name} | {cell('psnr', 2)} | {cell('ssim', 3)} | {cell('l2', 2)} | {cell('phi', 2)} "
        f"| {cell('psnr_to_input', 2)} | {statistics.mean(run.seconds for run in runs):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--N", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 20])
    parser.add_argument("--range", type=float, nargs=2, default=[1.0, 0.05])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compat", choices=["ilvr_adm"])
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--sampler", default="ddpm")
    parser.add_argument("--sheet", type=Path, help="pictures of the first number of steps, beside the truth")
    args = parser.parse_args()
    model = find_model("emoji3d-64")
    engine = Engine.load(model, model.path(), precision=args.precision, batch_size=args.batch_size)
    print(
        f"torch {torch.__version__}, {engine.device}, {engine.precision}, {torch.get_num_threads()} threads"
    )
    print("| setting | PSNR | SSIM | L2 | phi | PSNR to the input | seconds |")
    print("|---|---|---|---|---|---|---|")
    flat, truth = (unit(list(load(name).values())) for name in ("flat", "3d"))
    print(
        f"| the input itself | {psnr(flat, truth).mean():.2f} | {ssim(flat, truth).mean():.3f} "
        f"| {l2(flat, truth).mean():.2f} | 0 | | |"
    )
    columns = {"input": load("flat"), "true 3D": load("3d")}
    for steps in args.steps:
        for N in args.N:
            runs = []
            for seed in range(args.seeds):
                layer = {
                    "method": {"name": "ilvr", "N": N, "range": args.range},
                    "sampler": args.sampler,
                    "steps": steps,
                    "seed": seed,
                    "compat": args.compat,
                }
                figures, made = measure(engine, build_settings(Layer(layer)))
                runs.append(figures)
                columns.setdefault(f"N = {N}", made)
            print(row(f"ILVR N={N}, {steps} steps", runs), flush=True)
    if args.sheet is not None:
        draw(args.sheet, columns, f"{args.steps[0]} steps, levels {args.range[0]} to {args.range[1]}, seed 0")


if __name__ == "__main__":
    main()
