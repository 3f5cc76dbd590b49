"""What resampling buys at the border of an edit, and what it costs: the table of RESULTS.md.

    python tests/benchmarks/seam.py [--rounds 1 3 10] [--sheet seam.png]

Into true 3D pictures (tests/emoji) the flat drawing of the same character is pasted within a disc, as a scribble
would be, and edited with that mask; the true picture is what should come out. `seam`: over all pairs of neighbours
of which one was kept and the other was free, the mean over pairs and channels of |gradient - true gradient|, in
1/255.
`inside`: the mean absolute error of the free pixels. `calls` of the network and seconds are a picture's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ilvrctl.config import Layer
from ilvrctl.engine import Engine, Reference
from ilvrctl.events import SampleDone
from ilvrctl.images.io import open_picture, save_picture
from ilvrctl.images.sheets import SheetRow, contact_sheet
from ilvrctl.images.tensors import to_image, to_tensor
from ilvrctl.presets import find_model, find_target
from ilvrctl.settings import Settings, build_settings

EMOJI = Path(__file__).parents[1] / "emoji"
METHODS: Mapping[str, Any] = {
    "ILVR N=2": {"name": "ilvr", "N": 2},
    "ILVR N=8": {"name": "ilvr", "N": 8},
    "no constraint": {"name": "sdedit", "start": 1.0},
}


def load(folder: str, count: int) -> dict[str, Tensor]:
    files = sorted((EMOJI / folder).glob("*.png"))
    return {
        file.stem: to_tensor(open_picture(file.read_bytes(), file.name)) for file in files[:: 65 // count]
    }


def disc(radius: float = 14.0) -> Tensor:
    """(1, 64, 64): the disc around the middle that is edited."""
    axis = torch.arange(64) - 31.5
    return ((axis[:, None] ** 2 + axis[None, :] ** 2) < radius**2)[None]


def references(count: int, free: Tensor) -> Iterator[Reference]:
    true, flat = load("3d", count), load("flat", count)
    for name, picture in true.items():
        y = torch.where(free, flat[name], picture)
        yield Reference(name, y, sha256(name.encode()).hexdigest(), free=free)


def seam_error(out: Tensor, true: Tensor, free: Tensor) -> float:
    """Of pictures (B, 3, H, W) in [-1, 1]; in 1/255."""
    errors = []
    for axis in (-1, -2):
        border = free.narrow(axis, 1, 63) ^ free.narrow(axis, 0, 63)
        difference = (out.diff(dim=axis) - true.diff(dim=axis)).abs()
        errors.append(difference[border.expand_as(difference)])
    return 127.5 * float(torch.cat(errors).mean())


def measure(engine: Engine, settings: Settings, count: int, free: Tensor) -> tuple[dict[str, Tensor], float]:
    start = time.perf_counter()
    made = {
        event.sample.key: to_tensor(to_image(event.x))
        for event in engine.translate(references(count, free), settings)
        if isinstance(event, SampleDone)
    }
    return made, (time.perf_counter() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--jump", type=int, default=5)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    model, (_, target) = find_model("emoji3d-64"), find_target("emoji3d")
    engine = Engine.load(model, model.path(), precision=args.precision, batch_size=args.count)
    free, true = disc(), load("3d", args.count)
    stacked = torch.stack(list(true.values()))
    columns = {"true": true, "given": {ref.key: ref.picture for ref in references(args.count, free)}}
    print("| method | rounds | calls | seam | inside | seconds |\n|---|---|---|---|---|---|")
    given = torch.stack(list(columns["given"].values()))
    print(f"| the drawing as it is | 0 | 0 | {seam_error(given, stacked, free[None]):.1f} | - | 0 |")
    for name, method in METHODS.items():
        for rounds in args.rounds:
            values = {"method": {**method, "resample": [args.jump, rounds]}, "steps": args.steps}
            settings = build_settings(target, overrides=[Layer(values)])
            made, seconds = measure(engine, settings, len(true), free)
            out = torch.stack([made[key] for key in true])
            inside = 127.5 * float((out - stacked).abs()[free.expand_as(out)].mean())
            calls, seam = settings.network_calls(engine.schedule), seam_error(out, stacked, free[None])
            print(f"| {name} | {rounds} | {calls} | {seam:.1f} | {inside:.1f} | {seconds:.2f} |", flush=True)
            columns[f"{name}, {rounds} rounds"] = made
    if args.sheet is not None:
        rows = [SheetRow(key, tuple(to_image(table[key]) for table in columns.values())) for key in true]
        save_picture(contact_sheet(rows, list(columns), "", cell=96), args.sheet)


if __name__ == "__main__":
    main()
