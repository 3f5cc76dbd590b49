"""The mean of two files of weights of one network, as the bundled models are of those before and after a training:

    python tests/benchmarks/mean_weights.py before.safetensors after.safetensors mean.safetensors

In float16, with the facts that the header of the second tells.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ilvrctl.models.files.facts_header import facts_note, header_facts
from ilvrctl.models.files.saving import read_safetensors, save_safetensors


def main(before: Path, after: Path, out: Path) -> None:
    first, second = (read_safetensors(path)[0] for path in (before, after))
    if {name: x.shape for name, x in first.items()} != {name: x.shape for name, x in second.items()}:
        raise SystemExit(f"{before} and {after} are no weights of one network")
    mean = {name: torch.lerp(x.float(), second[name].float(), 0.5).half() for name, x in first.items()}
    save_safetensors(out, mean, facts_note(header_facts(after)))
    print(out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
