"""How float32 is computed: stated while something is, and the caller's at all other times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_engine_loop import Fake, engine, reference, settings

from ilvrctl.arithmetic import EXACT, Arithmetic, _Switches
from ilvrctl.work.worker import Worker

B: Any = torch.backends
CUDA = torch.device("cuda")
NEWER = hasattr(B.cuda.matmul, "fp32_precision")
CALLERS: dict[str, Callable[[], object]] = {
    "as torch begins": lambda: None,
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "no tf32": lambda: setattr(B.cudnn, "allow_tf32", False),
    "benchmark": lambda: setattr(B.cudnn, "benchmark", True),
    "deterministic": lambda: setattr(B.cudnn, "deterministic", True),
}
if NEWER:
    CALLERS |= {
        "newer, products": lambda: setattr(B.cuda.matmul, "fp32_precision", "tf32"),
        "newer, convolutions": lambda: setattr(B.cudnn.conv, "fp32_precision", "ieee"),
        "newer, all": lambda: setattr(B, "fp32_precision", "tf32"),
        "newer, of CPUs": lambda: setattr(B.mkldnn.matmul, "fp32_precision", "bf16"),
    }


def asked(question: Callable[[], object]) -> object:
    """The answer; torch refuses it where the older switches cannot say what the newer ones are set to."""
    try:
        return question()
    except RuntimeError:
        return "unsaid"


def switches() -> dict[str, object]:
    found = {
        "products": asked(torch.get_float32_matmul_precision),
        "tf32 products": asked(lambda: B.cuda.matmul.allow_tf32),
        "tf32 convolutions": asked(lambda: B.cudnn.allow_tf32),
        "benchmark": B.cudnn.benchmark,
        "deterministic": B.cudnn.deterministic,
    }
    if NEWER:
        places = (B.cuda.matmul, B.cudnn.conv, B.cudnn.rnn, B.mkldnn.matmul, B.mkldnn.conv)
        found |= {f"newer {n}": place.fp32_precision for n, place in enumerate(places)}
    return found


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before, all_of_them = _Switches.now(), B.fp32_precision if NEWER else None
    yield
    if NEWER:
        B.fp32_precision = all_of_them
    before.restore()


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("half", [False, True])
def test_the_switches_are_stated_and_put_back(caller: str, half: bool) -> None:
    CALLERS[caller]()
    before = switches()
    with Arithmetic(half).stated(CUDA):
        if NEWER:
            assert {B.cuda.matmul.fp32_precision, B.cudnn.conv.fp32_precision} == {"tf32" if half else "ieee"}
        else:
            assert {B.cuda.matmul.allow_tf32, B.cudnn.allow_tf32} == {half}
        assert B.cudnn.benchmark is half
        assert B.cudnn.deterministic is not half
    assert switches() == before
    with pytest.raises(ZeroDivisionError), Arithmetic(half).stated(CUDA):
        1 / 0  # noqa: B018
    assert switches() == before


def test_half_precision_has_no_tf32_but_on_cuda() -> None:
    with Arithmetic(half=True).stated(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == "highest"


def test_the_engine_s_switches_are_not_its_caller_s() -> None:
    class Seeing(Fake):
        def __call__(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
            assert torch.get_float32_matmul_precision() == "highest"
            assert B.cudnn.benchmark is fixed
            return super().__call__(x, t, y)

    torch.set_float32_matmul_precision("medium")
    before = switches()
    for fixed in (True, False):
        chosen = settings(fit="crop" if fixed else "native")
        network = Seeing()
        made = engine(network)
        made = replace(made, denoiser=replace(made.denoiser, arithmetic=Arithmetic(half=True)))
        for _ in made.translate([reference(1)], chosen):
            assert switches() == before
        assert len(network.batches) == 5
        events = made.translate([reference(1)], chosen)
        for _ in range(3):
            next(events)
        events.close()
        assert switches() == before


def test_what_is_recorded() -> None:
    assert EXACT.record("cuda") == {"float32": "ieee", "cudnn": "deterministic"}
    assert Arithmetic(half=True).record("cuda") == {"float32": "tf32", "cudnn": "benchmark"}
    assert Arithmetic(half=True).fitting("native").record("cuda") == {
        "float32": "tf32",
        "cudnn": "heuristics",
    }
    assert EXACT.record("cpu") == EXACT.record("mps") == {}
    facts = Worker(engine(Fake())).facts()
    assert facts.run_with(settings()) == facts.run
