"""Pictures for training: decoded once, named by content, bad ones named and left out; draws that need no state."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
import torch
from conftest import EMOJI
from PIL import Image

from ilvrctl import paths
from ilvrctl.errors import OutputError, UsageError
from ilvrctl.training import pictures as module
from ilvrctl.training.batches import augmented, floats, mapped
from ilvrctl.training.draws import draw, order
from ilvrctl.training.pictures import Pictures, Square, load_pictures

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

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="no space left"):
        load(folder)
    monkeypatch.undo()
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


def test_flips_and_shifts_move_whole_pictures_and_repeat_the_edge() -> None:
    x = torch.arange(2 * 4 * 4 * 3).view(2, 4, 4, 3).to(torch.uint8)
    out = augmented(x, torch.tensor([True, False]), torch.tensor([[0, 0], [1, -1]]))
    assert torch.equal(out[0], x[0].flip(1))
    assert torch.equal(out[1, :3, 1:], x[1, 1:, :3])
    assert torch.equal(out[1, 3], out[1, 2])
    assert torch.equal(floats(x)[0, :, 0, 0], x[0, 0, 0].float() / 127.5 - 1)
