"""ilvrctl from Python: what the commands do, with their names, values, bytes and errors."""

from __future__ import annotations

import doctest
import io
import json
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from commands import CUP, FOX, QUICK
from commands import ilvrctl as run_command
from conftest import EMOJI
from PIL import Image

import ilvrctl
import ilvrctl.api
from ilvrctl import paths
from ilvrctl.errors import UsageError
from ilvrctl.images.tensors import to_tensor
from ilvrctl.model import LOADED, WRITTEN
from ilvrctl.plans.asked import Asked, asked_by_values
from ilvrctl.plans.named_weights import located, named_weights
from ilvrctl.plans.parameter import Command, Parameter
from ilvrctl.plans.parameters import parameters_of

pytestmark = pytest.mark.usefixtures("stand_ins")

SAME: dict[str, Any] = {"steps": 3, "precision": "fp32", "device": "cpu"}
"""As QUICK says."""


@pytest.fixture(scope="module")
def emoji() -> ilvrctl.Model:
    return ilvrctl.load("emoji3d", device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_files_are_those_of_the_command_and_are_known_as_done(tmp_path: Path) -> None:
    ran = run_command("translate", FOX, CUP, *QUICK, "--N", "4", "-o", tmp_path / "command")
    assert ran.code == 0
    first = list(ilvrctl.translate([FOX, str(CUP)], to="emoji3d", N=4, out=tmp_path / "python", **SAME))
    assert [(r.state, r.path and r.path.name) for r in first] == [("done", "fox.png"), ("done", "cup.png")]
    for result in first:
        assert result.path is not None
        assert result.path.read_bytes() == (tmp_path / "command" / result.path.name).read_bytes()
        assert result.record["settings"]["method"]["constraint"]["N"] == 4
    again = list(ilvrctl.translate([FOX, CUP], to="emoji3d", N=4, out=tmp_path / "command", **SAME))
    assert [r.state for r in again] == ["skipped", "skipped"]


class Watched(dict[str, Any]):
    """A dict that notes which of its keys are asked for."""

    def __init__(self, values: Mapping[str, Any], asked: set[str]) -> None:
        super().__init__(values)
        self.asked = asked

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The parameters that somebody asks for after they were given to a function, or to a model."""
    found = {"set", "mask"}  # settings, and a parameter of the functions

    def watched(command: Command, values: Mapping[str, Any]) -> Asked:
        asked = asked_by_values(command, values)
        return replace(asked, values=Watched(asked.values, found))

    monkeypatch.setattr(ilvrctl.api, "asked_by_values", watched)
    monkeypatch.setattr("ilvrctl.plans.asked.asked_by_values", watched)
    return found


def others(command: Command) -> list[Parameter]:
    """The parameters that are no settings."""
    return [row for row in parameters_of(command).values() if not row.key]


@pytest.mark.parametrize("command", ["translate", "edit"])
def test_every_parameter_acts_or_is_refused(command: Command, looked_at: set[str], tmp_path: Path) -> None:
    pictures = [FOX, CUP][: 1 + (command == "edit")]
    list(getattr(ilvrctl, command)(*pictures, to="emoji3d", out=tmp_path / "out", **SAME))
    looked_at.add("out")
    for row in others(command):
        assert row.in_shells == (row.name not in looked_at), row.name
        if row.in_shells:
            with pytest.raises(UsageError, match=f"{row.name} is for the command line: -"):
                getattr(ilvrctl, command)(*pictures, to="emoji3d", **{row.name: True})


@pytest.mark.parametrize("command", ["translate", "edit"])
def test_a_model_heeds_or_refuses_every_parameter(
    command: Command, looked_at: set[str], emoji: ilvrctl.Model
) -> None:
    pictures = [FOX, CUP][: 1 + (command == "edit")]
    getattr(emoji, command)(*pictures, steps=3)
    for row in others(command):
        refused = row.in_shells or row.name in LOADED | WRITTEN
        assert refused or row.name in looked_at, row.name
        if refused:
            with pytest.raises(UsageError, match=f"{row.name} (belongs to|is for)"):
                getattr(emoji, command)(*pictures, **{row.name: True})


def test_without_a_place_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events: list[Any] = []
    results = ilvrctl.translate(FOX, to="emoji3d", N=[2, 4], progress=events.append, **SAME)
    found = {result.changes["N"]: result.image for result in results}
    assert set(found) == {2, 4} and found[2].tobytes() != found[4].tobytes()
    assert list(tmp_path.iterdir()) == []
    assert {type(event).__name__ for event in events} >= {"Loaded", "StepDone", "Written"}


def test_pictures_of_every_kind_give_the_same_result(emoji: ilvrctl.Model) -> None:
    picture = Image.open(FOX).convert("RGB")
    array = numpy.asarray(picture)
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=1)
    kinds = [picture, png.getvalue(), array, array / 255.0, array.astype("float32") / 255, to_tensor(picture)]
    made = [emoji.translate([kind], steps=2, seed=7)[0].tobytes() for kind in kinds]
    assert set(made) == {made[0]}
    tensor = emoji.translate([picture], steps=2, seed=7, as_tensor=True)[0]
    assert torch.equal(tensor, to_tensor(Image.frombytes("RGB", (64, 64), made[0])))


@pytest.mark.parametrize(
    "picture",
    [
        numpy.zeros((4, 4, 2), "uint8"),
        numpy.full((4, 4), 2.0),
        numpy.zeros((4, 4), "int64"),
        7,
        torch.ones(3),
    ],
)
def test_what_is_no_picture_is_refused(emoji: ilvrctl.Model, picture: Any) -> None:
    with pytest.raises(ilvrctl.InputError):
        emoji.translate([picture], steps=2)


def test_a_model_is_used_from_threads_edits_samples_and_is_let_go_of(emoji: ilvrctl.Model) -> None:
    alone = emoji.translate([FOX], steps=2, seed=1)[0].tobytes()
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(emoji.translate([FOX], steps=2, seed=1)[0].tobytes()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 3
    photo = Image.new("RGB", (90, 80), "white")
    drawn = photo.copy()
    drawn.paste("red", (30, 30, 50, 50))
    [edited] = emoji.edit(photo, drawn, steps=2)
    assert edited.size == (90, 80) and edited.getpixel((0, 0)) == (255, 255, 255)
    two = emoji.sample(2, seed=3, steps=2)
    assert [p.size for p in two] == [(64, 64)] * 2 and two[0].tobytes() != two[1].tobytes()
    assert emoji.sample(1, seed=3, steps=2)[0].size == (64, 64)
    assert emoji.facts["image_size"] == 64
    with ilvrctl.load("emoji3d", device="cpu") as mine:
        assert mine.denoiser.predicts == "v"
    with pytest.raises(ilvrctl.UsageError, match="closed"):
        mine.translate([FOX])


def test_errors_are_those_of_the_command(tmp_path: Path, emoji: ilvrctl.Model) -> None:
    with pytest.raises(ilvrctl.UsageError, match="unknown target 'nosuch'"):
        ilvrctl.translate(FOX, to="nosuch")
    with pytest.raises(ilvrctl.WeightsError) as caught:
        ilvrctl.translate(FOX, to="dog")
    assert caught.value.hint is not None and caught.value.exit_code == 3
    (tmp_path / "no.png").write_bytes(b"no picture")
    [failed, done] = ilvrctl.translate([tmp_path / "no.png", FOX], to="emoji3d", **SAME)
    assert (failed.state, done.state) == ("failed", "done")
    assert isinstance(failed.error, ilvrctl.InputError)
    with pytest.raises(ilvrctl.InputError):
        failed.image  # noqa: B018
    with pytest.raises(ilvrctl.UsageError, match=r"to belongs to ilvrctl\.load"):
        emoji.translate([FOX], to="emoji3d")
    with pytest.raises(ilvrctl.UsageError, match="device belongs"):
        emoji.translate([FOX], device="cpu")
    with pytest.raises(ilvrctl.UsageError, match="unknown target"):
        ilvrctl.load("nosuch")


@pytest.mark.shipped
def test_a_folder_of_pictures_has_no_say_where_a_model_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("emoji3d", "emoji", "emoji3d-64")
    for name in (*names, "pictures"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "fox.png").write_bytes(FOX.read_bytes())
    for name in names:
        with ilvrctl.load(name, device="cpu"):
            pass
        for folder in (Path(), tmp_path):
            assert located(name, folder) == Path(name)
        assert named_weights(Path(name)).path == paths.DATA / "emoji3d-64.safetensors"
    with pytest.raises(ilvrctl.WeightsError, match="pictures: a folder without a diffusers network"):
        ilvrctl.load("pictures")
    (tmp_path / "emoji/config.json").write_text("{}")
    (tmp_path / "emoji/diffusion_pytorch_model.safetensors").write_bytes(b"")
    assert named_weights(Path("emoji")).path == Path("emoji")  # weights that are here come first
    assert located("emoji", tmp_path) == tmp_path / "emoji"


def test_closing_the_iterator_stops_and_the_same_call_goes_on(tmp_path: Path) -> None:
    inputs = [FOX, CUP]
    results = ilvrctl.translate(inputs, to="emoji3d", out=tmp_path, batch_size=1, **SAME)
    first = next(results)
    results.close()
    assert first.state == "done"
    again = list(ilvrctl.translate(inputs, to="emoji3d", out=tmp_path, batch_size=1, **SAME))
    assert sorted(r.state for r in again) in (["done", "skipped"], ["skipped", "skipped"])


def test_what_is_passed_by_is_told_also_in_memory(tmp_path: Path, emoji: ilvrctl.Model) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(FOX.read_bytes())
    (tmp_path / "in/notes.txt").write_text("none")
    (tmp_path / "in/gone.png").symlink_to("nowhere")
    wanted = {("not pictures", "notes.txt"), ("dangling links", "gone.png")}
    jobs = {"jobs": [{"inputs": str(tmp_path / "in"), "to": "emoji3d"}]}
    for results in (
        ilvrctl.translate(tmp_path / "in", to="emoji3d", **SAME),
        ilvrctl.batch(jobs, out=tmp_path / "out"),
    ):
        assert {(one.reason, Path(one.name).name) for one in results.passed_by} == wanted
        results.close()
    events: list[Any] = []
    [picture] = emoji.translate(tmp_path / "in", steps=2, progress=events.append)
    told = [event for event in events if type(event).__name__ == "PassedBy"]
    assert {(one.reason, Path(one.name).name) for one in told} == wanted
    assert picture.tobytes() == emoji.translate([FOX], steps=2)[0].tobytes()


def test_jobs_from_a_mapping(tmp_path: Path) -> None:
    jobs = {
        "jobs": [
            {"inputs": str(FOX), "to": "emoji3d", "steps": 2, "precision": "fp32", "matrix": {"N": [2, 4]}}
        ]
    }
    made = list(ilvrctl.batch(jobs, out=tmp_path / "out", device="cpu"))
    assert {r.path.relative_to(tmp_path).as_posix() for r in made if r.path} == {
        "out/job-1/N=2/fox.png",
        "out/job-1/N=4/fox.png",
    }
    assert [r.state for r in ilvrctl.batch(jobs, out=tmp_path / "out", device="cpu")] == ["skipped"] * 2
    with pytest.raises(ilvrctl.UsageError, match="unknown key 'stepz'"):
        ilvrctl.batch({"jobs": [{"inputs": "x", "stepz": 2}]})


def test_results_are_measured(tmp_path: Path) -> None:
    list(ilvrctl.translate([FOX, CUP], to="emoji3d", out=tmp_path / "out", **SAME))
    found = ilvrctl.evaluate(tmp_path / "out", source=FOX.parent, common=True, resamples=100)
    [run] = found.record()["runs"]
    assert run["pictures"] == 2
    head, line, row = found.table.splitlines()
    assert head.startswith("| run |") and head.count("|") == line.count("|") == row.count("|")
    assert f"{found.runs[0].metrics['l2_source'].value:.2f}" in row
    for name in ("page.html", "numbers.csv", "all.json", "table.md"):
        assert found.save(tmp_path / name).stat().st_size > 0
    assert json.loads((tmp_path / "all.json").read_text()) == json.loads(json.dumps(found.record()))
    assert (tmp_path / "table.md").read_text() == found.table
    assert (tmp_path / "numbers.csv").read_text().startswith("run,picture,sample")
    with pytest.raises(ilvrctl.UsageError, match=r"cannot be written as \.xls"):
        found.save(tmp_path / "table.xls")


def test_a_library_call_leaves_the_process_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    before = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed()
    list(ilvrctl.translate(FOX, to="emoji3d", **SAME))
    after = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed()
    assert after == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert capfd.readouterr() == ("", "")


@pytest.mark.shipped
def test_examples_in_docstrings_run() -> None:
    found = doctest.testmod(ilvrctl.api)
    assert found.attempted >= 3 and found.failed == 0


def test_a_model_is_trained_and_used(tmp_path: Path) -> None:
    folder, out = EMOJI / "flat", tmp_path / "run"
    small: dict[str, Any] = {"size": 16, "images": 8, "batch_size": 4, "device": "cpu", "sheet_every": 0}
    events = list(ilvrctl.train(folder, name="mine", out=out, **small))
    assert type(events[-1]).__name__ == "Published"
    [result] = ilvrctl.translate(FOX, to="mine", steps=2, device="cpu")
    assert (result.state, result.image.size) == ("done", (16, 16))
    with pytest.raises(ilvrctl.UsageError, match="teacher"):
        ilvrctl.train(folder, folder, name="other", teacher="emoji3d")


def test_progress_draws_the_bars_of_the_command(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    [made] = ilvrctl.translate(FOX, to="emoji3d", out=tmp_path / "out", progress=True, **SAME)
    out, err = capfd.readouterr()
    assert out == ""
    assert f"[1/1] {FOX.parent.name}/fox.png -> {made.path}" in err
    with ilvrctl.load("emoji3d", device="cpu", precision="fp32") as model:
        model.translate([FOX], steps=2, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "[1/1]" in err
