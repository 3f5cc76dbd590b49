"""What goes wrong says what, why and the next command, with the right exit code, and leaves nothing behind."""

from __future__ import annotations

import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import write_small_network
from commands import CUP, FOX, QUICK, Ran, copies, ilvrctl, json_lines, leftovers, process, tree

from ilvrctl import paths
from ilvrctl.engine import Engine

pytestmark = pytest.mark.usefixtures("stand_ins")


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> Engine:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(Engine, "load", load)


def says(ran: Ran, code: int, *words: str) -> None:
    """One error, without a traceback, with these words."""
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err, ran.err


@pytest.mark.usefixtures("nothing_loads")
def test_a_missing_input_fails_before_anything_is_loaded_or_made(tmp_path: Path) -> None:
    ran = ilvrctl("translate", "nope.png", *QUICK)
    says(ran, 1, "failed: nope.png does not exist", "1 failed")
    assert ran.out == b""
    assert tree(tmp_path) == []


def test_a_missing_input_among_good_ones_does_not_stop_them(tmp_path: Path) -> None:
    ran = ilvrctl("translate", FOX, "nope.png", CUP, *QUICK)
    says(ran, 1, "nope.png does not exist", "2 translated, 1 failed")
    assert ran.lines == ["out/fox.png", "out/cup.png"]
    assert tree(tmp_path / "out") == ["cup.png", "fox.png"]


@pytest.mark.usefixtures("nothing_loads")
def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    says(ilvrctl("translate", "empty", *QUICK), 2, "no pictures in empty", "hint: known suffixes", ".png")
    copies(tmp_path, ["deep/down/a.png"])
    says(
        ilvrctl("translate", "deep", *QUICK),
        2,
        "no pictures in deep",
        "hint: its subfolders have some: add --recursive",
    )
    assert not (tmp_path / "out").exists()


def test_a_truncated_jpeg_among_good_pictures(tmp_path: Path) -> None:
    good, bad = copies(tmp_path, ["in/a.jpg", "in/b.jpg"])
    bad.write_bytes(bad.read_bytes()[:-200])
    ran = ilvrctl("translate", "in", *QUICK)
    says(ran, 1, "failed: in/b.jpg is truncated", "1 translated, 1 failed")
    assert tree(tmp_path / "out") == [good.with_suffix(".png").name]


def test_a_failed_input_counts_with_all_its_samples(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("this is no picture, but a letter to somebody")
    ran = ilvrctl("translate", "no.png", FOX, *QUICK, "-n", "3", "--json")
    says(ran, 1, "no.png is not a picture (it is a text file)", "3 translated, 3 failed")
    assert json_lines(ran)[-1]["failed"] == 3


@pytest.mark.shipped
@pytest.mark.usefixtures("nothing_loads")
def test_flags_that_cannot_work_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    for args, words in [
        (["--to", "emojy3d"], ["unknown target 'emojy3d'", "did you mean 'emoji3d'?"]),
        ([*QUICK, "--N", "7"], ["N = 7 does not divide the picture size 64", "hint: choose N from 1, 2, 4"]),
        ([*QUICK, "--kernel", "cubbic"], ["method.constraint.kernel must be cubic", "did you mean 'cubic'?"]),
        ([*QUICK, "--fit", "corp"], ["--fit: fit must be crop", "did you mean 'crop'?"]),
        ([*QUICK, "--background", "whiet"], ["'whiet' is not a colour", "did you mean 'white'?"]),
        ([*QUICK, "--sampler", "ddmp"], ["--sampler: unknown sampler 'ddmp'", "did you mean 'ddpm'?"]),
        ([*QUICK, "--method", "ilrv"], ["--method: unknown method 'ilrv'", "did you mean 'ilvr'?"]),
        (
            [*QUICK, "--compat", "ilvr_amd"],
            ["--compat: unknown compat 'ilvr_amd'", "did you mean 'ilvr_adm'?"],
        ),
        ([*QUICK, "--preset", "pait"], ["unknown preset 'pait'", "did you mean 'paint'?"]),
        ([*QUICK, "--color", "allways"], ["--color 'allways'", "did you mean 'always'?"]),
        ([*QUICK, "--precision", "fp31"], ["--precision: precision must be", "did you mean 'fp32'?"]),
        ([*QUICK, "--steps", "5000"], ["steps must be from 1 to 1000"]),
        ([*QUICK, "--range", "high:low"], ["not of the form HIGH:LOW", "--range 1.0:0.2"]),
        ([*QUICK, "--range-t", "5"], ["leaves none of the 3 steps conditioned"]),
        ([*QUICK, "--sheet", "sheet.pgn"], ["--sheet sheet.pgn", "did you mean '.png'?"]),
        ([*QUICK, "-0"], ["-0 says how the names in a list end", "--from-file"]),
        ([*QUICK, "-o", ""], ["-o needs a name"]),
        ([*QUICK, "--from-file", "nope.txt"], ["cannot read the list nope.txt: No such file"]),
        ([], ["no target: --to says", "--to emoji3d"]),
    ]:
        says(ilvrctl("translate", FOX, *args), 2, "error: ", *words)
    says(ilvrctl("translate", "", *QUICK), 2, "'' is no name of a file")
    says(ilvrctl("translate", *QUICK), 2, "no inputs", "hint: ")
    assert tree(tmp_path) == []


def test_flags_that_do_not_exist_are_usage_errors_with_a_suggestion() -> None:
    says(ilvrctl("translate", FOX, "--step", "3"), 2, "--steps")
    says(ilvrctl("translte", FOX), 2, "translate")
    says(ilvrctl("translate", FOX, "--steps", "three"), 2, "--steps takes a whole number, not 'three'")


@pytest.mark.usefixtures("nothing_loads")
def test_a_target_whose_model_is_not_here_names_the_download(tmp_path: Path) -> None:
    says(
        ilvrctl("translate", FOX, "--to", "dog"),
        3,
        "the weights of 'dog' are not here",
        "hint: ilvrctl download dog",
    )
    says(ilvrctl("translate", FOX, "--to", "dog", "--dry-run"), 3, "hint: ilvrctl download dog")
    assert tree(tmp_path) == []


class RunsCode:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.file,))


