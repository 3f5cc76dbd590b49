"""`ilvrctl batch` as a person uses it: jobs files and their mistakes, plans, resuming, failures, shards."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_small_target
from commands import CUP, FOX, Ran, copies, ilvrctl, json_lines, leftovers, pixels, tree
from PIL import Image

from ilvrctl import engine
from ilvrctl.files import unwritable
from ilvrctl.images.metadata import read_record
from ilvrctl.plans.manifest import read_manifest
from ilvrctl.plans.plan import Networks
from ilvrctl.work import run
from ilvrctl.work.read_ahead import Behind

JOBS = """
defaults: {weights: small.safetensors, steps: 3, precision: fp32}
jobs:
  - name: one
    inputs: in
    method: ilvr
  - name: sweep
    inputs: [in/a.png, "in/b*.png"]
    matrix: {N: [2, 4]}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copies(tmp_path, ["in/a.png", "in/b.png", "in/c.png"])
    write_small_target(tmp_path / "small.safetensors")
    Path("jobs.yaml").write_text(JOBS)


def batch(*args: str) -> Ran:
    return ilvrctl("batch", "jobs.yaml", "--batch-size", "2", *args)


def results(folder: str = "out") -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in tree(Path(folder)) if name.endswith(".png")}


ALL = [
    *(f"one/{n}.png" for n in "abc"),
    *(f"sweep/N={N}/{n}.png" for N in (2, 4) for n in "ab"),
    "sweep/sheet.png",
]


def test_a_file_of_jobs_is_carried_out_and_the_same_command_goes_on(tmp_path: Path) -> None:
    ran = batch()
    assert ran.code == 0, ran.err
    assert list(results()) == ALL
    assert "sweep  small     4       0      0" in ran.err
    assert "7 translated" in ran.err
    entries = read_manifest(tmp_path / "out").entries
    assert set(entries) == set(ALL) - {"sweep/sheet.png"}
    assert entries["sweep/N=4/b.png"].settings == {"N": 4}
    before = results()
    again = batch()
    assert (again.code, results()) == (0, before)
    assert "nothing to do: all 7 results are there already" in again.err
    (tmp_path / "out/one/b.png").unlink()
    (tmp_path / "out/manifest.jsonl").open("ab").write(b'{"kind": "item", "job"')
    third = batch("--json")
    assert [line["output"] for line in json_lines(third) if line["event"] == "done"] == ["out/one/b.png"]
    assert results() == before


def test_results_without_a_manifest_are_known_by_their_records(tmp_path: Path) -> None:
    batch()
    before = results()
    (tmp_path / "out/manifest.jsonl").unlink()
    ran = batch()
    assert "all 7 results are there already" in ran.err
    assert len(read_manifest(tmp_path / "out").entries) == 7
    assert results() == before


def test_a_changed_input_is_made_again_and_changed_settings_overwrite_nothing(tmp_path: Path) -> None:
    batch()
    (tmp_path / "in/c.png").write_bytes(CUP.read_bytes())
    ran = batch()
    assert "one: 1 input has changed since; made again" in ran.err
    assert "1 translated, 6 there already" in ran.err
    Path("jobs.yaml").write_text(JOBS.replace("steps: 3", "steps: 2"))
    ran = batch()
    assert ran.code == 2
    assert "are there already, made from another input or with other settings" in ran.err
    assert batch("--overwrite").code == 0


def test_failures_are_recorded_and_not_tried_again_until_something_changes(tmp_path: Path) -> None:
    (tmp_path / "in/b.png").write_bytes(b"")
    ran = batch()
    assert ran.code == 1
    assert ran.err.count("b.png is empty") == 2  # once a job
    assert "4 translated, 3 failed" in ran.err
    assert [e.error for e in read_manifest(tmp_path / "out").entries.values() if e.error] == [
        "in/b.png is empty (0 bytes)"
    ] * 3
    again = batch()
    assert again.code == 1
    assert "--retry-failed tries it again" in again.err
    assert "0 translated, 4 there already, 3 failed" in again.err
    assert "is empty" in batch("--retry-failed").err
    (tmp_path / "in/b.png").write_bytes(CUP.read_bytes())
    assert batch().code == 0
    assert list(results()) == ALL


