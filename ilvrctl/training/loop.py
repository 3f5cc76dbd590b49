"""The training loop: a generator of events that goes on where the state on disk left off."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ilvrctl.config import Layer, build
from ilvrctl.devices import choose_device, choose_precision, precision_name
from ilvrctl.diffusion.lowpass import usual_factor
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.errors import NonFiniteError, UsageError
from ilvrctl.files import make_folder
from ilvrctl.presets import ModelPreset
from ilvrctl.training.batches import as_channels_last, augmented, floats, mapped
from ilvrctl.training.draws import draw, order
from ilvrctl.training.events import Advanced, Began, Drawn, Published, Saved, TrainingEvent, Validated
from ilvrctl.training.job import Data, Job
from ilvrctl.training.loss import Levels, loss_of
from ilvrctl.training.publish import publish
from ilvrctl.training.recipe import Recipe, record
from ilvrctl.training.start import Start, begin
from ilvrctl.training.state import STATE, Progress, check_same, read_progress
from ilvrctl.training.team import Team
from ilvrctl.training.validate import validate
from ilvrctl.training.weights import Weights

REPORT_EVERY = 2.0  # seconds


def rate_at(recipe: Recipe, images: int, share: float) -> float:
    """The learning rate after ``images`` pictures, ``share`` (0 to 1) of the whole: warm-up, then the decay."""
    warm = min(1.0, (images + recipe.batch_size) / recipe.warmup) if recipe.warmup else 1.0
    if recipe.decay == "constant":
        return warm * recipe.learning_rate
    down = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return warm * recipe.learning_rate * (recipe.final_rate + (1 - recipe.final_rate) * down)


def average_decay(recipe: Recipe, step: int) -> float:
    """The decay of the averaged weights at ``step``: small while the weights still move far."""
    return min(recipe.ema, (1 + step) / (10 + step))


@dataclass
class Run:
    """A training in memory: what moves are ``weights``, ``step`` and ``seconds``."""

    job: Job
    data: Data
    start: Start
    team: Team
    device: torch.device
    dtype: torch.dtype
    weights: Weights
    levels: Levels
    before: Progress
    step: int = 0
    seconds: float = 0.0

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the schedule of the model that training started from."""
        return self.start.recipe

    @property
    def images(self) -> int:
        """Pictures seen."""
        return self.step * self.recipe.batch_size

    @property
    def share(self) -> float:
        """How much of the whole is done, by pictures or time, whichever is nearer its end."""
        by_images = self.images / self.recipe.images
        return by_images if self.job.seconds is None else max(by_images, self.seconds / self.job.seconds)

    def progress(self) -> Progress:
        """As it goes to disk."""
        return replace(self.before, step=self.step, seconds=self.seconds)


def train(job: Job, data: Data, team: Team, stop: Callable[[], bool]) -> Generator[TrainingEvent, None, None]:
    """Train until the job's limits, or until ``stop`` says so; the state is on disk either way.

    Raises UsageError when the state on disk is that of other settings or pictures, NonFiniteError when the loss
    is no number any more, OutputError when the disk is full (the last state stays).
    """
    run = _prepare(job, data, team)
    yield Began(
        name=job.name,
        parameters=sum(p.numel() for p in run.weights.masters),
        pictures=len(data.train),
        held_out=len(data.held_out),
        images=run.images,
        total=run.recipe.images,
        device=str(run.device),
        precision=precision_name(run.dtype),
    )
    network = team.together(run.weights.network, run.device)
    forward = torch.compile(network) if job.compiled else network
    pixels = mapped(data.pictures)[list(data.train)]
    yield from _steps(run, forward, pixels, stop)


def _prepare(job: Job, data: Data, team: Team) -> Run:
    name = f"cuda:{team.local_rank}" if team.size > 1 and job.device in ("auto", "cuda") else job.device
    device = choose_device(name if torch.cuda.is_available() else job.device)
    dtype = choose_precision(job.precision, device)
    if dtype == torch.float16:
        if job.precision != "auto":
            raise UsageError("training in fp16 loses small gradients", "--precision bf16 or fp32")
        dtype = torch.float32
    start = begin(job.recipe)
    recipe = start.recipe
    network = as_channels_last(start.network, device)
    now = Progress(
        recipe=record(job.recipe),
        pictures=data.pictures.digest,
        held_out=data.validation.digest,
        init=_fingerprint(start) if recipe.init else "",
    )
    run = Run(
        job=job,
        data=data,
        start=start,
        team=team,
        device=device,
        dtype=dtype,
        weights=Weights(network, dtype, recipe.learning_rate, recipe.weight_decay),
        levels=Levels.of(Schedule.named(recipe.noise_schedule, recipe.diffusion_steps), recipe, device),
        before=now,
    )
    before = read_progress(job.run)
    if before is not None:
        from ilvrctl.models.files.saving import read_safetensors

        check_same(before, now, job.name)
        tensors, _ = read_safetensors(job.run / STATE)
        run.weights.restore(tensors, before.step)
        run.step, run.seconds = before.step, before.seconds
    return run


def _fingerprint(start: Start) -> str:
    """Text that stands for the weights that training starts from."""
    total = sum(float(x.double().abs().sum()) for x in start.network.state_dict().values())
    return f"{start.recipe.init}:{total!r}"


