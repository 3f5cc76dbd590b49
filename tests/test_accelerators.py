"""The engine on an accelerator, as far as a machine without one can show it: see tests/accelerator.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerator import PRETENDED, Accelerator, put
from checkpoints import architecture_of, random_state_dict
from conftest import GOLDEN, TESTS
from test_models_classifier import build, small
from torch import Tensor

from ilvrctl import devices
from ilvrctl.config import Layer
from ilvrctl.diffusion import lowpass, noise
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.diffusion.samplers import SAMPLERS
from ilvrctl.diffusion.schedule import Schedule
from ilvrctl.engine import Engine, Reference
from ilvrctl.errors import UsageError
from ilvrctl.events import BatchStarted, SampleDone, SampleFailed, StepDone
from ilvrctl.methods.build import method_names
from ilvrctl.models.adm import AdmUNet
from ilvrctl.models.architecture.hidden_flags import HiddenFlags
from ilvrctl.models.files.loading import load_classifier
from ilvrctl.models.vgg import Relu11
from ilvrctl.settings import Settings, build_settings

SIZE, BATCH, STEPS = 16, 2, 3
CPU = torch.device("cpu")
OPERATORS = set((TESTS / "operators.txt").read_text(encoding="utf-8").split())
"""All that the engine computes with on an accelerator."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "ilvr": {"N": 4},
    "sddm": {"blocks": 4, "refinements": 1},
    "egsde": {"energies": {"low_pass": {"N": 8}}},
    "paint": {"N": 8},
    "sddm+egsde": {"blocks": 4, "refinements": 1, "energies": {"low_pass": {"N": 8}}},
}
"""What the methods' definitions, for 256 px, are at 16 px."""
FLAGS = {
    "image_size": SIZE,
    "num_channels": 32,
    "channel_mult": "1,1",
    "num_res_blocks": 1,
    "num_head_channels": 16,
    "attention_resolutions": "8",
    "resblock_updown": True,
    "use_scale_shift_norm": True,
    "learn_sigma": True,
}
MORE: Mapping[str, Mapping[str, Any]] = {
    "merged by block": {
        "method": {"name": "sddm", "blocks": 4, "merge": {"name": "min_norm", "over": "block"}}
    },
    "merged by the older rule": {"method": {"name": "sddm", "blocks": 4, "merge": "pair"}},
    "features of vgg": {"method": {"name": "sddm", "blocks": 4, "energies": {"vgg": 25.0}}},
    "a classifier": {
        "method": {"name": "egsde", "energies": {"dse": 0, "low_pass": 0, "classifier": {"label": 1}}}
    },
    "gradients at x0": {
        "method": {"name": "egsde", "energies": {"low_pass": {"N": 8, "gradient": "x0"}, "dse": 0}}
    },
    "several N, drawn noise": {"method": {"N": 2, "N_above": [[0.5, 8]], "start": 0.9}, "sampler": "ddim"},
    "means of drawn blocks": {
        "method": {"name": "sddm", "constraint": {"blocks": 4, "order": 1}, "energies": {}}
    },
    "resampled twice": {"method": {"N": 4, "resample": [1, 2]}},
    "two passes": {"method": {"name": "sdedit", "repeats": 2}},
    "deep features reused": {"method": {"N": 4}, "reuse": 2},
    "noise in the step": {"method": {"N": 4}, "sampler": {"name": "ddim", "eta": 0.5}},
}


@cache
def loaded(name: str, dtype: torch.dtype) -> Any:
    if name == "vgg":
        torch.manual_seed(0)
        return Relu11().requires_grad_(False).eval()
    if name == "dse":
        return load_classifier(GOLDEN / "dse.pt", HiddenFlags(num_head_channels=16), device=CPU)
    if name == "classifier":
        return build(small("adaptive"))
    architecture = architecture_of(FLAGS)
    network = AdmUNet(architecture)
    network.load_state_dict(random_state_dict(architecture))
    return network.to_precision(dtype).requires_grad_(False).eval()


def engine(place: Accelerator | None, precision: str = "fp32", **facts: Any) -> Engine:
    """On the accelerator, or on the CPU."""
    dtype = PRECISIONS[precision]
    network = (loaded if place is None else loaded_there)("unet", dtype)
    device = CPU if place is None else PRETENDED
    made = Engine(Denoiser(network), Schedule.named("linear"), SIZE, device, dtype, BATCH, "learned", **facts)
    return made.with_source(made)


@cache
def loaded_there(name: str, dtype: torch.dtype) -> Any:
    return put(loaded(name, dtype))


def energies(place: Accelerator | None) -> dict[str, Any]:
    load = loaded if place is None else loaded_there
    return {name: load(name, torch.float32) for name in ("dse", "vgg", "classifier")}


def settings(**values: Any) -> Settings:
    return build_settings(Layer({"steps": STEPS, **values}))


