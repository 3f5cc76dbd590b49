"""One bad item never ends a run: faults put in at every stage, and errors that are everybody's."""

from __future__ import annotations

import errno
import gc
import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from checkpoints import still_engine
from commands import leftovers, pixels, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ilvrctl import engine as engines
from ilvrctl import errors, files
from ilvrctl.config import Layer
from ilvrctl.engine import Engine
from ilvrctl.errors import DeviceError, IlvrctlError, OutputError
from ilvrctl.events import BatchShrunk, ItemFailed, JobEvent, Skipped, Stopped, Written
from ilvrctl.plans.check import make_plan
from ilvrctl.plans.grid import Variant
from ilvrctl.plans.inputs import collect
from ilvrctl.plans.outputs import Destination, outputs_of
from ilvrctl.plans.plan import Plan
from ilvrctl.presets import find_model
from ilvrctl.settings import build_settings
from ilvrctl.work.batches import HELD
from ilvrctl.work.pieces import Whole
from ilvrctl.work.run import run
from ilvrctl.work.workers import Alone

COUNT = 5
ONE_ITEM = [
    ValueError("odd"),
    struct.error("unpack requires a buffer of 4 bytes"),
    MemoryError(),
    RecursionError("maximum recursion depth exceeded"),
    OSError(errno.ENAMETOOLONG, "File name too long"),
    OSError(errno.EIO, "Input/output error"),
    AssertionError(),
    ZeroDivisionError("division by zero"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
]
EVERYBODYS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS]


def plan_of(folder: Path, out: Path, *, gif: bool = False) -> Plan:
    items = collect([str(folder)], recursive=False, stdin=None).items
    outputs = outputs_of(items, [1], Destination(folder=out), gif=gif)
    chosen = build_settings(Layer({"steps": 3, "method": {"N": 4}}))
    return make_plan(
        Plan(tuple(outputs), (Variant(chosen),), find_model("emoji3d-64"), "00"), overwrite=False
    )


def pictures(folder: Path) -> None:
    """``COUNT`` pictures of one colour each: the red channel tells which one it is."""
    folder.mkdir(exist_ok=True)
    for n in range(COUNT):
        Image.new("RGB", (64, 64), (10 + 20 * n, 90, 30)).save(folder / f"{n}.png")


def number(picture: Image.Image) -> int:
    return round((picture.getpixel((5, 5))[0] - 10) / 20)


class Faults:
    """Raises at the asked stage of the asked items, every time."""

    def __init__(self, wanted: dict[int, tuple[str, Exception]]) -> None:
        self.wanted = wanted

    def at(self, stage: str, n: int) -> None:
        if n in self.wanted and self.wanted[n][0] == stage:
            raise self.wanted[n][1]

    def before(self, stage: str, which: Callable[..., int], function: Callable[..., Any]) -> Any:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.at(stage, which(*args, **options))
            return function(*args, **options)

        return wrapped

    def sample(self, denoise: Any, context: Any, *rest: Any) -> Iterator[Any]:
        """A batch fails in the middle of its steps when it holds such an item, also as a copy."""
        for done in engines_sample(denoise, context, *rest):
            for picture in context.reference:
                self.at("sampling", round((float(picture[0, 5, 5]) * 127.5 + 127.5 - 10) / 20))
            yield done


engines_sample = engines.sample
HOOKS: dict[str, tuple[str, Callable[..., int]]] = {
    "read": ("ilvrctl.plans.inputs.read_bytes", lambda path: int(path.stem)),
    "decode": ("ilvrctl.work.opening.read_picture", lambda data, name, **_: int(Path(name).stem)),
    "fit": ("ilvrctl.work.opening.fit_picture", lambda picture, *_: number(picture)),
    "tensor": ("ilvrctl.work.worker.to_tensor", lambda picture: number(picture)),
    "metadata": (
        "ilvrctl.work.run.result_record",
        lambda plan, output, *_: int(Path(output.item.name).stem),
    ),
    "write": ("ilvrctl.work.run.save_picture", lambda image, path, **_: int(path.stem)),
    "animation": ("ilvrctl.work.run.save_gif", lambda frames, path: int(path.stem)),
}
STAGES = [*HOOKS, "sampling"]


