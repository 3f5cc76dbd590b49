"""The benchmarks that nothing else runs: in their smallest form, so that they can be run when somebody wants to."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import forked
import pytest
import torch

from ilvrctl.models.files.facts_header import facts_note, header_facts
from ilvrctl.models.files.saving import read_safetensors, save_safetensors

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["batch_overhead.py", "2", "--rounds", "1"], 2),
        (["method_overhead.py", "--rounds", "1", "--steps", "2", "--batch-size", "1"], 5),
        (["seam.py", "--rounds", "1", "--steps", "4", "--count", "1"], 4),
        (["train_speed.py", "--batch-size", "1", "--rounds", "1"], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_it_runs_and_prints_its_figures(words: list[str], rows: int, tmp_path: Path) -> None:
    start = f"import runpy; runpy.run_path({str(BENCHMARKS / words[0])!r}, run_name='__main__')"
    ran = forked.run(
        [sys.executable, "-c", start, *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if not line.startswith("torch ")]
    assert len([line for line in lines if re.search(r"\d\.\d", line)]) >= rows, ran.stdout


def test_the_mean_of_two_files(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.safetensors" for n in range(3)]
    for n, file in enumerate(files[:2]):
        save_safetensors(file, {"a": torch.full((2, 3), 1.0 + n).half()}, facts_note({"pictures_seen": n}))
    start = f"import runpy; runpy.run_path({str(BENCHMARKS / 'mean_weights.py')!r}, run_name='__main__')"
    ran = forked.run([sys.executable, "-c", start, *map(str, files)], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, f"{files[2]}\n"), ran.stderr
    tensors, _ = read_safetensors(files[2])
    assert tensors["a"].dtype == torch.float16
    assert torch.equal(tensors["a"], torch.full((2, 3), 1.5).half())
    assert header_facts(files[2])["pictures_seen"] == 1
