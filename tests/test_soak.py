"""The soak of tests/benchmarks in a minute: kills, a full disk, and pictures that are broken in every way."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import QUICK, copies, environment, ilvrctl

SCRIPT = Path(__file__).parent / "benchmarks" / "soak.py"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it forks")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tools", "way"),
    [(True, "translate"), (False, "batch"), (True, "processes")],
    ids=["a small disk", "a batch, files of limited size", "processes"],
)
def test_every_picture_is_a_result_or_has_a_reason_whatever_happens(tools: bool, way: str) -> None:
    words = (
        "--pictures",
        "36",
        "--broken",
        "0.4",
        "--kills",
        "2",
        "--every",
        "3",
        "--fill",
        "1",
        "--compare",
    )
    words += ("--way", way)
    env = environment() if tools else environment(PATH="/nowhere")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], env=env, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout
    assert tools or "not possible here: a disk to fill" in done.stdout


def _module() -> Any:
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    assert spec is not None and spec.loader is not None
    sys.path.insert(0, str(SCRIPT.parent))  # as it is where the script is run
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    return module


FAULTS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "a result that is lost": ("left over or lost", lambda soak: (soak.out / "a.png").unlink()),
    "a part that is left": ("left over or lost", lambda soak: (soak.out / "a.png.part").write_bytes(b"")),
    "a result of another": (
        "made of another",
        lambda soak: (soak.out / "a.png").write_bytes((soak.out / "b.png").read_bytes()),
    ),
    "a torn result": ("cannot be read", lambda soak: (soak.out / "a.png").write_bytes(b"\x89PNG")),
    "one that is passed by": ("good, not done", lambda soak: soak.good.update({"in/c.png": "00"})),
    "a broken one in silence": ("broken in silence", lambda soak: soak.broken.update({"in/d.png": "text"})),
    "one that nobody gave": ("nobody gave", lambda soak: soak.good.pop(next(iter(soak.good)))),
    "a run that did not end": (
        "no summary",
        lambda soak: (soak.place / "stdout").write_text(
            "".join(line + "\n" for line in (soak.place / "stdout").read_text().splitlines()[:-1])
        ),
    ),
    "one that nobody counts": (
        "are accounted for",
        lambda soak: (soak.place / "stdout").write_text(
            (soak.place / "stdout").read_text().replace('"done": 2', '"done": 1')
        ),
    ),
    "memory that grows": ("memory grows", lambda soak: soak.memory.extend([500_000] * 3)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_soak_sees(fault: str, tmp_path: Path) -> None:
    module = _module()
    copies(tmp_path, ["in/a.png", "in/b.png"])
    ran = ilvrctl("translate", str(tmp_path / "in"), *QUICK, "-o", str(tmp_path / "out"), "--json")
    (tmp_path / "stdout").write_bytes(ran.out)
    done = [one for one in map(json.loads, ran.lines) if one["event"] == "done"]
    soak = module.Soak(tmp_path, memory=[300_000] * 6)
    soak.good = {one["input"]: module.sha256(Path(one["input"]).read_bytes()).hexdigest() for one in done}
    soak.verdict_on()
    soak.check_memory()
    assert soak.wrong == []
    reason, act = FAULTS[fault]
    act(soak)
    soak.verdict_on()
    soak.check_memory()
    assert any(reason in text for text in soak.wrong), soak.wrong


def test_a_run_that_made_nothing_tells_nothing_of_memory(tmp_path: Path) -> None:
    """It may have been killed before it had read its network, and the next would look greedy."""
    soak = _module().Soak(tmp_path)
    assert soak.run(0.0) is None
    assert (soak.runs, soak.memory) == (1, [])
    soak.check_memory()
    assert soak.wrong == [] and "fewer than two made a result" in soak.impossible[0]