def references(count: int, *, masked: bool = False) -> list[Reference]:
    draws = torch.Generator().manual_seed(3)
    free = (torch.arange(SIZE) < SIZE // 2).expand(1, SIZE, SIZE) if masked else None
    pictures = [torch.rand(3, SIZE, SIZE, generator=draws) * 2 - 1 for _ in range(count)]
    return [Reference(n, y, f"{n:064x}", free=free) for n, y in enumerate(pictures)]


def finished(made: Iterator[Any]) -> list[Tensor]:
    return [event.x for event in made if isinstance(event, SampleDone)]


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """One like CUDA, with pinned memory, inside its block."""
    monkeypatch.setattr(devices, "_PINNING", {PRETENDED.type})
    lowpass._placed.cache_clear()
    with Accelerator() as place:
        yield place
    lowpass._placed.cache_clear()


def run_quietly(place: Accelerator, how: Settings, precision: str = "fp32", **masked: bool) -> list[Tensor]:
    """The samples of a batch, with all that its making may not do asserted."""
    made = engine(place, precision)
    found = []
    for event in made.translate(references(BATCH, **masked), how, networks=energies(place)):
        if isinstance(event, BatchStarted):
            place.forget()
        elif isinstance(event, StepDone):
            assert not place.waits
            assert {how for _, how in place.uploads} <= {"pinned"}
            assert set(place.downloads) <= {((), "pinned")}  # whether anything is left
            if event.i > 0:
                assert set(place.uploads) <= {((BATCH, 3, SIZE, SIZE), "pinned")}  # noise
            place.uploads.clear()
        elif isinstance(event, SampleDone):
            found.append(event.x)
    assert not place.waits
    new = set(place.operators) - OPERATORS
    assert not new, f"does MPS have {sorted(new)}? then tests/operators.txt"
    ends = [shape for shape, how in place.downloads if how == "plain"]
    assert sorted(ends) == [(BATCH,), (BATCH, 3, SIZE, SIZE)]  # one look at what is finite, and the results
    return found


def same(how: Settings, found: list[Tensor], **masked: bool) -> None:
    expected = finished(engine(None).translate(references(BATCH, **masked), how, networks=energies(None)))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)


CASES = [
    pytest.param(*case, marks=() if case[-1] == "fp32" else pytest.mark.slow)
    for case in product(method_names(), SAMPLERS, PRECISIONS)
]


@pytest.mark.parametrize(("method", "sampler", "precision"), CASES)
def test_every_method_sampler_and_precision(
    method: str, sampler: str, precision: str, accelerator: Accelerator
) -> None:
    how = settings(method={"name": method, **SMALL.get(method, {})}, sampler=sampler)
    try:
        how.method.encoder.check(how.sampler)
    except UsageError:
        assert how.method.two_models
        return
    found = run_quietly(accelerator, how, precision)
    assert len(found) == BATCH
    assert all(x.isfinite().all() for x in found)
    if precision == "fp32":
        same(how, found)


@pytest.mark.parametrize("name", MORE)
def test_every_piece_of_a_method(name: str, accelerator: Accelerator) -> None:
    how = settings(**MORE[name])
    same(how, run_quietly(accelerator, how))


def test_masks(accelerator: Accelerator) -> None:
    how = settings(method={"N": 4})
    same(how, run_quietly(accelerator, how, masked=True), masked=True)


@pytest.fixture
def like_mps(accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch) -> Accelerator:
    """One without float64 and pinned memory."""
    monkeypatch.setattr(devices, "_PINNING", frozenset())
    monkeypatch.setattr(devices, "_SINGLE", {PRETENDED.type})
    return accelerator


@pytest.mark.parametrize("method", [{"name": "sddm+egsde", **SMALL["sddm+egsde"]}, {"name": "ilvr", "N": 4}])
def test_without_float64(method: dict[str, Any], like_mps: Accelerator) -> None:
    how = settings(method=method)
    made = engine(like_mps).translate(references(BATCH), how, networks=energies(like_mps))
    same(how, finished(made))
    assert not like_mps.kinds.keys() & {torch.float64, torch.complex64, torch.complex128}
    assert not any(how == "pinned" for _, how in [*like_mps.uploads, *like_mps.downloads])


def test_mps_has_every_operator() -> None:
    """By the table of the installed torch."""
    import torchgen

    table = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    entries = yaml.load(table.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    found = {entry["func"].partition("(")[0]: entry for entry in entries}
    names = {name.removesuffix(".default") for name in OPERATORS}
    assert len(names & found.keys()) > 80
    for name in sorted(names & found.keys()):
        entry = found[name]
        kernels = found[entry["structured_delegate"]] if "structured_delegate" in entry else entry
        keys = {key.strip() for several in kernels.get("dispatch", {}) for key in several.split(",")}
        assert not keys or any(key == "MPS" or key.startswith("Composite") for key in keys), name


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("processors", [1, 3])
def test_noise_is_that_of_the_cpu_whoever_draws_it(
    count: int, processors: int, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "_processors", lambda: processors)
    seeds, shape = [7 * n for n in range(count)], (3, 8, 8)
    with noise.NoiseStream(seeds, shape, PRETENDED) as there, noise.NoiseStream(seeds, shape, CPU) as here:
        for _ in range(4):
            assert torch.equal(there().cpu(), here())
    assert accelerator.uploads == [((count, *shape), "pinned")] * 4
    assert not [one for one in threading.enumerate() if one.name.startswith("noise")]


def test_a_lost_batch_is_given_up_without_a_wait(accelerator: Accelerator) -> None:
    """The flag is on its way while the next steps are made."""
    calls = 0

    def lost(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        nonlocal calls
        calls += 1
        return x * float("nan")

    broken = replace(engine(accelerator), denoiser=Denoiser(lost), variance="fixed_small", source=None)
    events = list(broken.translate(references(BATCH), settings(steps=100, method={"N": 4})))
    assert sum(isinstance(event, SampleFailed) for event in events) == BATCH
    assert calls < 30
    assert not accelerator.waits
