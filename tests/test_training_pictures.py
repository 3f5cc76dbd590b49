"""Pictures for training: decoded once, named by content, bad ones named and left out; draws that need no state."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import PATIENCE, environment
from conftest import EMOJI
from PIL import Image

from ilvrctl import paths
from ilvrctl.errors import ConfigError, OutputError, UsageError
from ilvrctl.events import PassedBy
from ilvrctl.training import pictures as module
from ilvrctl.training.batches import augmented, floats, mapped
from ilvrctl.training.draws import draw, order
from ilvrctl.training.job import remarks
from ilvrctl.training.pictures import Pictures, Square, load_pictures
from ilvrctl.training.recipe import Recipe

SQUARE = Square(16)


def load(folder: Path, square: Square = SQUARE) -> Pictures:
    steps = load_pictures(folder, square)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            assert isinstance(end.value, Pictures)
            return end.value


def folder_of(place: Path, count: int = 20) -> Path:
    place.mkdir()
    for path in sorted((EMOJI / "3d").glob("*.png"))[:count]:
        shutil.copy(path, place)
    return place


def test_pixels_are_those_of_the_files_whatever_their_names(tmp_path: Path) -> None:
    first = load(folder_of(tmp_path / "a"))
    assert first.count == 20
    renamed = tmp_path / "b"
    renamed.mkdir()
    for n, path in enumerate(sorted((tmp_path / "a").iterdir(), reverse=True)):
        shutil.copy(path, renamed / f"{n}.png")
    again = load(renamed)
    assert (again.file, again.digests) == (first.file, first.digests)
    name = first.stems[3]
    with Image.open(tmp_path / "a" / f"{name}.png") as image:
        small = image.convert("RGB").resize((16, 16), Image.Resampling.LANCZOS)
    assert bytes(mapped(first)[3].flatten().tolist()) == small.tobytes()


def test_a_second_look_decodes_nothing_and_a_changed_file_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "a")
    first = load(folder)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patched:
        patched.setattr(module, "open_picture", refuse)
        patched.setattr(module, "read_bytes", refuse)
        assert load(folder) == first
    Image.new("RGB", (30, 20), "red").save(next(folder.iterdir()))
    changed = load(folder)
    assert changed.count == 20
    assert changed.file != first.file
    assert mapped(first).sum() != mapped(changed).sum()


def test_a_cut_cache_file_is_made_again(tmp_path: Path) -> None:
    first = load(folder_of(tmp_path / "a"))
    whole = first.file.read_bytes()
    first.file.write_bytes(whole[:-5])
    assert load(tmp_path / "a").file.read_bytes() == whole


def test_a_corrupt_picture_is_named_and_left_out_and_small_ones_are_counted(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    (folder / "broken.png").write_bytes((EMOJI / "3d").glob("*.png").__next__().read_bytes()[:200])
    Image.new("RGB", (9, 40)).save(folder / "small.png")
    Image.new("L", (300, 200), 7).save(folder / "wide.jpg")
    for _ in range(2):  # decoded, then remembered
        found = load(folder)
        assert (found.count, found.enlarged) == (22, 1)
        assert [name for name, _ in found.failed] == ["broken.png"]
        assert "truncated" in found.failed[0][1]


def test_whatever_one_picture_does_the_others_are_used_and_all_are_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "a", 24)
    names = sorted(path.name for path in folder.iterdir())
    shutil.copy(folder / names[9], folder / "twin.png")
    (folder / "notes.txt").write_text("about them")
    (folder / "Thumbs.db").touch()
    real, faults = (
        module.open_picture,
        iter([MemoryError(), RuntimeError("odd"), RuntimeError("odd"), KeyError(7)]),
    )
    wrong = dict(zip(names, faults, strict=False))

    def faulty(data: bytes, name: str, **more: object) -> Image.Image:
        if name in wrong:
            raise wrong[name]
        return real(data, name, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "open_picture", faulty)
    found = load(folder)
    assert (found.count, found.copies) == (20, 1)
    assert sorted(name for name, _ in found.failed) == names[:4]
    assert [Path(one.name).name for one in found.passed_by] == ["Thumbs.db", "notes.txt"]
    told = [event.message for event in remarks(found, init=True)]
    assert f"left out: {names[1]}: RuntimeError: odd" in told
    assert "left out: 4 of 24 pictures: 2 RuntimeError: odd; 1 MemoryError; 1 KeyError: N" in told
    assert "2 passed by: 1 empty file, 1 not a picture" in told
    assert "1 files are copies of others and count once" in told


def test_an_unreadable_subfolder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "a")
    (folder / "closed").mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = load(folder)
    assert found.count == 20
    assert found.passed_by == (PassedBy("unreadable folders", str(folder / "closed")),)
    told = [event.message for event in remarks(found, init=True)]
    assert f"passed by: {folder / 'closed'} (unreadable folders)" in told


def test_processes_that_share_a_cache_decode_the_pictures_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", 60)
    code = (
        "import sys, time; from pathlib import Path; from ilvrctl.training import pictures\n"
        "real = pictures.open_picture\n"
        "def slow(*a, **k):\n    time.sleep(0.05); print('decoded'); return real(*a, **k)\n"
        "pictures.open_picture = slow\n"
        "steps = pictures.load_pictures(Path(sys.argv[1]), pictures.Square(16))\n"
        "while True:\n"
        "    try:\n        event = next(steps)\n        print(event)\n"
        "    except StopIteration as end:\n        print(end.value.file.read_bytes()[-30:]); break\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, folder], env=environment(), stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=PATIENCE)[0].decode() for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert sum(output.count("decoded") for output in outputs) == 60
    assert sum("another training is decoding these pictures" in output for output in outputs) == 3
    assert len({output.splitlines()[-1] for output in outputs}) == 1
    assert load(folder).count == 60
    assert not list(paths.cache_dir().rglob("*.part"))


def test_too_few_pictures_say_how_many_are_sensible(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds 5 different pictures") as caught:
        load(folder_of(tmp_path / "a", 5))
    assert "200 and more" in str(caught.value.hint)
    with pytest.raises(UsageError, match="does not exist"):
        load(tmp_path / "none")


def test_a_full_disk_leaves_no_part_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "a")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="no space left"):
        patch.setattr(Path, "replace", full)
        load(folder)
    assert not list(paths.cache_dir().rglob("*.rgb*"))


def test_every_picture_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    seen = torch.cat([order(5, step, 4, 10) for step in range(5)])  # two epochs
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert torch.equal(order(5, 3, 4, 10), seen[12:16])
    assert not torch.equal(order(6, 3, 4, 10), seen[12:16])


def test_draws_are_functions_of_seed_and_step() -> None:
    cpu = torch.device("cpu")
    one, again, other = (draw(0, step, 8, 16, 1000, 2, cpu) for step in (7, 7, 8))
    assert torch.equal(one.eps, again.eps)
    assert torch.equal(one.t, again.t)
    assert not torch.equal(one.eps, other.eps)
    assert one.eps.std() == pytest.approx(1, abs=0.05)
    assert int(one.shift.abs().max()) <= 2


def test_a_share_of_the_levels_is_drawn_from_the_lower_ones() -> None:
    cpu = torch.device("cpu")
    recipe = Recipe(levels="below600:40%")
    assert recipe.lower == (0.4, 600)
    draws = [draw(3, step, 64, 8, 1000, 0, cpu, recipe.lower) for step in range(300)]
    t = torch.cat([d.t for d in draws])
    counts = torch.histc(t.float(), bins=10, min=0, max=1000) / len(t)
    lower, upper = 0.6 / 10 + 0.4 / 6, 0.6 / 10
    assert counts.tolist() == pytest.approx([lower] * 6 + [upper] * 4, abs=0.008)
    assert (int(t.min()), int(t.max())) == (0, 999)
    plain = draw(3, 0, 64, 8, 1000, 0, cpu)
    assert torch.equal(plain.eps, draws[0].eps)  # the rest of the draw is what it was
    assert 0 < int((plain.t == draws[0].t).sum()) < 64
    for wrong in ("below600", "below0:40%", "below600:140%", "0.4:600", ""):
        with pytest.raises(ConfigError, match="levels must be uniform"):
            Recipe(levels=wrong)


def test_flips_and_shifts_move_whole_pictures_and_repeat_the_edge() -> None:
    x = torch.arange(2 * 4 * 4 * 3).view(2, 4, 4, 3).to(torch.uint8)
    out = augmented(x, torch.tensor([True, False]), torch.tensor([[0, 0], [1, -1]]))
    assert torch.equal(out[0], x[0].flip(1))
    assert torch.equal(out[1, :3, 1:], x[1, 1:, :3])
    assert torch.equal(out[1, 3], out[1, 2])
    assert torch.equal(floats(x)[0, :, 0, 0], x[0, 0, 0].float() / 127.5 - 1)
