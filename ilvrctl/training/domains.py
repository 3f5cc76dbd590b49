"""EGSDE's domain feature extractor D: a classifier of noised pictures (Zhao et al. 2022, section 3.2).

Trained by cross-entropy on ``x_t = alpha_t x0 + sigma_t eps`` at uniform levels t; half of every batch is of each
domain, so that folders of different sizes weigh the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ilvrctl.devices import choose_device
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.errors import UsageError
from ilvrctl.models.classifier import AdmClassifier
from ilvrctl.training.batches import as_channels_last, augmented, floats, mapped
from ilvrctl.training.draws import Draw, draw, generator, order
from ilvrctl.training.events import Advanced, Began, Graded, Published, TrainingEvent
from ilvrctl.training.job import remarks
from ilvrctl.training.pictures import Pictures, load_pictures
from ilvrctl.training.publish import publish
from ilvrctl.training.recipe import DomainRecipe

REPORT_EVERY = 5.0  # seconds
GRADED_LEVELS = 10


@dataclass(frozen=True)
class Split:
    """One domain's pictures (N, H, W, 3) uint8: to learn from, and kept aside."""

    train: Tensor
    held_out: Tensor


def split_by_name(pictures: Pictures, share: float) -> Split:
    """Keep aside about ``share``, by the files' names: what two folders call the same is on one side in both."""
    pixels = mapped(pictures)
    aside = torch.tensor([_fraction(stem) < share for stem in pictures.stems])
    if not aside.any() or aside.all():
        raise UsageError(
            f"{pictures.count} pictures are too few to keep a share of {share} aside", "give more pictures"
        )
    return Split(pixels[~aside], pixels[aside])


def _fraction(stem: str) -> float:
    return int.from_bytes(sha256(stem.encode("utf-8", "surrogateescape")).digest()[:4], "big") / 2**32


def train_domains(
    recipe: DomainRecipe, folders: tuple[Path, Path], name: str, device: str, stop: Callable[[], bool]
) -> Iterator[TrainingEvent]:
    """Decode two folders, train, publish the classifier as ``name``; nothing is kept when ``stop`` says so."""
    splits = []
    for folder in folders:
        pictures = yield from load_pictures(folder, recipe.square)
        yield from remarks(pictures, init=True)
        splits.append(split_by_name(pictures, recipe.held_out))
    network = yield from fit(recipe, (splits[0], splits[1]), name, choose_device(device), stop)
    if network is not None:
        tensors = {key: x.detach() for key, x in network.state_dict().items()}
        yield Published(name, publish(name, tensors, recipe.store, _facts(recipe, name, folders)))


def _facts(recipe: DomainRecipe, name: str, folders: tuple[Path, Path]) -> dict[str, object]:
    """The model preset."""
    domains = " or ".join(folder.resolve().name for folder in folders)
    return {
        "title": recipe.title or f"domain classifier, {recipe.size} px: {domains}",
        "domain": f"auxiliary: {domains}",
        "format": "guided-diffusion-classifier",
        "image_size": recipe.size,
        "num_head_channels": recipe.network.head_channels,
        "noise_schedule": recipe.noise_schedule,
        "diffusion_steps": recipe.diffusion_steps,
        "use": "unstated",
        "notes": recipe.notes or f"for EGSDE's energy of domains; class 0 is {folders[0].resolve().name}",
    }


