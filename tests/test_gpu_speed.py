"""The promises of --speed on every accelerator that is there: `python -m pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import FOX, difference, ilvrctl

from ilvrctl.settings import SPEEDS

THERE = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
DEVICES = [
    pytest.param(name, marks=pytest.mark.skipif(not there, reason=f"needs a device {name!r}"))
    for name, there in THERE.items()
]

pytestmark = [pytest.mark.gpu, pytest.mark.parametrize("device", DEVICES)]


def made(folder: Path, device: str, *flags: str) -> Path:
    ran = ilvrctl(
        "translate",
        FOX,
        "--to",
        "emoji3d",
        "--device",
        device,
        "--overwrite",
        "-o",
        folder,
        "-n",
        "4",
        *flags,
    )
    assert ran.code == 0, ran.err
    return folder / "fox_4.png"


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_batch_size_does_not_matter(device: str, speed: str, tmp_path: Path) -> None:
    flags = ("--speed", speed, "--steps", "12")
    one, many = (made(tmp_path / n, device, *flags, "--batch-size", n) for n in ("1", "4"))
    assert difference(one, many)[0] <= 0.5


@pytest.mark.parametrize("speed", ["exact", "turbo"])
def test_the_pixels_are_those_of_the_cpu(device: str, speed: str, tmp_path: Path) -> None:
    flags = ("--speed", speed, "--steps", "12", "--precision", "fp32")
    assert difference(made(tmp_path / "a", device, *flags), made(tmp_path / "b", "cpu", *flags))[0] <= 0.5


def test_compiled_turbo_gives_the_pixels_of_eager(device: str, tmp_path: Path) -> None:
    flags = ("--speed", "turbo", "--precision", "fp32")
    eager, compiled = (made(tmp_path / flag, device, *flags, flag) for flag in ("--no-compile", "--compile"))
    assert difference(eager, compiled)[0] <= 0.5


def test_doctor_times_the_device(device: str) -> None:
    ran = ilvrctl("doctor", "--bench", "--device", device)
    assert ran.code == 0, ran.err
    assert f"{device}, " in ran.out.decode()
