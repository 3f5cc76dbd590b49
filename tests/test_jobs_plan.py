"""Plans: which inputs become which files, and which of these are there already. No network, no torch."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from commands import CUP, FOX, copies, slowness
from PIL import Image

from ilvrctl import api, config, files, paths
from ilvrctl.config import Layer
from ilvrctl.errors import InputError, OutputError, UsageError
from ilvrctl.images.io import open_picture, save_picture
from ilvrctl.memory import remembered, remembering
from ilvrctl.plans import digest
from ilvrctl.plans.check import make_plan
from ilvrctl.plans.digest import sha256_hex, weights_sha256
from ilvrctl.plans.grid import Variant
from ilvrctl.plans.inputs import Item, collect
from ilvrctl.plans.jobs import plans_of
from ilvrctl.plans.jobs_file import OWN
from ilvrctl.plans.names import Earlier, named
from ilvrctl.plans.outputs import Destination, Output, outputs_of
from ilvrctl.plans.parameters import parameters_of
from ilvrctl.plans.parameters_of_drawing import PAGE
from ilvrctl.plans.places import exists, is_file, is_folder, place, real
from ilvrctl.plans.plan import Plan, Where, network_facts
from ilvrctl.plans.record import Recipe, result_record
from ilvrctl.presets import find_model
from ilvrctl.settings import build_settings
from ilvrctl.work.machine import Machine

RUN = {"device": "cpu", "precision": "fp32", "torch": "2"}


def items_of(*names: str | Path, recursive: bool = False, output: Path | None = None) -> list[Item]:
    outputs = [] if output is None else [output]
    found = collect([str(name) for name in names], recursive=recursive, stdin=None, outputs=outputs)
    return list(found.items)


def plan_of(*inputs: Path, out: Path, samples: int = 1, gif: bool = False, **settings: object) -> Plan:
    outputs = outputs_of(items_of(*inputs), range(1, samples + 1), Destination(folder=out), gif=gif)
    return Plan(
        tuple(outputs),
        (Variant(build_settings(Layer({"method": {"N": 4}, **settings}))),),
        find_model("emoji3d-64"),
        "00",
    )


def make(plan: Plan, output: Output) -> None:
    """Put a result of the plan where it belongs, without a network."""
    assert output.path is not None
    output.path.parent.mkdir(parents=True, exist_ok=True)
    data = output.item.read()
    save_picture(
        open_picture(data, "a"), output.path, record=result_record(plan, output, sha256_hex(data), RUN)
    )


def test_names_and_keys_of_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copies(tmp_path, ["in/a.png"])
    [item] = items_of("./in/a.png", "in/../in/a.png")
    assert (item.name, item.stem, item.key) == ("./in/a.png", "a", str(real(tmp_path) / "in/a.png"))
    [example] = items_of(FOX)
    assert (example.name, example.key) == ("examples/fox.png", str(real(FOX)))
    assert [item.name for item in items_of(paths.EXAMPLES)][:2] == [
        "examples/astronaut.png",
        "examples/boxing-glove.png",
    ]
    [stdin] = collect(["-"], recursive=False, stdin=b"data").items
    assert (stdin.name, stdin.stem, stdin.key, stdin.read()) == ("standard input", "stdin", "-", b"data")


def test_two_pictures_with_one_short_name_stay_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copies(tmp_path, ["examples/fox.png"])
    first, second = items_of(FOX, "examples/cup.png")
    assert first.name == "examples/fox.png"
    assert second.name == "examples/cup.png"
    with pytest.raises(UsageError, match=r"examples/fox\.png and examples/fox\.png would both be written"):
        named(items_of(FOX, "examples/fox.png"), Earlier(lambda stem: ()))


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no inputs"):
        items_of()
    [item] = items_of(tmp_path / "nope.png")
    with pytest.raises(InputError, match="does not exist"):
        item.read()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-", Destination()),
        ("out", Destination(folder=Path("out"))),
        ("out/", Destination(folder=Path("out"))),
        ("my.png", Destination(file=Path("my.png"))),
        ("a/my.JPG", Destination(file=Path("a/my.JPG"))),
        ("my.png/", Destination(folder=Path("my.png"))),
        ("results.v2", Destination(folder=Path("results.v2"))),
    ],
)
def test_destinations(text: str, expected: Destination) -> None:
    assert Destination.parse(text) == expected


def test_done_is_the_same_input_settings_weights_and_number(tmp_path: Path) -> None:
    a, b = copies(tmp_path, ["a.png", "b.png"])
    plan = plan_of(a, b, out=tmp_path / "out", samples=2)
    make(plan, plan.outputs[0])
    marked = make_plan(plan, overwrite=False)
    assert [output.status for output in marked.outputs] == ["done", "to do", "to do", "to do"]
    assert marked.pending == marked.outputs[1:]


def test_anything_else_is_in_the_way(tmp_path: Path) -> None:
    [a] = copies(tmp_path, ["a.png"])
    plan = plan_of(a, out=tmp_path / "out")
    make(plan, plan.outputs[0])
    model = replace(plan.model, noise_schedule="cosine")
    for other in (
        plan_of(a, out=tmp_path / "out", seed=1),
        replace(plan, weights_sha256="11"),
        replace(plan, model=model),
    ):
        with pytest.raises(UsageError, match=r"a\.png is there already"):
            make_plan(other, overwrite=False)
        assert [output.status for output in make_plan(other, overwrite=True).outputs] == ["to do"]
    a.write_bytes(CUP.read_bytes())
    with pytest.raises(UsageError, match="is there already"):
        make_plan(plan, overwrite=False)
    a.unlink()
    assert make_plan(plan, overwrite=False).outputs[0].status == "to do"


def test_what_a_model_is_called_or_where_it_comes_from_is_not_its_identity(tmp_path: Path) -> None:
    [a] = copies(tmp_path, ["a.png"])
    plan = plan_of(a, out=tmp_path / "out")
    renamed = replace(plan, model=replace(plan.model, name="x", title="y", file="z", notes="n"))
    assert renamed.identities == plan.identities


def test_many_files_in_the_way_are_counted(tmp_path: Path) -> None:
    inputs = copies(tmp_path, [f"{n}.png" for n in range(5)])
    copies(tmp_path / "out", [f"{n}.png" for n in range(5)])
    with pytest.raises(UsageError, match=r"2\.png and 2 more are there already"):
        make_plan(plan_of(*inputs, out=tmp_path / "out"), overwrite=False)


def test_a_result_without_its_animation_is_made_again(tmp_path: Path) -> None:
    [a] = copies(tmp_path, ["a.png"])
    plan = plan_of(a, out=tmp_path / "out", gif=True)
    make(plan, plan.outputs[0])
    assert make_plan(plan, overwrite=False).outputs[0].status == "to do"
    (tmp_path / "out/a.gif").write_bytes(b"GIF89a")
    assert make_plan(plan, overwrite=False).outputs[0].status == "done"


def test_places_are_looked_at_and_not_touched(tmp_path: Path) -> None:
    [a] = copies(tmp_path, ["a.png"])
    make_plan(plan_of(a, out=tmp_path / "new/deep"), overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(OutputError, match=r"a\.png is not a folder"):
        make_plan(plan_of(a, out=a / "out"), overwrite=False)
    (tmp_path / "out/a.png").mkdir(parents=True)
    with pytest.raises(UsageError, match="is a folder"):
        make_plan(plan_of(a, out=tmp_path / "out"), overwrite=True)


def test_a_recipe_is_what_was_recorded(tmp_path: Path) -> None:
    [a] = copies(tmp_path, ["a.png"])
    plan = plan_of(a, out=tmp_path / "out", seed=3)
    make(plan, plan.outputs[0])
    recipe = Recipe.read((tmp_path / "out/a.png").read_bytes(), "a.png")
    assert (recipe.identity,) == plan.identities
    assert build_settings(Layer(recipe.settings)) == plan.variants[0].settings
    assert recipe.facts == network_facts(plan.model)
    assert (recipe.model, recipe.weights_sha256, recipe.sample, recipe.precision) == (
        "emoji3d-64",
        "00",
        1,
        "fp32",
    )
    assert recipe.input_sha256 == sha256_hex(a.read_bytes())
    for record in ("[]", "{", '{"identity": 1}'):
        save_picture(open_picture(a.read_bytes(), "a"), tmp_path / "bad.png", record=record)
        with pytest.raises(InputError, match=r"bad\.png is no result"):
            Recipe.read((tmp_path / "bad.png").read_bytes(), "bad.png")


def test_questions_about_odd_paths_have_an_answer(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (loop, tmp_path / ("x" * 300), tmp_path / "nope"):
        assert not exists(path)
        assert not is_file(path)
        assert not is_folder(path)
        real(path)
    (tmp_path / "link").symlink_to(tmp_path)
    assert place(tmp_path / "link/link") == real(tmp_path) / "link"


def test_digests_of_large_weights_are_remembered_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "_REMEMBER_ABOVE", 10)
    weights = tmp_path / "big.pt"
    weights.write_bytes(b"a" * 100)
    first = weights_sha256(weights)
    assert first == sha256_hex(b"a" * 100)
    with monkeypatch.context() as patch:
        patch.setattr(digest, "sha256", lambda: pytest.fail("the file was read again"))
        assert weights_sha256(weights) == first
    weights.write_bytes(b"b" * 101)
    assert weights_sha256(weights) == sha256_hex(b"b" * 101)
    (paths.cache_dir() / "sha256.json").write_text("[broken")
    assert weights_sha256(weights) == sha256_hex(b"b" * 101)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "_REMEMBER_ABOVE", 10)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ILVRCTL_CACHE", str(tmp_path / "file/cache"))
    weights = tmp_path / "big.pt"
    weights.write_bytes(b"a" * 100)
    assert weights_sha256(weights) == sha256_hex(b"a" * 100)


def test_many_jobs_are_planned_without_reading_anything_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies(tmp_path, ["a.png"])
    read: Counter[str] = Counter()
    for module, name in ((config, "read_text"), (files, "file_sha256")):
        real = getattr(module, name)

        def counting(path: Path, *args: Any, real: Any = real, **more: Any) -> Any:
            read[Path(path).name] += 1
            return real(path, *args, **more)

        monkeypatch.setattr(module, name, counting)
    jobs = [
        {"name": f"j{n}", "inputs": str(tmp_path / "a.png"), "to": "emoji3d", "seed": n, "N": 2 + 2 * (n % 2)}
        for n in range(500)
    ]
    start = time.process_time()
    plans, _ = plans_of({"jobs": jobs}, tmp_path / "out")
    assert (
        time.process_time() - start < 5 * slowness()
    )  # for 500; it is 0.4 s on a machine that does nothing else
    assert len(plans) == 500 and len({plan.identities for plan in plans}) == 500
    assert set(read.values()) == {1}, read


def test_what_is_remembered_while_planning_is_forgotten_after_it(tmp_path: Path) -> None:
    seen = []
    look = remembered(lambda key: seen.append(key) or len(seen))
    with remembering():
        assert [look("a"), look("a"), look("b")] == [1, 1, 2]
        with remembering():
            assert look("a") == 1
    assert [look("a"), look("a")] == [3, 4]


def test_too_many_samples_are_refused_from_python_and_in_jobs_files(tmp_path: Path) -> None:
    [a] = copies(tmp_path, ["a.png"])
    with pytest.raises(UsageError, match="1,000,000,000 samples"):
        api.translate(a, to="emoji3d", samples=10**9, out=tmp_path / "out")
    with pytest.raises(UsageError, match="1,000,000,000 samples"):
        plans_of({"jobs": [{"inputs": str(a), "to": "emoji3d", "samples": 10**9}]}, tmp_path / "out")


def test_a_matrix_of_nine_million_is_refused_before_it_is_multiplied_out(tmp_path: Path) -> None:
    [a] = copies(tmp_path, ["a.png"])
    for matrix, count in (
        ({"seed": [*range(3000)], "steps": [*range(1, 1001)], "N": [1, 2, 4]}, "9,000,000"),
        ({"batch_size": [*range(1, 3001)], "quality": [*range(1, 101)], "seed": [*range(30)]}, "300,000"),
    ):
        with pytest.raises(UsageError, match=rf"is {count} settings, and one run plans 10,000 at most"):
            plans_of({"jobs": [{"inputs": str(a), "to": "emoji3d", "matrix": matrix}]}, tmp_path / "out")


def test_every_parameter_of_the_commands_stands_in_a_jobs_file() -> None:
    of_commands = {*parameters_of("translate"), *parameters_of("edit")}
    of_a_whole_run = {
        "out",
        "dry_run",
        "preview",
        "estimate",
        "watch",
    }  # out is folder, and set a key of its own
    assert of_commands - {*parameters_of("jobs"), *OWN} == of_a_whole_run | (PAGE & of_commands)


def planned(tmp_path: Path, **job: object) -> list[Plan]:
    copies(tmp_path, ["in/a.png", "in/b.png"])
    (tmp_path / "names").write_bytes(b"in/a.png\0in/b.png\0")
    Image.new("L", (64, 64), "white").save(tmp_path / "mask.png")
    values = {"inputs": ["in"], "to": "emoji3d", "steps": 2, **job}
    (tmp_path / "jobs.yaml").write_text(json.dumps({"jobs": [values]}))
    return plans_of(tmp_path / "jobs.yaml", tmp_path / "out")[0]


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"device": "cuda:1", "batch_size": 4, "compile": True}, Where("cuda:1", 4, True)),
        ({"device": "auto", "batch_size": "auto", "compile": False}, Where(None, "auto", False)),
        ({}, Where()),
    ],
)
def test_a_job_asks_for_its_machine_and_the_command_wins(
    asked: dict[str, Any], where: Where, tmp_path: Path
) -> None:
    [plan] = planned(tmp_path, **asked)
    assert plan.networks_of(plan.variants[0]).where == where
    mine = Machine().of_job(where)
    assert (mine.device, mine.batch_size, mine.compile) == (where.device or "auto", *astuple(where)[1:])
    said = Machine("cpu", 8, compile=False).of_job(where)
    assert (said.device, said.batch_size, said.compile) == ("cpu", 8, False)
    assert plan.identities == planned(tmp_path)[0].identities
    if where.batch_size == "auto":
        with pytest.raises(UsageError, match="measures on this machine alone"):
            Machine(devices="cpu,cpu").of_job(where)


def test_jobs_that_ask_for_other_batches_are_made_apart(tmp_path: Path) -> None:
    planned(tmp_path)
    jobs = [
        {"name": f"b{n}", "inputs": "in", "to": "emoji3d", "steps": 2, "precision": "fp32", "batch_size": n}
        for n in (1, 2)
    ]
    (tmp_path / "jobs.yaml").write_text(json.dumps({"jobs": jobs}))
    events: list[Any] = []
    made = list(api.batch(tmp_path / "jobs.yaml", device="cpu", progress=events.append))
    assert [result.state for result in made] == ["done"] * 4
    begun = [len(event.samples) for event in events if type(event).__name__ == "BatchStarted"]
    assert begun == [1, 1, 2]


def test_what_only_flags_could_say_is_said_in_a_job(tmp_path: Path) -> None:
    for job in ({"mode": "paint", "no_mask": True}, {"edit": "paint", "no_mask": True}):
        [plan] = planned(tmp_path, **job)
        edit = plan.variants[0].settings.edit
        assert edit is not None and not edit.mask
    [plan] = planned(tmp_path, mode="scribble", mask="mask.png")
    assert [output.item.mask and output.item.mask.path for output in plan.outputs] == [
        tmp_path / "mask.png"
    ] * 2
    assert [one.sheet for one in planned(tmp_path, sheet="all.png")] == [tmp_path / "all.png"]
    assert [one.sheet for one in planned(tmp_path, sheet=True)] == [tmp_path / "out/job-1/sheet.png"]
    [plan] = planned(tmp_path, inputs=[], from_file="names", null=True, overwrite=True)
    assert [output.item.path for output in plan.outputs] == [tmp_path / "in/a.png", tmp_path / "in/b.png"]
    with pytest.raises(UsageError, match="mode 'paint', but edit 'scribble'"):
        planned(tmp_path, mode="paint", edit="scribble")
    with pytest.raises(UsageError, match="takes a number or auto, not 'many'"):
        Machine().of_job(planned(tmp_path, batch_size="many")[0].where)


def test_a_job_makes_a_result_again(tmp_path: Path) -> None:
    copies(tmp_path, ["a.png"])
    [made] = api.translate(
        tmp_path / "a.png", to="emoji3d", steps=2, seed=5, samples=1, out=tmp_path / "one.png"
    )
    job = {"inputs": [str(tmp_path / "a.png")], "from_image": str(tmp_path / "one.png")}
    [result] = api.batch({"jobs": [job]}, out=tmp_path / "out")
    assert result.image.tobytes() == made.image.tobytes()
    with pytest.raises(UsageError, match="was made by no edit, and the job is one"):
        api.batch({"jobs": [{**job, "mode": "scribble", "no_mask": True}]}, out=tmp_path / "other")


def test_parameters_that_are_no_settings_make_a_job_each_in_a_matrix(tmp_path: Path) -> None:
    matrix = {"to": ["emoji3d"], "samples": [1, 2], "quality": [80, 90], "ext": ["jpg"], "batch_size": [1, 2]}
    plans = planned(tmp_path, matrix=matrix)
    assert len(plans) == 8
    assert {(len(plan.outputs), plan.quality, plan.where.batch_size) for plan in plans} == {
        (2 * samples, quality, size) for samples in (1, 2) for quality in (80, 90) for size in (1, 2)
    }
    weights = str(find_model("emoji3d-64").path())
    [plan] = planned(tmp_path, matrix={"weights": [weights]})
    assert str(plan.weights) == weights
