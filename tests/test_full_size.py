"""A 256 px model of ilvr_adm's architecture, with random weights, from a checkpoint file to a picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import write_ilvr_adm_256
from PIL import Image

CHILD = """
import resource, sys
from pathlib import Path
from ilvrctl.cli.app import main
sys.argv = ["ilvrctl", *sys.argv[1:]]
try:
    main()
finally:
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    print("peak", peak, file=sys.stderr)
"""


def peak_mb(*arguments: str | Path) -> float:
    """Run the command in a process of its own; its peak memory in MB (2^20 bytes), torch and Python included."""
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1]) / 1024


@pytest.mark.slow
def test_a_photo_is_translated_by_a_256_px_model_under_800_mb(tmp_path: Path) -> None:
    weights = write_ilvr_adm_256(tmp_path / "random.pt")
    Image.linear_gradient("L").convert("RGB").resize((400, 300)).save(tmp_path / "photo.jpg")
    facts = ("--set", "model.image_size=256", "--set", "model.num_head_channels=64")
    peak = peak_mb(
        "translate", tmp_path / "photo.jpg", "--weights", weights, *facts, "--N", "32", "--steps", "2",
        "--precision", "fp32", "-o", tmp_path / "out",
    )  # fmt: skip
    assert Image.open(tmp_path / "out" / "photo.png").size == (256, 256)
    print(f"peak {peak:.0f} MB")
    assert peak < 800
