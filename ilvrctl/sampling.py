"""The only sampling loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ilvrctl.diffusion.denoiser import Denoise
    from ilvrctl.diffusion.samplers import Sampler
    from ilvrctl.diffusion.schedule import Step
    from ilvrctl.methods import Context, Method


@dataclass(frozen=True)
class Transition:
    """One step of the loop as it happened: the step k, the new sample x = x_s, the clean estimate x0 at t.

    ``i`` counts the transitions of all passes from 0, ``n`` is how many there are. Where the method encodes by
    DDIM, the steps upwards come first, with x = x_t.
    """

    k: Step
    x: Tensor
    x0: Tensor
    i: int
    n: int


@torch.no_grad()  # as a decorator: a with block around a yield would reach into the caller
def sample(
    denoise: Denoise, context: Context, steps: Sequence[Step], method: Method, sampler: Sampler
) -> Iterator[Transition]:
    """The sampling loop: predict, step, project, for every transition of the chain, in every pass.

    Tensors are (B, 3, H, W) float32. Closing the iterator stops. Gradients are not recorded. What a multistep
    sampler remembers belongs to the path that it walked, so it is dropped where the method moves the sample.
    """
    rounds, walk = method.rounds(steps, context.schedule.T), method.walk(steps)
    x = context.reference
    up = len(steps) if method.encoder.climbs else 0
    total = up + method.repeats * len(walk)
    for i, (k, x, x0) in enumerate(method.encoder.encode(context, steps)):
        yield Transition(k, x, x0, i, total)
    for done in range(method.repeats):
        x, memory = method.begin(context, steps, sampler, x)
        carry: Any = None
        for i, (k, back) in enumerate(walk, up + done * len(walk)):
            x, prediction = method.predict(denoise, context, x, k, rounds[k.i], memory)
            ahead = method.ahead(denoise, context, steps, k, memory)
            x, carry = method.encoder.step(
                sampler, x, prediction, k, context.noise, carry, ahead, memory.path
            )
            moved = method.project(context, x, prediction, k, memory.e)
            if back is not None:
                moved = context.climbed(moved, k.s, back.t)
            if moved is not x:
                x, carry = moved, None
            yield Transition(k, x, prediction.x0, i, total)
