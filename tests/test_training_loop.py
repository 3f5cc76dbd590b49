"""The one loop: whatever is trained and however it was stopped, what comes out is the same to the bit."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import EMOJI

from ilvrctl import paths
from ilvrctl.engine import Engine
from ilvrctl.errors import OutputError, UsageError
from ilvrctl.events import Warned
from ilvrctl.models.files.facts_header import header_facts, with_header_facts
from ilvrctl.models.files.saving import read_safetensors, save_safetensors
from ilvrctl.presets import ModelPreset, find_model
from ilvrctl.training.course import FOR_EVER, Span
from ilvrctl.training.disk import alone, same_file
from ilvrctl.training.events import Advanced, Began, Drawn, Graded, Published, Saved, Validated
from ilvrctl.training.job import Job, outlook
from ilvrctl.training.recipe import DomainRecipe, Network, Recipe
from ilvrctl.training.run import run

NETWORK = Network(multipliers=(1, 1), attention=())
GROWING = Network(multipliers=(1, 2), attention=())
SMALL: dict[str, Any] = {
    "size": 8, "network": NETWORK, "batch_size": 4, "images": 48, "warmup": 16, "learning_rate": 2e-3, "shift": 1,
}  # fmt: skip
TAUGHT = {"teacher_below": 400, "teacher_steps": 8}


def job(place: Path, name: str = "glossy", *, dse: bool = False, **more: Any) -> Job:
    """A tiny training; ``recipe`` changes its recipe, the rest the job."""
    changes = {**SMALL, **({"network": GROWING} if dse else {}), **more.pop("recipe", {})}
    folders = (EMOJI / "flat", EMOJI / "3d") if dse else (EMOJI / "3d",)
    recipe = DomainRecipe(**changes) if dse else Recipe(**changes)
    given: dict[str, Any] = {"save_every": 1e9, "sheet_every": 0, "precision": "fp32", **more}
    return Job(name, folders, recipe, place / name, **given)


def after(steps: int) -> Callable[[], bool]:
    """Whether so many steps are done, as Ctrl-C would come then: it is asked once while reading too."""
    asked = itertools.count()
    return lambda: next(asked) >= steps + 1


def weights(name: str) -> dict[str, torch.Tensor]:
    return read_safetensors(paths.weights_dir() / f"{name}.safetensors")[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def state(place: Path, name: str) -> dict[str, torch.Tensor]:
    return read_safetensors(place / name / "state.safetensors")[0]


def prepared(kind: str, place: Path) -> dict[str, Any]:
    """What the training of a kind needs: recipe and job."""
    if kind == "dse":
        return {"dse": True, "recipe": {"rise": 0.5, "decay": "cosine", "levels": "below200:30%"}}
    if kind == "dse averaged, decaying":
        recipe = {"ema": 0.9, "clip": 1.0, "images": 48, "noise_schedule": "cosine"}
        return {"dse": True, "recipe": recipe, "decay": Span(images=24)}
    more: dict[str, Any] = {"predicts": kind[:2].strip(), "levels": "below600:40%"}
    if "teacher" in kind:
        list(run(job(place, "first", recipe={"images": 8})))
        more |= {"teacher": "first", "init": "first", **TAUGHT}
    if "variance" in kind:
        more |= {"learn_variance": True}
    return {"recipe": more, "decay": Span(images=24) if "decaying" in kind else None}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_computes_as_stated_and_the_caller_s_switches_stand_between(
    tmp_path: Path, precision: str
) -> None:
    """In float32 cuDNN would take reproducible kernels, in half precision the fastest."""
    cudnn: Any = torch.backends.cudnn
    inside: list[tuple[bool, bool]] = []

    def stop() -> bool:
        inside.append((cudnn.deterministic, cudnn.benchmark))
        return False

    for event in run(job(tmp_path, precision=precision), stop=stop):
        assert (cudnn.deterministic, cudnn.benchmark) == (False, False), event
    assert inside[-1] == ((True, False) if precision == "fp32" else (False, True))


@pytest.mark.parametrize(
    "kind",
    [
        "v",
        "x0, variance",
        "v, teacher, decaying",
        "x0, teacher",
        "v, variance, teacher",
        "dse",
        "dse averaged, decaying",
    ],
)
def test_a_training_that_is_stopped_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    more = prepared(kind, tmp_path)
    whole = list(run(job(tmp_path, "whole", **more)))
    assert isinstance(whole[-1], Published)
    for steps in (3, 5):
        events = list(run(job(tmp_path, "parts", **more), after(steps)))
        assert not any(isinstance(event, (Published, Validated, Graded)) for event in events)
        assert any(isinstance(event, Saved) for event in events)
    last = list(run(job(tmp_path, "parts", **more)))
    (began,) = [event for event in last if isinstance(event, Began)]
    assert 8 <= began.images < 48
    assert isinstance(last[-1], Published)
    assert same(state(tmp_path, "whole"), state(tmp_path, "parts"))
    assert same(weights("whole"), weights("parts"))
    judged = Graded if more.get("dse") else Validated
    assert [e for e in whole if isinstance(e, judged)] == [e for e in last if isinstance(e, judged)]
    assert outlook(job(tmp_path, "parts", **more), overwrite=False).finished


def test_a_finished_training_is_taken_through_a_decay_and_that_can_be_stopped_too(tmp_path: Path) -> None:
    constant = {"recipe": {"decay": "constant"}}
    for name in ("whole", "parts"):
        list(run(job(tmp_path, name, **constant)))
    before = weights("whole")
    decaying = {**constant, "decay": Span(images=24)}
    assert not outlook(job(tmp_path, "whole", **decaying), overwrite=False).finished
    events = list(run(job(tmp_path, "whole", **decaying)))
    assert not same(before, weights("whole"))
    rates = [event.learning_rate for event in events if isinstance(event, Advanced)]
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    list(run(job(tmp_path, "parts", **decaying), after(2)))
    list(run(job(tmp_path, "parts", **decaying)))
    assert same(state(tmp_path, "whole"), state(tmp_path, "parts"))
    assert outlook(job(tmp_path, "whole", **decaying), overwrite=False).finished
    longer = {"recipe": {"decay": "constant", "images": 80}}
    assert not outlook(job(tmp_path, "whole", **longer), overwrite=False).finished
    (began,) = [event for event in run(job(tmp_path, "whole", **longer)) if isinstance(event, Began)]
    assert began.images == 72


def test_a_decay_that_is_not_asked_for_again_is_given_up_with_a_word(tmp_path: Path) -> None:
    list(run(job(tmp_path, decay=Span(images=40)), after(5)))
    events = list(run(job(tmp_path)))
    assert [event.message for event in events if isinstance(event, Warned)][-1].startswith(
        "the decay that had begun"
    )


def test_a_state_from_before_there_were_these_settings_goes_on(tmp_path: Path) -> None:
    list(run(job(tmp_path), after(6)))
    path = tmp_path / "glossy" / "state.safetensors"
    tensors, notes = read_safetensors(path)
    progress = json.loads(notes["progress"])
    for key in ("predicts", "levels", "teacher", "teacher_below", "teacher_steps"):
        del progress["recipe"][key]
    for key in ("teacher", "leg"):
        del progress[key]
    save_safetensors(path, tensors, {"progress": json.dumps(progress)})
    list(run(job(tmp_path)))
    list(run(job(tmp_path, "whole")))
    assert same(state(tmp_path, "whole"), state(tmp_path, "glossy"))
    with pytest.raises(UsageError, match="predicts was None and is now 'v'"):
        list(run(job(tmp_path, recipe={"predicts": "v"})))


def test_the_averaged_weights_tell_what_they_are_and_work_alone(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    more = {"predicts": "v", "noise_schedule": "cosine", "diffusion_steps": 200, "store": "fp16"}
    list(run(job(tmp_path, recipe=more)))
    file = shutil.move(tmp_path / "glossy" / "average.safetensors", tmp_path / "moved" / "x.safetensors")
    facts = header_facts(file)
    assert {key: facts[key] for key in ("version", "image_size", "channels", "num_head_channels", "averaged")} == {
        "version": 1, "image_size": 8, "channels": 3, "num_head_channels": 32, "averaged": True,
    }  # fmt: skip
    assert (facts["predicts"], facts["noise_schedule"], facts["diffusion_steps"]) == ("v", "cosine", 200)
    assert (facts["pictures_seen"], facts["variance"], facts["use_new_attention_order"]) == (
        48,
        "fixed_small",
        False,
    )
    assert facts["trained_on"].startswith("62 pictures (")
    assert str(EMOJI) not in json.dumps(facts)
    engine = Engine.load(with_header_facts(ModelPreset(name="x"), file), file, device="cpu", precision="fp32")
    assert (engine.denoiser.predicts, engine.schedule.T, engine.image_size) == ("v", 200, 8)
    assert {x.dtype for x in weights("glossy").values()} == {torch.float16}
    published = find_model("glossy")
    assert (published.predicts, published.noise_schedule, published.diffusion_steps) == ("v", "cosine", 200)
    other = torch.load(paths.weights_dir() / "glossy.pt", weights_only=True)
    assert same(dict(sorted(weights("glossy").items())), dict(sorted(other.items())))


def remarks_of(asked: Job) -> list[str]:
    return [event.message for event in run(asked) if isinstance(event, Warned)]


def test_init_follows_the_file_and_says_what_changes(tmp_path: Path) -> None:
    list(run(job(tmp_path, "first", recipe={"predicts": "v", "noise_schedule": "cosine"})))
    average = str(tmp_path / "first" / "average.safetensors")
    few = {"images": 8, "init": average, "learning_rate": 1e-9, "warmup": 0}
    told = remarks_of(job(tmp_path, "second", recipe=few))
    assert not any("changes" in line or "taken" in line for line in told)
    found = header_facts(tmp_path / "second" / "average.safetensors")
    assert (found["predicts"], found["noise_schedule"]) == ("v", "cosine")
    assert all(torch.allclose(x, weights("second")[name], atol=1e-6) for name, x in weights("first").items())
    other = job(tmp_path, "third", recipe={**few, "predicts": "eps", "noise_schedule": "linear"})
    told = remarks_of(other)
    assert "average has the prediction type v, and eps is learned: the prediction type changes" in told
    assert "average has the noise schedule cosine, and linear is learned: the noise schedule changes" in told
    assert header_facts(tmp_path / "third" / "average.safetensors")["predicts"] == "eps"


def test_init_from_a_bare_file_takes_the_users_word_and_says_so(tmp_path: Path) -> None:
    list(run(job(tmp_path, "first")))
    bare = tmp_path / "bare.safetensors"
    save_safetensors(bare, weights("first"))
    few = {"images": 8, "init": str(bare), "predicts": "v"}
    told = remarks_of(job(tmp_path, "second", recipe=few, decay=Span(images=8)))
    assert (
        "bare.safetensors does not say what it is; taken: v, linear, 1000 levels, 32 channels a head" in told
    )
    assert header_facts(tmp_path / "second" / "average.safetensors")["predicts"] == "v"


@pytest.mark.parametrize("dse", [False, True])
def test_weights_of_another_shape_are_refused(dse: bool, tmp_path: Path) -> None:
    list(run(job(tmp_path, "first", dse=dse, recipe={"images": 8})))
    few = {"init": str(tmp_path / "first" / "average.safetensors"), "images": 16}
    again = list(run(job(tmp_path, "same", dse=dse, recipe=few)))
    assert isinstance(again[-1], Published)
    wide = {**few, "network": replace(GROWING if dse else NETWORK, channels=64)}
    with pytest.raises(
        UsageError, match=r"is no network of the recipe's shape: it has .*32.*, and the recipe has .*64"
    ):
        list(run(job(tmp_path, "other", dse=dse, recipe=wide)))
    assert not (tmp_path / "other").exists()


def test_a_teacher_of_other_levels_is_refused_and_a_changed_one_is_noticed(tmp_path: Path) -> None:
    list(run(job(tmp_path, "old", recipe={"images": 8, "noise_schedule": "cosine"})))
    taught = {"teacher": "old", **TAUGHT}
    with pytest.raises(
        UsageError, match="knows 1000 levels of the cosine schedule, and 1000 of linear are learned"
    ):
        list(run(job(tmp_path, recipe=taught)))
    same_levels = job(tmp_path, recipe={**taught, "noise_schedule": "cosine"})
    list(run(same_levels, after(2)))
    list(run(job(tmp_path, "old", recipe={"images": 16, "noise_schedule": "cosine"})))  # it learns on
    with pytest.raises(UsageError, match="the teacher changed"):
        list(run(same_levels))
    with pytest.raises(UsageError, match="there is no level 400"):
        list(run(job(tmp_path, "short", recipe={**taught, "diffusion_steps": 100})))


def test_a_students_first_steps_under_a_teacher_are_towards_it(tmp_path: Path) -> None:
    """Taught at all levels by the network that it starts as, there is next to nothing to learn."""
    list(run(job(tmp_path, "first", recipe={"images": 200, "learning_rate": 5e-3})))
    again = {"init": "first", "images": 80, "gamma": 25.0}
    losses = []
    for more in ({}, {"teacher": "first", "teacher_below": 1000}):
        events = run(job(tmp_path, f"n{len(losses)}", recipe={**again, **more}))
        losses.append(next(event.loss for event in events if isinstance(event, Advanced)))
    assert losses[1] < losses[0] / 5


Usage = namedtuple("Usage", "total used free")


def test_no_room_is_found_out_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> None:
        raise AssertionError("a picture was read")

    monkeypatch.setattr("ilvrctl.training.pictures.read_bytes", nothing)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 10**6))
        with pytest.raises(
            OutputError, match=r"no room in .*: this training needs [\d.]+ MB there, and 1.0 MB"
        ) as caught:
            list(run(job(tmp_path)))
        assert "ILVRCTL_WEIGHTS" in str(caught.value.hint)

    def quota(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", quota)
        with pytest.raises(OutputError, match="no room in"):
            list(run(job(tmp_path)))
    assert not (tmp_path / "glossy").exists()
    assert not paths.weights_dir().exists()
    with pytest.raises(AssertionError, match="a picture was read"):
        list(run(job(tmp_path)))


def test_one_training_a_folder_and_one_a_name(tmp_path: Path) -> None:
    with_folder = run(job(tmp_path))
    assert next(with_folder)
    with pytest.raises(UsageError, match="another training writes into"):
        list(run(job(tmp_path)))
    with pytest.raises(UsageError, match="another training makes glossy") as caught:
        list(run(replace(job(tmp_path), run=tmp_path / "elsewhere")))
    assert "--name" in str(caught.value.hint)
    assert not (tmp_path / "elsewhere").exists()
    with_folder.close()  # type: ignore[attr-defined]
    assert isinstance(list(run(job(tmp_path)))[-1], Published)


def test_where_the_file_system_knows_no_locks_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("ilvrctl.training.disk.FileLock.acquire", unknown)
    with alone(tmp_path / "x" / ".lock", "taken", "wait"):
        pass
    assert isinstance(list(run(job(tmp_path)))[-1], Published)


def test_the_published_file_is_that_of_the_run_also_across_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"one")
    target = same_file(source, tmp_path / "b")
    assert target.samefile(source)
    assert same_file(source, target).read_bytes() == b"one"

    def other_disk(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    source.unlink()
    source.write_bytes(b"two")
    assert same_file(source, target).read_bytes() == b"two"
    assert not target.samefile(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_full_disk_at_a_save_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(run(job(tmp_path), after(4)))
    before = state(tmp_path, "glossy")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OutputError, match="no space left"):
            list(run(job(tmp_path)))
    assert same(before, state(tmp_path, "glossy"))
    list(run(job(tmp_path)))
    list(run(job(tmp_path, "whole")))
    assert same(state(tmp_path, "whole"), state(tmp_path, "glossy"))


def test_a_classifier_is_validated_with_a_folder_of_each_domain(tmp_path: Path) -> None:
    aside = []
    for n, folder in enumerate(("flat", "3d")):
        (tmp_path / str(n)).mkdir()
        for path in sorted((EMOJI / folder).glob("*.png"))[:7]:
            shutil.copy(path, tmp_path / str(n))
        aside.append(tmp_path / str(n))
    events = list(run(job(tmp_path, dse=True, held_out=tuple(aside))))
    (began,) = [event for event in events if isinstance(event, Began)]
    assert (began.pictures, began.held_out) == (2 * 58, 14)
    with pytest.raises(UsageError, match="validated with 2 held-out folders, not 1"):
        job(tmp_path, dse=True, held_out=(aside[0],))
    with pytest.raises(UsageError, match="validated with 1 held-out folders, not 2"):
        job(tmp_path, held_out=tuple(aside))
    with pytest.raises(UsageError, match="--references has nothing to translate"):
        job(tmp_path, dse=True, references=aside[0])


def test_time_alone_limits_a_classifier_too(tmp_path: Path) -> None:
    events = list(run(job(tmp_path, dse=True, seconds=0.3, recipe={"images": FOR_EVER, "rise": 0.5})))
    assert isinstance(events[-1], Published)
    (began,) = [event for event in events if isinstance(event, Began)]
    assert began.total == 0


def test_a_broken_reference_is_named_at_the_start_and_the_others_are_shown(tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    for path in sorted((EMOJI / "flat").glob("*.png"))[:2]:
        shutil.copy(path, shown)
    (shown / "a-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    events = list(run(job(tmp_path, references=shown, sheet_every=1, recipe={"images": 8})))
    told = [event.message for event in events if isinstance(event, Warned)]
    assert told[0].startswith("not on the sheets: a-broken.png")
    assert [event.path.name for event in events if isinstance(event, Drawn)] == ["sheet-000000008.png"]
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="there are no pictures in"):
        list(run(job(tmp_path, "other", references=tmp_path / "none", sheet_every=1)))
    assert not (tmp_path / "other").exists()
