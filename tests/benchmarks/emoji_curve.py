"""The plot and table of RESULTS.md with `ilvrctl eval`: ILVR on the flat emoji at N = 2, 4, 8 and 16, 20 steps.

    python tests/benchmarks/emoji_curve.py WORK --plot curve.svg

Results are kept in WORK, where the same command goes on; 65 pictures and 4 runs want 5,200 calls of the network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from ilvrctl.evaluation.catalogue import ARROWS, number
from ilvrctl.evaluation.evaluate import Comparison, evaluate
from ilvrctl.evaluation.plot import pareto_svg

EMOJI = Path(__file__).parents[1] / "emoji"
COLUMNS = ("L2 to source", "phi_4 to source", "PSNR to truth", "SSIM to truth", "KID", "precision", "recall")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--plot", type=Path, required=True)
    args = parser.parse_args()
    grid = args.work / "grid"
    words = ["--to", "emoji3d", "--N", "2,4,8,16", "--steps", "20", "--precision", "fp32", "-o", str(grid)]
    subprocess.run(
        [sys.executable, "-m", "ilvrctl", "translate", str(EMOJI / "flat"), *words, "-q"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    order = Comparison(
        (EMOJI / "flat", grid), source=EMOJI / "flat", truth=EMOJI / "3d", extractor="efficientnet-lite0"
    )
    found = evaluate(order, torch.device("cpu"), lambda *_: None)
    args.plot.write_text(pareto_svg(found, standalone=True) + "\n", encoding="utf-8")
    shown = [m for m in found.metrics if m.title.startswith(COLUMNS)]
    print("| run | " + " | ".join(m.title + ARROWS[m.better] for m in shown) + " |")
    print("|---" * (len(shown) + 1) + "|")
    for i, run in enumerate(found.runs):
        cells = [number(run.metrics.get(m.key), m) for m in shown]
        marked = [f"**{cell}**" if found.best(m) == i else cell for cell, m in zip(cells, shown, strict=True)]
        print(f"| {run.name} | " + " | ".join(marked) + " |")


if __name__ == "__main__":
    main()
