"""A network through torch.compile, with compiled code kept for later runs, and CUDA graphs where there are any."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.lucidrains import LucidrainsUnet

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


class CompiledNetwork:
    """``network`` with its whole and its shallow form compiled, each at its first call, for one batch size each."""

    def __init__(self, network: AdmUNet | LucidrainsUnet, device: torch.device, cache: Path) -> None:
        """``cache``: the folder for compiled code, unless the environment names one."""
        os.environ.setdefault(CACHE_VARIABLE, str(cache))
        self.network = network
        self.output_blocks = getattr(network, "output_blocks", ())
        self._graphs = device.type == "cuda"
        self._forward = self._compiled(network.forward)
        if isinstance(network, AdmUNet):
            self._keeping = self._compiled(network.keeping)
            self._shallow = self._compiled(network.shallow)

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None, *more: Tensor | None) -> Tensor:
        """As :meth:`AdmUNet.forward`, or that of another network with what it takes ``more``."""
        out: Tensor = self._own(self._forward(x, t, y, *more))
        return out

    def keeping(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, blocks: int = 1
    ) -> tuple[Tensor, Tensor | None]:
        """As :meth:`AdmUNet.keeping`."""
        out, deep = self._keeping(x, t, y, blocks)
        return self._own(out), self._own(deep)

    def shallow(self, x: Tensor, t: Tensor, y: Tensor | None, deep: Tensor, blocks: int = 1) -> Tensor:
        """As :meth:`AdmUNet.shallow`."""
        out: Tensor = self._own(self._shallow(x, t, y, deep, blocks))
        return out

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        mode = "reduce-overhead" if self._graphs else None
        compiled: Callable[..., Any] = torch.compile(function, mode=mode, dynamic=False)
        return compiled

    def _own(self, x: Any) -> Any:
        """A CUDA graph writes its next result over its last: what is given away is a copy."""
        return x.clone() if self._graphs and x is not None else x