def test_what_may_have_passed_is_tried_again_by_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "in/b.png")
    passing: list[Exception] = [ValueError("nobody foresaw this"), MemoryError(), denied]

    def save(image: Image.Image, path: Path, **options: Any) -> None:
        if path.name == "b.png":
            error = passing.pop()
            raise error if error is not denied else unwritable(path, denied) from denied
        real(image, path, **options)

    real = run.save_picture
    with monkeypatch.context() as broken:
        broken.setattr(run, "save_picture", save)
        ran = batch()
    assert (ran.code, "4 translated, 3 failed" in ran.err) == (1, True)
    again = batch()
    assert (again.code, "3 translated, 4 there already" in again.err) == (0, True)


@pytest.mark.parametrize(("flags", "failures"), [(["--fail-fast"], 1), (["--max-failures", "2"], 2)])
def test_a_run_stops_after_so_many_failures(flags: list[str], failures: int, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"in/{name}.png").write_bytes(b"")
    ran = batch(*flags, "--json")
    assert ran.code == 1
    lines = json_lines(ran)
    assert [line["failures"] for line in lines if line["event"] == "stopped"] == [failures]
    assert len([line for line in lines if line["event"] == "failed"]) == failures


def test_shards_together_are_the_whole(tmp_path: Path) -> None:
    batch()
    for part in ("1/3", "2/3", "3/3"):
        assert batch("-o", "parts", "--shard", part).code == 0
    assert results("parts") == results()
    assert len(read_manifest(tmp_path / "parts").entries) == 7


def test_a_full_disk_stops_cleanly_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "sweep" in str(self):
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    ran = batch()
    assert ran.code == 1
    assert "no space left on the disk" in ran.err
    assert "free some space, then run the same command again" in ran.err
    assert leftovers(tmp_path) == []
    assert set(read_manifest(tmp_path / "out").entries) == set(ALL[:3])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert batch().code == 0


def test_a_plan_of_jobs_needs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    before = tree(tmp_path)
    ran = batch("--dry-run")
    assert ran.lines == [
        "one: 3 inputs x 1 settings x 1 samples = 3 results; 3 to do, 0 there already, 9 network calls",
        "sweep: 2 inputs x 2 settings x 1 samples = 4 results; 4 to do, 0 there already, 12 network calls",
    ]
    assert tree(tmp_path) == before


def test_status_tells_where_a_run_stands(tmp_path: Path) -> None:
    (tmp_path / "in/b.png").write_bytes(b"")
    batch()
    ran = ilvrctl("batch", "--status", "out")
    assert ran.lines[-1].split() == ["all", "4", "3", "0"]
    assert "failed: one: in/b.png is empty" in ran.err
    assert "not running" in ran.err
    assert json_lines(ilvrctl("batch", "--status", "out", "--json"))[-1]["running"] is False
    assert ilvrctl("batch", "--status", "in").code == 2


def test_names_follow_the_pattern_and_stay_below_the_folder(tmp_path: Path) -> None:
    job = "name: x, inputs: in/a.png, weights: small.safetensors, steps: 3, samples: 2, folder: y"
    Path("jobs.yaml").write_text(f"jobs: [{{{job}, pattern: '{{job}}-{{stem}}-{{sample}}'}}]")
    assert batch().code == 0
    assert list(results()) == ["y/x-a-1.png", "y/x-a-2.png"]


