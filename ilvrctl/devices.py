"""Which device and which precision: chosen from what the hardware does natively, or as asked for."""

from __future__ import annotations

import math
import os
import shutil
import sys
from typing import TYPE_CHECKING

from ilvrctl.errors import DeviceError, UsageError
from ilvrctl.sizes import AnySize, Size

if TYPE_CHECKING:
    import torch
    from torch import Tensor


_PYPI = "https://pypi.org/simple"
"""Where torch for Linux is the build for CUDA, whatever index pip is set up for."""


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` takes CUDA (of several processes that ``torchrun`` has started each another device), else Apple's
    MPS, else the CPU. UsageError for a name torch does not know, DeviceError for a device that is not there.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            rank = os.environ.get("LOCAL_RANK", "")
            return torch.device(
                f"cuda:{int(rank) % torch.cuda.device_count()}" if rank.isdecimal() else "cuda"
            )
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"unknown device {name!r}", hint="--device auto, cpu, cuda, cuda:1 or mps"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise _no_cuda(name)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(
            "device 'mps' is not there: this is no Mac with a GPU that torch can use", hint="--device cpu"
        )
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device {name!r} is not supported", hint="--device auto, cpu, cuda, cuda:1 or mps")
    return device


def torch_build() -> str:
    """What the installed torch was made for: ``cpu``, ``CUDA 12.8``, ``ROCm 6.4``; on a Mac ``cpu and MPS``."""
    import torch

    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    if getattr(torch.version, "hip", None):
        return f"ROCm {torch.version.hip}"
    return "cpu and MPS" if torch.backends.mps.is_built() else "cpu"


def gpu_maker() -> str | None:
    """Whose GPU the system knows, whatever torch sees: ``NVIDIA``, ``AMD``, or None."""
    if any(map(os.path.exists, ("/proc/driver/nvidia/version", "/dev/nvidia0"))) or shutil.which(
        "nvidia-smi"
    ):
        return "NVIDIA"
    return "AMD" if os.path.exists("/dev/kfd") else None  # noqa: PTH110  which has no errors


def torch_advice(build: str, gpu: str | None, seen: bool) -> str | None:
    """Where torch and machine do not fit, what that means and the command that helps; None where they do.

    ``build`` as :func:`torch_build` says, ``gpu`` as :func:`gpu_maker`; ``seen``: whether torch can use a GPU.
    """
    import torch

    release = torch.__version__.partition("+")[0]
    again = f"pip install --force-reinstall torch=={release}"
    if build.startswith("cpu") and gpu is not None:
        if gpu == "NVIDIA" and sys.platform == "linux":
            how = again  # what PyPI has for Linux is the CUDA build
        else:
            how = f"{again} --index-url ... as https://pytorch.org/get-started/locally tells"
        return f"an {gpu} GPU is here, and this torch is a build for CPUs: {how}"
    if not build.startswith("cpu") and gpu is None:
        return (
            f"no GPU is here: harmless, but torch takes {size_of_torch() / 1e9:.1f} GB; smaller: "
            f"{again} --index-url https://download.pytorch.org/whl/cpu"
        )
    if not build.startswith("cpu") and not seen:
        return f"an {gpu} GPU is here that torch cannot use: is its driver new enough for {build}? nvidia-smi tells"
    return None


def size_of_torch() -> int:
    """Bytes that torch and the libraries of its GPU build take, as their packages tell."""
    from importlib.metadata import distributions

    found = 0
    for package in distributions():
        name = package.name.lower()
        if name in ("torch", "triton") or name.startswith(("nvidia-", "pytorch-triton")):
            sizes = (line.rpartition(",")[2] for line in (package.read_text("RECORD") or "").splitlines())
            found += sum(int(size) for size in sizes if size.isdecimal())
    return found


def _no_cuda(name: str) -> DeviceError:
    """Why a CUDA device is not there, and the command that changes it."""
    import torch

    what = f"device {name!r} is not there: "
    if torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        sees = f"{what}torch sees {torch.cuda.device_count()} CUDA devices"
        return DeviceError(sees, hint="ilvrctl doctor shows what it sees; nvidia-smi what the driver sees")
    release = torch.__version__.partition("+")[0]
    install = f"{sys.executable} -m pip install --force-reinstall torch=={release} --index-url {_PYPI}"
    if sys.platform != "linux":  # there PyPI has builds for the CPU alone
        install = "https://pytorch.org/get-started/locally/ has the command"
    return DeviceError(
        f"{what}torch {torch.__version__} is a build for the CPU",
        hint=f"ilvrctl doctor, and --device cpu meanwhile; a build for CUDA: {install}",
    )


_PINNING = frozenset({"cuda"})
"""MPS is none of them: what it copies without a wait it may read when it was freed already (pytorch 139550)."""
_SINGLE = frozenset({"mps"})


def pins(device: torch.device) -> bool:
    """Whether copies from and to page-locked memory of the host go on while both sides work."""
    return device.type in _PINNING


def finest(device: torch.device) -> torch.dtype:
    """The finest numbers that a device computes with: float64, which MPS has not."""
    import torch

    return torch.float32 if device.type in _SINGLE else torch.float64


def uploaded(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device; nobody waits for the copy where the device :func:`pins`."""
    return x.pin_memory().to(device, non_blocking=True) if pins(device) else x.to(device)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The network's precision; ``auto`` is the half precision that the hardware computes natively, else fp32.

    bf16 on CUDA from compute capability 8 and on CPUs with AVX-512 BF16 or AMX; fp16 on CUDA 7.x and MPS.
    """
    import torch

    if name != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
    if device.type == "cuda":
        major = torch.cuda.get_device_capability(device)[0]
        return torch.bfloat16 if major >= 8 else torch.float16 if major == 7 else torch.float32
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def precision_name(dtype: torch.dtype) -> str:
    """``fp32``, ``bf16`` or ``fp16``."""
    return {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[str(dtype).removeprefix("torch.")]


def _cpu_has_bf16() -> bool:
    """False where this torch cannot tell: fp32 is then the safe choice."""
    import torch

    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def default_batch_size(device: torch.device, image_size: AnySize) -> int:
    """Samples a batch when nothing is asked for: about as many pixels as keep the device busy."""
    pixels = 16 * 256 * 256 if device.type != "cpu" else 8 * 64 * 64
    return max(1, min(64, pixels // math.prod(Size.of(image_size))))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python says that memory ran out."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed")
    return any(sign in text for sign in signs)


def raise_if_lost(error: BaseException, device: torch.device) -> None:
    """Raise DeviceError where an error of torch says that the device is gone."""
    if not out_of_memory(error) and device_lost(error):
        raise DeviceError(
            f"the device {device} was lost: {str(error).splitlines()[0]}",
            hint="run the same command again: it goes on; `ilvrctl doctor` looks at the device",
        ) from error


def device_lost(error: BaseException) -> bool:
    """Whether an error of torch says that the device does not answer any more: every further call would fail."""
    text = str(error)
    return type(error).__name__ == "AcceleratorError" or any(
        f"{kind} error" in text for kind in ("CUDA", "HIP", "MPS")
    )
