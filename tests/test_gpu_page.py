"""tests/benchmarks/gpu.py: that all of it runs, on a CPU with a tiny network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "benchmarks" / "gpu.py"


def table(page: str, title: str) -> list[list[str]]:
    """The rows of a section, head and rule left out."""
    section = page.split(f"### {title}\n", 1)[1].split("###")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.slow
def test_the_page_of_an_accelerator(tmp_path: Path) -> None:
    command = [
        sys.executable,
        SCRIPT,
        "--tiny",
        "--device",
        "cpu",
        "--minutes",
        "1000",
        "-o",
        tmp_path / "page.md",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.strip() == ran.stdout.strip()
    exact = table(page, "Exactness")
    assert len(exact) == 10
    assert {kept for _, _, kept in exact} == {"yes"}
    speed = table(page, "Speed")
    assert [row[:2] for row in speed] == [[p, b] for p in ("bf16", "fp32", "fp16") for b in ("1", "2")]
    for title, count in (("Speed", 6), ("Noise", 2), ("Compiling", 2), ("Two GPUs", 1)):
        rows = table(page, title)
        assert len(rows) == count
        numbers = [cell for row in rows for cell in row if re.fullmatch(r"[\d.e+-]*\d[\d.e+-]*", cell)]
        assert numbers
        assert all(float(number) >= 0 for number in numbers)