def fit(
    recipe: DomainRecipe,
    domains: tuple[Split, Split],
    name: str,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Began | Advanced | Graded, None, AdmClassifier | None]:
    """Train, telling how far it is; returns the network, or None when stopped. Class 0 is the first domain."""
    schedule = Schedule.named(recipe.noise_schedule, recipe.diffusion_steps)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(recipe.seed)
        network = AdmClassifier(recipe.network.classifier(recipe.size, 2))
        _wake(network)
    network = as_channels_last(network, device).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    steps = max(1, recipe.images // recipe.batch_size)
    yield Began(
        name=name,
        parameters=sum(p.numel() for p in network.parameters()),
        pictures=sum(len(split.train) for split in domains),
        held_out=sum(len(split.held_out) for split in domains),
        images=0,
        total=steps * recipe.batch_size,
        device=str(device),
        precision="fp32",
    )
    start = told = time.perf_counter()
    losses: list[Tensor] = []
    for step in range(steps):
        if stop():
            return None
        optimizer.zero_grad(set_to_none=True)
        rise = min(1.0, (step + 1) / (recipe.rise * steps)) if recipe.rise else 1.0
        x, t, label = _batch(recipe, domains, step, schedule, device, rise)
        loss = F.cross_entropy(network(x, t), label)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.param_groups[0]["lr"] = _rate(recipe, step / steps)
        optimizer.step()
        losses.append(loss.detach())
        now = time.perf_counter()
        if now - told > REPORT_EVERY or step + 1 == steps:
            mean, losses = float(torch.stack(losses).mean()), []
            yield _advanced(recipe, step, steps, now - start, mean)
            told = now
    yield _graded(network.eval(), recipe, domains, schedule, device, steps * recipe.batch_size)
    return network


def _rate(recipe: DomainRecipe, share: float) -> float:
    """The learning rate when ``share`` of the steps are done."""
    down = 1.0 if recipe.decay == "constant" else 0.5 * (1 + math.cos(math.pi * share))
    return recipe.learning_rate * down


def _wake(network: AdmClassifier) -> None:
    """Ordinary weights where ADM starts with zeros: those of a denoiser wait for its skip connections, but a
    classifier that starts with zeros gives hundreds of steps without a gradient to learn from.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d) and not module.weight.any():
            module.reset_parameters()


def _advanced(recipe: DomainRecipe, step: int, steps: int, seconds: float, loss: float) -> Advanced:
    done = step + 1
    return Advanced(
        step=done,
        images=done * recipe.batch_size,
        loss=loss,
        rate=done * recipe.batch_size / seconds,
        left=seconds / done * (steps - done),
        share=done / steps,
        learning_rate=_rate(recipe, step / steps),
    )


def _batch(
    recipe: DomainRecipe,
    domains: tuple[Split, Split],
    step: int,
    schedule: Schedule,
    device: torch.device,
    rise: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Noised pictures (B, 3, H, W), their levels (B,) below ``rise * T``, and their domains (B,)."""
    half = recipe.batch_size // 2
    counts = (recipe.batch_size - half, half)
    parts = [
        split.train[order(recipe.seed + n, step, count, len(split.train))]
        for n, (split, count) in enumerate(zip(domains, counts, strict=True))
        if count
    ]
    random = draw(recipe.seed, step, recipe.batch_size, recipe.size, schedule.T, recipe.shift, device)
    random = replace(random, t=(random.t * rise).long())
    pixels = augmented(torch.cat(parts), random.flip if recipe.flip else None, random.shift)
    label = torch.tensor([0] * counts[0] + [1] * counts[1], device=device)
    return noised(floats(pixels, device), random, schedule), random.t.float(), label


def noised(x0: Tensor, random: Draw, schedule: Schedule) -> Tensor:
    """``x_t = alpha_t x0 + sigma_t eps``, (B, 3, H, W), at the levels and with the noise of ``random``."""
    alpha, sigma = levels_of(schedule, x0.device)
    t = random.t
    return alpha[t][:, None, None, None] * x0 + sigma[t][:, None, None, None] * random.eps


def levels_of(schedule: Schedule, device: torch.device) -> tuple[Tensor, Tensor]:
    """``alpha_t`` and ``sigma_t`` of every level, (T,) float32."""
    pairs = torch.tensor([schedule.level(t) for t in range(schedule.T)], dtype=torch.float64)
    return pairs[:, 0].float().to(device), pairs[:, 1].float().to(device)


@torch.no_grad()
def _graded(
    network: AdmClassifier,
    recipe: DomainRecipe,
    domains: tuple[Split, Split],
    schedule: Schedule,
    device: torch.device,
    images: int,
) -> Graded:
    """Share of held-out pictures told right, each domain weighing the same, at fixed levels with fixed noise."""
    alpha, sigma = levels_of(schedule, device)
    found = []
    for n in range(GRADED_LEVELS):
        t = (2 * n + 1) * schedule.T // (2 * GRADED_LEVELS)
        right = []
        for label, split in enumerate(domains):
            noise = generator(device, recipe.seed, "graded", label, t)
            hits = 0.0
            for pixels in torch.split(split.held_out, recipe.batch_size):
                x0 = floats(pixels, device)
                eps = torch.randn(x0.shape, generator=noise, device=device)
                logits = network(
                    alpha[t] * x0 + sigma[t] * eps, torch.full((len(x0),), float(t), device=device)
                )
                hits += float((logits.argmax(1) == label).sum())
            right.append(hits / len(split.held_out))
        found.append((t, sum(right) / 2))
    return Graded(images, sum(share for _, share in found) / len(found), tuple(found))
