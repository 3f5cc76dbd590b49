"""Quality of flat -> 3D translation against the true 3D pictures: the figures of RESULTS.md.

    python tests/benchmarks/emoji_quality.py                          every method, sampler and number of steps
    python tests/benchmarks/emoji_quality.py --rows 'ILVR.*ddim.* 25'   those whose name fits
    python tests/benchmarks/emoji_quality.py --rows '^speed'          --speed exact, fast and turbo
    python tests/benchmarks/emoji_quality.py --rows 'SDDM' --set range=[1.0,0.1] --seeds 3

65 characters that the bundled model was not trained on (tests/emoji). PSNR, SSIM and L2 are means over pictures
on [0, 1], to the truth (3D) and to the source (flat). `calls` of the denoising network and processor `seconds`,
of all cores together, are a picture's on this machine, the model's loading left out. Several seeds give the
spread. `phi` is the mean of |phi_N(out) - phi_N(source)| in 1/255, with the N of the method's filter, or 4. `KID`
is that of `ilvrctl eval` on EfficientNet-Lite0's features, to the truth; `--distance module:function` names
another, which gets the results and the truth, (65, 3, 64, 64) on [0, 1], and gives a number. A row whose energies
want weights that are not here is left out and named.
"""

from __future__ import annotations

import argparse
import importlib
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ilvrctl.config import Layer, parse_assignment
from ilvrctl.diffusion.lowpass import LowPass
from ilvrctl.engine import Engine, Reference
from ilvrctl.errors import IlvrctlError
from ilvrctl.events import SampleDone
from ilvrctl.images.io import open_picture, save_picture
from ilvrctl.images.sheets import SheetRow, contact_sheet
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.methods.constraints import LowPassConstraint
from ilvrctl.metrics import distances
from ilvrctl.metrics.pixel import l2, psnr, ssim
from ilvrctl.models.extractors import Features, efficientnet_lite0
from ilvrctl.presets import find_model, find_target
from ilvrctl.settings import SPEEDS, Settings, build_settings

EMOJI = Path(__file__).parents[1] / "emoji"
Distance = Callable[[Tensor, Tensor], float]

SDDM = {"name": "sddm", "range": [1.0, 0.05], "refinements": 0}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "ILVR N=2": {"method": {"name": "ilvr", "N": 2}},
    "ILVR": {"method": {"name": "ilvr"}},
    "ILVR N=8": {"method": {"name": "ilvr", "N": 8}},
    "ILVR to 0.2": {"method": {"name": "ilvr", "range": [1.0, 0.2]}},
    "ILVR to 0.2, published code": {
        "compat": "ilvr_adm",
        "method": {"name": "ilvr", "range": [1.0, 0.2]},
    },
    "ILVR from 0.5": {"method": {"name": "ilvr", "start": 0.5}},
    "SDDM from 0.5": {"method": {**SDDM, "start": 0.5}},
    "SDDM, 32 blocks, from 0.5": {"method": {**SDDM, "start": 0.5, "blocks": 32}},
    "SDDM as published": {"method": "sddm"},
    "SDEdit from 0.5": {"method": "sdedit"},
    "EGSDE from 0.5": {"method": "egsde"},
    "SDDM + EGSDE from 0.6": {"method": "sddm+egsde"},
    "ILVR + EGSDE's classifier, from 0.5": {
        "method": {"name": "ilvr", "start": 0.5, "energies": {"dse": {"weight": 30.0, "model": "emoji_dse"}}}
    },
}
SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "ddpm": {"name": "ddpm"},
    "ddim": {"name": "ddim"},
    "ddim eta 0.5": {"name": "ddim", "eta": 0.5},
    "dpmpp_2m": {"name": "dpmpp_2m"},
    "dpmpp_2m_sde": {"name": "dpmpp_2m_sde"},
}
STEPS = (10, 20, 25, 50, 100)


@dataclass(frozen=True)
class Figures:
    psnr: float
    ssim: float
    l2: float
    psnr_to_input: float
    l2_to_input: float
    phi: float
    distance: float
    seconds: float


@cache
def _network() -> Features:
    return efficientnet_lite0(torch.device("cpu"))


def kid(a: Tensor, b: Tensor) -> float:
    """1000 x the KID of `ilvrctl eval` of pictures (B, 3, H, W) in [0, 1]; `a[i]` and `b[i]` show one thing."""
    rows = [
        torch.cat([_network()(list((batch * 255).round().byte())) for batch in x.split(16)]) for x in (a, b)
    ]
    return 1000 * distances.kid(*rows, pairs=range(len(a))).value


def load(folder: str) -> dict[str, Tensor]:
    files = sorted((EMOJI / folder).glob("*.png"))
    return {file.stem: to_tensor(open_picture(file.read_bytes(), file.name)) for file in files}


