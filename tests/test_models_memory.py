"""Memory: what loading and one call may take, as the kernel counts it (VmHWM) in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_ilvr_adm_256
from safetensors.torch import save_file

from ilvrctl.models.cpu import kernels

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")

MB = 1_000_000
HEAD = """
import json, os, re, sys
from pathlib import Path
import torch
from ilvrctl.models.architecture.unet import HiddenFlags
from ilvrctl.models.files.checkpoint import read_state_dict
from ilvrctl.models.files.loading import load_network

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
# a fork begins with the present memory as its peak: torch is imported once for all cases
LOAD = (
    HEAD
    + """
torch.set_num_threads(1)

def read(path, dtype):
    weights = read_state_dict(Path(path), dtype=dtype)
    assert sum(float(x.flatten()[::512].float().sum()) for x in weights.values()) != 0  # touches every page
    return sum(x.nbytes for x in weights.values())

for path in sys.argv[3:]:
    for dtype in (None, torch.float32, torch.bfloat16):
        if os.fork() == 0:
            for small in sys.argv[1:3]:  # brings the code of readers and kernels into memory
                read(small, None), read(small, torch.float16), read(small, torch.bfloat16)
            before = peak()
            size = read(path, dtype)
            print(json.dumps([Path(path).name, str(dtype), peak() - before, size]), flush=True)
            os._exit(0)
        os.wait()
"""
)
CALL = (
    HEAD
    + """
torch.set_num_threads(2)
dtype = getattr(torch, sys.argv[2])
imported = peak()
hidden = HiddenFlags(num_head_channels=64)
network = load_network(Path(sys.argv[1]), hidden, dtype=dtype, device=torch.device("cpu"))
loaded = peak()
with torch.inference_mode():
    for _ in range(2):
        out = network(torch.randn(1, 3, 256, 256), torch.tensor([500.0]))
assert out.shape == (1, 6, 256, 256) and bool(out.isfinite().all())
print(json.dumps({"imported": imported, "loaded": loaded, "called": peak()}))
"""
)


def run(code: str, *arguments: str, way: str = "direct") -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"ILVRCTL_CONVOLUTION": way},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_loading_takes_little_more_than_the_weights(tmp_path: Path) -> None:
    weights = {f"input_blocks.{i}.weight": torch.full((512, 256, 3, 3), 1 / (i + 1)) for i in range(24)}
    sizes = {}
    for dtype in (torch.float32, torch.float16):
        cast = {name: x.to(dtype) for name, x in weights.items()}
        for kind, write in (("pt", torch.save), ("safetensors", save_file)):
            path = tmp_path / f"{str(dtype).removeprefix('torch.')}.{kind}"
            write(cast, path)
            sizes[path.name] = path.stat().st_size
    path = tmp_path / "legacy.pt"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    sizes[path.name] = path.stat().st_size
    small = {"input_blocks.0.weight": torch.ones(1000)}
    torch.save(small, tmp_path / "small.pt")
    save_file(small, tmp_path / "small.safetensors")
    cases = run(LOAD, *(str(tmp_path / name) for name in ("small.pt", "small.safetensors", *sizes)))
    assert len(cases) == 15
    for name, dtype, grown, size in cases:
        assert grown <= 1.2 * max(size, sizes[name]), (name, dtype, grown, size)
        assert grown >= 0.8 * size  # the data was really there


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "way", "bound"),
    [
        ("float32", "direct", 800),
        ("bfloat16", "direct", 650),
        pytest.param(
            *("float32", "nnpack", 900),
            marks=pytest.mark.skipif(not kernels._has_nnpack(), reason="this PyTorch has no NNPACK"),
        ),
    ],
)
def test_a_call_of_the_256_pixel_network(dtype: str, way: str, bound: int, tmp_path: Path) -> None:
    path = write_ilvr_adm_256(tmp_path / "w.pt")
    (used,) = run(CALL, str(path), dtype, way=way)
    path.unlink()
    print(dtype, way, {stage: f"{amount / MB:.0f} MB" for stage, amount in used.items()})
    assert used["called"] < bound * MB
    assert used["loaded"] - used["imported"] < 1.2 * 374 * MB