def _web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>Quota exceeded</body></html>")


def _lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 374000000\n")


def _truncated_zip(path: Path) -> None:
    torch.save({"a": torch.zeros(10_000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


def _optimizer(path: Path) -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    torch.save(torch.optim.Adam([weight]).state_dict(), path)


def _code_in_zip(path: Path) -> None:
    torch.save({"model": RunsCode(path.with_name("trace"))}, path)


def _code_in_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": RunsCode(path.with_name("trace"))}))


def _plain_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photos/a.txt", "hello")


def _cut_safetensors(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 5000) + b'{"a":')


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_web_page, ["a web page, not weights"]),
        (_lfs_pointer, ["a Git LFS pointer", "git lfs pull"]),
        (_truncated_zip, ["cut off"]),
        (_optimizer, ["the state of an optimizer"]),
        (_code_in_zip, ["nothing in it was run"]),
        (_code_in_pickle, ["nothing in it was run"]),
        (_plain_zip, ["holds no PyTorch checkpoint"]),
        (_cut_safetensors, ["cut off"]),
    ],
)
@pytest.mark.parametrize("target", [[], ["--to", "emoji3d"]], ids=["alone", "with --to"])
def test_weights_that_are_none(
    make: Callable[[Path], None], words: list[str], target: list[str], tmp_path: Path
) -> None:
    make(tmp_path / "model.pt")
    says(
        ilvrctl("translate", FOX, *target, "--steps", "3", "--weights", "model.pt"),
        3,
        "model.pt",
        "hint: ",
        *words,
    )
    assert tree(tmp_path) == ["model.pt"]


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    says(ilvrctl("translate", FOX, "--weights", "nope.pt"), 3, "nope.pt: no such file", "hint: ")
    assert tree(tmp_path) == []


def test_weights_that_do_not_tell_their_size_ask_for_it(tmp_path: Path) -> None:
    write_small_network(tmp_path / "mine.pt")
    args = [
        "translate",
        FOX,
        "--weights",
        "mine.pt",
        "--steps",
        "3",
        "--N",
        "4",
        "--set",
        "model.num_heads=2",
    ]
    says(ilvrctl(*args), 2, "mine.pt does not tell its picture size", "--set model.image_size=")
    says(ilvrctl(*args, "--set", "model.image_size=33", "--N", "3"), 2, "--set model.image_size=")
    assert tree(tmp_path) == ["mine.pt"]
    assert ilvrctl(*args, "--set", "model.image_size=32").code == 0
    ran = ilvrctl(*args, "--set", "model.image_size=32", "--set", "model.num_heads=4")
    says(ran, 2, "out/fox.png is there already")