def references() -> Iterator[Reference]:
    for file in sorted((EMOJI / "flat").glob("*.png")):
        data = file.read_bytes()
        yield Reference(file.stem, to_tensor(open_picture(data, file.name)), sha256(data).hexdigest())


def unit(pictures: list[Tensor]) -> Tensor:
    return (torch.stack(pictures) + 1) / 2


def figures_of(out: Tensor, seconds: float, distance: Distance, phi: LowPass) -> Figures:
    target, source = (unit(list(load(folder).values())) for folder in ("3d", "flat"))
    return Figures(
        psnr=float(psnr(out, target).mean()),
        ssim=float(ssim(out, target).mean()),
        l2=float(l2(out, target).mean()),
        psnr_to_input=float(psnr(out, source).mean()),
        l2_to_input=float(l2(out, source).mean()),
        phi=255 * float((phi(out) - phi(source)).abs().mean()),
        distance=distance(out, target),
        seconds=seconds / len(out),
    )


def measure(engine: Engine, settings: Settings, distance: Distance) -> tuple[Figures, dict[str, Tensor]]:
    start = time.process_time()
    made = {
        event.sample.key: to_tensor(to_image(event.x))  # as written: rounded to 8 bits
        for event in engine.translate(references(), settings)
        if isinstance(event, SampleDone)
    }
    seconds = time.process_time() - start
    constraint = settings.method.constraint
    phi = constraint.phi if isinstance(constraint, LowPassConstraint) else LowPass(4)
    return figures_of(unit([made[key] for key in load("flat")]), seconds, distance, phi), made


def draw(path: Path, columns: dict[str, dict[str, Tensor]], caption: str) -> None:
    """Every fourth character: the input, the truth, and a column a setting."""
    names = list(columns["input"])[::4]
    rows = [
        SheetRow(name.partition("_")[2], tuple(to_image(table[name]) for table in columns.values()))
        for name in names
    ]
    save_picture(contact_sheet(rows, list(columns), caption, cell=96), path)


def line(name: str, runs: list[Figures], calls: int | str) -> str:
    def cell(key: str, digits: int) -> str:
        values = [getattr(run, key) for run in runs]
        spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.{digits}f}{spread}"

    return (
        f"| {name} | {calls} | {cell('psnr', 2)} | {cell('ssim', 3)} | {cell('l2', 2)} "
        f"| {cell('psnr_to_input', 2)} | {cell('l2_to_input', 2)} | {cell('phi', 1)} | {cell('distance', 1)} "
        f"| {cell('seconds', 2)} |"
    )


def rows(pattern: str, steps: list[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows whose names fit, with their settings; those of --speed with the target's own number of steps."""
    for speed in SPEEDS:
        if re.search(pattern, f"speed {speed}"):
            yield f"speed {speed}", {"speed": speed}
    for count in steps:
        for method, values in METHODS.items():
            for sampler, chosen in SAMPLERS.items():
                name = f"{method}, {sampler}, {count} steps"
                if re.search(pattern, name):
                    yield name, {**values, "sampler": dict(chosen), "steps": count}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="", metavar="REGEX", help="only the rows whose name it is found in")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a change of every row"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--distance", metavar="MODULE:FUNCTION", default="emoji_quality:kid")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--sheet", type=Path, help="pictures of every row, beside the truth")
    args = parser.parse_args()
    module, _, function = args.distance.partition(":")
    distance: Distance = getattr(importlib.import_module(module), function)
    preset, target = find_target("emoji3d")
    model = find_model(preset.model)
    engine = Engine.load(model, model.path(), precision=args.precision, batch_size=args.batch_size)
    print(
        f"torch {torch.__version__}, {engine.device}, {engine.precision}, {torch.get_num_threads()} threads"
    )
    print("| setting | calls | PSNR | SSIM | L2 | PSNR to input | L2 to input | phi | KID | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    columns = {"input": load("flat"), "true 3D": load("3d")}
    flat = unit(list(columns["input"].values()))
    print(line("the input itself", [figures_of(flat, 0.0, distance, LowPass(4))], 0))
    changes = [parse_assignment(text) for text in args.set]
    for name, values in rows(args.rows, args.steps):
        try:
            runs = []
            for seed in range(args.seeds):
                settings = build_settings(target, overrides=[Layer({**values, "seed": seed}), *changes])
                figures, made = measure(engine, settings, distance)
                runs.append(figures)
                columns.setdefault(name, made)
        except IlvrctlError as error:
            print(f"| {name} | left out: {error.message} |", flush=True)
            continue
        print(line(name, runs, settings.network_calls(engine.schedule)), flush=True)
    if args.sheet is not None:
        draw(args.sheet, columns, "seed 0")


if __name__ == "__main__":
    main()
