"""Folders: pictures by content, and everything else counted by its reason. Nothing is passed by in silence."""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ilvrctl.errors import UsageError
from ilvrctl.events import PassedBy
from ilvrctl.images import folders as module
from ilvrctl.images.folders import counted, pictures_in
from ilvrctl.images.io import save_picture
from ilvrctl.images.kinds import Kind

PICTURE = Image.new("RGB", (8, 8), "red")
KINDS = {
    "jfif": "JPEG",
    "jpe": "JPEG",
    "mpo": "MPO",
    "apng": "PNG",
    "PNG": "PNG",
    "tmp": "WEBP",
    "": "GIF",
    "avif": "AVIF",
    "jp2": "JPEG2000",
    "ppm": "PPM",
    "ico": "ICO",
    "dib": "DIB",
    "tga": "TGA",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    PICTURE.save(tmp_path / "in/a.png")
    return tmp_path / "in"


def reasons(folder: Path, **how: bool) -> Counter[str]:
    return Counter(one.reason for one in pictures_in(folder, **how).passed_by)


@pytest.mark.parametrize(("suffix", "format_name"), KINDS.items())
def test_a_picture_is_known_by_its_content(folder: Path, suffix: str, format_name: str) -> None:
    named = folder / (f"b.{suffix}" if suffix else "b")
    PICTURE.save(named, format_name)
    assert pictures_in(folder).pictures == [folder / "a.png", named]


def test_what_is_no_picture_is_counted_by_its_reason(folder: Path) -> None:
    (folder / "notes.txt").write_text("about them")
    (folder / "Thumbs.db").touch()
    (folder / ".hidden.png").touch()
    (folder / "half.png.part").write_bytes((folder / "a.png").read_bytes())
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "again").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.png"))
        found = reasons(folder)
    assert found == {
        "not pictures": 1,
        "empty files": 1,
        "hidden": 1,
        "unfinished files": 1,
        "dangling links": 1,
        "links in a circle": 1,
        "links to folders": 1,
        "pipes, sockets or devices": 2,
    }


def test_what_is_called_a_picture_and_is_none_is_taken_so_that_its_failure_is_told(folder: Path) -> None:
    (folder / "page.jpg").write_text("<html>")
    (folder / "empty.png").touch()
    assert len(pictures_in(folder).pictures) == 3
    assert reasons(folder) == {}


def test_kinds_that_are_not_read_here_say_what_reads_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = [
        Kind("HEIC", False, "heic", ("HEIF",)),
        Kind("AVIF", False, None, ("AVIF",)),
        Kind("OpenEXR", False),
    ]
    for n, kind in enumerate(kinds):
        (folder / f"{n}.jpg").write_text(kind.name)
    known = {kind.name: kind for kind in kinds}
    real = module.kind_of
    monkeypatch.setattr(
        module, "kind_of", lambda path: known.get(path.read_bytes().decode("latin-1")) or real(path)
    )
    assert list(reasons(folder)) == [
        "HEIC (install ilvrctl[heic])",
        "AVIF (needs a newer Pillow)",
        "OpenEXR (which nothing here reads)",
    ]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_contact_sheets_are_no_inputs(folder: Path, suffix: str) -> None:
    record = '{"ilvrctl": "0.1", "sheet_of": ["0123"]}'
    save_picture(PICTURE, folder / f"sheet.{suffix}", record=record)
    save_picture(PICTURE, folder / f"result.{suffix}", record='{"ilvrctl": "0.1", "identity": "0123"}')
    assert reasons(folder) == {"contact sheets": 1}


def test_a_folder_or_file_that_cannot_be_read_ends_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "closed").mkdir()
    (folder / "secret").write_bytes((folder / "a.png").read_bytes())
    real_scan, real_kind = os.scandir, module.kind_of

    def denied(path: Path) -> PermissionError:
        return PermissionError(errno.EACCES, "Permission denied", str(path))

    def scandir(path: Path) -> object:
        if path.name == "closed":
            raise denied(path)
        return real_scan(path)

    def kind_of(path: Path) -> Kind | None:
        if path.name == "secret":
            raise denied(path)
        return real_kind(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(module, "kind_of", kind_of)
    assert pictures_in(folder).pictures == [folder / "a.png"]
    assert reasons(folder) == {"unreadable folders": 1, "unreadable files": 1}
    monkeypatch.setattr(os, "scandir", lambda path: (_ for _ in ()).throw(denied(path)))
    with pytest.raises(UsageError, match="cannot read the folder"):
        pictures_in(folder)


def test_subfolders_are_told_and_walked_when_asked_for(folder: Path) -> None:
    (folder / "sub").mkdir()
    PICTURE.save(folder / "sub/b.png")
    assert reasons(folder, recursive=False) == {"subfolders (--recursive takes them)": 1}
    assert len(pictures_in(folder).pictures) == 2
    (folder / "a.png").unlink()
    with pytest.raises(UsageError, match="1 subfolder") as caught:
        pictures_in(folder, recursive=False, needed=True)
    assert "--recursive" in str(caught.value.hint)


@given(st.lists(st.sampled_from([*module._SINGULAR, "hidden", "HEIC (install ilvrctl[heic])"]), max_size=30))
def test_a_count_adds_up_and_reads_well(told: list[str]) -> None:
    text = counted([PassedBy(reason, str(n)) for n, reason in enumerate(told)])
    assert text.startswith(f"{len(told)} passed by: " if told else "")
    for reason, count in Counter(told).items():
        assert f"{count} {reason if count > 1 else module._SINGULAR.get(reason, reason)}" in text
