"""Training speed at 64 px: variants measured in turn in one process, in pictures/s and ratios to a plain loop.

    python tests/benchmarks/train_speed.py [--batch-size 16] [--threads 2] [--rounds 5] [--compile]

The plain loop is what a short script does: float32 weights under autocast, AdamW, an average of the weights. Ours
casts the weights once a step. bf16 pays only where the processor computes it (`ilvrctl doctor`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from torch import Tensor

from ilvrctl.devices import choose_precision, precision_name
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.models.adm import AdmUNet
from ilvrctl.training.batches import as_channels_last
from ilvrctl.training.draws import draw
from ilvrctl.training.loss import Levels, loss_of
from ilvrctl.training.recipe import Network, Recipe
from ilvrctl.training.weights import Weights

CPU = torch.device("cpu")
RECIPE = Recipe()


def network() -> AdmUNet:
    torch.manual_seed(0)
    return as_channels_last(AdmUNet(Network().unet(64, 3)), CPU).train()


def stepper(batch: int) -> Callable[[Callable[[Tensor, Tensor], Tensor]], Tensor]:
    levels = Levels.of(Schedule.named("linear"), RECIPE, CPU)
    x0 = torch.rand(batch, 64, 64, 3).permute(0, 3, 1, 2) * 2 - 1

    def loss(forward: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        random = draw(0, 0, batch, 64, 1000, 0, CPU)
        x_t = levels.noised(x0, random.t, random.eps)
        return loss_of(forward(x_t, random.t.float()), x0, x_t, random.eps, random.t, levels, 0.0).mean()

    return loss


def plain(batch: int, dtype: torch.dtype, compiled: bool) -> Callable[[], None]:
    model, loss = network(), stepper(batch)
    average = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), 4e-4)
    forward = torch.compile(model) if compiled else model

    def step() -> None:
        half = torch.autocast("cpu", dtype) if dtype != torch.float32 else nullcontext()
        with half:
            value = loss(forward)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        for a, p in zip(average, model.parameters(), strict=True):
            a.mul_(0.9995).add_(p.detach(), alpha=0.0005)

    return step


def ours(batch: int, dtype: torch.dtype, compiled: bool) -> Callable[[], None]:
    weights, loss = Weights(network(), dtype, 4e-4, 0.0), stepper(batch)
    forward = torch.compile(weights.network) if compiled else weights.network

    def step() -> None:
        loss(forward).backward()
        weights.update(4e-4, 1.0, 0.9995)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    native = choose_precision("auto", CPU)
    variants: dict[str, Callable[[], None]] = {}
    for dtype in dict.fromkeys((torch.float32, native)):
        for compiled in (False, True) if args.compile else (False,):
            name = f"{precision_name(dtype)}{', compiled' if compiled else ''}"
            variants[f"plain loop, {name}"] = plain(args.batch_size, dtype, compiled)
            variants[f"ilvrctl train, {name}"] = ours(args.batch_size, dtype, compiled)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for n in range(args.rounds + 2):
        for name, step in variants.items():
            start = time.perf_counter()
            step()
            if n >= 2:
                seconds[name].append(time.perf_counter() - start)
    print(f"torch {torch.__version__}, {args.threads} threads, load average {os.getloadavg()[0]:.1f}")
    base = statistics.median(seconds["plain loop, fp32"])
    for name, times in seconds.items():
        middle, best = statistics.median(times), min(times)
        print(
            f"{name:<32} median {args.batch_size / middle:5.1f} pictures/s, best {args.batch_size / best:5.1f}, "
            f"{base / middle:.2f} times the plain fp32 loop"
        )


if __name__ == "__main__":
    main()
