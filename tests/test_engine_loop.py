"""The engine on networks made up for the test: what it calls, what it tells, and what it does when they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ilvrctl.config import Layer
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.lowpass import LowPass
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.engine import Engine, Reference
from ilvrctl.errors import DeviceError, NonFiniteError, UsageError
from ilvrctl.events import BatchShrunk, BatchStarted, SampleDone, SampleFailed, SampleId, StepDone
from ilvrctl.settings import Settings, build_settings

SIZE = 16
Network = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


class Fake:
    """A network that predicts a little of x as its noise, and remembers the sizes of the batches it saw."""

    def __init__(self, most: int = 99, error: Exception | None = None) -> None:
        self.most = most
        self.error = error or RuntimeError("DefaultCPUAllocator: can't allocate memory: out of memory")
        self.batches: list[int] = []
        self.levels: list[float] = []
        self.gradients: list[bool] = []

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        self.batches.append(len(x))
        self.levels.append(t[0].item())
        self.gradients.append(torch.is_grad_enabled())
        if len(x) > self.most:
            raise self.error
        return 0.1 * x


def engine(network: Network, batch_size: int = 4, **facts: Any) -> Engine:
    return Engine(
        denoiser=Denoiser(network),
        schedule=Schedule.named("linear", 1000),
        image_size=SIZE,
        device=torch.device("cpu"),
        dtype=torch.float32,
        batch_size=batch_size,
        **facts,
    )


def settings(**values: Any) -> Settings:
    return build_settings(Layer.of("test", {"steps": 5, "method": {"N": 4}, **values}))


def reference(n: int, samples: Sequence[int] = (1,)) -> Reference:
    picture = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(n)) * 2 - 1
    return Reference(f"picture {n}", picture, digest=f"{n:064x}", samples=tuple(samples))


def results(events: Sequence[Any]) -> dict[SampleId, Tensor]:
    return {event.sample: event.x for event in events if isinstance(event, SampleDone)}


def kinds(events: Sequence[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_events_come_in_the_promised_order() -> None:
    events = list(engine(Fake(), batch_size=2).translate([reference(1, (1, 2)), reference(2)], settings()))
    one_batch = ["BatchStarted", *["StepDone"] * 5]
    assert kinds(events) == [*one_batch, "SampleDone", "SampleDone", *one_batch, "SampleDone"]
    started = events[0]
    assert isinstance(started, BatchStarted)
    assert started.samples == (SampleId("picture 1", 1), SampleId("picture 1", 2))
    assert started.steps == 5
    steps = [event for event in events if isinstance(event, StepDone)][:5]
    assert [(step.i, step.n) for step in steps] == [(i, 5) for i in range(5)]
    assert [step.t for step in steps] == [999, 749, 500, 250, 0]
    assert all(step.x.shape == step.x0.shape == (2, 3, SIZE, SIZE) for step in steps)
    assert [event.sample for event in events if isinstance(event, SampleDone)] == [
        SampleId("picture 1", 1),
        SampleId("picture 1", 2),
        SampleId("picture 2", 1),
    ]


def test_what_a_finished_sample_brings() -> None:
    [done] = [e for e in engine(Fake()).translate([reference(1)], settings()) if isinstance(e, SampleDone)]
    assert done.x.shape == (3, SIZE, SIZE)
    assert done.x.dtype == torch.float32


def test_the_network_is_called_once_a_step_and_batch() -> None:
    network = Fake()
    list(engine(network, batch_size=2).translate([reference(n) for n in range(3)], settings()))
    assert network.batches == [2] * 5 + [1] * 5
    assert network.levels[:5] == [999, 749, 500, 250, 0]


def test_phi_is_applied_once_a_conditioned_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = LowPass.__call__

    def counted(self: LowPass, x: Tensor) -> Tensor:
        calls.append(x.shape)
        return real(self, x)

    monkeypatch.setattr(LowPass, "__call__", counted)
    chosen = settings(method={"N": 4, "range_t": 1})
    list(engine(Fake()).translate([reference(1), reference(2)], chosen))
    # Of five steps those with 4, 3 and 2 to go are conditioned; nothing else needs phi.
    assert calls == [(2, 3, SIZE, SIZE)] * 3


def test_gradients_are_off_in_the_loop_and_on_for_the_caller() -> None:
    network = Fake()
    seen = [torch.is_grad_enabled() for _ in engine(network).translate([reference(1)], settings())]
    assert not any(network.gradients)
    assert all(seen)
    assert torch.is_grad_enabled()


def test_references_are_taken_as_they_are_needed() -> None:
    taken = []

    def lazily() -> Iterator[Reference]:
        for n in range(4):
            taken.append(n)
            yield reference(n)

    events = engine(Fake(), batch_size=2).translate(lazily(), settings())
    assert isinstance(next(events), BatchStarted)
    assert taken == [0, 1]


def test_closing_the_iterator_stops_at_once() -> None:
    network = Fake()
    events = engine(network, batch_size=2).translate((reference(n) for n in range(9)), settings())
    for event in events:
        if isinstance(event, StepDone) and event.i == 1:
            break
    events.close()
    assert len(network.batches) == 2
    with pytest.raises(StopIteration):
        next(events)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: not enough memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "mps", "python"],
)
def test_out_of_memory_halves_the_batch_and_changes_no_pixel(error: Exception) -> None:
    references = [reference(n) for n in range(5)]
    expected = results(list(engine(Fake()).translate(references, settings())))
    network = Fake(most=2, error=error)
    events = list(engine(network, batch_size=5).translate(references, settings()))
    assert [event for event in events if isinstance(event, BatchShrunk)] == [BatchShrunk(5, 2)]
    found = results(events)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert network.batches == [5] + [2] * 5 + [2] * 5 + [1] * 5


def test_out_of_memory_in_the_middle_of_a_batch() -> None:
    class Later(Fake):
        def __call__(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
            self.most = 1 if t[0] < 600 else 9
            return super().__call__(x, t, y)

    references = [reference(n) for n in range(2)]
    events = list(engine(Later()).translate(references, settings()))
    expected = results(list(engine(Fake()).translate(references, settings())))
    assert kinds(events)[:4] == ["BatchStarted", "StepDone", "StepDone", "BatchShrunk"]
    assert all(torch.equal(x, expected[name]) for name, x in results(events).items())
    assert len(results(events)) == 2


def test_out_of_memory_with_a_single_sample_is_an_error_of_the_device() -> None:
    events = engine(Fake(most=0), batch_size=4).translate([reference(1), reference(2)], settings())
    with pytest.raises(DeviceError, match="out of memory on cpu with a single 16 px sample") as caught:
        list(events)
    assert caught.value.hint


def test_other_errors_of_the_network_are_bugs_and_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(
            engine(Fake(most=0, error=RuntimeError("shapes do not match"))).translate(
                [reference(1)], settings()
            )
        )


def test_nan_in_one_picture_fails_only_that_one() -> None:
    def network(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        out = 0.1 * x
        if t[0] == 500:
            out[1, 0, 3, 3] = float("nan")
        return out

    references = [reference(n) for n in range(3)]
    events = list(engine(network).translate(references, settings()))
    [failed] = [event for event in events if isinstance(event, SampleFailed)]
    assert failed.sample == SampleId("picture 1", 1)
    assert isinstance(failed.error, NonFiniteError)
    assert failed.error.message == "the sample became NaN or infinite at step 3 of 5 (level 500) in fp32"
    assert failed.error.hint
    expected = results(list(engine(Fake()).translate(references, settings())))
    found = results(events)
    assert set(found) == {SampleId("picture 0", 1), SampleId("picture 2", 1)}
    assert all(torch.equal(x, expected[name]) for name, x in found.items())


def test_a_batch_of_which_all_are_nan_is_given_up_early() -> None:
    network = Fake()

    def broken(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return network(x, t, y) * float("nan")

    events = list(engine(broken).translate([reference(1), reference(2)], settings(steps=100)))
    assert len(network.batches) < 20
    assert kinds(events)[-2:] == ["SampleFailed", "SampleFailed"]
    assert "at step 1 of 100" in events[-1].error.message  # type: ignore[union-attr]


def test_a_result_depends_on_its_own_input_seed_and_number_alone() -> None:
    alone = results(list(engine(Fake()).translate([reference(2, (3,))], settings())))
    beside = results(list(engine(Fake()).translate([reference(n, (1, 2, 3)) for n in range(4)], settings())))
    name = SampleId("picture 2", 3)
    assert torch.equal(alone[name], beside[name])
    other = results(list(engine(Fake()).translate([reference(2, (3,))], settings(seed=1))))
    assert not torch.equal(alone[name], other[name])
    renamed = replace(reference(2, (3,)), key="another name")
    assert torch.equal(
        alone[name],
        results(list(engine(Fake()).translate([renamed], settings())))[SampleId("another name", 3)],
    )


class Classes(Fake):
    labels: ClassVar[list[list[int]]] = []

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        assert y is not None
        self.labels.append(y.tolist())
        return super().__call__(x, t, y)


def test_class_labels() -> None:
    conditional = engine(Classes(), class_count=10)
    list(conditional.translate([reference(1), reference(2)], settings(class_label=7)))
    assert Classes.labels == [[7, 7]] * 5
    for model, label, words in [
        (conditional, None, "trained with 10 classes and needs one"),
        (conditional, 10, "class label 10 is not among the 10 classes"),
        (engine(Fake()), 7, "trained without classes"),
    ]:
        with pytest.raises(UsageError, match=words):
            list(model.translate([reference(1)], settings(class_label=label)))


def test_settings_that_cannot_work_are_refused_before_the_network_is_called() -> None:
    network = Fake()
    for values, words in [
        ({"method": {"N": 5}}, "N = 5 does not divide the picture size 16"),
        ({"steps": 2000}, "steps must be from 1 to 1000"),
        ({"sampler": {"name": "ddpm", "variance": "learned"}}, "has not learned a variance"),
    ]:
        with pytest.raises(UsageError, match=words):
            list(engine(network).translate([reference(1)], settings(**values)))
    assert network.batches == []


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_any_number_of_steps_gives_finite_samples(steps: int) -> None:
    for sampler in ("ddpm", "ddim"):
        chosen = settings(steps=steps, sampler=sampler, method={"N": 4, "range_t": -1})
        [x] = results(list(engine(Fake()).translate([reference(1)], chosen))).values()
        assert x.isfinite().all()
