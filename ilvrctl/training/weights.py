"""The weights that training moves: float32 masters, their half-precision copies, and the moving average."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor

from ilvrctl.models.trunk_network import HalfPrecision

BETAS = (0.9, 0.999)


class Weights:
    """A network with its masters, average (EMA) and AdamW.

    ``network`` computes with convolutions in ``dtype``; ``masters`` are its parameters in float32, the very same
    tensors where the network is in float32. Casting once a step costs less than autocast, which casts at every
    use and again for every gradient. ``average`` is a network of its own, in float32.
    """

    def __init__(
        self, network: HalfPrecision, dtype: torch.dtype, learning_rate: float, weight_decay: float
    ) -> None:
        self.average = deepcopy(network).eval().requires_grad_(False)
        self.names = [name for name, _ in network.named_parameters()]
        originals = [p.detach().clone() for p in network.parameters()]
        self.network = network.to_precision(dtype).train()
        self.masters = [
            p if p.dtype == torch.float32 else original.requires_grad_(True)
            for p, original in zip(network.parameters(), originals, strict=True)
        ]
        pairs = zip(self.masters, network.parameters(), strict=True)
        self._cast = [(master, p) for master, p in pairs if master is not p]
        self.optimizer = torch.optim.AdamW(
            self.masters, learning_rate, betas=BETAS, weight_decay=weight_decay, fused=True
        )

    def update(self, learning_rate: float, clip: float, decay: float) -> None:
        """One step of AdamW along the gradients, cut to the norm ``clip`` if not 0 and then cleared, and one of the
        average.
        """
        for master, p in self._cast:
            master.grad = None if p.grad is None else p.grad.float()
            p.grad = None
        if clip:
            torch.nn.utils.clip_grad_norm_(self.masters, clip, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            averages: list[Tensor] = list(self.average.parameters())
            torch._foreach_lerp_(averages, [p.detach() for p in self.masters], 1 - decay)
            self._give()

    def _give(self) -> None:
        if self._cast:
            torch._foreach_copy_([p.data for _, p in self._cast], [m.detach() for m, _ in self._cast])

    def tensors(self) -> dict[str, Tensor]:
        """Everything that :meth:`restore` needs but the number of steps, by name."""
        found: dict[str, Tensor] = {}
        for name, master, average in zip(self.names, self.masters, self.average.parameters(), strict=True):
            found[f"weight.{name}"] = master.detach()
            found[f"average.{name}"] = average
            state = self.optimizer.state.get(master, {})
            for key in ("exp_avg", "exp_avg_sq"):
                if key in state:
                    found[f"{key}.{name}"] = state[key]
        return found

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Go back to what :meth:`tensors` gave after ``step`` steps."""
        for name, master, average in zip(self.names, self.masters, self.average.parameters(), strict=True):
            master.copy_(tensors[f"weight.{name}"])
            average.copy_(tensors[f"average.{name}"])
            if step:
                self.optimizer.state[master] = {
                    "step": torch.tensor(float(step), device=master.device),
                    **{
                        key: torch.empty_like(master).copy_(tensors[f"{key}.{name}"])
                        for key in ("exp_avg", "exp_avg_sq")
                    },
                }
        self._give()

    def averaged(self, store: str) -> dict[str, Tensor]:
        """The averaged weights under the names of the checkpoint format, in the precision ``fp32`` or ``fp16``."""
        tensors = self.average.state_dict().items()
        return {name: x.detach().half() if store == "fp16" else x.detach() for name, x in tensors}