def _steps(
    run: Run, forward: Callable[[Tensor, Tensor], Tensor], pixels: Tensor, stop: Callable[[], bool]
) -> Iterator[TrainingEvent]:
    """Steps until the end, with reports by the clock and everything else at a state."""
    team = run.team
    losses: list[Tensor] = []
    clock = told = saved = time.perf_counter()
    told_images, states = run.images, 0
    while True:
        now = time.perf_counter()
        # the first process decides for all, so that they stay in step whatever their clocks say
        share, telling, keeping = team.agree(
            (run.share, now - told > REPORT_EVERY, now - saved > run.job.save_every)
        )
        over = share >= 1 or team.any(stop())
        if losses and (telling or over):
            loss = float(torch.stack(losses).mean())
            _check(loss, run)
            yield _advanced(run, loss, (run.images - told_images) / max(now - told, 1e-9), share)
            losses, told, told_images = [], now, run.images
        if over or keeping:
            if team.leads:
                sheet = share >= 1 or (states % max(1, run.job.sheet_every) == 0 and not over)
                yield from _keep(run, final=share >= 1, sheet=sheet)
            team.wait()
            if over:
                return
            states += 1
            clock = told = saved = time.perf_counter()  # what was spent on this is no training time
        losses.append(_step(run, forward, pixels, rate_at(run.recipe, run.images, share)))
        run.step += 1
        tick = time.perf_counter()
        run.seconds += tick - clock
        clock = tick


def _step(run: Run, forward: Callable[[Tensor, Tensor], Tensor], pixels: Tensor, rate: float) -> Tensor:
    """One update; returns the loss, on the device."""
    recipe, levels, batch = run.recipe, run.levels, run.recipe.batch_size
    mine = run.team.share(batch)
    chosen = order(recipe.seed, run.step, batch, len(pixels))[mine]
    random = draw(recipe.seed, run.step, batch, recipe.size, len(levels.alpha), recipe.shift, run.device)
    flip = random.flip[mine] if recipe.flip else None
    x0 = floats(augmented(pixels[chosen], flip, random.shift[mine]), run.device)
    t, eps = random.t[mine], random.eps[mine]
    x_t = levels.noised(x0, t, eps)
    out = forward(x_t, t.float() * run.start.time_scale)
    loss = loss_of(out, x0, x_t, eps, t, levels, recipe.vlb_weight).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    run.weights.update(rate, recipe.clip, average_decay(recipe, run.step))
    return loss.detach()


def _check(loss: float, run: Run) -> None:
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"the loss became {loss} after {run.images:,} pictures, at most {REPORT_EVERY:.0f} s ago",
            "the last state on disk is good; begin again with a lower --set learning_rate=...",
        )


def _advanced(run: Run, loss: float, rate: float, share: float) -> Advanced:
    left = (1 - share) / share * run.seconds if share > 0 else math.inf
    return Advanced(
        step=run.step,
        images=run.images,
        loss=loss,
        rate=rate,
        left=max(0.0, left),
        share=min(1.0, share),
        learning_rate=rate_at(run.recipe, run.images, share),
    )


def _keep(run: Run, *, final: bool, sheet: bool) -> Iterator[TrainingEvent]:
    """State to disk, then the model to where it can be used, its validation loss, and perhaps a sheet."""
    from ilvrctl.models.files.saving import save_safetensors

    folder = make_folder(run.job.run)
    path = folder / STATE
    save_safetensors(path, run.weights.tensors(), run.progress().notes())
    yield Saved(run.images, path)
    model = model_facts(run)
    files = publish(run.job.name, run.weights.averaged(), run.recipe.store, model, target_facts(run))
    if run.data.held_out:
        aside = mapped(run.data.validation)[list(run.data.held_out)]
        levels = validate(run.weights.average, aside, run.levels, run.start.time_scale, run.recipe.batch_size)
        yield Validated(run.images, sum(loss for _, loss in levels) / len(levels), levels)
    if sheet and run.job.sheet_every:
        from ilvrctl.training.samples import draw_sheet, read_references

        references = read_references(run.job.references, run.recipe.square) if run.job.references else []
        picture = folder / f"sheet-{run.images:09d}.png"
        preset = build(ModelPreset, Layer({**model, "name": run.job.name}))
        caption = f"{run.job.name} after {run.images:,} pictures"
        draw_sheet(preset, files[0], references, picture, caption, str(run.device))
        yield Drawn(run.images, picture)
    if final:
        yield Published(run.job.name, files)


def model_facts(run: Run) -> dict[str, object]:
    """The model preset: what the tensors do not tell."""
    recipe, hidden = run.recipe, run.start.architecture.hidden
    facts: dict[str, object] = {
        "title": recipe.title or f"{run.job.name}, {recipe.size} px, trained here",
        "domain": run.job.name,
        "image_size": recipe.size,
        "num_heads": hidden.num_heads,
        "num_head_channels": hidden.num_head_channels,
        "num_heads_upsample": hidden.num_heads_upsample,
        "use_new_attention_order": hidden.use_new_attention_order,
        "noise_schedule": recipe.noise_schedule,
        "diffusion_steps": recipe.diffusion_steps,
        "rescale_timesteps": run.start.rescale_timesteps,
        "use": "unstated",
        "notes": recipe.notes,
    }
    return {key: value for key, value in facts.items() if value not in (None, "")}


def target_facts(run: Run) -> dict[str, object]:
    """The target preset: settings in proportion to those measured for the bundled model."""
    N = usual_factor(run.recipe.size)
    return {
        "title": run.recipe.title or f"{run.job.name} (trained here)",
        "settings": {"steps": 100, "method": {"name": "ilvr", "N": N, "range": [1.0, 0.05]}},
    }