def run_with(faults: Faults, plan: Plan, engine: Engine | None = None) -> list[JobEvent]:
    from importlib import import_module

    with ExitStack() as stack:
        for stage, (target, which) in HOOKS.items():
            module, _, name = target.rpartition(".")
            real = getattr(import_module(module), name)
            stack.enter_context(patch(target, faults.before(stage, which, real)))
        stack.enter_context(patch("ilvrctl.engine.sample", faults.sample))
        return list(run([plan], Alone(lambda networks: engine or still_engine())))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.integers(0, COUNT - 1),
        st.tuples(st.sampled_from(STAGES), st.sampled_from(ONE_ITEM)),
        max_size=COUNT,
    )
)
def test_what_goes_wrong_with_some_items_is_theirs_alone(wanted: dict[int, tuple[str, Exception]]) -> None:
    with TemporaryDirectory() as name:
        place = Path(name)
        pictures(place / "in")
        quiet = list(run([plan_of(place / "in", place / "quiet")], Alone(lambda networks: still_engine())))
        assert len([event for event in quiet if isinstance(event, Written)]) == COUNT
        plan = plan_of(place / "in", place / "out", gif=True)
        events = run_with(Faults(wanted), plan)
        failed = [event for event in events if isinstance(event, ItemFailed)]
        written = [event for event in events if isinstance(event, Written)]
        assert sorted(Path(event.name).stem for event in failed) == sorted(map(str, wanted))
        assert len(written) + sum(event.lost for event in failed) == COUNT
        assert all(isinstance(event.error, IlvrctlError) and event.error.message for event in failed)
        for event in written:
            assert event.path is not None
            assert pixels(event.path) == pixels(place / "quiet" / event.path.name)
        assert leftovers(place) == []


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("error", ONE_ITEM[1:5:2] + ONE_ITEM[2:3], ids=lambda error: type(error).__name__)
def test_the_failure_tells_the_name_and_keeps_the_traceback(
    stage: str, error: Exception, tmp_path: Path
) -> None:
    pictures(tmp_path / "in")
    plan = plan_of(tmp_path / "in", tmp_path / "out", gif=True)
    events = run_with(Faults({2: (stage, error)}), plan)
    [failed] = [event for event in events if isinstance(event, ItemFailed)]
    assert Path(failed.name).name == "2.png"
    causes = [failed.error.__cause__, getattr(failed.error.__cause__, "__cause__", None)]
    assert error in causes
    if stage != "sampling" or not isinstance(error, MemoryError):
        assert failed.error.message.startswith(failed.name)


def test_a_fault_that_does_not_come_back_costs_nothing(tmp_path: Path) -> None:
    pictures(tmp_path / "in")
    faults = Faults({1: ("sampling", ValueError("once"))})
    real = faults.at

    def once(stage: str, n: int) -> None:
        try:
            real(stage, n)
        except ValueError:
            faults.wanted = {}
            raise

    faults.at = once  # type: ignore[method-assign]
    events = run_with(faults, plan_of(tmp_path / "in", tmp_path / "out"))
    assert len([event for event in events if isinstance(event, Written)]) == COUNT


def test_one_that_runs_out_of_memory_shrinks_batches_and_fails_alone(tmp_path: Path) -> None:
    pictures(tmp_path / "in")
    events = run_with(
        Faults({1: ("sampling", MemoryError())}),
        plan_of(tmp_path / "in", tmp_path / "out"),
        replace(still_engine(), batch_size=4),
    )
    [failed] = [event for event in events if isinstance(event, ItemFailed)]
    assert "out of memory on cpu with a single 64 px sample" in failed.error.message
    assert tree(tmp_path / "out") == ["0.png", "2.png", "3.png", "4.png"]
    shrunk = [(event.before, event.now) for event in events if isinstance(event, BatchShrunk)]
    assert shrunk == [(4, 2), (2, 1)]  # each size is tried once: what fits is remembered


def test_a_network_that_fits_nowhere_ends_the_run(tmp_path: Path) -> None:
    def no_room(*_: Any) -> Any:
        raise MemoryError

    pictures(tmp_path / "in")
    tight = replace(still_engine(), denoiser=replace(still_engine().denoiser, network=no_room))
    with pytest.raises(DeviceError, match="out of memory"):
        run_with(Faults({}), plan_of(tmp_path / "in", tmp_path / "out"), tight)


def test_a_device_that_is_lost_ends_the_run_and_the_next_goes_on(tmp_path: Path) -> None:
    pictures(tmp_path / "in")
    lost = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might ...")
    plan = plan_of(tmp_path / "in", tmp_path / "out")
    with pytest.raises(
        DeviceError, match="cpu was lost: CUDA error: an illegal memory access was encountered"
    ):
        run_with(Faults({3: ("sampling", lost)}), plan)
    assert tree(tmp_path / "out") == ["0.png", "1.png"]
    again = run_with(Faults({}), plan_of(tmp_path / "in", tmp_path / "out"))
    assert len([event for event in again if isinstance(event, Skipped)]) == 2
    assert len([event for event in again if isinstance(event, Written)]) == 3


@pytest.mark.parametrize("code", EVERYBODYS, ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("moment", ["write_bytes", "replace", "mkdir"])
def test_what_would_meet_every_item_is_told_once_and_keeps_what_is_done(
    code: int, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "in")
    plan = plan_of(tmp_path / "in", tmp_path / "out")
    real = getattr(Path, moment)

    def full(self: Path, *args: Any, **options: Any) -> Any:
        if self.name.startswith(("2", "3", "4")) or moment == "mkdir":
            raise OSError(code, "no")
        return real(self, *args, **options)

    monkeypatch.setattr(Path, moment, full)
    with pytest.raises(OutputError):
        run_with(Faults({}), plan)
    monkeypatch.undo()
    there = tree(tmp_path / "out") if (tmp_path / "out").exists() else []
    assert there == [] if moment == "mkdir" else ["0.png", "1.png"]
    assert len(run_with(Faults({}), plan_of(tmp_path / "in", tmp_path / "out"))) > 0
    assert tree(tmp_path / "out") == [f"{n}.png" for n in range(COUNT)]
    assert leftovers(tmp_path) == []


def test_parts_that_a_kill_left_are_removed_and_those_of_others_stay(tmp_path: Path) -> None:
    pictures(tmp_path / "in")
    run_with(Faults({}), plan_of(tmp_path / "in", tmp_path / "out"))
    (tmp_path / "out/1.png.part").write_bytes(b"half")
    (tmp_path / "out/download.part").write_bytes(b"not ours")
    (tmp_path / "out/4.png").rename(tmp_path / "out/4.png.part")
    run_with(Faults({}), plan_of(tmp_path / "in", tmp_path / "out"))
    assert leftovers(tmp_path) == ["out/download.part"]
    assert "4.png" in tree(tmp_path / "out")


def test_a_run_that_stops_tells_how_many_are_left(tmp_path: Path) -> None:
    pictures(tmp_path / "in")
    (tmp_path / "in/1.png").write_bytes(b"")
    plan = plan_of(tmp_path / "in", tmp_path / "out")
    events = list(run([plan], Alone(lambda networks: still_engine()), max_failures=1))
    stopped = events[-1]
    assert isinstance(stopped, Stopped)
    finished = [event for event in events if isinstance(event, (Written, ItemFailed))]
    assert stopped.left + len(finished) >= COUNT - 2  # two may be written after the stop
    assert stopped.failures == 1


def every_kind(kind: type[IlvrctlError] = IlvrctlError) -> list[type[IlvrctlError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in every_kind(below))]


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_errors_keep_their_kind_and_their_traceback_on_the_way_to_another_process(
    kind: type[IlvrctlError],
) -> None:
    known = {errors.ForeignSettingError: ("key", "why", "do this")}
    with pytest.raises(kind) as caught:
        raise kind(*known.get(kind, ("why", "do this")))
    error = caught.value
    error.message = "named: why"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.message, again.hint, again.exit_code) == ("named: why", "do this", kind.exit_code)
    assert vars(again) == vars(error)
    assert "test_work_failures.py" in str(again.__cause__)


DENIED = PermissionError(errno.EACCES, "Permission denied", "out/a.png")


def caused(error: IlvrctlError, cause: Exception) -> IlvrctlError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (errors.item_error(ValueError("odd"), "writing", "a.png"), True),
        (errors.item_error(MemoryError(), "fitting", "a.png"), True),
        (errors.DeviceMemoryError("out of memory"), True),
        (DeviceError("3 workers were lost at it"), True),
        (caused(files.unwritable(Path("a.png"), DENIED), DENIED), True),
        (OutputError("a picture of 70000 x 1 cannot be written as JPEG"), False),
        (errors.InputError("a.png is damaged"), False),
        (errors.NonFiniteError("the sample became NaN"), False),
        (errors.UsageError("the pictures differ in size"), False),
    ],
    ids=lambda value: getattr(value, "message", None),
)
def test_a_failure_may_pass_unless_it_is_the_inputs_own(error: IlvrctlError, passes: bool) -> None:
    assert errors.may_pass(error) is passes


def pictures_in_memory() -> int:
    gc.collect()
    return sum(type(one) is Whole for one in gc.get_objects())


def test_memory_is_flat_however_many_inputs_there_are(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(160):
        Image.new("RGB", (8, 8), (n, 90, 30)).save(tmp_path / f"in/{n}.png")
    before, most, written = pictures_in_memory(), 0, 0
    for event in run([plan_of(tmp_path / "in", tmp_path / "out")], Alone(lambda networks: still_engine())):
        if isinstance(event, Written):
            written += 1
            if written % 80 == 0:
                most = max(most, pictures_in_memory() - before)
    assert written == 160
    assert most <= HELD + 3 * 8  # kept for other settings, read ahead, waiting for the disk