MISTAKES = [
    ("jobs: []", "has no jobs"),
    (
        "jobs:\n  - name: x\n    matirx: {N: [2]}",
        "line 3: unknown key 'matirx' in job 1.*did you mean 'matrix'",
    ),
    (
        "jobs:\n  - name: x\n    inputs: in\n    to: emoji3d\n    matrix:\n      M: [2]",
        "line 6: unknown parameter 'M'",
    ),
    ("jobs:\n  - inputs: in\n    to: emoji3d\n    matrix:\n      N: 2", "line 5: matrix.N must be a list"),
    ("jobs:\n  - inputs: in\n    to: emoji3d\n    steps: many", "line 4: steps must be a whole number"),
    ("defaults:\n  seed: x\njobs:\n  - inputs: in\n    to: emoji3d", "line 2: seed must be a whole number"),
    ("jobs:\n  - inputs: in\n    to: emojii3d", "line 2: unknown target 'emojii3d'.*did you mean 'emoji3d'"),
    ("jobs:\n  - inputs: nope/*.png\n    to: emoji3d", "nothing matches 'nope/"),
    ("jobs:\n  - to: emoji3d", "line 2: the job job-1 has no inputs"),
    (
        "jobs:\n  - {name: a, inputs: in, to: emoji3d}\n  - {name: A, inputs: in, to: emoji3d}",
        "line 3: the name 'A' is taken",
    ),
    (
        "jobs:\n  - inputs: in\n    to: emoji3d\n    pattern: '{stme}'",
        "line 4: unknown field {stme}.*did you mean",
    ),
    ("jobs:\n  - inputs: in\n    to: emoji3d\n    folder: ../x", "line 4: folder '../x' must stay below"),
    ("jobs:\n  - inputs: in\n    to: emoji3d\n    pattern: all", "would both be written"),
    ("jobs:\n  - inputs: in\n    to: emoji3d\n    samples: 0", "line 4: samples must be at least 1"),
    ("jobs: 3", "line 1: jobs must be a list"),
    ("jubs: []", "line 1: unknown key 'jubs'"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes_are_told_with_their_line(text: str, message: str) -> None:
    import re

    Path("jobs.yaml").write_text(text)
    ran = batch("--dry-run")
    assert ran.code == 2, ran.err
    assert re.search(message, ran.err, flags=re.DOTALL), ran.err


def test_the_example_is_a_jobs_file_that_the_schema_knows(tmp_path: Path) -> None:
    assert ilvrctl("batch", "--init", "mine.yaml").code == 0
    assert ilvrctl("batch", "--init", "mine.yaml").code == 2
    ran = ilvrctl("batch", "mine.yaml", "--dry-run", "--json")
    assert [line["results"] for line in json_lines(ran)] == [12, 24]
    schema = json.loads(ilvrctl("batch", "--schema").out)
    job = schema["properties"]["jobs"]["items"]["properties"]
    for key in ("inputs", "matrix", "N", "method", "to", "seed"):
        assert key in job


@pytest.mark.parametrize(
    "flags", [["--shard", "0/2"], ["--shard", "3/2"], ["--batch-size", "x"], ["--engine", "x"]]
)
def test_flags_that_cannot_be(flags: list[str]) -> None:
    assert ilvrctl("batch", "jobs.yaml", *flags).code == 2


def test_what_is_being_written_when_a_run_stops_is_kept() -> None:
    kept: list[int] = []
    with pytest.raises(KeyboardInterrupt), Behind(4, kept.append) as writer:
        work: list[Callable[[], int]] = [lambda: 1, lambda: 2]
        for piece in work:
            writer.submit(piece)
        raise KeyboardInterrupt
    assert kept == [1, 2]


EDITS = """
defaults: {weights: small.safetensors, steps: 3, precision: fp32}
jobs:
  - name: drawn
    edit: scribble
    inputs: in
    scribbled: scribbled
    grow: 2
  - name: painted
    edit: paint
    inputs: in/a.png
"""


def scribbled(*names: str) -> None:
    Path("scribbled").mkdir(exist_ok=True)
    for name in names:
        with Image.open(f"in/{name}.png") as picture:
            copy = picture.convert("RGB")
        copy.paste((40, 90, 230), (20, 28, 44, 34))
        copy.save(f"scribbled/{name}.png")


def test_jobs_that_edit_do_what_edit_does() -> None:
    scribbled("a", "b", "c")
    Path("jobs.yaml").write_text(EDITS)
    ran = ilvrctl("batch", "jobs.yaml", "--batch-size", "1")
    assert ran.code == 0, ran.err
    assert list(results()) == [*(f"drawn/{n}.png" for n in "abc"), "painted/a.png"]
    flags = ("--weights", "small.safetensors", "--steps", "3", "--precision", "fp32")
    ilvrctl("edit", "in/a.png", "scribbled/a.png", *flags, "--grow", "2", "-o", "a.png")
    ilvrctl("edit", "in/a.png", "--mode", "paint", *flags, "-n", "1", "-o", "p.png")
    assert pixels(Path("out/drawn/a.png")) == pixels(Path("a.png"))
    assert pixels(Path("out/painted/a.png")) == pixels(Path("p.png"))
    again = ilvrctl("batch", "jobs.yaml", "--batch-size", "1")
    assert "all 4 results are there already" in again.err


def test_mistakes_in_jobs_that_edit() -> None:
    scribbled("a", "c")
    Path("jobs.yaml").write_text(EDITS)
    ran = batch("--dry-run")
    assert ran.code == 2
    assert "jobs.yaml, line 7: scribbled has no picture named 'b'" in ran.err
    Path("jobs.yaml").write_text(EDITS.replace("    edit: scribble\n", ""))
    ran = batch("--dry-run")
    assert ran.code == 2
    assert "scribbled belongs to an edit" in ran.err


def test_an_estimate_is_measured_and_writes_nothing(tmp_path: Path) -> None:
    before = tree(tmp_path)
    ran = batch("--dry-run", "--estimate", "--json")
    assert ran.code == 0, ran.err
    planned, (estimate,) = json_lines(ran)[:-1], json_lines(ran)[-1:]
    assert [line["network_calls"] for line in planned] == [9, 12]
    assert estimate["event"] == "estimate"
    assert 0 < estimate["seconds"] < 600
    assert estimate["peak_mb"] is None or estimate["peak_mb"] > 50
    assert tree(tmp_path) == before


def test_the_batch_size_can_be_measured() -> None:
    ran = ilvrctl("batch", "jobs.yaml", "--batch-size", "auto")
    assert ran.code == 0, ran.err
    assert re.search(r"batch size (1|2|4|8|16|32|64): [\d.]+ ms a picture and call", ran.err)
    assert list(results()) == ALL


def test_out_of_memory_makes_smaller_batches_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine.sample

    def tight(denoise: Any, context: Any, *rest: Any) -> Any:
        if len(context.reference) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: out of memory")
        return real(denoise, context, *rest)

    monkeypatch.setattr(engine, "sample", tight)
    ran = batch("--json")
    assert ran.code == 0, ran.err
    assert {"event": "batch", "before": 2, "now": 1} in json_lines(ran)
    assert list(results()) == ALL


@pytest.mark.parametrize(
    ("flags", "wanted"), [((), False), (("--no-compile",), False), (("--compile",), True)]
)
def test_only_what_is_asked_for_is_compiled(
    flags: tuple[str, ...], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    real = Networks.load

    def load(networks: Networks, *, compiled: bool = False, **how: Any) -> Any:
        asked.append(compiled)
        return real(networks, **how)

    monkeypatch.setattr(Networks, "load", load)
    assert batch("--device", "cpu", *flags).code == 0
    assert asked == [wanted]


def test_a_sweep_over_precisions_loads_the_network_in_each(tmp_path: Path) -> None:
    """As one run, and result for result what a job of each precision makes."""
    (tmp_path / "jobs.yaml").write_text(
        f"defaults: {{inputs: {FOX}, to: emoji3d, steps: 2}}\n"
        "jobs:\n"
        "  - {name: sweep, matrix: {precision: [fp32, bf16]}}\n"
        "  - {name: speeds, matrix: {speed: [exact, fast]}}\n"
        "  - {name: fp32, precision: fp32}\n"
        "  - {name: bf16, precision: bf16}\n"
    )
    ran = ilvrctl("batch", tmp_path / "jobs.yaml", "--device", "cpu")
    assert ran.code == 0, ran.err
    out = tmp_path / "out"
    for name in ("fp32", "bf16"):
        swept = out / "sweep" / f"precision={name}" / "fox.png"
        assert pixels(swept) == pixels(out / name / "fox.png")
        record = json.loads(read_record(swept.read_bytes(), name))
        assert record["run"]["precision"] == name == record["settings"]["precision"]
    assert pixels(out / "fp32" / "fox.png") != pixels(out / "bf16" / "fox.png")
    exact = out / "speeds" / "speed=exact" / "fox.png"
    assert json.loads(read_record(exact.read_bytes(), "exact"))["run"]["precision"] == "fp32"
    assert "nothing to do" in ilvrctl("batch", tmp_path / "jobs.yaml", "--device", "cpu").err


def test_what_is_no_setting_may_stand_in_a_matrix_too_and_makes_a_job_each() -> None:
    """``to`` with settings, samples, formats: every key of a job, folders named as those of grids."""
    Path("jobs.yaml").write_text(
        "defaults: {to: emoji3d, steps: 3, precision: fp32, inputs: in/a.png}\n"
        "jobs:\n"
        "  - name: s\n"
        "    matrix: {samples: [1, 2], ext: [png, jpg], N: [2, 4]}\n"
        "  - {name: t, matrix: {to: [emoji3d]}}\n"
    )
    assert batch().code == 0
    found = {name for name in tree(Path("out")) if name.endswith((".png", ".jpg")) and "sheet" not in name}
    places = [(f"ext={ext}/N={N}", ext) for ext in ("jpg", "png") for N in (2, 4)]
    one = {f"s/samples=1_{place}/a.{ext}" for place, ext in places}
    two = {f"s/samples=2_{place}/a_{n}.{ext}" for place, ext in places for n in (1, 2)}
    assert found == one | two | {"t/to=emoji3d/a.png"}
    assert "nothing to do: all 13 results are there already" in batch().err


def test_values_in_a_matrix_are_checked_whatever_they_are() -> None:
    for matrix, words in [
        ("samples: [1, x]", "line 4: samples must be a whole number, not 'x'"),
        ("samples: [0]", "samples must be at least 1"),
        ("quality: [90, 101]", "quality must be from 1 to 100, not 101"),
        ("ext: [gif]", "--ext 'gif' is none of png, jpg, webp"),
        (f"samples: {list(range(1, 200))}, quality: {list(range(1, 100))}", "is 19,701 settings"),
    ]:
        Path("jobs.yaml").write_text(f"jobs:\n  - inputs: in\n    to: emoji3d\n    matrix: {{{matrix}}}\n")
        ran = batch("--dry-run")
        assert ran.code == 2 and words in ran.err, ran.err


def test_a_job_may_overwrite_and_its_neighbour_not() -> None:
    copies(Path(), ["out/one/a.png", "out/two/a.png"], CUP)
    head = "defaults: {weights: small.safetensors, steps: 3, precision: fp32, inputs: in/a.png}\njobs:\n"
    Path("jobs.yaml").write_text(f"{head}  - {{name: one, overwrite: true}}\n")
    assert batch().code == 0
    Path("jobs.yaml").write_text(f"{head}  - {{name: one, overwrite: true}}\n  - {{name: two}}\n")
    ran = batch()
    assert ran.code == 2 and "out/two/a.png is there already" in ran.err