def test_an_output_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    says(
        ilvrctl("translate", FOX, *QUICK, "-o", "file/out"),
        1,
        "cannot write into file/out: file is not a folder",
        "hint: ",
    )
    says(ilvrctl("translate", FOX, *QUICK, "--sheet", "file/sheet.png"), 1, "cannot write into file")
    monkeypatch.setattr("os.access", lambda *_: False)
    says(
        ilvrctl("translate", FOX, *QUICK, "-o", "new/deep"),
        1,
        "cannot write into new/deep: permission denied",
    )
    assert tree(tmp_path) == ["file"]


def test_a_disk_that_is_full_stops_with_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    says(
        ilvrctl("translate", FOX, *QUICK),
        1,
        "error: cannot write out/fox.png: no space left",
        "run the same command again",
    )
    assert leftovers(tmp_path) == []


def test_an_output_made_otherwise_stops_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ilvrctl("translate", FOX, *QUICK)
    before = (tmp_path / "out/fox.png").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "load", lambda *_, **__: pytest.fail("the network was loaded"))
        says(
            ilvrctl("translate", FOX, *QUICK, "--N", "8"),
            2,
            "out/fox.png is there already",
            "hint: --overwrite",
        )
        says(ilvrctl("translate", FOX, CUP, *QUICK, "--seed", "8"), 2, "out/fox.png is there already")
    assert (tmp_path / "out/fox.png").read_bytes() == before
    assert tree(tmp_path / "out") == ["fox.png"]
    assert ilvrctl("translate", FOX, *QUICK, "--N", "8", "--overwrite").code == 0
    assert (tmp_path / "out/fox.png").read_bytes() != before


def test_a_picture_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    theirs = copies(tmp_path, ["out/fox.png"])[0]
    before = theirs.read_bytes()
    says(ilvrctl("translate", FOX, *QUICK), 2, "is there already")
    assert theirs.read_bytes() == before


def test_devices_that_are_not_there(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        says(
            ilvrctl("translate", FOX, *QUICK, "--device", "cuda"),
            1,
            "device 'cuda' is not there",
            "hint: ilvrctl doctor",
        )
    says(
        ilvrctl("translate", FOX, *QUICK, "--device", "gpu"), 2, "unknown device 'gpu'", "--device auto, cpu"
    )
    assert tree(tmp_path) == []


def test_a_traceback_is_shown_only_with_vv(tmp_path: Path) -> None:
    ran = ilvrctl("translate", FOX, "--to", "dgo", "-vv")
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert "error: unknown target 'dgo'" in ran.err
    ran = ilvrctl("translate", "nope.png", *QUICK, "-vv")
    assert ran.code == 1
    assert "Traceback" in ran.err


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--down_N", "--N 32"),
        ("--save_dir", "-o FOLDER"),
        ("--model_path", "--weights FILE"),
        ("--range_t", "--range-t 20"),
        ("--num_heads", "--set model.num_heads=..."),
        ("--learn_sigma", "read from the file"),
    ],
)
def test_the_flags_of_the_published_scripts_are_answered_with_what_is_here(flag: str, words: str) -> None:
    ran = process("translate", FOX, flag, "4")
    assert ran.code == 2
    [hint] = [line for line in ran.err.splitlines() if line.startswith("hint: ")]
    assert words in hint


def test_a_device_that_is_not_there_is_found_by_a_dry_run() -> None:
    says(ilvrctl("translate", FOX, *QUICK, "--device", "gpu", "--dry-run"), 2, "unknown device 'gpu'")
    ran = ilvrctl("translate", FOX, *QUICK, "--device", "cuda:77", "--dry-run")
    assert ran.code == 1 and "is not there" in ran.err


def test_a_preset_whose_file_was_replaced_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    shutil.copy(paths.DATA / "emoji3d-64.safetensors", mine)
    heads = ["--set", "model.num_head_channels=32", "--set", "model.image_size=64"]
    assert ilvrctl("inspect", mine, *heads, "--save-preset", "mine", "-q").code == 0
    assert ilvrctl("translate", FOX, "--to", "mine", "--steps", "2", "--dry-run").code == 0
    content = bytearray(mine.read_bytes())
    content[-1] ^= 1
    mine.write_bytes(bytes(content))
    says(
        ilvrctl("translate", FOX, "--to", "mine", "--steps", "2", "--dry-run"),
        3,
        "is not the file that the preset",
    )
