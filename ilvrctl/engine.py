"""The engine: load once, then translate, batch by batch. It yields events and writes nothing."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, cast

import torch

from ilvrctl.arithmetic import each_stated
from ilvrctl.devices import (
    choose_device,
    choose_precision,
    default_batch_size,
    out_of_memory,
    precision_name,
    uploaded,
)
from ilvrctl.diffusion.denoiser import Denoise, Denoiser, SelfConditioned
from ilvrctl.diffusion.matching import check_match, match_channels, match_levels, match_sizes
from ilvrctl.diffusion.noise import NoiseStream, drawn_class, noise_seed
from ilvrctl.diffusion.reuse import Reusing, splitting
from ilvrctl.diffusion.samplers import DDPM, Variance
from ilvrctl.diffusion.schedule import Schedule, Step, spread_levels
from ilvrctl.errors import DeviceMemoryError, UsageError
from ilvrctl.events import (
    BatchShrunk,
    BatchStarted,
    EngineEvent,
    SampleDone,
    SampleFailed,
    SampleId,
    StepDone,
)
from ilvrctl.finiteness import Finiteness, lost_at
from ilvrctl.methods import Context, Method
from ilvrctl.methods.encoders import Inversion, no_source
from ilvrctl.models.files.verdict import check_class, picture_problem, verdict_on
from ilvrctl.sampling import sample
from ilvrctl.sizes import Size

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ilvrctl.presets import ModelPreset
    from ilvrctl.settings import Settings


@dataclass(frozen=True)
class Reference:
    """An input: ``picture`` (C, H, W) float32 in [-1, 1], and the numbers of the ``samples`` to make of it.

    ``key`` tells it from other inputs; ``digest``, sha256 of the input's bytes, seeds its noise, together with the
    ``seed``, that of the settings where it is None. ``free`` (1, H, W), boolean: the pixels that may change; None
    is all of them. ``given``: noise that the sampling starts from, where its method wants it; ``keep``: whether the
    noise that an encoder finds is told with the sample. ``whole``: the digest of the input that it is a part of.
    """

    key: Hashable
    picture: Tensor
    digest: str
    samples: tuple[int, ...] = (1,)
    seed: int | None = None
    free: Tensor | None = None
    given: Inversion | None = None
    keep: bool = False
    whole: str = ""

    @property
    def kind(self) -> tuple[Any, ...]:
        """What the references of a batch must have in common."""
        return tuple(self.picture.shape), self.free is None

    @property
    def asked(self) -> list[Asked]:
        """Each of its samples."""
        return [(SampleId(self.key, n), self) for n in self.samples]


Asked = tuple[SampleId, Reference]
"""A sample to make, and of what."""


@dataclass(frozen=True)
class Engine:
    """A network in memory with its levels; :meth:`translate` turns references into samples.

    ``variance`` is what ancestral sampling uses unless told otherwise. ``class_count`` is None for an unconditional
    network; ``null_class``: the one that means none. ``source``: the network of the references' own kind, for
    methods with two; both stay in memory (a 256 px network is 0.2 to 0.4 GB), as CycleDiffusion calls them in turn
    at every step. ``multiple``: the sides of a picture of another size must be multiples of it. ``image_size`` as in a
    model preset; ``channels`` of a picture.
    """

    denoiser: Denoiser
    schedule: Schedule
    image_size: int | str
    device: torch.device
    dtype: torch.dtype
    batch_size: int
    variance: Variance = "fixed_small"
    class_count: int | None = None
    null_class: int | None = None
    source: Engine | None = None
    multiple: int = 1
    channels: int = 3

    @classmethod
    def load(
        cls,
        model: ModelPreset,
        weights: Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        compiled: bool = False,
        word: str = "model",
    ) -> Engine:
        """Load a checkpoint with the facts of its preset; ``word``: how hints name it, "model" or "source".

        Experts for higher levels are loaded when a step first asks for them. WeightsError for a file that is no such
        network, UsageError when its picture size is not known, DeviceError for a device that is not there.
        """
        from ilvrctl.models.files.contents import contents_of
        from ilvrctl.models.opened import denoiser_of, late_denoiser

        info = verdict_on(weights, model, any_class=True, word=word, numbers=False).require()
        place = choose_device(device)
        how = choose_precision(precision, place), place, compiled
        upper = [(e.down_to, e.network) for e in model.experts if e.network is not None]
        known = [info.facts, *(contents_of(one.path(), one.weights, numbers=False).facts for _, one in upper)]
        size = Size.of(model.image_size or str(info.facts["image_size"]))
        experts = tuple((down_to, late_denoiser(one, one.path(), *how)) for down_to, one in upper)
        return cls(
            denoiser=replace(denoiser_of(model, weights, *how), experts=experts),
            schedule=Schedule.of(model),
            image_size=size.plain,
            device=place,
            dtype=how[0],
            batch_size=batch_size or default_batch_size(place, size),
            variance="learned" if all(facts.get("learn_sigma") for facts in known) else model.variance,
            class_count=cast("int | None", info.facts.get("num_classes")),
            null_class=model.null_class,
            multiple=math.lcm(*(int(str(facts["downsample_factor"])) for facts in known)),
            channels=int(str(info.facts["channels"])),
        )

    def with_source(self, source: Engine, *, sized: bool = False) -> Engine:
        """With the network that encodes, asked at the noise levels of this one's chain.

        UsageError when they differ in channels or size; ``sized``: settings may give one, see :meth:`check`.
        """
        match_channels(source.channels, self.channels)
        if not sized:
            match_sizes(source.image_size, self.image_size)
        levels = match_levels(source.schedule, self.schedule)
        source = replace(source, denoiser=replace(source.denoiser, levels=levels))
        return replace(self, source=source, multiple=math.lcm(self.multiple, source.multiple))

    @property
    def size(self) -> Size:
        """Of the pictures that the network was trained on."""
        return Size.of(self.image_size)

    @property
    def precision(self) -> str:
        """``fp32``, ``bf16`` or ``fp16``."""
        return precision_name(self.dtype)

    def translate(
        self,
        references: Iterable[Reference],
        settings: Settings,
        *,
        networks: Mapping[str, Any] | None = None,
    ) -> Generator[EngineEvent, None, None]:
        """Make the samples of every reference, in batches filled across references.

        References are taken as they are needed. ``networks`` and errors as for :meth:`make`; where memory was too
        small for a batch, those that follow are of the size that fits.
        """
        self.check(settings)
        if networks is None:
            networks = settings.method.load(self.device)
        waiting: deque[Asked] = deque()
        source = iter(references)
        limit = self.batch_size
        while True:
            while len(waiting) < limit and (reference := next(source, None)) is not None:
                waiting.extend(reference.asked)
            batch = _alike(waiting, limit)
            if not batch:
                return
            with closing(self.make(batch, settings, networks)) as events:
                for event in events:
                    if isinstance(event, BatchShrunk):
                        limit = event.now
                    yield event
            for _ in batch:
                waiting.popleft()

    def make(
        self, batch: Sequence[Asked], settings: Settings, networks: Mapping[str, Any]
    ) -> Generator[EngineEvent, None, None]:
        """Make samples of references of one kind together, ``batch_size`` of them at most.

        ``networks``: those of the method, loaded. Where memory runs out, half as many are begun again, with the
        same noise. UsageError when the settings cannot work for this model, DeviceMemoryError when even one sample
        does not fit into memory.
        """
        steps = self.check(settings)
        size = min(len(batch), self.batch_size)
        while batch:
            part = batch[:size]
            try:
                yield from self._batch(part, settings, steps, networks)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise DeviceMemoryError(
                        f"out of memory on {self.device} with a single {settings.size_for(self.size)} px sample",
                        hint="--precision bf16 halves the memory; --device cpu uses the main memory",
                    ) from error
                size = len(part) // 2
            else:
                batch = batch[size:]
                continue
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            yield BatchShrunk(len(part), size)

    @torch.no_grad()
    def invert(self, batch: Sequence[Asked], settings: Settings) -> list[Inversion]:
        """The pictures of a batch as noise, by the settings' encoder and its ``source``; nothing is decoded.

        Errors as for :meth:`make`.
        """
        steps, method = self.check(settings), settings.method
        assert self.source is not None  # as the method has two models
        found = Inversion()
        seeds = [_noise_seed(settings, ref, name.sample) for name, ref in batch]
        references = uploaded(torch.stack([ref.picture for _, ref in batch]), self.device)
        with NoiseStream(
            seeds, cast("tuple[int, int, int]", tuple(references.shape[1:])), self.device
        ) as noise:
            source = self.source.denoise(settings, self.source._classes(batch, settings))
            context = Context(references, self.schedule, noise, source=source, found=found)
            x = references
            for _, encoded, _ in method.encoder.encode(context, steps):
                x = encoded
            _, memory = method.begin(context, steps, settings.sampler.of_network(self.variance), x)
            for _ in memory.path or ():
                pass
        return [found.of(b) for b in range(len(batch))]

    def check(self, settings: Settings) -> list[Step]:
        """The chain that the settings mean for this model; UsageError when they cannot work."""
        steps = settings.check(self.schedule, self.image_size)
        made = (settings.bits, settings.grey, settings.picture_size)
        if (wrong := picture_problem(self.channels, *made, factor=self.multiple)) is not None:
            raise wrong
        if settings.sampler.wants_learned and self.variance != "learned":
            raise UsageError("this network has not learned a variance", hint="--variance fixed_small")
        check_class(settings.class_label, self.class_count, self.null_class)
        if settings.reuse > 1:
            for one in dict.fromkeys(self.denoiser.at(k) for k in steps):
                splitting(one.network, settings.reuse_blocks)
        if settings.method.two_models:
            if self.source is None:
                raise no_source(settings.method.name)
            if settings.picture_size is None:
                match_sizes(self.source.image_size, self.image_size)
            check_match(self.source.denoiser.levels, steps)
            if self.source.class_count is not None:
                check_class(settings.class_label, self.source.class_count, self.source.null_class)
        return steps

    def _batch(
        self,
        batch: Sequence[Asked],
        settings: Settings,
        steps: Sequence[Step],
        networks: Mapping[str, Any],
    ) -> Generator[EngineEvent, None, None]:
        names = tuple(name for name, _ in batch)
        seeds = [_noise_seed(settings, ref, name.sample) for name, ref in batch]
        references = uploaded(torch.stack([ref.picture for _, ref in batch]), self.device)
        shape = (references.shape[1], references.shape[2], references.shape[3])
        method = settings.method
        up = len(steps) if method.encoder.climbs else 0
        yield BatchStarted(names, up + method.repeats * len(method.walk(steps)))
        with NoiseStream(seeds, shape, self.device) as noise:
            labels = self._classes(batch, settings)
            denoise = self.denoise_batch(settings, labels)
            source = self.source if method.two_models else None
            given = [ref.given for _, ref in batch]
            fresh = settings.sampler.stochastic or method.levels(self.schedule.T) < self.schedule.T
            context = Context(
                references,
                self.schedule,
                noise,
                fresh,
                networks,
                None if source is None else source.denoise(settings, source._classes(batch, settings)),
                free=_stacked([ref.free for _, ref in batch], self.device),
                class_label=labels,
                given=Inversion.together(given, self.device) if method.encoder.given else None,
                found=Inversion() if any(ref.keep for _, ref in batch) else None,
                arithmetic=self.denoiser.arithmetic.fitting(settings.fit),
            )
            walked: list[Step] = []
            health = Finiteness(len(batch), self.device)
            sampler = settings.sampler.of_network(self.variance)
            for done in each_stated(sample(denoise, context, steps, method, sampler), self.device):
                walked.append(done.k)
                if health.all_lost(done.x, done.i):
                    break
                yield StepDone(names, done.i, done.n, done.k.t, done.x, done.x0)
        finished = done.x.cpu()
        for b, (name, bad) in enumerate(zip(names, health.first(), strict=True)):
            if bad >= 0:
                yield SampleFailed(name, lost_at(walked[bad], self.precision))
            else:
                found = context.found if batch[b][1].keep else None
                yield SampleDone(name, finished[b], None if found is None else found.of(b))

    def unconditional(self, count: int, *, seed: int = 0, steps: int = 100) -> Iterator[Tensor]:
        """``count`` samples out of noise alone, (C, H, W) in about [-1, 1], by ancestral sampling."""
        shape = (self.channels, self.size.height, self.size.width)
        chain = self.schedule.steps(spread_levels(self.schedule.T, steps))
        for start in range(0, count, self.batch_size):
            seeds = [noise_seed(seed, "sample", n) for n in range(start, min(count, start + self.batch_size))]
            with NoiseStream(seeds, shape, self.device) as noise:
                nothing = torch.zeros(len(seeds), *shape, device=self.device)
                context = Context(nothing, self.schedule, noise)
                for done in sample(self.denoiser, context, chain, Method(), DDPM(self.variance)):
                    x = done.x
            yield from x.cpu()

    def denoise(self, settings: Settings, labels: tuple[int, ...] | None = None) -> Denoiser:
        """The network as the settings want it; ``labels``: the class of each picture."""
        clip = settings.clip_denoised and self.denoiser.clip_denoised
        classes = None if labels is None else uploaded(torch.tensor(labels), self.device)
        arithmetic = self.denoiser.arithmetic.fitting(settings.fit)
        return replace(self.denoiser, clip_denoised=clip, class_label=classes, arithmetic=arithmetic)

    def _classes(self, batch: Sequence[Asked], settings: Settings) -> tuple[int, ...] | None:
        """The class of each sample; None for a network without classes."""
        wanted, count = settings.class_label, self.class_count
        if count is None or wanted is None:
            return None
        if wanted == "random":
            return tuple(
                drawn_class(_seed(settings, ref), ref.whole or ref.digest, name.sample, count)
                for name, ref in batch
            )
        return (self.null_class or 0 if wanted == "none" else wanted,) * len(batch)

    def denoise_batch(self, settings: Settings, labels: tuple[int, ...] | None = None) -> Denoise:
        """The network for one batch: what it reuses is kept within it."""
        denoiser = self.denoise(settings, labels)
        if settings.reuse == 1:
            return SelfConditioned(denoiser) if denoiser.self_condition else denoiser
        network = splitting(denoiser.network, settings.reuse_blocks)
        return Reusing(denoiser, network, settings.reuse, settings.reuse_blocks)


def _seed(settings: Settings, reference: Reference) -> int:
    return settings.seed if reference.seed is None else reference.seed


def _noise_seed(settings: Settings, reference: Reference, sample: int) -> int:
    return noise_seed(_seed(settings, reference), reference.digest, sample)


def _alike(waiting: Sequence[Asked], limit: int) -> list[Asked]:
    """The next batch: references of one kind in a row, so that no result depends on its neighbours."""
    first = list(islice(waiting, limit))
    return list(takewhile(lambda one: one[1].kind == first[0][1].kind, first))


def _stacked(masks: Sequence[Tensor | None], device: torch.device) -> Tensor | None:
    found = [mask for mask in masks if mask is not None]
    return uploaded(torch.stack(found), device) if found else None
