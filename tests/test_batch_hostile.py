"""Three hundred inputs out of the wild: every good one is done, every bad one named with its reason."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from checkpoints import write_small_target
from commands import FOX, environment, ilvrctl, leftovers, slowness
from PIL import Image

from ilvrctl.plans.manifest import read_manifest


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def kinds() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Names with bytes, the good ones and the bad ones."""
    fox = Image.open(FOX).convert("RGB")
    png, jpeg = encoded(fox), encoded(fox, "JPEG")
    good = {
        "plain.png": png,
        "with space.png": png,
        "new\nline.png": png,
        "photo[1].png": png,
        "{curly} $HOME 'quoted' \".png": png,
        "emoji-\N{FOX FACE}.png": png,
        "-dash.png": png,
        "l" * 200 + ".png": png,
        "m" * 251 + ".png": png,
        "wrong-extension.jpg": png,
        "shouting.PNG": png,
        "really.jpg": jpeg,
        "wide.png": encoded(Image.new("L", (30000, 8), 128)),
        "animated.gif": encoded(fox, "GIF", save_all=True, append_images=[fox.rotate(9)]),
        "grey-16.png": encoded(Image.new("I;16", (40, 30), 9000)),
        "palette.png": encoded(fox.quantize(16)),
        "one-bit.png": encoded(fox.convert("1")),
        "alpha.png": encoded(fox.convert("RGBA")),
        "cmyk.jpg": encoded(fox.convert("CMYK"), "JPEG"),
        "pixel.png": encoded(Image.new("RGB", (1, 1))),
    }
    bad = {
        "zero.png": b"",
        "truncated.png": png[: len(png) // 2],
        "truncated.jpg": jpeg[: len(jpeg) // 3],
        "text.png": b"this is not a picture\n",
        "noise.png": bytes(range(256)) * 20,
        "page.png": b"<!DOCTYPE html><html></html>",
        "document.jpg": b"%PDF-1.4",
        "archive.png": b"PK\x03\x04",
        "header.png": png[:20],
        "lab.tif": encoded(fox.convert("LAB"), "TIFF"),
    }
    return good, bad


@pytest.mark.slow
def test_every_good_input_is_done_and_every_bad_one_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good, bad = kinds()
    for n in range(10):
        folder = tmp_path / "in" / f"{n}"
        folder.mkdir(parents=True)
        for name, data in {**good, **bad}.items():
            (folder / name).write_bytes(data)
    (tmp_path / "in/0/loop.png").symlink_to("loop.png")
    (tmp_path / "in/0/up").symlink_to("..")
    (tmp_path / "in/0/gone.png").symlink_to("nowhere.png")
    target = str(write_small_target(tmp_path / "small.safetensors"))
    job = {
        "name": "all",
        "inputs": "in",
        "recursive": True,
        "weights": target,
        "steps": 1,
        "precision": "fp32",
    }
    (tmp_path / "jobs.yaml").write_text(json.dumps({"jobs": [job]}))
    ran = ilvrctl("batch", "jobs.yaml")
    assert ran.code == 1
    entries = list(read_manifest(tmp_path / "out").entries.values())
    done = {entry.input for entry in entries if entry.status == "done"}
    failed = {entry.input: entry.error for entry in entries if entry.status == "failed"}
    assert done == {f"{n}/{name}" for n in range(10) for name in good}
    assert set(failed) == {f"{n}/{name}" for n in range(10) for name in bad}
    for name, reason in failed.items():
        assert reason and reason.startswith(f"in/{name}"), reason
    assert len(list((tmp_path / "out").rglob("*.png"))) == 200
    assert leftovers(tmp_path) == []


PLAN = """
import sys, time
from ilvrctl.cli.app import main
try:
    main()
finally:
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(time.process_time(), peak, file=sys.stderr)
"""


@pytest.mark.slow
def test_ten_thousand_inputs_are_planned_quickly_and_in_little_memory(tmp_path: Path) -> None:
    """Processor time of the whole process, as the machine may be busy with something else."""
    (tmp_path / "in").mkdir()
    for n in range(10_000):
        (tmp_path / f"in/{n}.png").touch()
    (tmp_path / "jobs.yaml").write_text("jobs: [{name: many, inputs: in, to: emoji3d}]")
    times, memory = [], 0
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", PLAN, "batch", "jobs.yaml", "--dry-run"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "10000 to do" in done.stdout
        seconds, kilobytes = done.stderr.splitlines()[-1].split()
        times.append(float(seconds))
        memory = max(memory, int(kilobytes))
    assert min(times) < 2 * slowness()
    assert memory < 200_000
