"""The soak of tests/benchmarks in a minute: kills, a full disk, and pictures that are broken in every way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_every_picture_is_a_result_or_has_a_reason_whatever_happens() -> None:
    script = Path(__file__).parent / "benchmarks" / "soak.py"
    words = ("--pictures", "36", "--kills", "3", "--every", "3", "--fill", "1", "--compare")
    done = subprocess.run(
        [sys.executable, str(script), *words], env=environment(), capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout
