"""Jobs on a network made up for the test: what is loaded when, what is told, what stays on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import still_engine as load
from commands import CUP, FOX, copies, leftovers, tree

from ilvrctl.cli.display import Tally
from ilvrctl.cli.job_views import job_view
from ilvrctl.config import Layer
from ilvrctl.diffusion.denoiser import Denoiser
from ilvrctl.engine import Engine
from ilvrctl.errors import OutputError, UsageError, WeightsError
from ilvrctl.events import BatchStarted, Extra, ItemFailed, JobEvent, Loaded, Skipped, Written
from ilvrctl.plans.check import make_plan
from ilvrctl.plans.grid import Variant
from ilvrctl.plans.inputs import collect
from ilvrctl.plans.outputs import Destination, outputs_of
from ilvrctl.plans.plan import Networks, Plan
from ilvrctl.plans.record import Recipe
from ilvrctl.presets import find_model
from ilvrctl.settings import build_settings
from ilvrctl.work import run as jobs_run
from ilvrctl.work.run import run as run_plans
from ilvrctl.work.workers import Alone


def run(plan: Plan, loader: Callable[[], Engine]) -> Generator[JobEvent, None, None]:
    return run_plans([plan], Alone(lambda networks: loader()))


def plan_of(*inputs: Path, out: Path, samples: int = 1, gif: bool = False, sheet: Path | None = None) -> Plan:
    items = collect([str(path) for path in inputs], recursive=False, stdin=None).items
    outputs = outputs_of(items, range(1, samples + 1), Destination(folder=out), gif=gif)
    settings = build_settings(Layer({"steps": 3, "method": {"N": 4}}))
    plan = Plan(tuple(outputs), (Variant(settings),), find_model("emoji3d-64"), "00", sheet=sheet)
    return make_plan(plan, overwrite=False)


def named(events: list[JobEvent]) -> list[str]:
    """The events without those that only tell how far a batch is."""
    names = [type(event).__name__ for event in events]
    return [name for name in names if name not in ("BatchStarted", "StepDone")]


def counted(function: Callable[[], Engine]) -> tuple[Callable[[], Engine], list[int]]:
    calls: list[int] = []

    def wrapped() -> Engine:
        calls.append(1)
        return function()

    return wrapped, calls


def test_the_network_is_loaded_once_and_only_for_something_to_do(tmp_path: Path) -> None:
    loader, calls = counted(load)
    events = list(run(plan_of(FOX, CUP, out=tmp_path / "out"), loader))
    assert named(events) == ["Loaded", "Written", "Written"]
    events = list(run(plan_of(FOX, CUP, out=tmp_path / "out"), loader))
    assert named(events) == ["Skipped", "Skipped"]
    events = list(run(plan_of(tmp_path / "nope.png", out=tmp_path / "out"), loader))
    assert named(events) == ["ItemFailed"]
    assert calls == [1]


def test_failures_carry_the_name_for_people_and_what_they_cost(tmp_path: Path) -> None:
    missing = tmp_path / "nope.png"
    events = list(
        run(plan_of(missing, FOX, missing.with_name("no.jpg"), out=tmp_path / "out", samples=3), load)
    )
    failed = [event for event in events if isinstance(event, ItemFailed)]
    assert [(event.name, event.lost, event.sample) for event in failed] == [
        (str(missing), 3, None),
        (str(missing.with_name("no.jpg")), 3, None),
    ]
    assert [event.name for event in events if isinstance(event, Written)] == ["examples/fox.png"] * 3


def test_a_network_that_does_not_load_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Engine:
        raise WeightsError("broken")

    with pytest.raises(WeightsError):
        list(run(plan_of(FOX, out=tmp_path / "out", sheet=tmp_path / "sheet.png"), broken))
    assert tree(tmp_path) == []


def test_closing_keeps_what_is_written_and_the_same_plan_goes_on(tmp_path: Path) -> None:
    inputs = copies(tmp_path, [f"in/{n:02}.png" for n in range(40)])
    events = run(plan_of(*inputs, out=tmp_path / "out"), load)
    for event in events:
        if isinstance(event, Written):
            break
    events.close()
    there = len(tree(tmp_path / "out"))  # what was being written is written
    assert tree(tmp_path / "out") == [f"{n:02}.png" for n in range(there)]
    assert 1 <= there < 40  # more than ever wait for the disk
    rest = list(run(plan_of(*inputs, out=tmp_path / "out"), load))
    assert next(event.path.name for event in rest if isinstance(event, Skipped)) == "00.png"
    assert len([event for event in rest if isinstance(event, Written)]) == 40 - there


@pytest.mark.parametrize("moment", ["write_bytes", "replace"])
def test_an_interrupt_while_a_file_is_written_leaves_no_part(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(Path, moment)

    def interrupted(self: Path, *args: object) -> None:
        if self.name.startswith("cup"):
            self.touch()
            raise KeyboardInterrupt
        real(self, *args)

    plan = plan_of(FOX, CUP, out=tmp_path / "out")
    monkeypatch.setattr(Path, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(run(plan, load))
    assert tree(tmp_path / "out") == ["fox.png"]


def test_an_output_folder_that_turns_bad_is_told(tmp_path: Path) -> None:
    plan = plan_of(FOX, out=tmp_path / "out")
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="cannot make the folder"):
        list(run(plan, load))


def test_the_result_is_written_before_its_animation(tmp_path: Path) -> None:
    events = list(run(plan_of(FOX, out=tmp_path / "out", gif=True), load))
    assert named(events) == ["Loaded", "Written", "Extra"]
    assert [event.path.name for event in events if isinstance(event, Extra)] == ["fox.gif"]
    assert leftovers(tmp_path) == []


def test_a_sheet_is_made_of_what_was_done_now_and_before(tmp_path: Path) -> None:
    inputs = copies(tmp_path, ["in/a.png", "in/b.png"])
    list(run(plan_of(inputs[0], out=tmp_path / "out"), load))
    events = list(run(plan_of(*inputs, out=tmp_path / "out", sheet=tmp_path / "s/sheet.png"), load))
    assert named(events) == ["Skipped", "Loaded", "Written", "Extra"]
    assert tree(tmp_path / "s") == ["sheet.png"]


def test_no_sheet_of_nothing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "nope.png", out=tmp_path / "out", sheet=tmp_path / "sheet.png")
    assert named(list(run(plan, load))) == ["ItemFailed"]
    assert tree(tmp_path) == []


def test_inputs_that_vanish_are_left_out_of_the_sheet(tmp_path: Path) -> None:
    inputs = copies(tmp_path, ["in/a.png", "in/b.png"])

    def removing() -> Iterator[JobEvent]:
        for event in run(plan_of(*inputs, out=tmp_path / "out", sheet=tmp_path / "sheet.png"), load):
            if isinstance(event, Written):
                inputs[0].unlink(missing_ok=True)
            yield event

    assert named(list(removing()))[-1] == "Extra"


def test_the_event_of_loading_tells_on_what(tmp_path: Path) -> None:
    [loaded] = [event for event in run(plan_of(FOX, out=tmp_path / "out"), load) if isinstance(event, Loaded)]
    assert (loaded.model, loaded.device, loaded.precision) == ("emoji3d-64", "cpu", "fp32")
    assert loaded.seconds >= 0


def test_standard_output_gets_bytes_and_no_file(tmp_path: Path) -> None:
    plan = plan_of(FOX, out=tmp_path / "out")
    plan = replace(plan, outputs=tuple(replace(output, path=None) for output in plan.outputs))
    [written] = [event for event in run(plan, load) if isinstance(event, Written)]
    assert written.path is None
    assert written.data is not None
    assert written.data.startswith(b"\x89PNG")
    assert tree(tmp_path) == []


def grid_of(*inputs: Path, out: Path, second: str = "auto") -> Plan:
    """Inputs translated with two seeds, and a variance for the second."""
    items = collect([str(path) for path in inputs], recursive=False, stdin=None).items
    variants = [
        Variant(
            build_settings(
                Layer({"steps": 3, "seed": seed, "sampler": {"name": "ddpm", "variance": variance}})
            ),
            {"seed": seed},
            f"s{seed}",
            f"s {seed}",
        )
        for seed, variance in ((1, "auto"), (2, second))
    ]
    outputs = outputs_of(items, [1], Destination(folder=out), folders=[v.folder for v in variants])
    return make_plan(Plan(tuple(outputs), tuple(variants), find_model("emoji3d-64"), "00"), overwrite=False)


def test_a_grid_that_is_closed_goes_on_in_any_of_its_variants(tmp_path: Path) -> None:
    inputs = copies(tmp_path, [f"in/{n}.png" for n in range(3)])
    events = run(grid_of(*inputs, out=tmp_path / "out"), load)
    for event in events:
        if isinstance(event, Written) and event.path == tmp_path / "out/s2/0.png":
            break
    events.close()
    there = tree(tmp_path / "out")
    complete = ["s1", "s1/0.png", "s1/1.png", "s1/2.png", "s2", "s2/0.png", "s2/1.png", "s2/2.png"]
    assert there == complete[: len(there)]
    assert "s2/0.png" in there
    (tmp_path / "out/s1/1.png").unlink()
    rest = list(run(grid_of(*inputs, out=tmp_path / "out"), load))
    written = [
        event.path.relative_to(tmp_path / "out").as_posix() for event in rest if isinstance(event, Written)
    ]
    assert sorted(written) == ["s1/1.png", *complete[len(there) :]]  # what was being written is there too
    assert named(rest).count("Loaded") == 1


def test_a_sample_that_fails_tells_with_which_settings(tmp_path: Path) -> None:
    def broken() -> Engine:
        return replace(load(), denoiser=Denoiser(lambda x, t, y: x * float("nan")))

    failed = [e for e in run(grid_of(FOX, out=tmp_path / "out"), broken) if isinstance(e, ItemFailed)]
    assert [(event.name, event.changes, event.lost) for event in failed] == [
        ("examples/fox.png", {"seed": 1}, 1),
        ("examples/fox.png", {"seed": 2}, 1),
    ]
    line = job_view(failed[1], Tally(2)).lines[0]
    assert line.text.startswith("seed=2: the sample became NaN")


def test_every_precision_of_a_grid_has_its_own_network(tmp_path: Path) -> None:
    inputs = copies(tmp_path, ["in/a.png", "in/b.png"])
    items = collect([str(path) for path in inputs], recursive=False, stdin=None).items
    variants = [
        Variant(build_settings(Layer({"steps": 2, "precision": name, "seed": seed})), {}, f"{name}{seed}")
        for seed in (1, 2)
        for name in ("fp32", "bf16")
    ]
    outputs = outputs_of(
        items, [1], Destination(folder=tmp_path / "out"), folders=[v.folder for v in variants]
    )
    plan = Plan(tuple(outputs), tuple(variants), find_model("emoji3d-64"), "00")
    asked: list[str] = []

    def loaded(networks: Networks) -> Engine:
        asked.append(networks.precision)
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[networks.precision]
        return replace(load(), dtype=kind)

    events = list(run_plans([make_plan(plan, overwrite=False)], Alone(loaded)))
    assert asked == ["fp32", "bf16"]
    written = [event.path for event in events if isinstance(event, Written)]
    assert len(written) == 8
    for path in written:
        assert path is not None
        assert path.parent.name.startswith(Recipe.read(path.read_bytes(), path.name).precision)


def test_what_the_network_cannot_do_is_told_before_any_variant_is_begun(tmp_path: Path) -> None:
    plan = grid_of(FOX, out=tmp_path / "out", second="learned")
    with pytest.raises(UsageError, match=r"^s 2: this network has not learned"):
        list(run(plan, load))
    assert tree(tmp_path) == []


def test_a_result_that_is_being_written_when_the_run_is_stopped_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    save = jobs_run.save_picture

    def slow(*args: Any, **options: Any) -> None:
        go_on.wait(60)
        save(*args, **options)

    monkeypatch.setattr(jobs_run, "save_picture", slow)
    plan = plan_of(FOX, out=tmp_path / "out", samples=4)
    told: list[JobEvent] = []
    events = run_plans([plan], Alone(lambda networks: load()), rescued=told.append)
    begun = 0
    for event in events:
        begun += isinstance(event, BatchStarted)
        if begun == 2:
            break
    threading.Timer(0.2, go_on.set).start()
    events.close()
    assert [event.path for event in told if isinstance(event, Written)] == [
        tmp_path / "out/fox_1.png",
        tmp_path / "out/fox_2.png",
    ]
    assert tree(tmp_path / "out") == ["fox_1.png", "fox_2.png"]
