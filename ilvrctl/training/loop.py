"""The training loop, one for all tasks: a generator of events that goes on where the state on disk left off."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ilvrctl import paths
from ilvrctl.arithmetic import Arithmetic, each_stated
from ilvrctl.devices import choose_device, choose_precision, precision_name
from ilvrctl.errors import NonFiniteError, UsageError
from ilvrctl.events import Warned
from ilvrctl.files import make_folder
from ilvrctl.training.batches import as_channels_last
from ilvrctl.training.course import FOR_EVER, Course, Leg, average_decay
from ilvrctl.training.denoising import Denoising
from ilvrctl.training.disk import check_room
from ilvrctl.training.domains import Domains
from ilvrctl.training.events import Advanced, Began, Drawn, Published, Saved, TrainingEvent
from ilvrctl.training.job import Data, Job, Reading
from ilvrctl.training.publish import publish
from ilvrctl.training.recipe import DomainRecipe, record
from ilvrctl.training.start import begin, begin_classifier
from ilvrctl.training.state import AVERAGE, STATE, Progress, check_same, read_progress
from ilvrctl.training.task import Forward, Task
from ilvrctl.training.team import Team
from ilvrctl.training.weights import Weights

REPORT_EVERY = 2.0  # seconds
_STATE_BYTES = 16  # a parameter: the weight, its average and AdamW's two moments


@dataclass
class Run:
    """A training in memory: what moves are ``weights``, ``step``, ``seconds``, and the ``leg`` at its end."""

    job: Job
    task: Task[Any]
    course: Course
    team: Team
    device: torch.device
    dtype: torch.dtype
    weights: Weights
    before: Progress
    step: int = 0
    seconds: float = 0.0
    leg: Leg | None = None

    @property
    def images(self) -> int:
        """Pictures seen."""
        return self.step * self.job.recipe.batch_size

    def progress(self) -> Progress:
        """As it goes to disk."""
        return replace(self.before, step=self.step, seconds=self.seconds, leg=self.leg)


def train(job: Job, team: Team, reading: Reading, stop: Callable[[], bool]) -> Iterator[TrainingEvent]:
    """Train until the job's limits, or until ``stop`` says so; the state is on disk either way.

    Raises UsageError when the state on disk is that of other settings or pictures, OutputError when there is no
    room for what it will write, before any picture is read, or when the disk is full later on (the last state
    stays), and NonFiniteError when the loss is no number any more.
    """
    task, device, dtype = _begin(job, team)
    yield from task.remarks()
    if team.leads:
        _check_room(job, task)
    data = yield from _until(reading, stop if team.size == 1 else lambda: False)
    if data is None:
        return
    run = _prepare(job, team, task, data, device, dtype)
    if run.leg and run.course.decay is None and run.leg.share(run.images, run.seconds) < 1:
        yield Warned("the decay that had begun is given up: --decay goes on with it")
    task.take(data)
    yield Began(
        name=job.name,
        parameters=sum(p.numel() for p in run.weights.masters),
        pictures=sum(len(part.train) for part in data),
        held_out=sum(len(part.held_out) for part in data),
        images=run.images,
        total=job.recipe.images if job.recipe.images < FOR_EVER else 0,
        device=str(device),
        precision=precision_name(dtype),
    )
    network = team.together(run.weights.network, device)
    forward = torch.compile(network) if job.compiled else network
    steps = _steps(run, forward, stop, _trained_on(data))
    yield from each_stated(steps, device, Arithmetic(half=dtype != torch.float32))


def _until(
    reading: Reading, stop: Callable[[], bool]
) -> Generator[TrainingEvent, None, tuple[Data, ...] | None]:
    """What a generator returns, unless it is told to stop before its end."""
    while not stop():
        try:
            yield next(reading)
        except StopIteration as end:
            found: tuple[Data, ...] = end.value
            return found
    return None


def _begin(job: Job, team: Team) -> tuple[Task[Any], torch.device, torch.dtype]:
    name = f"cuda:{team.local_rank}" if team.size > 1 and job.device in ("auto", "cuda") else job.device
    device = choose_device(name if torch.cuda.is_available() else job.device)
    dtype = choose_precision(job.precision, device)
    if dtype == torch.float16:
        if job.precision != "auto":
            raise UsageError("training in fp16 loses small gradients", "--precision bf16 or fp32")
        dtype = torch.float32
    if isinstance(job.recipe, DomainRecipe):
        return Domains(job, begin_classifier(job.recipe), device), device, dtype
    return Denoising(job, begin(job.recipe), device, dtype), device, dtype


def _check_room(job: Job, task: Task[Any]) -> None:
    count = sum(p.numel() for p in task.start.network.parameters())
    each = (2 if job.recipe.store == "fp16" else 4) * count
    check_room({job.run: _STATE_BYTES * count + each, paths.weights_dir(): 2 * each})


def _prepare(
    job: Job, team: Team, task: Task[Any], data: tuple[Data, ...], device: torch.device, dtype: torch.dtype
) -> Run:
    recipe = task.recipe
    network = as_channels_last(task.start.network, device)
    now = Progress(
        recipe=record(job.recipe),
        pictures="+".join(part.pictures.digest for part in data),
        held_out="+".join(part.validation.digest for part in data),
        init=task.start.digest,
        teacher=task.teacher_digest,
    )
    weights = Weights(network, dtype, recipe.learning_rate, recipe.weight_decay)
    run = Run(job, task, job.course, team, device, dtype, weights, now)
    before = read_progress(job.run)
    if before is not None:
        from ilvrctl.models.files.saving import read_safetensors

        check_same(before, now, record(type(job.recipe)()), job.name)
        tensors, _ = read_safetensors(job.run / STATE)
        weights.restore(tensors, before.step)
        run.step, run.seconds, run.leg = before.step, before.seconds, before.leg
    return run


def _steps(run: Run, forward: Forward, stop: Callable[[], bool], trained_on: str) -> Iterator[TrainingEvent]:
    """Steps until the end, with reports by the clock and everything else at a state."""
    team = run.team
    losses: list[Tensor] = []
    clock = told = saved = time.perf_counter()
    told_images, states = run.images, 0
    while True:
        now = time.perf_counter()
        run.leg = run.course.leg(run.images, run.seconds, run.leg)
        at = (run.images, run.seconds, run.leg)
        now_due = (now - told > REPORT_EVERY, now - saved > run.job.save_every)
        # the first process decides for all, so that they stay in step whatever their clocks say
        share, rate, telling, keeping = team.agree((run.course.share(*at), run.course.rate(*at), *now_due))
        over = share >= 1 or team.any(stop())
        if losses and (telling or over):
            loss = float(torch.stack(losses).mean())
            _check(loss, run)
            yield _advanced(run, loss, (run.images - told_images) / max(now - told, 1e-9), share, rate)
            losses, told, told_images = [], now, run.images
        if over or keeping:
            if team.leads:
                files = yield from _keep(run, trained_on)
                final = share >= 1
                if final or not over:  # who stops a training waits for the state alone
                    yield from _judge(run, files[0], sheet=final or states % max(1, run.job.sheet_every) == 0)
                if final:
                    yield Published(run.job.name, files)
            team.wait()
            if over:
                return
            states += 1
            clock = told = saved = time.perf_counter()  # what was spent on this is no training time
        losses.append(_step(run, forward, share, rate))
        run.step += 1
        tick = time.perf_counter()
        run.seconds += tick - clock
        clock = tick


def _step(run: Run, forward: Forward, share: float, rate: float) -> Tensor:
    """One update; returns the loss, on the device."""
    recipe = run.task.recipe
    loss = run.task.loss(forward, run.step, share, run.team.share(recipe.batch_size))
    loss.backward()  # type: ignore[no-untyped-call]
    run.weights.update(rate, recipe.clip, average_decay(recipe, run.step))
    return loss.detach()


def _check(loss: float, run: Run) -> None:
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"the loss became {loss} after {run.images:,} pictures, at most {REPORT_EVERY:.0f} s ago",
            "the last state on disk is good; begin again with a lower --set learning_rate=...",
        )


def _advanced(run: Run, loss: float, pace: float, share: float, rate: float) -> Advanced:
    left = (1 - share) / share * run.seconds if share > 0 else math.inf
    return Advanced(
        step=run.step,
        images=run.images,
        loss=loss,
        rate=pace,
        left=max(0.0, left),
        share=min(1.0, share),
        learning_rate=rate,
    )


def _keep(run: Run, trained_on: str) -> Generator[TrainingEvent, None, tuple[Path, ...]]:
    """State to disk, then the model to where it can be used: returns its files."""
    from ilvrctl.models.files.facts_header import facts_note
    from ilvrctl.models.files.saving import save_safetensors

    job, task = run.job, run.task
    folder = make_folder(job.run)
    save_safetensors(folder / STATE, run.weights.tensors(), run.progress().notes())
    yield Saved(run.images, folder / STATE)
    facts = {
        **task.model_facts(),
        "format": task.format,
        "channels": job.recipe.channels,
        "averaged": job.recipe.ema > 0,
        "pictures_seen": run.images,
        "trained_on": trained_on,
    }
    averaged = run.weights.averaged(job.recipe.store)
    save_safetensors(folder / AVERAGE, averaged, facts_note(facts))
    notes = {"notes": job.recipe.notes} if job.recipe.notes else {}
    preset = {**task.model_facts(), "format": task.format, "use": "unstated", **notes}
    return publish(job.name, folder / AVERAGE, averaged, preset, task.target_facts())


def _judge(run: Run, weights: Path, *, sheet: bool) -> Iterator[TrainingEvent]:
    """What the average is worth, of which ``weights`` is the file, and perhaps a sheet of what it makes."""
    yield from run.task.verdict_on(run.weights.average, run.images)
    picture = run.job.run / f"sheet-{run.images:09d}.png"
    if sheet and run.job.sheet_every and run.task.draw_sheet(weights, picture, run.images):
        yield Drawn(run.images, picture)


def _trained_on(data: tuple[Data, ...]) -> str:
    """The pictures in words: how many, and what stands for them."""
    return " and ".join(f"{len(part.train)} pictures ({part.pictures.digest[:16]})" for part in data)
