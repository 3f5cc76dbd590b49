"""Masked references: what is kept, what may change, and walking a chain several times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ilvrctl.config import Layer
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.resampling import resampled
from ilvrctl.diffusion.samplers import SAMPLERS, DPMSolver2M
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.engine import Engine, Reference
from ilvrctl.errors import UsageError
from ilvrctl.events import BatchStarted, SampleDone, SampleId, StepDone
from ilvrctl.settings import Settings, build_settings

SIZE = 16
SCHEDULE = Schedule.named("linear", 1000)
METHODS: Sequence[dict[str, Any]] = (
    {"name": "ilvr", "N": 4},
    {"name": "sddm", "blocks": 4},
    {"name": "sdedit", "start": 0.5},
    {"name": "sdedit", "start": 1.0},
)


def network(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
    return 0.3 * x + 0.1 * x.flip(-1)


def engine(batch_size: int = 4) -> Engine:
    return Engine(Denoiser(network), SCHEDULE, SIZE, torch.device("cpu"), torch.float32, batch_size)


def settings(method: dict[str, Any], **values: Any) -> Settings:
    return build_settings(Layer.of("test", {"steps": 8, "method": method, **values}))


def picture(n: int) -> Tensor:
    return torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(n)) * 2 - 1


def mask() -> Tensor:
    free = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    free[:, 5:11, 3:9] = True
    return free


def reference(n: int, free: Tensor | None = None) -> Reference:
    return Reference(f"picture {n}", picture(n), digest=f"{n:064x}", free=free)


def results(references: Sequence[Reference], chosen: Settings, batch_size: int = 4) -> dict[SampleId, Tensor]:
    events = engine(batch_size).translate(references, chosen)
    return {event.sample: event.x for event in events if isinstance(event, SampleDone)}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m['name']} {m.get('start', '')}")
@pytest.mark.parametrize("resample", [[10, 1], [2, 3]])
def test_kept_pixels_come_out_as_they_were_and_free_ones_change(
    method: dict[str, Any], sampler: str, resample: list[int]
) -> None:
    chosen = settings({**method, "resample": resample}, sampler=sampler)
    free = mask()
    [x] = results([reference(1, free)], chosen).values()
    assert torch.equal(x[~free.expand_as(x)], picture(1)[~free.expand_as(x)])
    changed = (x - picture(1)).abs()[free.expand_as(x)]
    assert x.isfinite().all()
    assert (changed > 1e-4).float().mean() > 0.9


def test_kept_pixels_have_the_noise_of_every_level_on_the_way() -> None:
    large = torch.zeros(1, 64, 64, dtype=torch.bool)
    large[:, :4] = True
    flat = Reference("flat", torch.full((3, 64, 64), 0.5), digest="a", free=large)
    chosen = settings({"name": "ilvr", "N": 4})
    for event in engine().translate([flat], chosen):
        if isinstance(event, StepDone):
            k = chosen.chain(SCHEDULE)[event.i]
            kept = event.x[0][~large.expand(3, 64, 64)]
            assert abs(float(kept.mean()) - 0.5 * k.alpha_s) < 5 * k.sigma_s / len(kept) ** 0.5 + 1e-6
            assert abs(float(kept.std()) - k.sigma_s) < 0.03 * k.sigma_s + 1e-6


def test_where_all_is_free_a_mask_changes_nothing() -> None:
    chosen = settings({"name": "ilvr", "N": 4})
    everything = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    [masked] = results([reference(1, everything)], chosen).values()
    [plain] = results([reference(1)], chosen).values()
    assert torch.equal(masked, plain)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_result_depends_on_no_neighbour_masked_or_not(sampler: str) -> None:
    chosen = settings({"name": "ilvr", "N": 4, "resample": [2, 2]}, sampler=sampler)
    many = [reference(1, mask()), reference(2), reference(3, mask()), reference(4, mask())]
    together = results(many, chosen)
    for batch_size in (1, 2, 4):
        for one in many:
            alone = results([one], chosen, batch_size)
            assert torch.allclose(alone[SampleId(one.key, 1)], together[SampleId(one.key, 1)], atol=1e-5)
    backwards = results(many[::-1], chosen)
    assert all(torch.allclose(backwards[name], x, atol=1e-5) for name, x in together.items())


def test_pictures_of_other_sizes_make_batches_of_their_own() -> None:
    wide = Reference("wide", torch.zeros(3, 16, 24), digest="b")
    started = [
        event.samples
        for event in engine().translate([reference(1), reference(2), wide, reference(3)], settings({"N": 4}))
        if isinstance(event, BatchStarted)
    ]
    assert [[name.key for name in batch] for batch in started] == [
        ["picture 1", "picture 2"],
        ["wide"],
        ["picture 3"],
    ]


def test_a_multistep_sampler_forgets_where_pixels_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = DPMSolver2M.step

    def step(self: DPMSolver2M, x: Tensor, prediction: Any, k: Any, noise: Any, carry: Any) -> Any:
        seen.append(carry)
        return real(self, x, prediction, k, noise, carry)

    monkeypatch.setattr(DPMSolver2M, "step", step)
    results([reference(1, mask())], settings({"name": "sdedit", "start": 1.0}, sampler="dpmpp_2m"))
    assert seen == [None] * 8
    seen.clear()
    results([reference(1)], settings({"name": "sdedit", "start": 1.0}, sampler="dpmpp_2m"))
    assert [carry is None for carry in seen] == [True, *[False] * 7]


@pytest.mark.parametrize(
    ("steps", "jump", "times", "calls"), [(250, 10, 10, 2410), (50, 5, 3, 140), (25, 5, 5, 105), (9, 3, 1, 9)]
)
def test_resampling_makes_as_many_calls_as_published(steps: int, jump: int, times: int, calls: int) -> None:
    chosen = settings({"N": 4, "resample": [jump, times]}, steps=steps)
    assert chosen.network_calls(SCHEDULE) == calls


def test_the_walk_goes_back_and_down_again() -> None:
    steps = settings({"N": 4}, steps=6).chain(SCHEDULE)
    walk = [(k.i, None if back is None else back.i) for k, back in resampled(steps, 2, 2)]
    down = [(i, None) for i in range(6)]
    assert walk == [*down[:2], (2, 1), *down[1:4], (4, 3), *down[3:]]
    assert resampled(steps, 2, 1) == [(k, None) for k in steps]


def test_resampling_that_cannot_be() -> None:
    for jump, times, words in [
        (8, 2, "goes back 8 steps, and there are only 8"),
        (0, 2, "both numbers start at 1"),
    ]:
        with pytest.raises(UsageError, match=words):
            results([reference(1, mask())], settings({"N": 4, "resample": [jump, times]}))
    with pytest.raises(UsageError, match="walks its path once"):
        settings({"name": "ddib", "resample": [2, 2]}, sampler="ddim").check(SCHEDULE, SIZE)
